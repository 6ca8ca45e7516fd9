//! What is decided when time passes, stands still, or jumps.

use proptest::prelude::*;
use thimble_engine::{
    limits::{LATE_AFTER, MAX_MISSED_COUNTED, MAX_MISSED_LISTED},
    schedule::{Identity, Next, Plan, Schedule},
    span::Span,
};

use crate::{ME, at, plan, schedule, slots};

const QUARTER: &str = r#"{"every": "15m", "anchor": "2026-01-01T00:00:00Z"}"#;

#[test]
fn nothing_is_due_before_its_time() {
    let plan = plan(QUARTER);
    let decision = plan.decide(at("2026-01-01T12:00:00Z"), at("2026-01-01T12:14:59.999Z"));
    assert_eq!((decision.due, decision.missed.count), (None, 0));
    let next = at("2026-01-01T12:15:00Z");
    assert_eq!(decision.next, Some(Next { slot: next, at: next }));
    let decision = plan.decide(at("2026-01-01T12:00:00Z"), next);
    assert_eq!((decision.due, decision.missed.count), (Some(next), 0));
    assert_eq!(decision.next.map(|next| next.slot), Some(at("2026-01-01T12:30:00Z")));
}

#[test]
fn after_a_jump_the_latest_slot_starts_and_the_others_are_named() {
    for (text, late) in [(QUARTER, 10_000), (r#"{"cron": "*/15 * * * *"}"#, 10_000), (QUARTER, 800_000)] {
        let plan = plan(text);
        let now = at("2026-01-02T12:00:00Z") + late;
        let decision = plan.decide(at("2026-01-01T12:00:00Z"), now);
        assert_eq!(decision.due, Some(at("2026-01-02T12:00:00Z")), "{text}");
        assert_eq!(decision.missed.count, 95, "a day has 96 quarters; the last one starts");
        assert_eq!(decision.missed.listed.len(), 95);
        assert_eq!(decision.missed.listed[0], at("2026-01-01T12:15:00Z"));
        assert_eq!(decision.missed.listed[94], at("2026-01-02T11:45:00Z"));
        assert_eq!(decision.next.map(|next| next.slot), Some(at("2026-01-02T12:15:00Z")));
    }
}

#[test]
fn without_catching_up_only_a_slot_that_is_hardly_late_starts() {
    let plan = plan(r#"{"every": "1h", "anchor": "2026-01-01T00:00:00Z", "catch_up": "none"}"#);
    let (last, slot) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T12:00:00Z"));
    let late = i64::try_from(LATE_AFTER.as_millis()).unwrap();
    let decision = plan.decide(last, slot + late);
    assert_eq!((decision.due, decision.missed.listed), (Some(slot), vec![at("2026-01-01T11:00:00Z")]));
    let decision = plan.decide(last, slot + late + 1);
    assert_eq!((decision.due, decision.missed.listed), (None, vec![at("2026-01-01T11:00:00Z"), slot]));
    assert_eq!(decision.next.map(|next| next.slot), Some(at("2026-01-01T13:00:00Z")));
}

#[test]
fn a_clock_that_goes_back_brings_no_slot_twice() {
    let plan = plan(QUARTER);
    let last = at("2026-01-01T12:00:00Z");
    for back in ["2026-01-01T11:59:00Z", "2026-01-01T06:00:00Z", "2025-12-01T00:00:00Z"] {
        let decision = plan.decide(last, at(back));
        assert_eq!((decision.due, decision.missed.count), (None, 0), "{back}");
        assert_eq!(decision.next.map(|next| next.slot), Some(at("2026-01-01T12:15:00Z")), "{back}");
    }
}

#[test]
fn a_long_absence_is_listed_in_part_and_counted() {
    let (start, year) = (at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    let often = plan(r#"{"every": "10s", "anchor": "2025-01-01T00:00:00Z"}"#).decide(start, year);
    assert_eq!(often.due, Some(year));
    assert_eq!(often.missed.count, 365 * 8_640 - 1);
    assert_eq!(often.missed.listed.len(), MAX_MISSED_LISTED);
    assert_eq!(often.missed.unlisted(), 365 * 8_640 - 1 - MAX_MISSED_LISTED as u64);
    assert!(!often.missed.more);
    let clock = std::time::Instant::now();
    let cron = plan(r#"{"cron": "* * * * *", "timezone": "Europe/Berlin"}"#).decide(start, year);
    assert_eq!(cron.due, Some(year));
    assert_eq!(cron.missed.count, MAX_MISSED_COUNTED);
    assert!(cron.missed.more);
    assert_eq!(cron.missed.listed.len(), MAX_MISSED_LISTED);
    assert!(clock.elapsed().as_secs() < 2, "{:?}", clock.elapsed());
}

#[test]
fn a_jittered_slot_starts_late_and_is_not_missed() {
    let plan = plan(r#"{"every": "10m", "anchor": "2026-01-01T00:00:00Z", "jitter": "9m"}"#);
    let mut slot = at("2026-01-01T00:00:00Z");
    for _ in 0..50 {
        let next = plan.next_after(slot).unwrap();
        let starts = plan.starts_at(next);
        let before = plan.decide(slot, starts - 1);
        assert_eq!((before.due, before.next), (None, Some(Next { slot: next, at: starts })));
        let decision = plan.decide(slot, starts);
        assert_eq!((decision.due, decision.missed.count), (Some(next), 0));
        slot = next;
    }
}

#[test]
fn continuous_starts_again_after_the_end_and_manual_never() {
    let plan = plan(r#"{"continuous": true, "pause": "10s"}"#);
    assert!(plan.is_continuous());
    assert_eq!(plan.decide(1_000, 10_999).due, None);
    assert_eq!(plan.decide(1_000, 10_999).next, Some(Next { slot: 11_000, at: 11_000 }));
    let decision = plan.decide(1_000, 9_999_999);
    assert_eq!((decision.due, decision.missed.count, decision.next), (Some(11_000), 0, None));
    let manual = crate::plan(r#"{"manual": true}"#).decide(0, i64::MAX);
    assert_eq!((manual.due, manual.next), (None, None));
}

#[test]
fn times_at_the_end_of_reckoning_do_no_harm() {
    for text in [QUARTER, r#"{"cron": "0 0 * * *", "timezone": "Asia/Kathmandu"}"#, r#"{"continuous": true}"#] {
        let plan = plan(text);
        for last in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            let _ = plan.next_after(last);
            let _ = plan.decide(last, last);
        }
        let _ = plan.decide(0, i64::MAX);
    }
}

/// A host that looks at the clock now and then, while the clock does as it likes.
fn walk(plan: &Plan, steps: &[i64]) -> (Vec<i64>, Vec<i64>, i64) {
    let (mut last, mut now) = (at("2026-03-28T00:00:00Z"), at("2026-03-28T00:00:00Z"));
    let (mut started, mut missed, mut latest) = (Vec::new(), Vec::new(), now);
    for step in steps {
        now += step;
        latest = latest.max(now);
        let decision = plan.decide(last, now);
        assert_eq!(decision.missed.unlisted(), 0, "short enough to be listed");
        missed.extend(&decision.missed.listed);
        started.extend(decision.due);
        assert_eq!(decision.decided, decision.due.max(decision.missed.listed.last().copied()));
        last = decision.decided.unwrap_or(last);
    }
    (started, missed, latest)
}

proptest! {
    /// Forward by seconds or hours, back by as much, standing still: no slot twice, and each that passed was started or named.
    #[test]
    fn every_slot_is_decided_upon_once(
        steps in prop::collection::vec(prop_oneof![Just(0_i64), 1_i64..2_000, 60_000_i64..7_200_000, -3_600_000_i64..0], 1..60),
        kind in 0_usize..5,
    ) {
        let text = [
            QUARTER,
            r#"{"every": "7m", "jitter": "5m"}"#,
            r#"{"cron": "*/10 * * * *", "timezone": "Europe/Berlin", "catch_up": "none"}"#,
            r#"{"cron": "0,30 1,2,3,4 * * *", "timezone": "Europe/Berlin"}"#,
            r#"{"every": "3m", "catch_up": "none"}"#,
        ][kind];
        let plan = plan(text);
        let (started, missed, latest) = walk(&plan, &steps);
        let mut decided: Vec<i64> = started.iter().chain(&missed).copied().collect();
        decided.sort_unstable();
        prop_assert!(decided.windows(2).all(|pair| pair[0] < pair[1]), "a slot was decided upon twice");
        prop_assert!(started.windows(2).all(|pair| pair[0] < pair[1]));
        let passed: Vec<i64> = slots(&plan, at("2026-03-28T00:00:00Z"), latest)
            .into_iter()
            .filter(|slot| plan.starts_at(*slot) <= latest)
            .collect();
        prop_assert_eq!(decided, passed, "each slot that passed was started or named");
    }

    /// The latest slot is the latest, however it is searched.
    #[test]
    fn the_due_slot_is_the_last_that_started(hours in 1_i64..2_000, pattern in prop::sample::select(&["5 * * * *", "0 6 * * MON", "0 0 1 * *", "*/7 3 * * *"][..])) {
        let plan = Schedule::cron(pattern).plan(ME).unwrap();
        let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z") + hours * 3_600_000);
        let decision = plan.decide(last, now);
        let all = slots(&plan, last, now);
        prop_assert_eq!(decision.due, all.last().copied());
        prop_assert_eq!(decision.missed.count, all.len().saturating_sub(1) as u64);
    }
}

#[test]
fn two_streams_of_a_connection_are_not_the_same() {
    let every = Schedule::every(Span::seconds(3_600));
    let slot = |stream| every.plan(Identity { connection: "c", stream }).unwrap().next_after(0);
    assert_ne!(slot("a"), slot("b"));
    assert_eq!(
        slot("a"),
        schedule(r#"{"every": "1h"}"#).plan(Identity { connection: "c", stream: "a" }).unwrap().next_after(0)
    );
}
