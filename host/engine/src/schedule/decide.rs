//! What is due now, what was missed, what comes next.

use super::{CatchUp, Plan, plan::Timing};
use crate::limits::{LATE_AFTER, MAX_MISSED_COUNTED, MAX_MISSED_LISTED};

/// What is to be done about a schedule at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The slot that starts now.
    pub due: Option<i64>,
    /// Slots that will never start.
    pub missed: Missed,
    /// The last of all those; the slots up to it are decided upon for ever.
    pub decided: Option<i64>,
    /// The slot after those; `None`: none comes by itself.
    pub next: Option<Next>,
}

/// A slot to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub slot: i64,
    /// When it is to start: the slot's time and its jitter.
    pub at: i64,
}

/// Slots that will never start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missed {
    /// The first of them, at most [`MAX_MISSED_LISTED`], in order.
    pub listed: Vec<i64>,
    /// All of them; at most [`MAX_MISSED_COUNTED`] of a cron pattern.
    pub count: u64,
    /// Whether there are more than `count`.
    pub more: bool,
}

impl Missed {
    /// Whether it was more than is listed.
    pub fn unlisted(&self) -> u64 {
        self.count.saturating_sub(u64::try_from(self.listed.len()).unwrap_or(u64::MAX))
    }
}

impl Plan {
    /// Decides upon the slots after `last_ms`: the last slot decided upon, or the moment at which the schedule was set, or
    /// the end of the last run of a continuous one. No slot up to it ever comes again, wherever the clock goes.
    pub fn decide(&self, last_ms: i64, now_ms: i64) -> Decision {
        let Some(first) = self.next_after(last_ms) else {
            return Decision { due: None, missed: Missed::default(), decided: None, next: None };
        };
        let Some(latest) = self.latest_started(first, now_ms) else {
            return Decision { due: None, missed: Missed::default(), decided: None, next: Some(self.next(first)) };
        };
        if self.is_continuous() {
            return Decision { due: Some(latest), missed: Missed::default(), decided: Some(latest), next: None };
        }
        let late_ms = i64::try_from(LATE_AFTER.as_millis()).unwrap_or(i64::MAX);
        let late = now_ms.saturating_sub(self.starts_at(latest)) > late_ms;
        let due = Some(latest).filter(|_| self.catch_up == CatchUp::Latest || !late);
        let missed = self.missed(first, latest, due.is_none());
        Decision { due, missed, decided: Some(latest), next: self.next_after(latest).map(|slot| self.next(slot)) }
    }

    fn next(&self, slot: i64) -> Next {
        Next { slot, at: self.starts_at(slot) }
    }

    /// The greatest slot from `first` on whose start has come.
    fn latest_started(&self, first: i64, now_ms: i64) -> Option<i64> {
        if self.starts_at(first) > now_ms {
            return None;
        }
        if self.is_continuous() {
            return Some(first);
        }
        let latest = self.latest_until(first, now_ms);
        if self.starts_at(latest) <= now_ms {
            return Some(latest);
        }
        // Its jitter has not run out. Jitter is shorter than the distance of slots: the one before has started.
        Some(self.latest_until(first, latest.saturating_sub(1)))
    }

    /// The greatest slot up to `until`, where `first` is one.
    fn latest_until(&self, first: i64, until: i64) -> i64 {
        if let Timing::Every { every_ms, .. } = &self.timing {
            return first + until.saturating_sub(first).div_euclid(*every_ms).max(0) * every_ms;
        }
        let (mut low, mut high) = (first.saturating_sub(1), until.max(first));
        let mut latest = first;
        while high.saturating_sub(low) > 1 {
            let middle = low + (high - low) / 2;
            match self.next_after(middle).filter(|slot| *slot <= until) {
                Some(slot) => (low, latest) = (middle, slot),
                None => high = middle,
            }
        }
        latest
    }

    /// The slots from `first` up to `latest`, which counts itself where it is not to start.
    fn missed(&self, first: i64, latest: i64, with_latest: bool) -> Missed {
        let mut missed = Missed::default();
        let end = if with_latest { latest.saturating_add(1) } else { latest };
        let mut slot = first;
        while slot < end {
            if missed.listed.len() < MAX_MISSED_LISTED {
                missed.listed.push(slot);
            } else if let Timing::Every { every_ms, .. } = &self.timing {
                missed.count += u64::try_from((end - 1 - slot) / every_ms + 1).unwrap_or(0);
                return missed;
            } else if missed.count >= MAX_MISSED_COUNTED {
                missed.more = true;
                return missed;
            }
            missed.count += 1;
            let Some(next) = self.next_after(slot) else { break };
            slot = next;
        }
        missed
    }
}
