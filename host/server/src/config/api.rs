//! Settings of the HTTP API: who may reach it, and how much.

use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;
use thimble_control::ApiLimits as Own;

use super::units::{ByteSize, Span};

/// The HTTP API.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// File with the first token, an admin's. Made with a random token where nobody could administer the installation
    /// otherwise. Default: `api-token` in the data folder.
    pub token_file: Option<PathBuf>,
    /// Whether `listen` may be an address that other machines reach. Tokens cross the network in the clear then, unless
    /// a proxy with TLS stands in front.
    pub allow_remote: bool,
    /// Whether `/metrics` takes no token. Default: only where the API listens on this machine alone.
    pub open_metrics: Option<bool>,
    /// Where people reach the console, such as `https://thimble.example.org`: links in notifications begin with it.
    pub public_url: Option<String>,
}

/// What callers of the API may use up.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Requests a second by one token, in the long run.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub requests_per_second: u32,
    /// Requests at once by one token.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub request_burst: u32,
    /// Requests a minute without a good token from one address, in the long run.
    pub failed_logins_per_minute: u32,
    /// Open connections; further ones wait.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub connections: u32,
    /// How long a connection may take for the head of a request, the idle time before it included.
    pub header_timeout: Span,
    /// Largest head of a request, at least 8 KiB.
    pub header_bytes: ByteSize,
}

impl Default for ApiLimits {
    /// The control plane's own.
    fn default() -> Self {
        let Own {
            requests_per_second,
            request_burst,
            failed_logins_per_minute,
            connections,
            header_timeout,
            header_bytes,
        } = Own::default();
        Self {
            requests_per_second,
            request_burst,
            failed_logins_per_minute,
            connections: u32::try_from(connections).unwrap_or(u32::MAX),
            header_timeout: Span(header_timeout),
            header_bytes: ByteSize(header_bytes as u64),
        }
    }
}

impl From<&ApiLimits> for Own {
    fn from(limits: &ApiLimits) -> Self {
        // What the HTTP parser needs at least.
        const LEAST_HEADER_BYTES: usize = 8 * 1024;
        Self {
            requests_per_second: limits.requests_per_second.max(1),
            request_burst: limits.request_burst.max(1),
            failed_logins_per_minute: limits.failed_logins_per_minute,
            connections: limits.connections.max(1) as usize,
            header_timeout: limits.header_timeout.0,
            header_bytes: limits.header_bytes.as_usize().max(LEAST_HEADER_BYTES),
        }
    }
}
