//! How often somebody may ask: token buckets by key, bounded in number.
//!
//! Time is a parameter. Must never wait.

use std::{collections::HashMap, hash::Hash, sync::Mutex, time::Duration};

use crate::limits::MAX_RATE_KEYS;

/// A bucket for each key: `burst` at once, refilled evenly.
pub(crate) struct Rate<K> {
    burst: f64,
    per_ms: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: i64,
}

impl<K: Eq + Hash> Rate<K> {
    /// `burst` at once and `count` in each `every`.
    pub(crate) fn new(burst: u32, count: u32, every: Duration) -> Self {
        let per_ms = f64::from(count) / every.as_secs_f64().max(0.001) / 1_000.0;
        Self { burst: f64::from(burst.max(1)), per_ms, buckets: Mutex::default() }
    }

    /// Takes one; where none is left, says how long until there is one.
    pub(crate) fn take(&self, key: K, now_ms: i64) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= MAX_RATE_KEYS && !buckets.contains_key(&key) {
            // Full ones are as good as none. If nobody's is full, all begin anew: a flood of keys must not lock
            // everybody out, and what it gains is one burst.
            buckets.retain(|_, bucket| self.left(*bucket, now_ms) < self.burst);
            if buckets.len() >= MAX_RATE_KEYS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: self.burst, at: now_ms });
        let left = self.left(*bucket, now_ms);
        if left >= 1.0 {
            *bucket = Bucket { left: left - 1.0, at: now_ms };
            return Ok(());
        }
        *bucket = Bucket { left, at: now_ms };
        let wait_ms = if self.per_ms > 0.0 { (1.0 - left) / self.per_ms } else { f64::from(u32::MAX) };
        Err(Duration::from_secs_f64((wait_ms / 1_000.0).clamp(0.001, 86_400.0)))
    }

    fn left(&self, bucket: Bucket, now_ms: i64) -> f64 {
        // A clock that goes back gives nothing.
        let passed = u32::try_from(now_ms.saturating_sub(bucket.at).clamp(0, i64::from(u32::MAX))).unwrap_or(u32::MAX);
        (bucket.left + f64::from(passed) * self.per_ms).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let rate = Rate::new(3, 2, Duration::from_secs(1));
        let ask = |now| rate.take("a", now);
        assert!((0..3).all(|_| ask(1_000).is_ok()));
        let wait = ask(1_000).err();
        assert_eq!(wait.map(|wait| wait.as_millis()), Some(500));
        assert!(ask(1_499).is_err());
        assert!(ask(1_500).is_ok());
        assert!(ask(500).is_err(), "a clock that goes back");
        assert!(rate.take("b", 1_000).is_ok(), "keys do not share");
        assert!((0..3).all(|_| ask(1_000_000).is_ok()) && ask(1_000_000).is_err(), "never more than the burst");
    }

    #[test]
    fn a_flood_of_keys_stays_bounded() {
        let rate = Rate::new(2, 1, Duration::from_secs(60));
        for key in 0..MAX_RATE_KEYS + 10 {
            assert!(rate.take(key, 0).is_ok());
        }
        assert!(rate.buckets.lock().is_ok_and(|buckets| buckets.len() <= MAX_RATE_KEYS));
        // Those that were not asked for a while are forgotten first.
        let rate = Rate::new(2, 1, Duration::from_secs(1));
        for key in 0..MAX_RATE_KEYS {
            let _ = rate.take(key, 0);
        }
        assert!(rate.take(MAX_RATE_KEYS, 60_000).is_ok());
        assert!(rate.buckets.lock().is_ok_and(|buckets| buckets.len() == 1));
    }
}
