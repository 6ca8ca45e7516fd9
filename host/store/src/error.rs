//! What can go wrong in the control database, named by what the reader can do about it.

use thimble_record::{ConnectionId, Epoch, ErrorKind, Failure, RunId};

/// Errors of the control database. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing of that name exists: check the name.
    #[error("there is no {what} named {name:?}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// The change does not fit what is stored: read again and decide anew.
    #[error("{message}")]
    Conflict {
        /// One sentence naming the thing and what is stored instead.
        message: String,
    },
    /// Somebody changed it since it was read: read it again and decide anew.
    #[error("{what} {name:?} is at version {current} now, not at {expected}: read it again")]
    Changed {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// The version that the caller knew; 0 where it was to be created.
        expected: i64,
        /// The version that is stored; 0 where it does not exist.
        current: i64,
    },
    /// A sync of the connection is queued or running: wait for it or cancel it.
    #[error("connection {connection} is being synced by run {run}: wait for it or cancel it")]
    AlreadyRunning {
        /// The connection.
        connection: String,
        /// The unfinished run.
        run: RunId,
    },
    /// The lease was lost to another owner: stop at once.
    #[error(
        "the lease of connection {connection} at epoch {epoch} was lost (now at epoch {current}): another owner works on it"
    )]
    Fenced {
        /// The connection.
        connection: ConnectionId,
        /// The epoch that the caller held.
        epoch: Epoch,
        /// The epoch that is stored.
        current: Epoch,
    },
    /// Something else uses it: release that first.
    #[error("{what} {name:?} is in use by {by}")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// Who uses it.
        by: String,
    },
    /// A stored value cannot be read: restore a backup, or report a defect.
    #[error("the control database holds a {what} that cannot be read")]
    Corrupt {
        /// Table and column.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was written by a newer or damaged installation.
    #[error(
        "the control database {path} cannot be brought to this version's layout; was it written by a newer version?"
    )]
    Layout {
        /// Path of the file.
        path: String,
        /// Why.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// The database does not answer: check the disk and the file's permissions.
    #[error("the control database is unavailable")]
    Unavailable(#[source] sqlx::Error),
}

impl StoreError {
    /// The failure as it is stored in a run and shown.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::NotFound { .. } => ErrorKind::Config,
            Self::Conflict { .. } | Self::Changed { .. } | Self::Corrupt { .. } | Self::Layout { .. } => {
                ErrorKind::System
            }
            Self::AlreadyRunning { .. } | Self::Fenced { .. } | Self::InUse { .. } => ErrorKind::Refused,
            Self::Unavailable(_) => ErrorKind::Transient,
        };
        let message = match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        };
        Failure::new(kind, message)
    }

    /// For a caller that waited long enough.
    pub fn no_answer() -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }

    pub(crate) fn not_found(what: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { index: _, source } => Self::Corrupt { what: "column", source },
            other => Self::Unavailable(other),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        error.failure()
    }
}

/// Refuses a change of a row whose stored version is not the one expected, if one is. A row that does not exist has 0.
pub(crate) fn refuse_changed(
    what: &'static str,
    name: &str,
    expected: Option<i64>,
    stored: Option<i64>,
) -> Result<(), StoreError> {
    let current = stored.unwrap_or(0);
    match expected {
        Some(expected) if expected != current => {
            Err(StoreError::Changed { what, name: name.into(), expected, current })
        }
        _ => Ok(()),
    }
}

/// Whether a unique index refused a row.
pub(crate) fn is_unique(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|cause| cause.is_unique_violation())
}
