//! What can go wrong with loading, by what the reader can do about it.

use thimble_record::{Checksum, Counts, Epoch, ErrorKind, Failure};

/// What a store, a server or a driver said.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of a destination.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Change the setting that the message names.
    #[error("{0}")]
    Config(String),
    /// Another owner took the connection over. Stop.
    #[error("connection {connection}: epoch {epoch} was shut out by epoch {held}, whose run goes on instead")]
    Fenced { connection: String, epoch: Epoch, held: Epoch },
    /// The destination holds something that contradicts the batch. Nothing was changed. A person must look.
    #[error("{0}")]
    Conflict(String),
    /// A write was sent and the destination could not be asked whether it happened. Load the same batch again.
    #[error("it is unknown whether {object} was written, because the destination stopped answering: {source}")]
    Unknown {
        object: String,
        #[source]
        source: Source,
    },
    /// Load the same batch again later.
    #[error("the destination could not {action} {object}: {source}")]
    Transient {
        action: &'static str,
        object: String,
        #[source]
        source: Source,
    },
    /// The credentials or the permissions of the destination do not suffice.
    #[error("the destination refused to {action} {object}: check its credentials and permissions ({source})")]
    Denied {
        action: &'static str,
        object: String,
        #[source]
        source: Source,
    },
    /// The destination failed in a way that loading again will not change. A person must look.
    #[error("the destination could not {action} {object}: {source}")]
    Failed {
        action: &'static str,
        object: String,
        #[source]
        source: Source,
    },
    /// What was staged is not what was sealed. The batch must be extracted again.
    #[error("stream {stream:?}: the segment {segment} is not what was sealed: {reason}")]
    CorruptSegment { stream: String, segment: String, reason: String },
    /// What the destination holds cannot be read. A person must look.
    #[error("{object} in the destination is corrupt: {reason}")]
    Corrupt { object: String, reason: String },
    /// Records would be lost or invented. Nothing was committed; the staging is kept.
    #[error(
        "stream {stream:?} does not add up: {} emitted, but {} loaded + {} merged + {} rejected + {} filtered",
        counts.emitted, counts.loaded, counts.merged, counts.rejected, counts.filtered
    )]
    NotConserved { stream: String, counts: Counts },
    /// Values changed between extraction and loading. Nothing was committed; the staging is kept.
    #[error(
        "stream {stream:?}: the rows that reached the destination have the checksum {loaded} instead of {sealed}, so a \
         value changed on the way; nothing was committed, and what is staged is kept"
    )]
    ChecksumMismatch { stream: String, sealed: Checksum, loaded: Checksum },
    /// A segment could not be read from staging.
    #[error(transparent)]
    Segment(#[from] Failure),
}

impl LoadError {
    /// The failure as it is shown and decided upon.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::Config(_) | Self::Denied { .. } => ErrorKind::Config,
            Self::Fenced { .. } => ErrorKind::Refused,
            Self::Unknown { .. } | Self::Transient { .. } => ErrorKind::Transient,
            Self::Conflict(_)
            | Self::Failed { .. }
            | Self::CorruptSegment { .. }
            | Self::Corrupt { .. }
            | Self::NotConserved { .. }
            | Self::ChecksumMismatch { .. } => ErrorKind::System,
            Self::Segment(failure) => return failure.clone(),
        };
        Failure::new(kind, self.to_string())
    }

    /// Sorts a store's error by what can be done about it.
    pub(crate) fn store(action: &'static str, object: &str, source: object_store::Error) -> Self {
        let object = object.to_owned();
        if refused(&source) {
            Self::Denied { action, object, source: source.into() }
        } else {
            Self::Transient { action, object, source: source.into() }
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

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        error.failure()
    }
}
