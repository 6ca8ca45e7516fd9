//! HTTP for connectors: requests with retry, redirects and streaming answers.
//!
//! ```no_run
//! # fn main() -> thimble_sdk::Result<()> {
//! use thimble_sdk::http;
//! #[derive(serde::Deserialize)]
//! struct Page { next: Option<u64> }
//! let page: Page = http::get("https://api.example.com/items").query("limit", 100).send()?.json()?;
//! # Ok(()) }
//! ```
//!
//! Requests pass the host's egress policy; a host that is not granted is refused. Owns no credentials:
//! secrets are placeholders here, which the host replaces on the way out.

mod order;
mod pending;
mod redirect;
mod request;
mod response;
mod retry;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod wasi;
#[cfg(not(target_arch = "wasm32"))]
use native as wire;
#[cfg(target_arch = "wasm32")]
use wasi as wire;

pub use order::{Initial, Jwt, Pace, Placement, Refresh, Token, TokenRequest};
pub use pending::{Pending, wait};
pub use request::{Request, Verb, get, post};
pub use response::{Body, DEFAULT_BODY_LIMIT, Response};
pub use retry::{MAX_RETRY_AFTER, MAX_WAIT, TRIES};

use std::time::Duration;

use url::Url;

/// One request as it goes over the wire: no retry, no redirect.
#[derive(Debug, Clone)]
struct Exchange {
    verb: Verb,
    url: Url,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Duration,
}

/// What the wire gave back: status, headers and the body yet to be read.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Box<dyn std::io::Read>,
}
