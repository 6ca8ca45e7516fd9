//! Streams: what a manifest's stream is made of, and how it is read.

pub mod dynamic;
pub mod env;
pub mod jobs;
pub mod migration;
pub mod pages;
pub mod pieces;
pub mod properties;
pub mod resume;
pub mod retriever;
pub mod run;

use std::{cell::RefCell, rc::Rc};

pub use env::Env;

use crate::{
    cursor::{self, Cursor, Piece, Point, Seen, build::Divided},
    datetime::{self, DateTime},
    error::{RestError, Result},
    extract::Record,
    interpolation::Template,
    limits::MAX_DESCRIBING,
    node::Node,
    partition,
    stream::{pages::Pages, pieces::Pieces, retriever::Retriever},
    value::Value,
};

/// One stream, ready to be read once.
pub struct Stream {
    pub name: Rc<str>,
    pub env: Env,
    pub cursor: Rc<RefCell<Cursor>>,
    pub retriever: Rc<Retriever>,
    pieces: Pieces,
}

impl Stream {
    /// `node` is a `DeclarativeStream` (or one that chooses between two of them), `state` what the last run left.
    ///
    /// # Errors
    /// Kind config, naming the place in the manifest.
    pub fn build(node: &Node<'_>, env: &Env, state: &Value) -> Result<Self> {
        let node = &chosen(node, env, state)?;
        let name: Rc<str> = node.value.get("name").and_then(Value::as_str).unwrap_or_default().into();
        let env = Env { stream: name.clone(), ..env.clone() };
        let retrieving = node.need("retriever")?;
        let router_node = retrieving.get("partition_router");
        let router = partition::build(router_node.as_ref(), &env, state)?;
        let sync = node.get("incremental_sync");
        let cursor = cursor::build::build(sync.as_ref(), &env, state, partition::divided(router_node.as_ref()))?;
        let cursor = Rc::new(RefCell::new(cursor));
        let retriever = Rc::new(Retriever::build(node, &retrieving, &cursor.borrow(), &env, state)?);
        let pieces = Pieces::new(router, cursor.clone(), &env);
        Ok(Self { name, env, cursor, retriever, pieces })
    }

    /// The next piece to read; `None` after the last one.
    ///
    /// # Errors
    /// Those of the parents that are read for it.
    pub async fn next_piece(&mut self) -> Result<Option<Piece>> {
        self.pieces.next().await
    }

    /// Whether there is no piece more.
    ///
    /// # Errors
    /// Those of [`Stream::next_piece`].
    pub async fn is_at_end(&mut self) -> Result<bool> {
        self.pieces.is_at_end().await
    }

    /// The pages of one piece.
    pub fn pages(&self, piece: &Piece) -> Pages {
        Pages::new(self.retriever.clone(), self.cursor.clone(), piece)
    }

    /// A record of a piece was seen.
    pub fn observe(&self, seen: &mut Seen, record: &Record) {
        if let Some(warning) = self.cursor.borrow_mut().observe(seen, record) {
            self.env.wire.info(&format!("stream {}: {warning}", self.name));
        }
    }

    /// A piece was read to its end.
    ///
    /// # Errors
    /// Kind config: the cursor cannot take it.
    pub fn close(&self, piece: &Piece, seen: Seen) -> Result<()> {
        self.cursor.borrow_mut().close(piece, seen)
    }

    /// Everything was read.
    pub fn end(&self) {
        self.cursor.borrow_mut().end(self.pieces.parents(), self.env.wire.now_us());
    }

    /// The first record there is, for a check; `None` where there is none.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn first_record(mut self) -> Result<Option<Record>> {
        while let Some(piece) = self.next_piece().await? {
            let mut pages = self.pages(&piece);
            while let Some(page) = pages.next().await? {
                if let Some(record) = page.records.into_iter().next() {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }

    /// Every record, for streams that describe others.
    ///
    /// # Errors
    /// Those of the source; kind config over [`MAX_DESCRIBING`].
    pub async fn all_records(mut self) -> Result<Vec<Record>> {
        let mut all = Vec::new();
        while let Some(piece) = self.next_piece().await? {
            let mut pages = self.pages(&piece);
            while let Some(page) = pages.next().await? {
                all.extend(page.records);
                if all.len() > MAX_DESCRIBING {
                    let stream = &self.name;
                    return Err(RestError::config(format!("stream {stream} has more than {MAX_DESCRIBING} records")));
                }
            }
        }
        Ok(all)
    }

    pub fn state(&self) -> Value {
        self.cursor.borrow().state()
    }

    /// The pieces, to be asked for beside the pages of others.
    pub fn into_pieces(self) -> (Pieces, Rc<RefCell<Cursor>>, Rc<Retriever>, Env) {
        (self.pieces, self.cursor, self.retriever, self.env)
    }
}

/// `StateDelegatingStream` reads by one stream the first time, by another one from then on, unless its position is older
/// than what the source keeps.
fn chosen<'a>(node: &Node<'a>, env: &Env, state: &Value) -> Result<Node<'a>> {
    if node.kind() != "StateDelegatingStream" {
        return Ok(node.clone());
    }
    let (all, recent) = (node.need("full_refresh_stream")?, node.need("incremental_stream")?);
    if !state.truthy() {
        return Ok(all);
    }
    let Some(period) = node.get("api_retention_period") else { return Ok(recent) };
    let period = Template::new(&period, node)?.text(&env.scope())?;
    if period.is_empty() || period == "None" || state.get(cursor::NO_CURSOR).is_some_and(Value::truthy) {
        return Ok(recent);
    }
    let period = datetime::parse_duration(&period).map_err(|error| error.at(&node.path))?;
    let kept_since = DateTime::from_us(env.wire.now_us()).minus(&period)?;
    let global = state.get("state").filter(|global| global.as_map().is_some()).unwrap_or(state);
    let position = [&all, &recent].into_iter().find_map(|stream| {
        let cursor = cursor::build::build(stream.get("incremental_sync").as_ref(), env, global, Divided::Not).ok()?;
        cursor.position(global)
    });
    Ok(match position {
        Some(Point::Time(at)) if at >= kept_since => recent,
        _ => all,
    })
}
