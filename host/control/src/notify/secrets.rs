//! The rows that notifications keep secrets in.

use serde_json::{Value, json};
use thimble_record::envelope::SecretRow;
use thimble_store::{ConnectionRow, NotifierRow};

use super::channel::ChannelKind;

/// Of a notifier.
pub(crate) fn notifier(row: &NotifierRow) -> SecretRow {
    SecretRow::new(row.workspace.clone(), "notifier", row.name.clone())
}

/// Of the hooks of a connection.
pub(crate) fn hooks(row: &ConnectionRow) -> SecretRow {
    SecretRow::new(row.workspace.clone(), "hooks", row.id.as_str())
}

/// JSON Schema of a connection's hooks: an object of webhooks by name.
pub(crate) fn hooks_schema() -> Value {
    json!({"type": "object", "additionalProperties": ChannelKind::Webhook.config_schema()})
}
