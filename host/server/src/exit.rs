//! How a command ends: the exit codes, and the error that carries one.
//!
//! Must never decide what an error means beyond its kind.

use std::process::ExitCode;

use serde::Serialize;
use thimble_record::{ErrorKind, Failure};

/// Exit codes of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Refused = 3,
    NotFound = 4,
    Conflict = 5,
    Transient = 6,
    Interrupted = 130,
}

/// The codes as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  the run or the command failed
    2  usage or configuration error
    3  refused: a grant, a policy or a limit said no
    4  not found
    5  conflict: already running, already there, or in use
    6  transient failure: trying again is likely to help
  130  interrupted";

impl Exit {
    /// The code of a failure's kind.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config => Self::Usage,
            ErrorKind::Transient => Self::Transient,
            ErrorKind::System => Self::Failed,
            ErrorKind::Refused => Self::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// How the process ends.
    pub exit: Exit,
    /// One sentence.
    pub message: String,
    /// A command or a setting that helps.
    pub hint: Option<String>,
}

impl CliError {
    /// An error with its code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// The same with something to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure of the machine under us: a file, a socket.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Exit::Failed, format!("{what}: {error}"))
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::new(Exit::of(failure.kind), failure.message)
    }
}

impl From<crate::config::ConfigError> for CliError {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Usage, error.to_string())
    }
}
