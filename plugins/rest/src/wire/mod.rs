//! The outside, as everything else sees it: one HTTP exchange, the clock, chance.
//!
//! The component implements it over `wasi:http`, tests by scripts.

pub mod coding;
pub mod host;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::error::Result;

/// A request as it leaves the connector. Secrets in it are placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    /// In capitals.
    pub method: String,
    /// Absolute, encoded.
    pub url: String,
    /// In order; a name may stand more than once.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer of any status, its body whole and as it was sent (content codings are undone).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// After redirects.
    pub url: String,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub trait Wire {
    /// One exchange, redirects followed. An answer of any status is `Ok`.
    ///
    /// # Errors
    /// Kind transient: the network. Refused: the host's policy. Config: an address that is none.
    fn send(&self, exchange: Exchange) -> LocalBoxFuture<'_, Result<Answer>>;

    /// Microseconds since 1970-01-01T00:00:00Z.
    fn now_us(&self) -> i64;

    fn sleep_us(&self, us: u64) -> LocalBoxFuture<'_, ()>;

    /// From 0 up to 1, for jitter and identifiers.
    fn chance(&self) -> f64;

    /// A line for the operator.
    fn info(&self, line: &str);
}
