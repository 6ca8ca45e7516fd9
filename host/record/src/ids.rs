//! Identifiers and counters. Newtypes, so that an epoch is never passed where a sequence is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Stable name of a connection: lower-case letters, digits, `-` and `_`, 1 to 64 bytes, so that it can stand in
/// paths and table names as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

/// Longest accepted connection name, in bytes.
pub const MAX_CONNECTION_NAME: usize = 64;

/// A connection name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "connection name {0:?} is not allowed: use 1 to 64 lower-case letters, digits, '-' or '_', and start with a letter or digit"
)]
pub struct InvalidConnectionName(pub String);

impl ConnectionId {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidConnectionName> {
        let name = name.into();
        let first_ok = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let all_ok = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if first_ok && all_ok && name.len() <= MAX_CONNECTION_NAME {
            Ok(Self(name))
        } else {
            Err(InvalidConnectionName(name))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = InvalidConnectionName;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<ConnectionId> for String {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies one run; 26 characters, sorted by creation time (ULID-like, made by the store).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Counts the leases of a connection; the holder of the greatest one may write.
    Epoch
}
counter! {
    /// Numbers the batches of a connection, gap-free from 1. Zero means that nothing was committed yet.
    BatchSeq
}
counter! {
    /// Numbers the full refreshes of a stream. Readers see one generation at a time.
    Generation
}
