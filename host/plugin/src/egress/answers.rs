//! The cache of one run: answers that several instances ask for are fetched once.
//!
//! Owns its size. Must never keep an answer that is no success, nor outlive the run.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, header::USER_AGENT, request::Parts};
use http_body_util::BodyExt;
use tokio::sync::OwnedMutexGuard;

use super::{
    body::ResponseBody,
    error::EgressError,
    kept::{self, Key},
    limits::EgressLimits,
    orders::{CACHE_HEADER, PACE_HEADER},
};

/// The answers of a run.
#[derive(Default)]
pub(super) struct Answers {
    cells: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Cell>>>>,
    bytes: AtomicUsize,
}

/// The place of one answer. Whoever holds its lock while it is empty fetches; the others wait.
#[derive(Default)]
pub(super) enum Cell {
    #[default]
    Empty,
    Kept(http::response::Parts, Bytes),
    /// Too large: everybody asks for himself.
    Unfit,
}

/// What tells requests apart, but for their bodies. Made of what the guest wrote, before any secret or order is in its
/// place: within one run a placeholder stands for one value.
pub(super) fn request_key(parts: &Parts) -> Option<Key> {
    if !parts.headers.contains_key(CACHE_HEADER) || !matches!(parts.method, Method::GET | Method::POST) {
        return None;
    }
    let uri = parts.uri.to_string();
    let mut said = vec![parts.method.as_str().as_bytes(), uri.as_bytes()];
    said.extend(sorted(&parts.headers));
    Some(kept::key(said))
}

fn sorted(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let matters = |name: &str| name != USER_AGENT.as_str() && name != PACE_HEADER;
    let mut pairs: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| matters(name))
        .collect();
    pairs.sort_unstable();
    pairs.into_iter().flat_map(|(name, value)| [name.as_bytes(), value])
}

impl Answers {
    /// The place for an answer; `None` where the cache has as many as it may.
    pub(super) fn cell(&self, key: Key, most: usize) -> Option<Arc<tokio::sync::Mutex<Cell>>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if cells.len() >= most && !cells.contains_key(&key) {
            return None;
        }
        Some(cells.entry(key).or_default().clone())
    }

    /// Reads an answer to its end and keeps it. One that does not fit goes on as it came.
    pub(super) async fn fill(
        &self,
        mut cell: OwnedMutexGuard<Cell>,
        answer: Response<ResponseBody>,
        limits: &EgressLimits,
    ) -> Result<Response<ResponseBody>, EgressError> {
        if !answer.status().is_success() {
            return Ok(answer);
        }
        let (parts, mut body) = answer.into_parts();
        let mut room = Room { bytes: &self.bytes, taken: 0 };
        let mut held = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            held.extend_from_slice(&data);
            if held.len() > limits.cached_answer_bytes || !room.take(data.len(), limits.cached_bytes) {
                *cell = Cell::Unfit;
                body.unread(held.freeze());
                return Ok(Response::from_parts(parts, body));
            }
        }
        room.taken = 0;
        let held = held.freeze();
        *cell = Cell::Kept(parts.clone(), held.clone());
        body.unread(held);
        Ok(Response::from_parts(parts, body))
    }
}

/// Room that was taken and not yet used; given back where the answer does not come to its end.
struct Room<'a> {
    bytes: &'a AtomicUsize,
    taken: usize,
}

impl Room<'_> {
    fn take(&mut self, length: usize, most: usize) -> bool {
        self.taken += length;
        self.bytes.fetch_add(length, Ordering::Relaxed) + length <= most
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.taken, Ordering::Relaxed);
    }
}
