//! What is asked for of a stream, one piece after the other: partitions by the router, windows by the cursor.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use crate::{
    cursor::{Cursor, Piece},
    error::Result,
    http::{RequestOption, RequestParts},
    interpolation::Scope,
    node::Node,
    partition::Router,
    stream::Env,
    value::{Map, Value},
};

/// The pieces of one stream.
pub struct Pieces {
    router: Box<dyn Router>,
    cursor: Rc<RefCell<Cursor>>,
    env: Env,
    from: Option<RequestOption>,
    to: Option<RequestOption>,
    made: VecDeque<Piece>,
    ended: bool,
    /// The moment at which the range ends that has no other end: of the run, also of one that goes on later.
    now_us: i64,
}

impl Pieces {
    /// `sync` is the stream's `incremental_sync`.
    ///
    /// # Errors
    /// Kind config, naming the place.
    pub fn build(
        router: Box<dyn Router>,
        cursor: Rc<RefCell<Cursor>>,
        sync: Option<&Node<'_>>,
        env: &Env,
    ) -> Result<Self> {
        let option = |key: &str| {
            let node = sync.and_then(|sync| sync.get(key));
            node.map(|node| RequestOption::build(&node)).transpose()
        };
        Ok(Self {
            router,
            cursor,
            from: option("start_time_option")?.or(option("start_value_option")?),
            to: option("end_time_option")?,
            env: env.clone(),
            made: VecDeque::new(),
            ended: false,
            now_us: env.now_us(),
        })
    }

    fn scope(&self) -> Scope {
        let mut scope = self.env.scope();
        scope.now_us = self.now_us;
        scope
    }

    /// # Errors
    /// Those of the router's parents; kind config: templates, limits.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        self.fill().await?;
        Ok(self.made.pop_front())
    }

    /// # Errors
    /// Those of [`Pieces::next`].
    pub async fn is_at_end(&mut self) -> Result<bool> {
        self.fill().await?;
        Ok(self.made.is_empty())
    }

    async fn fill(&mut self) -> Result<()> {
        while self.made.is_empty() && !self.ended {
            let Some(partition) = self.router.next().await? else {
                self.ended = true;
                break;
            };
            let scope = self.scope();
            let parents = self.router.state();
            let pieces = self.cursor.borrow_mut().pieces(partition, &parents, &scope)?;
            for mut piece in pieces {
                piece.parts = self.parts(&piece, &scope)?;
                self.made.push_back(piece);
            }
        }
        Ok(())
    }

    /// What the router adds, then the cursor.
    fn parts(&self, piece: &Piece, scope: &Scope) -> Result<RequestParts> {
        let mut parts = self.router.parts(&piece.slice, scope)?;
        let cursor = self.cursor.borrow();
        let Some(setting) = &cursor.setting else { return Ok(parts) };
        let (from, to) = setting.bounds.clone().unwrap_or_else(|| ("start".into(), "end".into()));
        for (option, key) in [(&self.from, from), (&self.to, to)] {
            if let Some(option) = option {
                let value = piece.slice.cursor.get(&key).cloned().unwrap_or_default();
                option.inject(&mut parts, value, scope)?;
            }
        }
        Ok(parts)
    }

    /// The parents' state.
    pub fn parents(&self) -> Value {
        match self.router.state() {
            Value::Null => Value::map(Map::new()),
            state => state,
        }
    }
}
