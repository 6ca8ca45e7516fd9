//! What can go wrong, in one type, so that every error says where in the manifest it belongs.

use std::fmt;

/// What the operator can do about it; the kinds of the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The manifest, its configuration or the credentials are wrong.
    Config,
    /// Likely to pass.
    Transient,
    /// The source answered what cannot be understood, or a defect.
    System,
    /// The host's policy or a limit said no.
    Refused,
}

/// One sentence for the operator. Never holds a secret: those are placeholders here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestError {
    pub kind: Kind,
    pub message: String,
    /// Path inside the manifest, such as `streams[2].retriever.paginator`; empty where none is to blame.
    pub at: String,
    pub retry_after_ms: Option<u64>,
}

pub type Result<T, E = RestError> = std::result::Result<T, E>;

impl RestError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), at: String::new(), retry_after_ms: None }
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Kind::Transient, message)
    }

    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Kind::System, message)
    }

    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Says where in the manifest it belongs, unless something nearer has said so already.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        if self.at.is_empty() {
            self.at = path.into();
        }
        self
    }
}

impl fmt::Display for RestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.at, self.message) }
    }
}

impl std::error::Error for RestError {}

/// For the host.
pub fn to_sdk(error: RestError) -> thimble_sdk::Error {
    let kind = match error.kind {
        Kind::Config => thimble_sdk::ErrorKind::Config,
        Kind::Transient => thimble_sdk::ErrorKind::Transient,
        Kind::System => thimble_sdk::ErrorKind::System,
        Kind::Refused => thimble_sdk::ErrorKind::Refused,
    };
    let told = thimble_sdk::Error::new(kind, error.to_string());
    match error.retry_after_ms {
        Some(ms) => told.retry_after(std::time::Duration::from_millis(ms)),
        None => told,
    }
}

/// What the SDK or the host said, as it is.
pub fn from_sdk(error: thimble_sdk::Error) -> RestError {
    let kind = match error.kind {
        thimble_sdk::ErrorKind::Config => Kind::Config,
        thimble_sdk::ErrorKind::Transient => Kind::Transient,
        thimble_sdk::ErrorKind::System => Kind::System,
        thimble_sdk::ErrorKind::Refused => Kind::Refused,
    };
    let retry_after_ms = error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    RestError { retry_after_ms, ..RestError::new(kind, error.message) }
}
