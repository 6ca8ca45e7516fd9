//! Starts slots whose time has come. Level-triggered: it compares what is stored with the clock, and may be stopped,
//! doubled and started again at any moment.

use std::time::Duration;

use serde_json::json;
use thimble_store::{Claimed, DueSlot, EventKind, NewEvent, SlotClaim, Store, StoreError};
use tokio::time::Instant;

use super::{decide, settings};
use crate::limits::{CLOCK_TOLERANCE, MAX_CLAIMS_AT_ONCE, MAX_DUE_AT_ONCE};

/// The part of the reconciler that starts slots.
pub(crate) struct Scheduler {
    store: Store,
    holder: String,
    /// What the two clocks said when they were last looked at.
    looked: Option<(i64, Instant)>,
}

impl Scheduler {
    pub(crate) fn new(store: Store, holder: String) -> Self {
        Self { store, holder, looked: None }
    }

    /// Starts what is due. Answers whether something was queued, and when to look again.
    pub(crate) async fn step(&mut self, now_ms: i64) -> Result<(bool, Option<Duration>), StoreError> {
        self.notice_jump(now_ms).await?;
        self.follow_changes(now_ms).await?;
        let due = self.store.due_slots(now_ms, MAX_DUE_AT_ONCE).await?;
        let full = u32::try_from(due.len()).unwrap_or(u32::MAX) >= MAX_DUE_AT_ONCE;
        let queued = self.start(due, now_ms).await?;
        if full {
            // The last connection may have been cut off, and more may wait behind it.
            return Ok((queued, Some(Duration::ZERO)));
        }
        let next = self.store.next_start(now_ms).await?;
        let wait = next.map(|next| Duration::from_millis(u64::try_from(next.saturating_sub(now_ms)).unwrap_or(0)));
        Ok((queued, wait))
    }

    /// Makes slots of new and changed schedules.
    async fn follow_changes(&self, now_ms: i64) -> Result<(), StoreError> {
        for changed in self.store.unscheduled(MAX_DUE_AT_ONCE).await? {
            let id = changed.connection.as_str();
            let (slots, wrong) = settings::schedules(id, changed.schedule.as_ref(), &changed.stream_schedules, now_ms);
            for reason in wrong {
                tracing::warn!(connection = id, reason, "a stored schedule cannot be used");
            }
            self.store.put_slots(&changed, &slots, now_ms).await?;
        }
        Ok(())
    }

    async fn start(&self, due: Vec<DueSlot>, now_ms: i64) -> Result<bool, StoreError> {
        let claims = claims(&due, now_ms);
        let mut queued = false;
        for part in claims.chunks(MAX_CLAIMS_AT_ONCE) {
            for (claim, claimed) in part.iter().zip(self.store.claim_slots(part, now_ms).await?) {
                match claimed {
                    Claimed::Done(run) => queued |= run.is_some(),
                    Claimed::Lost => tracing::debug!(connection = %claim.connection, "slots were decided elsewhere"),
                }
            }
        }
        Ok(queued)
    }

    /// Tells of a wall clock that does not go as the machine's own clock does. A machine that was asleep shows it too.
    async fn notice_jump(&mut self, now_ms: i64) -> Result<(), StoreError> {
        let now = Instant::now();
        let Some((before_ms, before)) = self.looked.replace((now_ms, now)) else { return Ok(()) };
        let passed = i64::try_from(now.duration_since(before).as_millis()).unwrap_or(i64::MAX);
        let jump = now_ms.saturating_sub(before_ms).saturating_sub(passed);
        if jump.unsigned_abs() < u64::try_from(CLOCK_TOLERANCE.as_millis()).unwrap_or(u64::MAX) {
            return Ok(());
        }
        tracing::warn!(jump_ms = jump, "the clock of this machine jumped");
        let event = NewEvent {
            kind: EventKind::ClockJumped,
            workspace: None,
            connection: None,
            stream: None,
            run: None,
            detail: json!({"by_ms": jump, "holder": self.holder}),
        };
        self.store.append_event(&event, now_ms).await.map(drop)
    }
}

/// One claim for each connection, the longest waiting first.
fn claims(due: &[DueSlot], now_ms: i64) -> Vec<SlotClaim> {
    let mut groups: Vec<Vec<DueSlot>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for row in due {
        let place = *places.entry(row.slot.connection.as_str()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(row.clone());
    }
    groups.iter().filter_map(|group| decide::claim(group, now_ms)).collect()
}
