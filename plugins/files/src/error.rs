//! What can go wrong with a file, named by what the operator can do about it.
//!
//! Owns the messages. Must never carry a secret: URLs are shown without user, password and query.

use std::io;

/// What can be done; the kinds of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Config,
    Transient,
    System,
    Refused,
}

/// A failure of one call.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A setting is wrong: change it.
    #[error("the setting {setting} {problem}")]
    Setting { setting: String, problem: String },
    /// Nothing is there: change the URL, or put the file there.
    #[error("{url} was not found (HTTP 404): check the URL in the stream \"{stream}\"")]
    NotFound { url: String, stream: String },
    /// The server gave an answer that makes no sense here.
    #[error("{url} gave an answer that cannot be used: {problem}")]
    Answer { url: String, problem: String },
    /// Another version is there now: plan again.
    #[error("{file} changed since it was planned ({what}); the next run plans its new version")]
    Changed { file: String, what: String },
    /// The file ends too early: it is being written, or was cut.
    #[error(
        "{file} is cut off at byte {byte}: {what}; the whole records before it were kept. Upload the whole file again"
    )]
    Truncated { file: String, byte: u64, what: String },
    /// The content is not what the format says.
    #[error("{file} is damaged at byte {byte}: {what}; the records read before it were kept")]
    Damaged { file: String, byte: u64, what: String },
    /// A limit of [`crate::limits`] was crossed.
    #[error("{what} is over the limit of {limit}: {advice}")]
    Limit { what: String, limit: String, advice: String },
    /// The connection broke in the middle.
    #[error("reading {file} broke off at byte {byte}: {what}")]
    Broken { file: String, byte: u64, what: String },
    /// A state or a descriptor that is not ours.
    #[error("the saved {what} of {file} cannot be read: {problem}; reset the state of the stream")]
    Saved { what: &'static str, file: String, problem: String },
    /// A sample has what it needs. Never leaves the crate.
    #[error("the sample is complete")]
    Enough,
    /// What the host or the SDK said, as it is.
    #[error("{message}")]
    Host { kind: Kind, message: String, retry_after_ms: Option<u64> },
}

impl FilesError {
    /// What can be done about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Setting { .. } | Self::NotFound { .. } => Kind::Config,
            Self::Changed { .. } | Self::Truncated { .. } | Self::Broken { .. } => Kind::Transient,
            Self::Answer { .. } | Self::Damaged { .. } | Self::Saved { .. } | Self::Enough => Kind::System,
            Self::Limit { .. } => Kind::Refused,
            Self::Host { kind, .. } => *kind,
        }
    }

    /// How long the source asked to wait.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Host { retry_after_ms, .. } => *retry_after_ms,
            _ => None,
        }
    }

    /// Shorthand for [`FilesError::Setting`].
    pub fn setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), problem: problem.into() }
    }
}

/// Carries an error through a [`std::io::Read`]; [`from_io`] takes it out again.
pub fn into_io(error: FilesError) -> io::Error {
    io::Error::other(error)
}

/// The error that a reader carried, or a broken connection at `byte` of `file`.
pub fn from_io(error: io::Error, file: &str, byte: u64) -> FilesError {
    let what = error.to_string();
    match error.into_inner().and_then(|inner| inner.downcast::<FilesError>().ok()) {
        Some(ours) => *ours,
        None => FilesError::Broken { file: file.to_owned(), byte, what },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn errors_survive_a_reader() {
        let carried = into_io(FilesError::setting("csv.quote", "is not one byte"));
        let back = from_io(carried, "f", 0);
        assert_eq!(back.kind(), Kind::Config);
        assert_eq!(back.to_string(), "the setting csv.quote is not one byte");
        let broken = from_io(io::Error::new(io::ErrorKind::ConnectionReset, "reset"), "f.csv", 17);
        assert_eq!(broken.kind(), Kind::Transient);
        assert!(broken.to_string().contains("f.csv") && broken.to_string().contains("17"));
    }
}
