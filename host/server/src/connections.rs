//! Connections of the configuration file on their way into the control database.
//!
//! The file decides: what it holds replaces what is stored. Connections that it does not hold stay.

use serde_json::{Value, json};
use thimble_control::SecretSealer;
use thimble_pipeline::join_secrets;
use thimble_record::{
    ConnectionId,
    envelope::{Keys, SecretRow},
};
use thimble_store::{ConnectionRow, DEFAULT_WORKSPACE, Store, StoreError};

use crate::{
    config::Connection,
    connection_config::Sealer,
    context::connection_id,
    exit::{CliError, Exit},
};

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applied {
    Created,
    Updated,
    Unchanged,
}

/// Stores a connection as the file has it. One that is stored so already is left as it is.
pub async fn apply(
    store: &Store,
    keys: &Keys,
    name: &str,
    wanted: &Connection,
    now_ms: i64,
) -> Result<Applied, CliError> {
    let id = connection_id(name)?;
    let plugin = store.plugin(&wanted.plugin).await?;
    let stored = match store.connection(&id).await {
        Ok(stored) => Some(stored),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let row = row(id, wanted, &plugin.config_schema, keys, stored.as_ref())?;
    if stored.as_ref().is_some_and(|stored| same(stored, &row) && same_secrets(stored, &row, keys)) {
        return Ok(Applied::Unchanged);
    }
    let created = store.put_connection(&row, None, now_ms).await?;
    let detail = json!({ "plugin": row.plugin, "created": created });
    store.append_audit("config", "connection.put", row.id.as_str(), &detail, now_ms).await?;
    Ok(if created { Applied::Created } else { Applied::Updated })
}

fn row(
    id: ConnectionId,
    wanted: &Connection,
    schema: &Value,
    keys: &Keys,
    stored: Option<&ConnectionRow>,
) -> Result<ConnectionRow, CliError> {
    let Connection { plugin, config, streams, freshness, .. } = wanted;
    let freshness = freshness.as_ref().map(|objective| i64::try_from(objective.millis()).unwrap_or(i64::MAX));
    let sealer = Sealer(keys.clone());
    // A mark keeps the stored secret, so that `connection show` can be edited and applied again.
    let old = stored.filter(|stored| stored.plugin == *plugin && stored.source.is_none());
    let workspace = stored.map_or(DEFAULT_WORKSPACE, |stored| stored.workspace.as_str());
    let secrets_of = SecretRow::connection(workspace, id.as_str());
    let (config, secrets) = sealer.seal(&secrets_of, schema, config.clone(), old.map(|stored| &stored.secrets))?;
    // A catalog is of the source that was asked.
    let catalog = old.filter(|stored| stored.config == config).and_then(|stored| stored.catalog.clone());
    // What the file does not speak of stays.
    let kept = stored.cloned().unwrap_or_else(|| ConnectionRow::new(id, plugin.clone(), Value::Null));
    let mut row = ConnectionRow {
        plugin: plugin.clone(),
        source: None,
        config,
        secrets,
        streams: streams.clone(),
        destination: wanted.destination.as_ref().map(|name| json!({ "name": name })),
        catalog,
        // What its schedules rest for may have been put right in the file.
        paused: kept.paused && kept.paused_why.is_none(),
        paused_why: None,
        freshness_ms: freshness.or(kept.freshness_ms),
        ..kept
    };
    let scheduled = wanted.schedules();
    scheduled
        .validate(&row)
        .map_err(|reason| CliError::new(Exit::Usage, format!("connection {}: {reason}", row.id)))?;
    scheduled.write(&mut row);
    Ok(row)
}

/// Whether storing `row` would change nothing.
fn same(stored: &ConnectionRow, row: &ConnectionRow) -> bool {
    stored.plugin == row.plugin
        && stored.source == row.source
        && stored.config == row.config
        && stored.streams == row.streams
        && stored.destination == row.destination
        && stored.schedule == row.schedule
        && stored.stream_schedules == row.stream_schedules
        && stored.retry == row.retry
        && stored.max_duration_ms == row.max_duration_ms
        && stored.freshness_ms == row.freshness_ms
}

/// Whether both hold the same secrets. Each sealing differs, so that what is sealed cannot be compared.
fn same_secrets(stored: &ConnectionRow, row: &ConnectionRow, keys: &Keys) -> bool {
    if !holds_mark(&row.config) {
        return true;
    }
    let open = |row: &ConnectionRow| join_secrets(row.config.clone(), &row.secret_row(), keys, &row.secrets);
    // What can no longer be opened is written anew.
    matches!((open(stored), open(row)), (Ok(stored), Ok(row)) if stored == row)
}

fn holds_mark(config: &Value) -> bool {
    match config {
        Value::Object(entries) => {
            entries.contains_key(thimble_pipeline::SECRET_MARK) || entries.values().any(holds_mark)
        }
        Value::Array(items) => items.iter().any(holds_mark),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::envelope::HostKey;
    use thimble_store::PluginRow;

    use super::*;

    #[tokio::test]
    async fn a_connection_with_the_same_secrets_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("thimble.db")).await.unwrap();
        let secret = json!({"type": "string", "x-secret": true});
        let plugin = PluginRow {
            name: "p".into(),
            version: "1.0.0".into(),
            digest: "ab".repeat(32),
            api_version: "0.1.0".into(),
            title: "P".into(),
            docs: String::new(),
            config_schema: json!({"type": "object", "properties": {"token": secret, "url": {"type": "string"}}}),
            permissions: json!({}),
            installed_at: 1,
        };
        store.upsert_plugin(&plugin).await.unwrap();
        let keys: Keys = HostKey::generate().unwrap().into();
        let apply = async |token: &str, url: &str| {
            let wanted = json!({"plugin": "p", "config": {"token": token, "url": url}});
            let wanted: Connection = serde_json::from_value(wanted).unwrap();
            apply(&store, &keys, "c", &wanted, 7).await.unwrap()
        };
        assert_eq!(apply("planted", "a").await, Applied::Created);
        let id = connection_id("c").unwrap();
        store.pause(&id, true, Some("the source refused"), None, 8).await.unwrap();
        assert_eq!(apply("planted", "a").await, Applied::Unchanged);
        assert!(store.connection(&id).await.unwrap().paused, "what rests goes on resting");
        assert_eq!(apply("another", "a").await, Applied::Updated);
        assert!(!store.connection(&id).await.unwrap().paused, "it may have been put right");
        assert_eq!(apply("another", "b").await, Applied::Updated);
        assert_eq!(apply("another", "b").await, Applied::Unchanged);
    }
}
