//! What can go wrong with staging, by what the reader can do about it.

use thimble_record::{ErrorKind, Failure, envelope::EnvelopeError};

/// An error of the staging area.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Change the setting that the message names.
    #[error("{0}")]
    Config(String),
    /// The credentials or the permissions of the store do not suffice.
    #[error("the staging store refused to {action} {path}: check its credentials and permissions")]
    Denied {
        action: &'static str,
        path: String,
        #[source]
        source: object_store::Error,
    },
    /// Try again later; nothing half-done is visible.
    #[error("the staging store could not {action} {path}: {source}")]
    Unavailable {
        action: &'static str,
        path: String,
        #[source]
        source: object_store::Error,
    },
    /// A write was sent and the store could not be asked whether it happened. Putting the same segment again is safe.
    #[error("it is unknown whether {path} was staged, because the store stopped answering: {source}")]
    Unknown {
        path: String,
        #[source]
        source: object_store::Error,
    },
    /// A sealed segment is not there. Its batch must be extracted again.
    #[error("the staged segment {0} is missing: its batch cannot be loaded from staging")]
    Missing(String),
    /// A segment is not what was sealed. Its batch must be extracted again.
    #[error("the staged segment {path} is corrupt: {reason}")]
    Corrupt { path: String, reason: String },
    /// Another object has the segment's name.
    #[error("the staging store holds other content under {0}, which must never be overwritten")]
    Conflict(String),
    /// The rows do not fit the schema that the segment was started with.
    #[error("stream {stream:?}: the batch does not fit the segment's schema: {reason}")]
    Schema { stream: String, reason: String },
    /// The rows cannot be encoded.
    #[error("stream {stream:?}: the rows could not be encoded as Parquet: {source}")]
    Encode {
        stream: String,
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A key could not be made or opened.
    #[error("the key of segment {path} cannot be used: {source}")]
    Key {
        path: String,
        #[source]
        source: EnvelopeError,
    },
}

impl StageError {
    /// The failure as it is shown and decided upon.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::Config(_) | Self::Denied { .. } => ErrorKind::Config,
            Self::Unavailable { .. } | Self::Unknown { .. } => ErrorKind::Transient,
            Self::Missing(_)
            | Self::Corrupt { .. }
            | Self::Conflict(_)
            | Self::Schema { .. }
            | Self::Encode { .. }
            | Self::Key { .. } => ErrorKind::System,
        };
        Failure::new(kind, self.to_string())
    }

    /// Sorts a store's error by what can be done about it.
    pub(crate) fn store(action: &'static str, path: &str, source: object_store::Error) -> Self {
        let path = path.to_owned();
        if refused(&source) {
            Self::Denied { action, path, source }
        } else {
            Self::Unavailable { action, path, source }
        }
    }
}

/// Whether asking again cannot help.
pub(crate) fn refused(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
    )
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        error.failure()
    }
}
