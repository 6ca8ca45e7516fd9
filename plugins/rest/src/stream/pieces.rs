//! What is asked for of a stream, one piece after the other: partitions by the router, windows by the cursor.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use crate::{
    cursor::{Cursor, Piece},
    error::Result,
    interpolation::Scope,
    partition::Router,
    stream::Env,
    value::Value,
};

/// The pieces of one stream.
pub struct Pieces {
    router: Box<dyn Router>,
    cursor: Rc<RefCell<Cursor>>,
    env: Env,
    made: VecDeque<Piece>,
    ended: bool,
    /// The moment at which the range ends that has no other end: of the run, also of one that goes on later.
    now_us: i64,
}

impl Pieces {
    pub fn new(router: Box<dyn Router>, cursor: Rc<RefCell<Cursor>>, env: &Env) -> Self {
        Self { router, cursor, now_us: env.now_us(), env: env.clone(), made: VecDeque::new(), ended: false }
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
                piece.parts = self.router.parts(&piece.slice, &scope)?;
                self.made.push_back(piece);
            }
        }
        Ok(())
    }

    /// The parents' state; null where there are no parents.
    pub fn parents(&self) -> Value {
        self.router.state()
    }
}
