//! Answers requests from a recording, without any network.
//!
//! Requests are told apart by method, URL and body, with their secrets masked: so a recording needs no secret, and
//! headers, which carry credentials and times, may differ. Equal requests get their answers in the recorded order.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use http::Response;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thimble_record::{ErrorKind, Failure};

use super::{AnswerBody, Content, Exchange};
use crate::egress::{error::EgressError, limits::EgressLimits};

/// The form of the lines. A reader refuses a newer one.
const FORMAT: u32 = 1;

/// The first line of a recording.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    recording: u32,
}

impl Default for Head {
    fn default() -> Self {
        Self { recording: FORMAT }
    }
}

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("the recording {path} cannot be read: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the recording {path} is longer than the limit recording_bytes = {limit}")]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("the recording {path} is broken in line {line}: {reason}; record it again")]
    Malformed { path: PathBuf, line: usize, reason: String },
    #[error("the recording {path} has format {found}, this Thimble reads format {FORMAT}: update Thimble")]
    Format { path: PathBuf, found: u32 },
}

impl RecordingError {
    /// As it is shown.
    pub fn failure(&self) -> Failure {
        Failure::new(ErrorKind::Config, self.to_string())
    }
}

/// What tells requests apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    method: String,
    url: String,
    body: [u8; 32],
}

impl Asked {
    fn of(exchange: &Exchange) -> Self {
        let Exchange { method, url, request_body, .. } = exchange;
        let body = match request_body {
            Content::Text(text) => Sha256::digest(text),
            Content::Binary { base64 } => Sha256::digest(base64),
        };
        Self { method: method.clone(), url: url.clone(), body: body.into() }
    }
}

/// A recording that answers. Shared by all instances of a run.
#[derive(Debug)]
pub struct Replay {
    answers: Mutex<HashMap<Asked, VecDeque<Exchange>>>,
}

impl Replay {
    /// Reads a recording.
    ///
    /// # Errors
    /// What is wrong with the file, by its line.
    pub fn open(path: &Path, limits: &EgressLimits) -> Result<Self, RecordingError> {
        let io = |source| RecordingError::Io { path: path.to_owned(), source };
        let limit = limits.recording_bytes;
        let file = std::fs::File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > limit {
            return Err(RecordingError::TooLarge { path: path.to_owned(), limit });
        }
        let mut lines = io::BufReader::new(file.take(limit)).lines();
        let malformed = |line, error: serde_json::Error| RecordingError::Malformed {
            path: path.to_owned(),
            line,
            reason: error.to_string(),
        };
        let head = lines.next().unwrap_or_else(|| Ok(String::new())).map_err(io)?;
        let Head { recording } = serde_json::from_str(&head).map_err(|error| malformed(1, error))?;
        if recording != FORMAT {
            return Err(RecordingError::Format { path: path.to_owned(), found: recording });
        }
        let mut exchanges = Vec::new();
        for (index, line) in lines.enumerate() {
            let exchange: Exchange =
                serde_json::from_str(&line.map_err(io)?).map_err(|error| malformed(index + 2, error))?;
            exchanges.push(exchange);
        }
        // They were written in the order in which they ended.
        exchanges.sort_by_key(|exchange| exchange.number);
        let mut answers: HashMap<Asked, VecDeque<Exchange>> = HashMap::new();
        for exchange in exchanges {
            answers.entry(Asked::of(&exchange)).or_default().push_back(exchange);
        }
        Ok(Self { answers: Mutex::new(answers) })
    }

    /// The next answer to a request, with the exchange that it comes from.
    pub(in crate::egress) fn answer(
        &self,
        request: &Exchange,
    ) -> Result<(Exchange, Result<Response<AnswerBody>, EgressError>), EgressError> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let missed =
            |reason| EgressError::NotRecorded { method: request.method.clone(), url: request.url.clone(), reason };
        let known = answers.get_mut(&Asked::of(request)).ok_or_else(|| missed("it was not asked then"))?;
        let exchange = known.pop_front().ok_or_else(|| missed("it was not asked so often then"))?;
        if exchange.cut {
            return Err(missed("the answer was longer than recorded_body_bytes allows"));
        }
        let error = exchange
            .error
            .as_ref()
            .map(|failed| EgressError::Recorded { kind: failed.kind, message: failed.message.clone() });
        let Some(status) = exchange.status else {
            return Ok((exchange, Err(error.unwrap_or_else(|| missed("it has no answer there")))));
        };
        let body = exchange.body.bytes().ok_or_else(|| missed("its body there is broken"))?;
        let mut answer = Response::builder().status(status);
        for (name, value) in &exchange.headers {
            answer = answer.header(name, value);
        }
        let answer =
            answer.body(AnswerBody::recorded(body, error)).map_err(|_| missed("its headers there are broken"))?;
        Ok((exchange, Ok(answer)))
    }
}
