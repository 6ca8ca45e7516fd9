//! What becomes of the schedules of one connection whose time has come. Pure.

use serde_json::{Value, json};
use thimble_engine::schedule::{Identity, Plan, Schedule};
use thimble_store::{DueSlot, EventKind, NewEvent, NewRun, RunKind, SlotClaim, SlotMove, Trigger};

/// Why slots are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Nobody was there to start them.
    Missed,
    /// The connection was paused.
    Paused,
    /// The connection was running, or about to be tried again.
    Running,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Paused => "paused",
            Self::Running => "running",
        }
    }
}

/// Decides upon the due schedules of one connection: what is due at the same moment goes into one run.
/// `due` is not empty and of one connection.
pub(super) fn claim(due: &[DueSlot], now_ms: i64) -> Option<SlotClaim> {
    let first = due.first()?;
    let connection = first.slot.connection.clone();
    let mut claim = SlotClaim { connection: connection.clone(), moves: Vec::new(), run: None, events: Vec::new() };
    let mut starting = Vec::new();
    let mut latest = i64::MIN;
    for row in due {
        let decided = decide(row, now_ms);
        claim.moves.push(decided.moved);
        claim.events.extend(decided.events);
        if let Some(slot) = decided.due {
            starting.push(row.slot.stream.as_str());
            latest = latest.max(slot);
        }
    }
    if !starting.is_empty() {
        let request = request(&starting, &first.stream_schedules);
        let new = NewRun::on(connection, RunKind::Sync, Trigger::Schedule);
        claim.run = Some(NewRun { request, slot: Some(latest), ..new });
    }
    Some(claim)
}

struct Decided {
    moved: SlotMove,
    due: Option<i64>,
    events: Vec<NewEvent>,
}

fn decide(row: &DueSlot, now_ms: i64) -> Decided {
    let slot = &row.slot;
    let stay = |next_at, last_slot| SlotMove {
        stream: slot.stream.clone(),
        expected_next_at: slot.next_at,
        next_at,
        last_slot,
    };
    let identity = Identity { connection: slot.connection.as_str(), stream: &slot.stream };
    let schedule = serde_json::from_value::<Schedule>(slot.schedule.clone()).ok();
    let Some(plan) = schedule.and_then(|schedule| schedule.plan(identity).ok()) else {
        // Written by another version of this program: it rests until the connection changes.
        return Decided { moved: stay(None, slot.last_slot), due: None, events: Vec::new() };
    };
    if plan.is_continuous() {
        return again(row, &plan, stay, now_ms);
    }
    let decision = plan.decide(slot.last_slot, now_ms);
    let next_at = decision.next.map(|next| next.at);
    let last_slot = decision.decided.unwrap_or(slot.last_slot);
    let mut events = missed(row, &decision.missed.listed);
    let unlisted = decision.missed.unlisted();
    if unlisted > 0 {
        let reason = if last_slot <= slot.rested_until { Reason::Paused } else { Reason::Missed };
        let more = decision.missed.more;
        events.push(event(row, json!({"reason": reason.word(), "count": unlisted, "more": more, "until": last_slot})));
    }
    let due = match (decision.due, &row.busy) {
        (Some(slot), Some(run)) => {
            let reason = Reason::Running.word();
            events.push(event(row, json!({"slot": slot, "reason": reason, "run": run, "retrying": row.retrying})));
            None
        }
        (due, _) => due,
    };
    Decided { moved: stay(next_at, last_slot), due, events }
}

/// A continuous schedule is due a pause after the end of the last run.
fn again(row: &DueSlot, plan: &Plan, stay: impl Fn(Option<i64>, i64) -> SlotMove, now_ms: i64) -> Decided {
    let last = row.slot.last_slot;
    let starts = row.last_end.filter(|end| *end > last).and_then(|end| plan.next_after(end)).unwrap_or(now_ms);
    if starts > now_ms {
        return Decided { moved: stay(Some(starts), last), due: None, events: Vec::new() };
    }
    // Should the run end without a trace, it is looked at again after the pause.
    let slot = now_ms.max(last.saturating_add(1));
    Decided { moved: stay(plan.next_after(slot), slot), due: Some(slot), events: Vec::new() }
}

/// One event for each slot that nobody started; those that passed while the connection was paused share one.
fn missed(row: &DueSlot, slots: &[i64]) -> Vec<NewEvent> {
    let (paused, missed): (Vec<i64>, Vec<i64>) = slots.iter().partition(|slot| **slot <= row.slot.rested_until);
    let mut events = Vec::new();
    if let Some(until) = paused.last() {
        let detail = json!({"reason": Reason::Paused.word(), "count": paused.len(), "until": until});
        events.push(event(row, detail));
    }
    events.extend(missed.iter().map(|slot| event(row, json!({"slot": slot, "reason": Reason::Missed.word()}))));
    events
}

fn event(row: &DueSlot, detail: Value) -> NewEvent {
    let stream = Some(row.slot.stream.clone()).filter(|stream| !stream.is_empty());
    NewEvent { stream, ..NewEvent::of(EventKind::SlotSkipped, row.slot.connection.as_str(), detail) }
}

/// What the run reads: the streams whose schedules are due; with the connection's own, every stream but those that have
/// schedules of their own and are not due.
fn request(starting: &[&str], stream_schedules: &Value) -> Value {
    if !starting.contains(&"") {
        return json!({"streams": starting});
    }
    let own = stream_schedules.as_object().into_iter().flatten().map(|(stream, _)| stream.as_str());
    let except: Vec<&str> = own.filter(|stream| !starting.contains(stream)).collect();
    if except.is_empty() { Value::Null } else { json!({"except": except}) }
}
