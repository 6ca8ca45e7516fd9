//! Why an evaluation stopped, as far as the reference tells reasons apart.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Something that is not there was used; the reference falls back to the default then.
    Undefined(String),
    /// Python's `TypeError`; the reference takes the template for plain text then.
    Type(String),
    /// Any other exception: it ends the evaluation.
    Other(String),
}

pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub fn type_error(message: impl Into<String>) -> Self {
        Self::Type(message.into())
    }

    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Undefined(message) | Self::Type(message) | Self::Other(message)) = self;
        f.write_str(message)
    }
}

impl From<crate::error::RestError> for Fault {
    fn from(error: crate::error::RestError) -> Self {
        Self::Other(error.message)
    }
}
