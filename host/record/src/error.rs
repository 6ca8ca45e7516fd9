//! The error kinds that cross every border, named by what the reader can do about them.

use serde::{Deserialize, Serialize};

/// What can be done about a failure. Mirrors `error-kind` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The operator must change the configuration or the credentials. Never retried.
    Config,
    /// Likely to pass. Retried with backoff.
    Transient,
    /// A defect, of the connector or of ours. Retried seldom.
    System,
    /// Policy or a limit said no. Never retried.
    Refused,
}

/// A failure as it is stored, shown and decided upon: the kind and one sentence, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What can be done.
    pub kind: ErrorKind,
    /// One sentence naming the stream, file, line, field or setting.
    pub message: String,
    /// Milliseconds that the source asked us to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure without a wait.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after_ms: None }
    }

    /// Shorthand for [`ErrorKind::System`].
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }
}
