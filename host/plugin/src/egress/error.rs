//! What can go wrong with network traffic, named by what the reader can do about it.
//!
//! Must never hold a URL's path or query (but masked, where a recording has no answer), a header value or a body: they
//! may carry secrets.

use std::{io, net::IpAddr, sync::Arc};

use thimble_record::{ErrorKind, Failure};

use super::address::Range;

/// A source of an error that several requests may share.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why traffic was refused or failed. `host` is always the canonical name or address, with brackets around IPv6.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    // Policy.
    #[error(
        "host {host}:{port} is not granted to plugin {plugin}; grant it with: thimble plugin grant {plugin} {host}:{port}"
    )]
    NotGranted { plugin: String, host: String, port: u16 },
    #[error("host {host}:{port} leads to {address}, {range}; {}", remedy(*range, address, *port, plugin))]
    AddressDenied { plugin: String, host: String, port: u16, address: IpAddr, range: Range },
    #[error("`{given}` is not a host that may be asked for: {reason}")]
    BadHost { given: String, reason: &'static str },
    #[error("`{pattern}` is not a host pattern: {reason}; write name, name:port, *.name or an address")]
    BadPattern { pattern: String, reason: &'static str },
    #[error("the grant `{template}` does not fit the configuration: {reason}")]
    BadTemplate { template: String, reason: String },
    #[error("the network setting `{setting}` is wrong: {reason}")]
    BadSetting { setting: &'static str, reason: String },
    #[error("the request to {host} is not allowed: {reason}")]
    BadRequest { host: String, reason: String },

    // Limits.
    #[error("the {what} of {host} crossed the limit {limit} = {allowed}")]
    Limit { host: String, what: &'static str, limit: &'static str, allowed: u64 },
    #[error("{host} did not answer in time: {what} took longer than {limit} = {milliseconds} ms")]
    Timeout { host: String, what: &'static str, limit: &'static str, milliseconds: u64 },

    // The network and the other side.
    #[error("the name {host} cannot be resolved: {source}")]
    Resolve { host: String, source: Arc<io::Error> },
    #[error("the name {host} has no address")]
    NoAddress { host: String },
    #[error("{host}:{port} cannot be reached: {source}")]
    Connect { host: String, port: u16, source: Arc<io::Error> },
    #[error("the certificate of {host} is not trusted: {reason}")]
    Certificate { host: String, reason: String },
    #[error("TLS with {host} failed: {source}")]
    Tls { host: String, source: Arc<io::Error> },
    #[error("the connection to {host} broke: {reason}")]
    Broken {
        host: String,
        reason: String,
        #[source]
        source: Option<Cause>,
    },

    // Recordings.
    #[error("the recording has no answer to {method} {url}: {reason}; record it again")]
    NotRecorded { method: String, url: String, reason: &'static str },
    #[error("{message}")]
    Recorded { kind: ErrorKind, message: String },
    #[error("`{text}` is not a detour: {reason}")]
    BadDetour { text: String, reason: &'static str },

    // The guest's side of a request.
    #[error("the body of the request to {host} ended with an error: {reason}")]
    RequestBody { host: String, reason: String },
    #[error("the setting `{setting}` cannot be put into a request: {reason}")]
    Secret { setting: String, reason: &'static str },
    #[error("the request to {host} cannot be signed: {reason}")]
    Signing { host: String, reason: String },

    // Services of the host.
    #[error("the request to {host} has an order that cannot be carried out: the header {header} {reason}")]
    Order { host: String, header: &'static str, reason: String },
    #[error("the JSON Web Token for {host} cannot be made: {reason}")]
    Jwt { host: String, reason: String },
    #[error("there is no access token from {host}: {reason}")]
    Token { host: String, reason: String, kind: ErrorKind },
    #[error(
        "{host} must not be asked for another {} s because of its rate limits, longer than may be waited for now",
        milliseconds.div_ceil(1_000)
    )]
    Paced { host: String, milliseconds: u64 },
}

fn remedy(range: Range, address: &IpAddr, port: u16, plugin: &str) -> String {
    let shown = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    match range {
        Range::Loopback | Range::Private | Range::SharedNat => format!(
            "allow it with the setting allow_private_networks, or grant the address itself: thimble plugin grant {plugin} {shown}:{port}"
        ),
        Range::LinkLocal | Range::Metadata => {
            format!("only the address itself can be granted: thimble plugin grant {plugin} {shown}:{port}")
        }
        Range::Public | Range::Multicast | Range::Unspecified | Range::Reserved | Range::Transition => {
            "such addresses are never reached".to_owned()
        }
    }
}

impl EgressError {
    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotGranted { .. } | Self::AddressDenied { .. } | Self::BadRequest { .. } | Self::Limit { .. } => {
                ErrorKind::Refused
            }
            Self::Recorded { kind, .. } => *kind,
            Self::NotRecorded { .. }
            | Self::BadDetour { .. }
            | Self::BadHost { .. }
            | Self::BadPattern { .. }
            | Self::BadTemplate { .. }
            | Self::BadSetting { .. }
            | Self::Certificate { .. }
            | Self::Jwt { .. }
            | Self::Secret { .. } => ErrorKind::Config,
            Self::Timeout { .. }
            | Self::Resolve { .. }
            | Self::NoAddress { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Paced { .. }
            | Self::Broken { .. } => ErrorKind::Transient,
            Self::RequestBody { .. } | Self::Signing { .. } | Self::Order { .. } => ErrorKind::System,
            Self::Token { kind, .. } => *kind,
        }
    }

    /// The same as it is stored and decided upon.
    pub fn failure(&self) -> Failure {
        let retry_after_ms = match self {
            Self::Paced { milliseconds, .. } => Some(*milliseconds),
            _ => None,
        };
        Failure { retry_after_ms, ..Failure::new(self.kind(), self.to_string()) }
    }

    /// The host that a denial is about: canonical, or as it was asked for where it is none.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::NotGranted { host, .. } | Self::AddressDenied { host, .. } | Self::BadHost { given: host, .. } => {
                Some(host)
            }
            _ => None,
        }
    }

    /// Whether the operator's policy said no, which is worth a line in the log.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::NotGranted { .. } | Self::AddressDenied { .. } | Self::BadHost { .. })
    }
}

impl From<EgressError> for Failure {
    fn from(error: EgressError) -> Self {
        error.failure()
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => "config",
        ErrorKind::Transient => "transient",
        ErrorKind::System => "system",
        ErrorKind::Refused => "refused",
    }
}

impl From<EgressError> for wasmtime_wasi_http::Error {
    /// What the guest's HTTP client is told. WASI has room for a sentence in its internal error only; it is used for
    /// whatever the guest cannot put better itself.
    fn from(error: EgressError) -> Self {
        match &error {
            EgressError::Timeout { limit: "connect_timeout_ms" | "tls_timeout_ms", .. } => Self::ConnectionTimeout,
            EgressError::Timeout { limit: "header_timeout_ms", .. } => Self::HttpResponseTimeout,
            EgressError::Timeout { .. } => Self::ConnectionReadTimeout,
            // The SDK reads the kind in front, and so does not try again what policy has refused.
            _ => Self::InternalError(Some(format!("{}: {error}", kind_name(error.kind())))),
        }
    }
}
