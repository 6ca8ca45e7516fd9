//! Whether and when a failed step is tried again, and a failed run is run again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thimble_record::{ErrorKind, Failure};

use crate::{
    limits::{MAX_RUN_RETRIES, MAX_RUN_WAIT},
    span::Span,
};

/// Exponential backoff with full jitter above a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub max_attempts: u32,
    /// Milliseconds before the second try.
    pub base_ms: u64,
    /// Longest wait, in milliseconds, except where the source names a longer one.
    pub max_wait_ms: u64,
    /// Longest wait that a source may ask for, in milliseconds; beyond it the run fails and names the wait.
    pub max_retry_after_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, base_ms: 500, max_wait_ms: 60_000, max_retry_after_ms: 600_000 }
    }
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again after so many milliseconds.
    After(u64),
    GiveUp,
}

/// System failures are tried once more in all: a defect seldom heals.
const SYSTEM_ATTEMPTS: u32 = 2;

impl RetryPolicy {
    /// `attempt` counts from 1 and names the try that failed; `jitter` is uniform in 0.0..1.0.
    pub fn decide(&self, failure: &Failure, attempt: u32, jitter: f64) -> Retry {
        let allowed = match failure.kind {
            ErrorKind::Config | ErrorKind::Refused => 1,
            ErrorKind::System => SYSTEM_ATTEMPTS.min(self.max_attempts),
            ErrorKind::Transient => self.max_attempts,
        };
        let asked = failure.retry_after_ms.unwrap_or(0);
        if attempt >= allowed || asked > self.max_retry_after_ms {
            return Retry::GiveUp;
        }
        Retry::After(backoff(self.base_ms, self.max_wait_ms, attempt, jitter).max(asked))
    }
}

/// Doubles with each failed attempt, counted from 1, up to `max_ms`; `jitter` in 0.0..1.0 moves it within the upper half.
fn backoff(base_ms: u64, max_ms: u64, attempt: u32, jitter: f64) -> u64 {
    let ceiling = base_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(max_ms);
    // Truncation towards zero is what is wanted: the wait stays within ceiling/2..ceiling.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wait = (ceiling as f64 * (0.5 + jitter.clamp(0.0, 1.0) / 2.0)) as u64;
    wait
}

/// When a scheduled run that failed is run again. Failures of the configuration are never retried: they pause the
/// schedule until the connection is changed or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunRetry {
    /// Retries after the first run, at most 20; 0: the next slot is the next attempt.
    #[schemars(range(max = 20))]
    pub retries: u32,
    /// Wait before the first retry; doubles from then on.
    pub wait: Span,
    /// Longest wait, except where the source names a longer one; at most 1d.
    pub max_wait: Span,
}

impl Default for RunRetry {
    fn default() -> Self {
        Self { retries: 3, wait: Span::seconds(30), max_wait: Span::seconds(600) }
    }
}

/// What is wrong with a connection's setting `retry`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRetryError {
    #[error("`retries` of `retry` must be at most {MAX_RUN_RETRIES}, but is {0}")]
    Retries(u32),
    #[error("`{setting}` of `retry` must be at most {}, but is {wait}", Span(MAX_RUN_WAIT))]
    Wait { setting: &'static str, wait: Span },
}

/// What to do about a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Run it again, not before this moment.
    RetryAt(i64),
    /// Leave it to the next slot.
    GiveUp,
    /// Nothing will help but a change by the operator: start no further slots.
    Pause,
}

impl RunRetry {
    /// What is wrong with it, in a sentence that names the setting.
    pub fn validate(&self) -> Result<(), RunRetryError> {
        if self.retries > MAX_RUN_RETRIES {
            return Err(RunRetryError::Retries(self.retries));
        }
        let waits = [("wait", self.wait), ("max_wait", self.max_wait)];
        match waits.into_iter().find(|(_, wait)| wait.0 > MAX_RUN_WAIT) {
            Some((setting, wait)) => Err(RunRetryError::Wait { setting, wait }),
            None => Ok(()),
        }
    }

    /// `attempt` counts from 1 and names the run that failed; `jitter` is uniform in 0.0..1.0.
    pub fn after_run(&self, failure: &Failure, attempt: u32, now_ms: i64, jitter: f64) -> AfterFailure {
        match failure.kind {
            ErrorKind::Config | ErrorKind::Refused => return AfterFailure::Pause,
            ErrorKind::Transient | ErrorKind::System => {}
        }
        let asked = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
        if attempt > self.retries || asked > MAX_RUN_WAIT {
            return AfterFailure::GiveUp;
        }
        let wait = backoff(self.wait.millis(), self.max_wait.millis(), attempt, jitter);
        let wait = Span(asked.max(Duration::from_millis(wait)));
        AfterFailure::RetryAt(now_ms.saturating_add(wait.signed_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_decides_and_the_source_may_ask_for_longer() {
        let policy = RetryPolicy::default();
        let failure = |kind, retry_after_ms| Failure { kind, message: String::new(), retry_after_ms };
        let cases = [
            (failure(ErrorKind::Config, None), 1, Retry::GiveUp),
            (failure(ErrorKind::Refused, None), 1, Retry::GiveUp),
            (failure(ErrorKind::System, None), 1, Retry::After(500)),
            (failure(ErrorKind::System, None), 2, Retry::GiveUp),
            (failure(ErrorKind::Transient, None), 1, Retry::After(500)),
            (failure(ErrorKind::Transient, None), 4, Retry::After(4_000)),
            (failure(ErrorKind::Transient, None), 5, Retry::GiveUp),
            (failure(ErrorKind::Transient, Some(7_000)), 1, Retry::After(7_000)),
            (failure(ErrorKind::Transient, Some(3_600_000)), 1, Retry::GiveUp),
        ];
        for (failure, attempt, expected) in cases {
            assert_eq!(policy.decide(&failure, attempt, 1.0), expected, "{failure:?} {attempt}");
        }
        assert_eq!(policy.decide(&failure(ErrorKind::Transient, None), 1, 0.0), Retry::After(250));
    }

    #[test]
    fn a_run_is_retried_by_the_kind_of_its_failure() {
        let policy = RunRetry::default();
        let failure = |kind, retry_after_ms| Failure { kind, message: String::new(), retry_after_ms };
        let at = AfterFailure::RetryAt;
        let cases = [
            (failure(ErrorKind::Config, None), 1, AfterFailure::Pause),
            (failure(ErrorKind::Refused, Some(1)), 9, AfterFailure::Pause),
            (failure(ErrorKind::Transient, None), 1, at(1_000 + 30_000)),
            (failure(ErrorKind::Transient, None), 2, at(1_000 + 60_000)),
            (failure(ErrorKind::System, None), 3, at(1_000 + 120_000)),
            (failure(ErrorKind::Transient, None), 4, AfterFailure::GiveUp),
            (failure(ErrorKind::Transient, Some(3_600_000)), 1, at(1_000 + 3_600_000)),
            (failure(ErrorKind::Transient, Some(86_400_001)), 1, AfterFailure::GiveUp),
        ];
        for (failure, attempt, expected) in cases {
            assert_eq!(policy.after_run(&failure, attempt, 1_000, 1.0), expected, "{failure:?} {attempt}");
        }
        let none = RunRetry { retries: 0, ..policy };
        assert_eq!(none.after_run(&failure(ErrorKind::Transient, None), 1, 0, 0.5), AfterFailure::GiveUp);
        let patient = RunRetry { retries: 20, ..policy };
        assert_eq!(patient.after_run(&failure(ErrorKind::Transient, None), 20, 0, 1.0), at(600_000), "capped");
        assert_eq!(patient.after_run(&failure(ErrorKind::Transient, None), 1, 0, 0.0), at(15_000));
    }

    #[test]
    fn waits_and_retries_beyond_their_limits_are_refused_by_name() {
        let told = |retry: RunRetry| retry.validate().map_err(|error| error.to_string());
        assert_eq!(told(RunRetry::default()), Ok(()));
        let many = RunRetry { retries: MAX_RUN_RETRIES + 1, ..RunRetry::default() };
        assert_eq!(told(many), Err("`retries` of `retry` must be at most 20, but is 21".into()));
        let long = RunRetry { max_wait: Span::seconds(86_401), ..RunRetry::default() };
        assert_eq!(told(long), Err("`max_wait` of `retry` must be at most 1d, but is 86401s".into()));
    }
}
