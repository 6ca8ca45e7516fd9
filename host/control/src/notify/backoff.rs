//! When a delivery that failed is tried again.

use crate::limits::{DELIVERY_BASE_WAIT, DELIVERY_MAX_WAIT, MAX_DELIVERY_ATTEMPTS};

/// Milliseconds until the next attempt after `attempts` failed ones; `None` where that was the last. `jitter` is
/// between 0 and 1 and shortens the wait by up to a half, so that receivers that come back are not flooded at once.
pub fn wait_before(attempts: u32, jitter: f64) -> Option<i64> {
    if attempts >= MAX_DELIVERY_ATTEMPTS {
        return None;
    }
    let doubled = DELIVERY_BASE_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let wait = doubled.min(DELIVERY_MAX_WAIT).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
    Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_then_end() {
        let waits: Vec<_> = (1..).map_while(|attempts| wait_before(attempts, 0.0)).collect();
        assert_eq!(waits.len(), MAX_DELIVERY_ATTEMPTS as usize - 1);
        assert_eq!(&waits[..3], [5_000, 10_000, 20_000]);
        assert!(waits.iter().all(|wait| *wait <= DELIVERY_MAX_WAIT.as_millis() as i64));
        let hours = waits.iter().sum::<i64>() / 3_600_000;
        assert!((12..=48).contains(&hours), "a receiver may be away for half a day: {hours} h");
        assert_eq!(wait_before(1, 1.0), Some(2_500));
        assert_eq!(wait_before(MAX_DELIVERY_ATTEMPTS, 0.0), None);
    }
}
