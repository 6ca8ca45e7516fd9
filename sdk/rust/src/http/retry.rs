//! Whether to try again, and how long to wait first. Pure: time and chance are parameters.

use std::time::{Duration, SystemTime};

use crate::{Error, ErrorKind};

/// How often a request is tried by default, the first time included.
pub const TRIES: u32 = 5;
/// The wait after the first failure; doubles after each.
const BASE_WAIT: Duration = Duration::from_millis(500);
/// The longest wait that grows by itself.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is waited for in place. A longer one ends the read with a transient
/// error that carries it, so that the host frees the instance and comes back in time.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// What came of a try.
pub(super) enum Outcome<'a> {
    /// To be returned whatever it is.
    Final,
    Status {
        status: u16,
        retry_after: Option<&'a str>,
    },
    Failed(&'a Error),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait(Duration),
    /// Return what there is.
    Settle {
        retry_after: Option<Duration>,
    },
}

/// Decides after try number `made` of `tries`. `chance` in `[0, 1)`.
pub(super) fn decide(tries: u32, made: u32, outcome: &Outcome<'_>, now: SystemTime, chance: f64) -> Verdict {
    let asked = match outcome {
        Outcome::Final => return Verdict::Settle { retry_after: None },
        Outcome::Failed(error) if error.kind == ErrorKind::Transient => error.retry_after,
        Outcome::Failed(_) => return Verdict::Settle { retry_after: None },
        Outcome::Status { status: 408 | 429 | 500..=599, retry_after } => {
            retry_after.and_then(|value| parse_retry_after(value, now))
        }
        Outcome::Status { .. } => return Verdict::Settle { retry_after: None },
    };
    if made >= tries || asked.is_some_and(|wait| wait > MAX_RETRY_AFTER) {
        return Verdict::Settle { retry_after: asked };
    }
    let doubled = BASE_WAIT.saturating_mul(1 << (made - 1).min(16)).min(MAX_WAIT);
    let grown = doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    // A little on top of what was asked, so that not all instances come back at the same moment.
    Verdict::Wait(asked.map_or(grown, |wait| wait + BASE_WAIT.mul_f64(chance.clamp(0.0, 1.0))))
}

/// The last error, saying how often it was tried.
pub(super) fn after_tries(mut error: Error, made: u32) -> Error {
    if made > 1 {
        error.message = format!("{} (after {made} tries)", error.message);
    }
    error
}

/// Seconds, or an HTTP date (RFC 9110, 10.2.3); a date in the past is no wait.
pub(super) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|format| chrono::NaiveDateTime::parse_from_str(value, format).ok())?;
    let seconds = u64::try_from(date.and_utc().timestamp()).ok()?;
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(u64::from(u32::MAX) * 2));
    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn status(status: u16, retry_after: Option<&str>) -> Outcome<'_> {
        Outcome::Status { status, retry_after }
    }

    fn ms(verdict: &Verdict) -> u128 {
        match verdict {
            Verdict::Wait(wait) => wait.as_millis(),
            Verdict::Settle { .. } => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (code, again) in [(200, false), (304, false), (400, false), (401, false), (404, false), (408, true)] {
            assert_eq!(decide(5, 1, &status(code, None), at(0), 0.5) != Verdict::Settle { retry_after: None }, again);
        }
        for code in [429, 500, 502, 503, 504, 599] {
            assert!(matches!(decide(5, 1, &status(code, None), at(0), 0.5), Verdict::Wait(_)), "{code}");
        }
        for (error, again) in [
            (Error::transient("x"), true),
            (Error::config("x"), false),
            (Error::refused("x"), false),
            (Error::system("x"), false),
        ] {
            assert_eq!(matches!(decide(5, 1, &Outcome::Failed(&error), at(0), 0.5), Verdict::Wait(_)), again);
        }
    }

    #[test]
    fn waits_grow_within_their_jitter_and_stop_after_the_last_try() {
        let least: Vec<u128> = (1..=4).map(|made| ms(&decide(5, made, &status(503, None), at(0), 0.0))).collect();
        let most: Vec<u128> = (1..=4).map(|made| ms(&decide(5, made, &status(503, None), at(0), 1.0))).collect();
        assert_eq!(least, [250, 500, 1000, 2000]);
        assert_eq!(most, [500, 1000, 2000, 4000]);
        assert_eq!(decide(5, 5, &status(503, None), at(0), 0.0), Verdict::Settle { retry_after: None });
        assert_eq!(ms(&decide(u32::MAX, 4_000_000, &status(503, None), at(0), 1.0)), MAX_WAIT.as_millis());
    }

    #[test]
    fn retry_after_is_honoured_in_every_form() {
        // 784111777 is the example of RFC 9110, 5.6.7.
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_retry_after(text, at(784_111_770)), Some(Duration::from_secs(7)), "{text}");
            assert_eq!(parse_retry_after(text, at(784_111_999)), Some(Duration::ZERO), "{text}");
        }
        assert_eq!(ms(&decide(5, 1, &status(429, Some("3")), at(0), 0.0)), 3000);
        assert_eq!(ms(&decide(5, 1, &status(429, Some("soon")), at(0), 0.0)), 250);
        for junk in ["", "-1", "99999999999999999999999", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse_retry_after(junk, at(0)), None, "{junk}");
        }
    }

    #[test]
    fn a_retry_after_over_the_limit_goes_to_the_host() {
        let hour = Duration::from_secs(3600);
        assert_eq!(decide(5, 1, &status(429, Some("3600")), at(0), 0.0), Verdict::Settle { retry_after: Some(hour) });
        assert_eq!(
            decide(5, 5, &status(429, Some("9")), at(0), 0.0),
            Verdict::Settle { retry_after: Some(Duration::from_secs(9)) }
        );
    }
}
