//! Call rate policies: how many calls a source allows within which time. Pure: time is a parameter.

use std::collections::VecDeque;

/// Whether a call may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    Yes,
    /// In so many microseconds again.
    In(i64),
    /// One call counts more than the limit.
    Never,
}

#[derive(Debug, Clone)]
pub enum Policy {
    Unlimited,
    Fixed(FixedWindow),
    Moving(MovingWindow),
}

/// So many calls per period; a source's headers may tell where the period ends.
#[derive(Debug, Clone)]
pub struct FixedWindow {
    limit: u64,
    period_us: i64,
    used: u64,
    /// Begins with the first call.
    resets_us: Option<i64>,
}

impl FixedWindow {
    pub fn new(limit: u64, period_us: i64) -> Self {
        Self { limit, period_us: period_us.max(1), used: 0, resets_us: None }
    }

    fn window(&mut self, now_us: i64) -> i64 {
        let resets_us = match self.resets_us {
            None => now_us.saturating_add(self.period_us),
            Some(resets_us) if now_us > resets_us => {
                self.used = 0;
                let passed = (now_us - resets_us) / self.period_us + 1;
                resets_us.saturating_add(passed.saturating_mul(self.period_us))
            }
            Some(resets_us) => resets_us,
        };
        self.resets_us = Some(resets_us);
        resets_us
    }

    fn acquire(&mut self, weight: u64, now_us: i64) -> Allowed {
        let resets_us = self.window(now_us);
        if self.used.saturating_add(weight) > self.limit {
            return Allowed::In((resets_us - now_us).max(0) + 1);
        }
        self.used += weight;
        Allowed::Yes
    }

    /// Only what makes the budget smaller counts: a manifest may allow less than the source does.
    fn update(&mut self, available: Option<u64>, resets_us: Option<i64>, now_us: i64) {
        self.window(now_us);
        if let Some(available) = available.filter(|available| *available < self.limit.saturating_sub(self.used)) {
            self.used = self.limit - available;
        }
        self.resets_us = resets_us.or(self.resets_us);
    }
}

/// So many calls within any interval of a length, for one or more lengths.
#[derive(Debug, Clone)]
pub struct MovingWindow {
    /// Limit and interval in milliseconds, the shortest first.
    rates: Vec<(u64, i64)>,
    /// When how many calls were made, in milliseconds.
    calls: VecDeque<(i64, u64)>,
}

impl MovingWindow {
    pub fn new(mut rates: Vec<(u64, i64)>) -> Self {
        rates.sort_by_key(|(_, interval)| *interval);
        Self { rates, calls: VecDeque::new() }
    }

    fn count(&self, from_ms: i64) -> u64 {
        self.calls.iter().rev().take_while(|(at, _)| *at >= from_ms).map(|(_, weight)| *weight).sum()
    }

    fn acquire(&mut self, weight: u64, now_us: i64) -> Allowed {
        let now_ms = now_us.div_euclid(1000);
        for (limit, interval) in &self.rates {
            if self.count(now_ms - interval).saturating_add(weight) > *limit {
                return Allowed::In(self.wait_ms(*limit - weight.min(*limit), now_ms - interval) * 1000);
            }
        }
        self.put(now_ms, weight);
        Allowed::Yes
    }

    /// Until enough of the oldest calls have left the interval that begins at `from_ms`.
    fn wait_ms(&self, room: u64, from_ms: i64) -> i64 {
        let mut newer = 0;
        for (at, weight) in self.calls.iter().rev() {
            newer += weight;
            if newer > room {
                return (at - from_ms + 1).max(1);
            }
        }
        1
    }

    fn put(&mut self, now_ms: i64, weight: u64) {
        let longest = self.rates.last().map_or(0, |(_, interval)| *interval);
        while self.calls.front().is_some_and(|(at, _)| *at < now_ms - longest) {
            self.calls.pop_front();
        }
        match self.calls.back_mut() {
            Some((at, held)) if *at == now_ms => *held += weight,
            _ => self.calls.push_back((now_ms, weight)),
        }
    }

    /// A source that says that nothing is left has seen calls that we do not know of.
    fn update(&mut self, available: Option<u64>, resets_us: Option<i64>, now_us: i64) {
        if (available, resets_us) != (Some(0), None) {
            return;
        }
        let now_ms = now_us.div_euclid(1000);
        let left = self.rates.iter().map(|(limit, interval)| limit.saturating_sub(self.count(now_ms - interval))).min();
        if let Some(left) = left.filter(|left| *left > 0) {
            self.put(now_ms, left);
        }
    }
}

impl Policy {
    pub fn acquire(&mut self, weight: u64, now_us: i64) -> Allowed {
        match self {
            Self::Unlimited => Allowed::Yes,
            Self::Fixed(window) if weight > window.limit => Allowed::Never,
            Self::Moving(window) if window.rates.iter().any(|(limit, _)| weight > *limit) => Allowed::Never,
            Self::Fixed(window) => window.acquire(weight, now_us),
            Self::Moving(window) => window.acquire(weight, now_us),
        }
    }

    /// Limits and intervals in milliseconds of a moving window.
    pub fn rates(&self) -> Option<&[(u64, i64)]> {
        match self {
            Self::Moving(window) => Some(&window.rates),
            _ => None,
        }
    }

    /// What a source said about calls that are left, and when there are more.
    pub fn update(&mut self, available: Option<u64>, resets_us: Option<i64>, now_us: i64) {
        match self {
            Self::Unlimited => {}
            Self::Fixed(window) => window.update(available, resets_us, now_us),
            Self::Moving(window) => window.update(available, resets_us, now_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_moving_window_lets_a_call_in_once_an_old_one_has_left() {
        let mut policy = Policy::Moving(MovingWindow::new(vec![(2, 1000), (3, 10_000)]));
        assert_eq!(policy.acquire(1, 0), Allowed::Yes);
        assert_eq!(policy.acquire(1, SECOND / 2), Allowed::Yes);
        assert_eq!(policy.acquire(1, SECOND / 2), Allowed::In(501_000));
        assert_eq!(policy.acquire(1, SECOND + 1000), Allowed::Yes);
        assert_eq!(policy.acquire(1, 3 * SECOND), Allowed::In(7_001_000), "the longer interval is full");
        assert_eq!(policy.acquire(3, 3 * SECOND), Allowed::Never);
    }

    #[test]
    fn a_moving_window_is_full_when_the_source_says_so() {
        let mut policy = Policy::Moving(MovingWindow::new(vec![(5, 1000)]));
        assert_eq!(policy.acquire(1, 0), Allowed::Yes);
        policy.update(Some(0), None, 0);
        assert_eq!(policy.acquire(1, 0), Allowed::In(1_001_000));
    }

    #[test]
    fn a_fixed_window_takes_what_headers_say() {
        let mut policy = Policy::Fixed(FixedWindow::new(10, 60 * SECOND));
        assert_eq!(policy.acquire(4, 0), Allowed::Yes);
        policy.update(Some(8), None, 0);
        assert_eq!(policy.acquire(6, SECOND), Allowed::Yes, "more than we allow does not count");
        assert_eq!(policy.acquire(1, SECOND), Allowed::In(59 * SECOND + 1));
        policy.update(None, Some(5 * SECOND), SECOND);
        assert_eq!(policy.acquire(1, SECOND), Allowed::In(4 * SECOND + 1));
        assert_eq!(policy.acquire(10, 6 * SECOND), Allowed::Yes, "a new period");
        policy.update(Some(0), None, 200 * SECOND);
        assert_eq!(policy.acquire(1, 200 * SECOND), Allowed::In(45 * SECOND + 1));
    }
}
