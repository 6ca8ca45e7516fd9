//! The error of the boundary: a kind that says what the operator can do, and one sentence.

use std::time::Duration;

use crate::bindings::thimble::connector::types::{ConnectorError, ErrorKind as HostKind};

/// What can be done about an error. Mirrors `error-kind` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The configuration or the credentials are wrong. Never retried.
    Config,
    /// Likely to pass. Retried with backoff.
    Transient,
    /// A defect of the connector, or an answer that it cannot understand. Retried seldom.
    System,
    /// The host or the operator's policy said no. Never retried.
    Refused,
}

/// An error as the operator sees it. The message names the stream, file, line, field or setting and
/// never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    /// How long the source asked us to wait.
    pub retry_after: Option<Duration>,
    /// The HTTP status, where an answer caused the error.
    pub status: Option<u16>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, status: None }
    }

    /// The operator must change the configuration or the credentials.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Likely to pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    /// A defect, or an answer that makes no sense.
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }

    /// Policy or a limit said no.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// The same error after `wait`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same error with words in front that say what was being done: `stream items: …`.
    #[must_use]
    pub fn context(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

// `Error` itself does not implement `std::error::Error`: that is what lets `?` turn every standard
// error into one of kind system. An I/O error keeps the error of ours that it carries.
impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let any: &(dyn std::error::Error + 'static) = &error;
        if let Some(ours) = any.downcast_ref::<std::io::Error>().and_then(carried) {
            return ours;
        }
        if let Some(of_host) = any.downcast_ref::<ConnectorError>() {
            return from_host(of_host);
        }
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self::system(message)
    }
}

fn from_host(error: &ConnectorError) -> Error {
    let kind = match error.kind {
        HostKind::Config => ErrorKind::Config,
        HostKind::Transient => ErrorKind::Transient,
        HostKind::System => ErrorKind::System,
        HostKind::Refused => ErrorKind::Refused,
    };
    let retry_after = error.retry_after_ms.map(Duration::from_millis);
    Error { kind, message: error.message.clone(), retry_after, status: None }
}

pub(crate) fn to_host(error: Error) -> ConnectorError {
    let kind = match error.kind {
        ErrorKind::Config => HostKind::Config,
        ErrorKind::Transient => HostKind::Transient,
        ErrorKind::System => HostKind::System,
        ErrorKind::Refused => HostKind::Refused,
    };
    let retry_after_ms = error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    ConnectorError { kind, message: error.message, retry_after_ms }
}

/// An [`Error`] inside an `io::Error`, for readers that a decoder drives.
#[derive(Debug)]
struct Carried(Error);

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Carried {}

fn carried(error: &std::io::Error) -> Option<Error> {
    error.get_ref()?.downcast_ref::<Carried>().map(|carried| carried.0.clone())
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(Carried(error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<u32> {
        Ok(text.parse::<u32>()?)
    }

    #[test]
    fn standard_errors_become_system_errors() {
        let error = parse("x").unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::System, "invalid digit found in string"));
    }

    #[test]
    fn an_error_survives_the_way_through_io() {
        let ours = Error::transient("host a.example broke off").retry_after(Duration::from_secs(3));
        let back: Error = std::io::Error::from(ours.clone()).into();
        assert_eq!(back, ours);
    }

    #[test]
    fn an_error_of_the_host_keeps_its_kind() {
        let ours = Error::refused("host a.example is not granted").retry_after(Duration::from_millis(7));
        let back: Error = to_host(ours.clone()).into();
        assert_eq!(back, ours);
    }

    #[test]
    fn context_comes_in_front() {
        assert_eq!(Error::config("no such file").context("stream a").to_string(), "stream a: no such file");
    }
}
