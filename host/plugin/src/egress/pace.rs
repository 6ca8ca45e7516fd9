//! How often sources are asked, over all instances of the process: what a source said after too many requests, and
//! the rates that guests name.
//!
//! Owns the waiting. Must never let a source's word hold a request longer than the limit.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, COOKIE, RETRY_AFTER},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    error::EgressError,
    kept::{self, Kept, Key},
    limits::EgressLimits,
    pattern::Target,
};

/// Parts of a window that requests are counted in. A request counts until its whole part has left the window.
const PARTS: u32 = 100;
/// Longest key of a policy.
const MAX_KEY_BYTES: usize = 256;
/// Longest window: a day.
const MAX_WINDOW_MS: u64 = 86_400_000;

/// At most `limit` requests in any `window_ms`, over all that name the same key with the same credential.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PacePolicy {
    key: String,
    limit: u64,
    window_ms: u64,
}

impl PacePolicy {
    pub(super) fn check(policies: &[Self], target: &Target, limits: &EgressLimits) -> Result<(), EgressError> {
        if policies.len() > limits.pace_policies {
            return Err(EgressError::Limit {
                host: target.to_string(),
                what: "number of pacing policies of one request",
                limit: "pace_policies",
                allowed: limits.pace_policies as u64,
            });
        }
        let sound = |policy: &Self| {
            policy.limit > 0
                && (1..=MAX_WINDOW_MS).contains(&policy.window_ms)
                && (1..=MAX_KEY_BYTES).contains(&policy.key.len())
        };
        if policies.iter().all(sound) {
            return Ok(());
        }
        Err(EgressError::Order {
            host: target.to_string(),
            header: super::orders::PACE_HEADER,
            reason: "has a policy without a key, without a limit, or with a window that is not between 1 ms and a day"
                .into(),
        })
    }

    fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }
}

/// Requests of one policy, counted by parts of its window.
#[derive(Default)]
struct Counted(VecDeque<(Instant, u64)>);

impl Counted {
    /// When the policy lets the next request go; `None`: now.
    fn next(&mut self, policy: &PacePolicy, now: Instant) -> Option<Instant> {
        let leaves = |began: Instant| began + part(policy) + policy.window();
        while self.0.front().is_some_and(|(began, _)| leaves(*began) <= now) {
            self.0.pop_front();
        }
        let counted: u64 = self.0.iter().map(|(_, count)| count).sum();
        if counted < policy.limit { None } else { self.0.front().map(|(began, _)| leaves(*began)) }
    }

    fn count(&mut self, policy: &PacePolicy, now: Instant) {
        match self.0.back_mut() {
            Some((began, count)) if now < *began + part(policy) => *count += 1,
            _ => self.0.push_back((now, 1)),
        }
    }
}

fn part(policy: &PacePolicy) -> Duration {
    policy.window() / PARTS
}

/// The pace of a process.
#[derive(Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Default)]
struct State {
    /// Until when nobody asks a host with a credential.
    held: Kept<Instant>,
    counted: Kept<Counted>,
}

/// What requests of one credential to one host wait for.
pub(super) struct Lane<'a> {
    pub(super) target: &'a Target,
    pub(super) credential: Key,
    pub(super) policies: &'a [PacePolicy],
    /// When the call ends, whatever it waits for.
    pub(super) deadline: Option<Instant>,
}

impl Lane<'_> {
    fn host(&self) -> Key {
        kept::key([self.target.to_string().as_bytes(), &self.credential])
    }

    fn policy(&self, policy: &PacePolicy) -> Key {
        kept::key([b"policy".as_slice(), policy.key.as_bytes(), &self.credential])
    }
}

impl Pace {
    /// Waits for the turn of one request, and counts it. An error where the turn comes too late.
    pub(super) async fn wait(&self, lane: &Lane<'_>, limits: &EgressLimits) -> Result<(), EgressError> {
        let longest = Instant::now() + Duration::from_millis(limits.pace_wait_ms);
        let last = lane.deadline.map_or(longest, |deadline| deadline.min(longest));
        loop {
            let now = Instant::now();
            let Some(turn) = self.turn(lane, limits, now) else { return Ok(()) };
            if turn > last {
                let wait = turn.saturating_duration_since(now);
                return Err(EgressError::Paced {
                    host: lane.target.to_string(),
                    milliseconds: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                });
            }
            tokio::time::sleep_until(turn).await;
        }
    }

    /// When to look again; `None` where the request was counted and goes.
    fn turn(&self, lane: &Lane<'_>, limits: &EgressLimits, now: Instant) -> Option<Instant> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.get(&lane.host()).copied().filter(|until| *until > now);
        let counted = lane.policies.iter().filter_map(|policy| {
            let counted = state.counted.entry(&lane.policy(policy), limits.paces, Counted::default);
            counted.next(policy, now)
        });
        let turn = counted.chain(held).max();
        if turn.is_none() {
            for policy in lane.policies {
                let counted = state.counted.entry(&lane.policy(policy), limits.paces, Counted::default);
                counted.count(policy, now);
            }
        }
        turn
    }

    /// Takes note of what a source said of its limits.
    pub(super) fn note(
        &self,
        lane: &Lane<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        at: DateTime<Utc>,
        limits: &EgressLimits,
    ) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let Some(wait) = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, at)) else {
            return;
        };
        let until = Instant::now() + wait.min(Duration::from_millis(limits.pace_wait_ms));
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.entry(&lane.host(), limits.paces, || until);
        *held = until.max(*held);
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.held.len(), state.counted.len())
    }
}

/// Seconds, or a date.
fn retry_after(value: &str, at: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.min(f64::from(u32::MAX))).ok();
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    (date.with_timezone(&Utc) - at).to_std().ok()
}

/// What tells the credentials of a request's final headers apart; that of its connection where none shows.
pub(super) fn credential(headers: &HeaderMap, owner: &str) -> Key {
    let shows = |name: &str, sensitive: bool| {
        // Not every key: that of an idempotent request is another for each.
        let api_key = name.contains("api") && name.contains("key");
        sensitive || api_key || name == AUTHORIZATION.as_str() || name == COOKIE.as_str()
    };
    let mut found: Vec<&[u8]> = Vec::new();
    for (name, value) in headers {
        if shows(name.as_str(), value.is_sensitive()) {
            found.extend([name.as_str().as_bytes(), value.as_bytes()]);
        }
    }
    if found.is_empty() { kept::key([b"owner".as_slice(), owner.as_bytes()]) } else { kept::key(found) }
}
