//! What a sync can be asked for beyond the connection's own settings.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thimble_record::{ErrorKind, Failure};

/// Longest name of a backfill, in bytes.
pub const MAX_BACKFILL_NAME: usize = 64;

/// The request of a sync.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncRequest {
    /// Only these streams; empty means all selected ones.
    pub streams: Vec<String>,
    /// Not these streams: they have schedules of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// Read everything again into a new generation.
    pub full_refresh: bool,
    /// Read beside the live position, in a lane of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
    /// Make rows of rejected records instead of reading the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// A bounded read that leaves the live position alone. One that was interrupted goes on when it is asked for again by
/// the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backfill {
    /// Lower-case letters, digits, `-` and `_`; at most [`MAX_BACKFILL_NAME`] bytes.
    pub name: String,
    /// Settings of the connector that differ for this read, such as its start and end dates. Secrets cannot be set here.
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// Which rejected records are tried again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// Only those with these reason codes; empty means all.
    pub reasons: BTreeSet<String>,
}

impl SyncRequest {
    /// Reads a run's stored request.
    pub fn parse(request: &Value) -> Result<Self, Failure> {
        if request.is_null() {
            return Ok(Self::default());
        }
        let wrong = |what: String| Failure::new(ErrorKind::Config, format!("the run's request cannot be used: {what}"));
        let parsed: Self = serde_json::from_value(request.clone()).map_err(|error| wrong(error.to_string()))?;
        let Self { streams: _, except: _, full_refresh, backfill, replay } = &parsed;
        if u8::from(*full_refresh) + u8::from(backfill.is_some()) + u8::from(replay.is_some()) > 1 {
            return Err(wrong("only one of `full_refresh`, `backfill` and `replay` can be asked for".into()));
        }
        if let Some(Backfill { name, .. }) = backfill {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            if name.is_empty() || name.len() > MAX_BACKFILL_NAME || !name.bytes().all(allowed) {
                return Err(wrong(format!(
                    "the backfill's name {name:?} is not allowed: use 1 to {MAX_BACKFILL_NAME} lower-case letters, digits, '-' or '_'"
                )));
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_that_cannot_be_meant_are_refused() {
        assert_eq!(SyncRequest::parse(&Value::Null).unwrap(), SyncRequest::default());
        let told = |request: Value| SyncRequest::parse(&request).unwrap_err().message;
        assert!(told(json!({"stream": "x"})).contains("unknown field `stream`"));
        assert!(told(json!({"full_refresh": true, "replay": {}})).contains("only one of"));
        assert!(told(json!({"backfill": {"name": "A b"}})).contains("\"A b\""));
        assert!(told(json!({"backfill": {"name": "x".repeat(MAX_BACKFILL_NAME + 1)}})).contains("not allowed"));
        SyncRequest::parse(&json!({"backfill": {"name": "y2024", "config": {"start_date": "2024-01-01"}}})).unwrap();
    }
}
