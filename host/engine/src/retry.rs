//! Whether and when a failed step is tried again.

use serde::{Deserialize, Serialize};
use thimble_record::{ErrorKind, Failure};

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
        let ceiling = self.base_ms.saturating_mul(1 << (attempt - 1).min(20)).min(self.max_wait_ms);
        // Truncation towards zero is what is wanted: the wait stays within ceiling/2..ceiling.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wait = (ceiling as f64 * (0.5 + jitter.clamp(0.0, 1.0) / 2.0)) as u64;
        Retry::After(wait.max(asked))
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
}
