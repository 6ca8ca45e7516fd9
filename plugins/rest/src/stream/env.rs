//! What every component of a stream is built with.

use std::rc::Rc;

use crate::{auth::Tokens, http::Budget, interpolation::Scope, value::Value, wire::Wire};

/// Cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub wire: Rc<dyn Wire>,
    /// The manifest's own configuration; secrets are placeholders.
    pub config: Value,
    /// The stream's name, for messages.
    pub stream: Rc<str>,
    /// The host takes orders in headers: it gets tokens, signs, caches. True inside the component.
    pub orders: bool,
    /// Tokens that this instance got for itself, shared by all of its streams.
    pub tokens: Rc<Tokens>,
    /// What the source allows, shared by all streams of the instance.
    pub budget: Option<Rc<Budget>>,
    /// The moment at which the run began, where an interrupted one goes on.
    pub pinned_now_us: Option<i64>,
    /// The fields that are wanted; `None` where all are.
    pub selected: Option<Rc<Vec<String>>>,
}

impl Env {
    /// Outside of a component: no orders, no budget, no tokens yet.
    pub fn new(wire: Rc<dyn Wire>, config: Value, stream: &str) -> Self {
        let (tokens, stream) = (Rc::default(), stream.into());
        Self { wire, config, stream, orders: false, tokens, budget: None, pinned_now_us: None, selected: None }
    }

    /// The same for another stream.
    #[must_use]
    pub fn of_stream(&self, stream: &str) -> Self {
        Self { stream: stream.into(), ..self.clone() }
    }

    /// The variables that are there everywhere: `config`, and the present moment.
    pub fn scope(&self) -> Scope {
        Scope::new(self.wire.now_us()).with_chance(self.wire.chance()).with("config", self.config.clone())
    }

    /// The end of ranges that have no other: now, or when an interrupted run began.
    pub fn now_us(&self) -> i64 {
        self.pinned_now_us.unwrap_or_else(|| self.wire.now_us())
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("stream", &self.stream).finish_non_exhaustive()
    }
}
