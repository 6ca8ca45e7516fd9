//! When a request is sent again, as the reference's three nested retry loops decide it. Pure.
//!
//! The outer loop repeats on errors with waits of 1, 2, 4… seconds, the middle one on rate limits in the same way but
//! without a limit of time, the inner one waits as a backoff strategy says. A loop that repeats begins those inside it
//! anew.

/// Why a request is to be sent again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// A backoff strategy said how many seconds to wait.
    Asked(f64),
    /// A rate limit, and no strategy said anything.
    RateLimited,
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Loop {
    tries: u32,
    started_us: i64,
    tried_us: i64,
}

impl Loop {
    fn begin(now_us: i64) -> Self {
        Self { tries: 1, started_us: now_us, tried_us: now_us }
    }

    fn elapsed_us(&self) -> i64 {
        self.tried_us.saturating_sub(self.started_us).max(0)
    }

    /// 1, 2, 4… seconds.
    fn exponential_us(&self) -> i64 {
        1_000_000_i64 << (self.tries - 1).min(30)
    }
}

/// The attempts of one request.
#[derive(Debug)]
pub struct Attempts {
    max_tries: u32,
    max_us: i64,
    outer: Loop,
    middle: Loop,
    inner: Loop,
    /// Of all loops together.
    pub count: u32,
}

impl Attempts {
    pub fn begin(max_retries: u32, max_seconds: u32, now_us: i64) -> Self {
        let begun = Loop::begin(now_us);
        let max_us = i64::from(max_seconds) * 1_000_000;
        Self { max_tries: max_retries.saturating_add(1), max_us, outer: begun, middle: begun, inner: begun, count: 1 }
    }

    /// How long to wait before the next attempt; `None` where there is to be none.
    pub fn wait_us(&self, why: Why) -> Option<i64> {
        let within = |one: &Loop, timed: bool| one.tries < self.max_tries && (!timed || one.elapsed_us() < self.max_us);
        match why {
            // One second more covers fractions of seconds that a source did not tell.
            #[expect(clippy::cast_possible_truncation, reason = "a float beyond i64 saturates")]
            Why::Asked(seconds) => within(&self.inner, true).then(|| ((seconds + 1.0) * 1e6).max(0.0) as i64),
            Why::RateLimited => within(&self.middle, false).then(|| self.middle.exponential_us()),
            Why::Failed => within(&self.outer, true)
                .then(|| self.outer.exponential_us().min(self.max_us - self.outer.elapsed_us())),
        }
    }

    /// After the wait.
    pub fn again(&mut self, why: Why, now_us: i64) {
        self.count = self.count.saturating_add(1);
        let repeated = match why {
            Why::Asked(_) => &mut self.inner,
            Why::RateLimited => &mut self.middle,
            Why::Failed => &mut self.outer,
        };
        repeated.tries += 1;
        repeated.tried_us = now_us;
        let begun = Loop::begin(now_us);
        match why {
            Why::Asked(_) => {}
            Why::RateLimited => self.inner = begun,
            Why::Failed => (self.middle, self.inner) = (begun, begun),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits in seconds until there is no further attempt.
    fn waits(mut attempts: Attempts, whys: impl IntoIterator<Item = Why>) -> Vec<i64> {
        let (mut now_us, mut waits) = (0, Vec::new());
        for why in whys {
            let Some(wait_us) = attempts.wait_us(why) else { break };
            now_us += wait_us;
            waits.push(wait_us / 1_000_000);
            attempts.again(why, now_us);
        }
        waits
    }

    #[test]
    fn errors_are_retried_with_growing_waits() {
        assert_eq!(waits(Attempts::begin(5, 600, 0), [Why::Failed; 9]), [1, 2, 4, 8, 16]);
        assert_eq!(waits(Attempts::begin(0, 600, 0), [Why::Failed; 9]), [0; 0]);
        assert_eq!(waits(Attempts::begin(50, 10, 0), [Why::Failed; 9]), [1, 2, 4, 3], "the time is up");
    }

    #[test]
    fn a_strategys_wait_is_one_second_longer_and_limited_in_time() {
        assert_eq!(waits(Attempts::begin(3, 600, 0), [Why::Asked(10.0); 9]), [11, 11, 11]);
        assert_eq!(waits(Attempts::begin(50, 600, 0), [Why::Asked(299.0); 9]), [300, 300]);
    }

    #[test]
    fn an_outer_loop_begins_the_inner_ones_anew() {
        let whys = [Why::RateLimited, Why::RateLimited, Why::RateLimited, Why::Failed, Why::RateLimited, Why::Failed];
        assert_eq!(waits(Attempts::begin(2, 600, 0), whys[..2].iter().chain(&whys[3..]).copied()), [1, 2, 1, 1, 2]);
        assert_eq!(waits(Attempts::begin(2, 600, 0), whys), [1, 2], "the middle loop has had its tries");
    }
}
