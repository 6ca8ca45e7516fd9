//! `SubstreamPartitionRouter`: a partition for each record of a parent stream.
//!
//! Parents are read page by page as their records are asked for; their own cursors move with them.

use std::collections::VecDeque;

use futures_util::future::LocalBoxFuture;

use crate::{
    cursor::{Piece, Seen},
    error::Result,
    extract::{Record, within},
    http::{RequestOption, RequestParts},
    interpolation::{Scope, Template},
    node::Node,
    partition::{Router, Slice, member},
    stream::{Env, Stream, pages::Pages},
    value::{Map, Value},
};

/// Every parent of a stream, one after the other.
pub struct Substream {
    parents: Vec<Parent>,
    at: usize,
}

struct Parent {
    stream: Stream,
    /// Keys of the path to the value that names the partition.
    key: Vec<String>,
    field: String,
    extra_fields: Vec<Vec<String>>,
    lazy: Vec<String>,
    option: Option<RequestOption>,
    incremental: bool,
    reading: Option<Reading>,
}

/// One piece of a parent, being read.
struct Reading {
    piece: Piece,
    seen: Seen,
    pages: Option<Pages>,
    records: VecDeque<Record>,
}

impl Substream {
    /// `state` is the child's, which holds that of its parents.
    ///
    /// # Errors
    /// Kind config, naming the place.
    pub fn build(node: &Node<'_>, env: &Env, state: &Value) -> Result<Self> {
        let parents = node.items("parent_stream_configs");
        if parents.is_empty() {
            return Err(node.wrong("`parent_stream_configs` has to name at least one parent"));
        }
        let parents = parents.iter().map(|parent| Parent::build(parent, env, state)).collect::<Result<_>>()?;
        Ok(Self { parents, at: 0 })
    }

    async fn following(&mut self) -> Result<Option<Slice>> {
        while let Some(parent) = self.parents.get_mut(self.at) {
            if let Some(slice) = parent.next().await? {
                return Ok(Some(slice));
            }
            self.at += 1;
        }
        Ok(None)
    }
}

/// A path as dpath takes it: a list of keys, or text with `/` between them.
fn path(text: &str) -> Vec<String> {
    text.trim_start_matches('/').split('/').map(str::to_owned).collect()
}

impl Parent {
    fn build(node: &Node<'_>, env: &Env, state: &Value) -> Result<Self> {
        let scope = env.scope();
        let text = |key: &str| Template::new(&node.need(key)?, node)?.text(&scope);
        let texts = |list: &Node<'_>| -> Result<Vec<String>> {
            list.list().iter().map(|item| Template::new(item, node)?.text(&scope)).collect()
        };
        let lazy: Vec<String> = node.get("lazy_read_pointer").map(|list| texts(&list)).transpose()?.unwrap_or_default();
        if lazy.iter().any(|key| key.contains('*')) {
            return Err(node.wrong("`lazy_read_pointer` takes no `*`: name the path"));
        }
        let extra = node.get("extra_fields").map(|list| list.list()).unwrap_or_default();
        let incremental = node.flag("incremental_dependency", false)?;
        let child = node.need("stream")?;
        let of_parent = if incremental { parent_state(&child, state, env)? } else { Value::map(Map::new()) };
        Ok(Self {
            stream: Stream::build(&child, env, &of_parent)?,
            key: path(&text("parent_key")?),
            field: text("partition_field")?,
            extra_fields: extra.iter().map(texts).collect::<Result<_>>()?,
            lazy,
            option: node.get("request_option").map(|option| RequestOption::build(&option)).transpose()?,
            incremental,
            reading: None,
        })
    }

    /// The next record's partition.
    async fn next(&mut self) -> Result<Option<Slice>> {
        loop {
            if self.reading.is_none() {
                let Some(piece) = self.stream.next_piece().await? else { return Ok(None) };
                let pages = self.stream.pages(&piece);
                self.reading =
                    Some(Reading { piece, seen: Seen::default(), pages: Some(pages), records: VecDeque::new() });
            }
            let Some(reading) = self.reading.as_mut() else { continue };
            let record = pull(reading).await?;
            if let Some(record) = &record {
                self.stream.observe(&mut reading.seen, record);
            }
            // The last record of a piece closes it before the child asks for anything, as in the reference.
            if reading.records.is_empty() {
                fill(reading).await?;
            }
            let partition = reading.piece.slice.partition.clone();
            if reading.records.is_empty() && reading.pages.is_none() {
                let reading = self.reading.take().expect("it is being read");
                self.stream.close(&reading.piece, reading.seen)?;
                if self.stream.is_at_end().await? {
                    self.stream.end();
                }
            }
            if let Some(slice) = record.and_then(|record| self.slice(&record, partition)) {
                return Ok(Some(slice));
            }
        }
    }

    fn slice(&self, record: &Record, parent_slice: Map) -> Option<Slice> {
        let record = record.value();
        let value = within(&record, &self.key).filter(|value| !value.is_null())?.clone();
        let mut partition = Map::new();
        partition.insert(self.field.clone(), value);
        partition.insert("parent_slice".into(), Value::map(parent_slice));
        let mut extra_fields = Map::new();
        if !self.lazy.is_empty() {
            extra_fields.insert("child_response".into(), within(&record, &self.lazy).cloned().unwrap_or_default());
        }
        for path in &self.extra_fields {
            extra_fields.insert(path.join("."), within(&record, path).cloned().unwrap_or_default());
        }
        Some(Slice { partition, cursor: Map::new(), extra_fields })
    }
}

async fn pull(reading: &mut Reading) -> Result<Option<Record>> {
    fill(reading).await?;
    Ok(reading.records.pop_front())
}

/// Reads pages until there is a record or no page more.
async fn fill(reading: &mut Reading) -> Result<()> {
    while reading.records.is_empty() {
        let Some(pages) = reading.pages.as_mut() else { return Ok(()) };
        match pages.next().await? {
            Some(page) => reading.records.extend(page.records),
            None => reading.pages = None,
        }
    }
    Ok(())
}

/// Where a parent stands, as its child's state says: under its own name, or by what the child had before it knew
/// of parents.
fn parent_state(parent: &Node<'_>, state: &Value, env: &Env) -> Result<Value> {
    let name = parent.value.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Some(of_parent) = state.get("parent_state").and_then(|parents| parents.get(name)) {
        return Ok(of_parent.clone());
    }
    if let Some(global) = state.get("state") {
        return Ok(global.clone());
    }
    let empty = Ok(Value::map(Map::new()));
    let Some((_, value)) = state.as_map().filter(|state| state.len() == 1).and_then(|state| state.first()) else {
        return empty;
    };
    let Some(cursor) = parent.get("incremental_sync") else { return empty };
    match (value, cursor.get("cursor_field")) {
        (Value::Str(_) | Value::Int(_) | Value::Float(_), Some(field)) => {
            let field = Template::new(&field, &cursor)?.text(&env.scope())?;
            Ok(Value::map(super::single(&field, value.clone())))
        }
        _ => empty,
    }
}

impl Router for Substream {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        Box::pin(self.following())
    }

    fn state(&self) -> Value {
        let incremental = self.parents.iter().filter(|parent| parent.incremental);
        Value::map(incremental.map(|parent| (parent.stream.name.to_string(), parent.stream.state())).collect())
    }

    fn parts(&self, slice: &Slice, scope: &Scope) -> Result<RequestParts> {
        let mut parts = RequestParts::default();
        for parent in &self.parents {
            if let (Some(option), Some(value)) = (&parent.option, member(slice, &parent.field))
                && value.truthy()
            {
                option.inject(&mut parts, value, scope)?;
            }
        }
        Ok(parts)
    }
}
