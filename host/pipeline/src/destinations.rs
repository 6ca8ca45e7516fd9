//! Which destination a connection loads into.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use thimble_load::Destination;
use thimble_record::{ConnectionId, ErrorKind, Failure};

/// The destinations of an installation.
#[derive(Clone)]
pub struct Destinations {
    /// For connections that name none.
    pub default: Arc<dyn Destination>,
    /// By name.
    pub named: BTreeMap<String, Arc<dyn Destination>>,
}

impl Destinations {
    /// One destination for all connections.
    pub fn only(default: Arc<dyn Destination>) -> Self {
        Self { default, named: BTreeMap::new() }
    }

    /// The destination of a connection, by its stored choice: null, or an object with the key `name`.
    ///
    /// # Errors
    /// `config`, where the installation has none of that name.
    pub fn of(&self, connection: &ConnectionId, choice: Option<&Value>) -> Result<&Arc<dyn Destination>, Failure> {
        let name = match choice {
            None | Some(Value::Null) => return Ok(&self.default),
            Some(choice) => choice.get("name").and_then(Value::as_str),
        };
        let known: Vec<_> = self.named.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let wrong = |what: String| Failure::new(ErrorKind::Config, format!("connection {connection}: {what}"));
        let name = name.ok_or_else(|| {
            wrong("its `destination` needs a `name`, one of those under `destinations` of the configuration".into())
        })?;
        self.named.get(name).ok_or_else(|| {
            wrong(format!("its destination `{name}` is not configured; under `destinations` there are: {known}"))
        })
    }
}
