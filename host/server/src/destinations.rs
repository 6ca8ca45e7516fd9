//! The destinations that were made over the API: their settings' schema, and opening them.
//!
//! Must never let such a destination name a file of this machine: whoever may use the API may not use its disk.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use thimble_control::DestinationKinds;
use thimble_load::Destination;
use thimble_pipeline::{StoredDestinations, join_secrets};
use thimble_record::{
    ErrorKind, Failure,
    envelope::{Keys, SecretRow},
};
use thimble_store::{DestinationRow, Store, StoreError};

use crate::{
    config,
    wiring::{self, Opened},
};

/// Most destinations that stay open at once.
const MAX_OPEN: usize = 256;

/// What the API knows of destinations.
pub struct Kinds {
    /// Names that the configuration file has taken.
    pub configured: Vec<String>,
}

impl DestinationKinds for Kinds {
    fn schemas(&self) -> BTreeMap<String, Value> {
        [("postgres".to_owned(), postgres_schema()), ("lake".to_owned(), lake_schema())].into()
    }

    fn configured(&self, name: &str) -> bool {
        self.configured.iter().any(|configured| configured == name)
    }
}

fn postgres_schema() -> Value {
    let span = |what: &str| json!({"type": "string", "description": what, "examples": ["30s"]});
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["url"],
        "properties": {
            "url": {
                "type": "string",
                // A password there would be shown.
                "pattern": "^postgres(ql)?://([^:@/?#]+@)?[^@]*$",
                "description": "postgres://user@host:port/database, without the password; ?sslmode=disable, prefer (the default), require or verify-full."
            },
            "password": {"type": "string", "x-secret": true, "description": "The user's password."},
            "schema": {"type": "string", "description": "Schema of the tables; absent: one for each connection, with its name."},
            "ca_pem": {"type": "string", "description": "Certificates (PEM) of the authorities that are trusted instead of the well-known ones."},
            "connect_timeout": span("For connecting, TLS and logging in together."),
            "statement_timeout": span("For one statement, a whole COPY included."),
            "lock_timeout": span("Wait for a lock that somebody else holds."),
        }
    })
}

fn lake_schema() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    let secret = |what: &str| json!({"type": "string", "description": what, "x-secret": true});
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "pattern": "^s3://[^/]+", "description": "s3://bucket/prefix"},
            "options": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "aws_region": text("Region of the bucket."),
                    "aws_endpoint": text("URL of a store that speaks S3."),
                    "aws_allow_http": text("true: without TLS."),
                    "aws_virtual_hosted_style_request": text("true: the bucket in the host's name."),
                    "aws_access_key_id": text("Name of the access key."),
                    "aws_secret_access_key": secret("The access key."),
                    "aws_session_token": secret("Token of a session."),
                }
            }
        }
    })
}

/// A destination that is open, and the version of its row.
type Kept = (i64, Arc<dyn Destination>);

/// Opens stored destinations, and keeps them open until they change.
pub struct StoredInDatabase {
    store: Store,
    keys: Keys,
    open: Mutex<HashMap<String, Kept>>,
}

impl StoredInDatabase {
    /// Opens nothing yet.
    pub fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys, open: Mutex::default() }
    }

    fn kept(&self, row: &DestinationRow) -> Option<Arc<dyn Destination>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&row.name).filter(|(version, _)| *version == row.version).map(|(_, kept)| Arc::clone(kept))
    }
}

#[async_trait]
impl StoredDestinations for StoredInDatabase {
    async fn open(&self, workspace: &str, name: &str) -> Result<Option<Arc<dyn Destination>>, Failure> {
        let row = match self.store.destination(name).await {
            Ok(row) if row.workspace == workspace => row,
            Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.failure()),
        };
        if let Some(kept) = self.kept(&row) {
            return Ok(Some(kept));
        }
        let (name, version) = (row.name.clone(), row.version);
        let opened = open(row, &self.keys)?.destination();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        open.insert(name, (version, Arc::clone(&opened)));
        Ok(Some(opened))
    }
}

/// Opens a stored destination.
pub fn open(row: DestinationRow, keys: &Keys) -> Result<Opened, Failure> {
    let DestinationRow { name, workspace, kind, config, secrets, .. } = row;
    let mut config = join_secrets(config, &SecretRow::new(&workspace, "destination", &name), keys, &secrets)?;
    let wrong = |what: &str| Failure::new(ErrorKind::Config, format!("destination {name}: {what}"));
    let ca_pem = config.as_object_mut().and_then(|config| config.remove("ca_pem"));
    let kind: config::Destination = serde_json::from_value(json!({ kind: config }))
        .map_err(|_| wrong("its configuration cannot be used by this version: put it again"))?;
    let ca_pem = ca_pem.and_then(|pem| pem.as_str().map(str::to_owned));
    wiring::open_stored(&kind, ca_pem).map_err(|error| wrong(&error.message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fits(kind: &str, config: Value) -> bool {
        let schema = &Kinds { configured: Vec::new() }.schemas()[kind];
        crate::connection_config::check(&SecretRow::new("default", "destination", "d"), schema, &config).is_ok()
    }

    #[test]
    fn passwords_stay_out_of_urls_and_files_out_of_reach() {
        assert!(fits(
            "postgres",
            json!({"url": "postgres://me@db.example.org:5432/x?sslmode=require", "password": "p"})
        ));
        assert!(!fits("postgres", json!({"url": "postgres://me:secret@db.example.org/x"})));
        assert!(!fits("postgres", json!({"url": "postgres://db.example.org/x", "ca_file": "/etc/passwd"})));
        assert!(fits("lake", json!({"url": "s3://bucket/a", "options": {"aws_region": "eu-central-1"}})));
        assert!(!fits("lake", json!({"url": "file:///var/lib"})));
        assert!(!fits("lake", json!({"url": "s3://bucket", "options": {"aws_shared_credentials_file": "/x"}})));
    }
}
