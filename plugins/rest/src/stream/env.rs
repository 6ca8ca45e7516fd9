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
}

impl Env {
    /// Outside of a component: no orders, no budget, no tokens yet.
    pub fn new(wire: Rc<dyn Wire>, config: Value, stream: &str) -> Self {
        Self { wire, config, stream: stream.into(), orders: false, tokens: Rc::default(), budget: None }
    }

    /// The same for another stream.
    #[must_use]
    pub fn of_stream(&self, stream: &str) -> Self {
        Self { stream: stream.into(), ..self.clone() }
    }

    /// The variables that are there everywhere: `config`, and the present moment.
    pub fn scope(&self) -> Scope {
        Scope::new(self.wire.now_us()).with("config", self.config.clone())
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("stream", &self.stream).finish_non_exhaustive()
    }
}
