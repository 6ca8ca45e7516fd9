//! Which destination a connection loads into.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;
use thimble_load::Destination;
use thimble_record::{ErrorKind, Failure};
use thimble_store::ConnectionRow;

/// Opens the destinations that the control database names.
#[async_trait]
pub trait StoredDestinations: Send + Sync + 'static {
    /// The destination of a name in a workspace; `None` where there is none.
    async fn open(&self, workspace: &str, name: &str) -> Result<Option<Arc<dyn Destination>>, Failure>;
}

/// The destinations of an installation.
#[derive(Clone)]
pub struct Destinations {
    /// For connections that name none.
    pub default: Arc<dyn Destination>,
    /// By name.
    pub named: BTreeMap<String, Arc<dyn Destination>>,
    /// Those that are not in the configuration.
    pub stored: Option<Arc<dyn StoredDestinations>>,
}

impl Destinations {
    /// One destination for all connections.
    pub fn only(default: Arc<dyn Destination>) -> Self {
        Self { default, named: BTreeMap::new(), stored: None }
    }

    /// The destination of a connection, by its stored choice: null, or an object with the key `name`.
    ///
    /// # Errors
    /// `config`, where the installation has none of that name.
    pub async fn of(&self, connection: &ConnectionRow) -> Result<Arc<dyn Destination>, Failure> {
        let id = &connection.id;
        let name = match &connection.destination {
            None | Some(Value::Null) => return Ok(Arc::clone(&self.default)),
            Some(choice) => choice.get("name").and_then(Value::as_str),
        };
        let wrong = |what: String| Failure::new(ErrorKind::Config, format!("connection {id}: {what}"));
        let name = name.ok_or_else(|| wrong("its `destination` needs a `name`".into()))?;
        if let Some(configured) = self.named.get(name) {
            return Ok(Arc::clone(configured));
        }
        if let Some(stored) = &self.stored
            && let Some(opened) = stored.open(&connection.workspace, name).await?
        {
            return Ok(opened);
        }
        let known: Vec<_> = self.named.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(wrong(format!(
            "its destination `{name}` does not exist; in the configuration, under `destinations`, there are: {known}"
        )))
    }
}
