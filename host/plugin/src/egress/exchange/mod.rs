//! Exchanges: requests of a guest and their answers as the guest saw them, for whoever watches, records or answers
//! them again.
//!
//! Owns the form of an exchange and of a recording. Must never hold a secret of the session: everything is masked
//! before it becomes an exchange. What a source hands out itself, such as a session's token in an answer, is part of
//! the answer and stays.

mod body;
mod recorder;
mod replay;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, request::Parts};
use serde::{Deserialize, Serialize};
use thimble_record::ErrorKind;

pub(super) use self::body::Tape;
pub use self::{
    body::AnswerBody,
    recorder::Recorder,
    replay::{RecordingError, Replay},
};
use super::{detour::Detour, error::EgressError};
use crate::secrets::Secrets;

/// Gets every exchange when it is over. Must not wait.
pub trait Watcher: Send + Sync {
    /// Takes one exchange.
    fn exchange(&self, exchange: &Exchange);

    /// Whether answers are wanted as they are, not compressed, so that secrets in them can be found.
    fn wants_plain_answers(&self) -> bool {
        false
    }
}

/// How the traffic of a session differs from that of every day. Nothing of it by default. Cheap to clone; clones count
/// their exchanges together.
#[derive(Clone, Default)]
pub struct Rehearsal {
    pub watchers: Vec<Arc<dyn Watcher>>,
    /// Answers instead of the network.
    pub replay: Option<Arc<Replay>>,
    /// Where the connections of some origins lead.
    pub detours: Vec<Detour>,
    /// What guests see as the time of day, at rest.
    pub now: Option<std::time::SystemTime>,
    count: Arc<AtomicU64>,
}

impl Rehearsal {
    /// Whether exchanges have to be held for somebody.
    pub(super) fn is_seen(&self) -> bool {
        !self.watchers.is_empty() || self.replay.is_some()
    }

    pub(super) fn next_number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn tell(&self, exchange: &Exchange) {
        self.watchers.iter().for_each(|watcher| watcher.exchange(exchange));
    }
}

/// A request and what became of it, with every secret of the session masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// By the order of the requests, from 1.
    pub number: u64,
    pub method: String,
    pub url: String,
    pub request_headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Content::is_empty")]
    pub request_body: Content,
    /// Absent where no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// As far as the guest read it.
    #[serde(default, skip_serializing_if = "Content::is_empty")]
    pub body: Content,
    /// Whether the body was longer than `recorded_body_bytes`, so that nothing of it is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Why no answer came, or why its body broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failed>,
    /// Milliseconds from the request to the end of its answer.
    pub ms: u64,
}

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub kind: ErrorKind,
    pub message: String,
}

impl Failed {
    fn new(error: &EgressError, secrets: &Secrets) -> Self {
        Self { kind: error.kind(), message: secrets.mask(&error.to_string()) }
    }
}

/// The bytes of a body: as text where they are text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Binary { base64: String },
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// Masked bytes. Among bytes that are no text, secrets of plain letters are found too.
    fn masked(bytes: &[u8], secrets: &Secrets) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Self::Text(secrets.mask(text));
        }
        let letters: String = bytes.iter().copied().map(char::from).collect();
        let masked = secrets.mask(&letters);
        let bytes: Vec<u8> = masked.chars().filter_map(|letter| u8::try_from(letter).ok()).collect();
        Self::Binary { base64: STANDARD.encode(bytes) }
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    /// The bytes; `None` where the base64 is none.
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(Bytes::from(text.clone())),
            Self::Binary { base64 } => STANDARD.decode(base64).ok().map(Bytes::from),
        }
    }
}

/// An exchange that has just begun.
pub(super) fn begun(number: u64, parts: &Parts, body: &[u8], secrets: &Secrets) -> Exchange {
    Exchange {
        number,
        method: parts.method.to_string(),
        url: secrets.mask(&parts.uri.to_string()),
        request_headers: shown(&parts.headers, secrets),
        request_body: Content::masked(body, secrets),
        status: None,
        headers: Vec::new(),
        body: Content::default(),
        cut: false,
        error: None,
        ms: 0,
    }
}

/// Headers with their secrets masked: credentials whole, as they may have been made of secrets. Orders to the host are
/// no part of the request.
fn shown(headers: &HeaderMap, secrets: &Secrets) -> Vec<(String, String)> {
    let ordinary = headers.iter().filter(|(name, _)| !name.as_str().starts_with(super::orders::ORDER_PREFIX));
    let one = |name: &http::HeaderName, value: &http::HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let shown = match name.as_str() {
            "authorization" | "proxy-authorization" => match text.split_once(' ') {
                Some((scheme, _)) => format!("{scheme} ***"),
                None => "***".to_owned(),
            },
            "cookie" => "***".to_owned(),
            _ => secrets.mask(&text),
        };
        (name.as_str().to_owned(), shown)
    };
    ordinary.map(|(name, value)| one(name, value)).collect()
}
