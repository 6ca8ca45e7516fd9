//! Cron where clocks go forward and back.

use std::collections::BTreeSet;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use thimble_engine::schedule::{Plan, Schedule};

use crate::{ME, at, slots};

fn cron(pattern: &str, zone: &str) -> Plan {
    Schedule { timezone: Some(zone.into()), ..Schedule::cron(pattern) }.plan(ME).unwrap()
}

/// The slots of some days, as UTC.
fn utc(pattern: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
    let shown = |slot: i64| DateTime::from_timestamp_millis(slot).unwrap().format("%m-%dT%H:%M").to_string();
    slots(&cron(pattern, zone), at(after), at(until)).into_iter().map(shown).collect()
}

#[test]
fn a_time_that_is_left_out_runs_at_the_first_moment_after() {
    // Berlin, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
    let days = ("2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(utc("30 2 * * *", "Europe/Berlin", days.0, days.1), ["03-28T01:30", "03-29T01:00", "03-30T00:30"]);
    // Two labels in the gap, and the label at its end: one moment, one slot.
    let gap = utc("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(gap, ["03-29T01:00", "03-29T01:30"]);
    // New York, 2026-03-08, 07:00 UTC.
    let days = ("2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z");
    assert_eq!(utc("15 2 * * *", "America/New_York", days.0, days.1), ["03-08T07:00"]);
    // Lord Howe goes forward by half an hour: 02:00 becomes 02:30 on 2026-10-04, at 15:30 UTC the day before.
    let days = ("2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z");
    assert_eq!(utc("15 2 * * *", "Australia/Lord_Howe", days.0, days.1), ["10-03T15:30"]);
    // Nuuk goes from Saturday 23:00 to Sunday 00:00: Saturday's slot is kept although its day is over.
    let days = ("2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z");
    assert_eq!(utc("30 23 * * SAT", "America/Nuuk", days.0, days.1), ["03-29T01:00"]);
}

#[test]
fn a_time_that_occurs_twice_runs_once() {
    // Berlin, 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
    let days = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(utc("30 2 * * *", "Europe/Berlin", days.0, days.1), ["10-25T00:30", "10-26T01:30"]);
    // Asked between the two occurrences and after the second: it has been.
    for after in ["2026-10-25T00:30:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"] {
        assert_eq!(utc("30 2 * * *", "Europe/Berlin", after, days.1), ["10-26T01:30"], "{after}");
    }
    assert_eq!(utc("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"), ["11-01T05:30"]);
    let howe = utc("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-05T00:00:00Z");
    assert_eq!(howe, ["04-04T14:45"]);
}

#[test]
fn a_pattern_with_a_star_follows_the_clock() {
    // An hour that occurs twice has its minutes twice, one that is left out has none: every half hour of real time.
    let back = utc("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(back, ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]);
    let forward = utc("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
    assert_eq!(forward, ["03-29T00:30", "03-29T01:00", "03-29T01:30", "03-29T02:00"]);
    assert_eq!(
        utc("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z"),
        ["10-25T00:00", "10-25T01:00", "10-25T02:00"]
    );
    assert!(utc("*/15 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z").is_empty());
}

#[test]
fn zones_without_changes_are_plain() {
    let berlin_like = utc("0 6 * * MON-FRI", "UTC", "2026-11-20T12:00:00Z", "2026-11-24T12:00:00Z");
    assert_eq!(berlin_like, ["11-23T06:00", "11-24T06:00"]);
    assert_eq!(
        utc("0 6 * * *", "Asia/Kathmandu", "2026-11-20T12:00:00Z", "2026-11-22T12:00:00Z"),
        ["11-21T00:15", "11-22T00:15"]
    );
}

const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "UTC",
    "America/Nuuk",
    "Africa/Casablanca",
    "America/Sao_Paulo",
];

/// Every minute of the year, by what its label is.
fn local(zone: Tz, at_ms: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at_ms).unwrap().with_timezone(&zone).naive_local()
}

fn label(zone: Tz, year: i32, month: u32, day: u32, hour: u32, minute: u32) -> Option<i64> {
    let naive = chrono::NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(hour, minute, 0)?;
    match zone.from_local_datetime(&naive) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.timestamp_millis()),
        LocalResult::None => {
            // Minute by minute, in another way than the code under test.
            let mut at = naive.checked_sub_signed(TimeDelta::hours(30))?.and_utc().timestamp_millis();
            while local(zone, at) <= naive {
                at += 60_000;
            }
            Some(at)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Fixed times: strictly increasing, one slot for each label of each day, none lost, none twice.
    #[test]
    fn every_label_gets_one_slot(zone in prop::sample::select(&ZONES[..]), hour in 0_u32..24, minute in 0_u32..60, second_hour in 0_u32..24, year in 2016_i32..2037) {
        let tz: Tz = zone.parse().unwrap();
        let pattern = format!("{minute} {hour},{second_hour} * * *");
        let plan = cron(&pattern, zone);
        let mut expected = BTreeSet::new();
        let mut day = chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
        let end = chrono::NaiveDate::from_ymd_opt(year + 1, 1, 1).unwrap();
        while day < end {
            use chrono::Datelike;
            for hour in [hour, second_hour] {
                expected.extend(label(tz, day.year(), day.month(), day.day(), hour, minute));
            }
            day = day.succ_opt().unwrap();
        }
        let (first, last) = (*expected.first().unwrap(), *expected.last().unwrap());
        let found = slots(&plan, first - 1, last);
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }

    /// Patterns with a star: exactly the moments whose label matches.
    #[test]
    fn a_star_means_every_moment_that_shows_it(zone in prop::sample::select(&ZONES[..]), step in 1_u32..60, year in 2016_i32..2037, change in 0_usize..4) {
        let tz: Tz = zone.parse().unwrap();
        let plan = cron(&format!("*/{step} * * * *"), zone);
        // Around a change of the clock where the zone has one; anywhere else where not.
        let start = at(&format!("{year}-01-01T00:00:00Z"));
        let hours: Vec<i64> = (0..365 * 24).map(|hour| start + hour * 3_600_000).collect();
        let offset = |at: i64| local(tz, at) - DateTime::<Utc>::from_timestamp_millis(at).unwrap().naive_utc();
        let changes: Vec<i64> = hours.windows(2).filter(|pair| offset(pair[0]) != offset(pair[1])).map(|pair| pair[0]).collect();
        let near = changes.get(change % changes.len().max(1)).copied().unwrap_or(start);
        let (from, until) = (near - 4 * 3_600_000, near + 5 * 3_600_000);
        let expected: Vec<i64> = (from / 60_000 + 1..=until / 60_000)
            .map(|minute| minute * 60_000)
            .filter(|at| local(tz, *at).minute().is_multiple_of(step))
            .collect();
        prop_assert_eq!(slots(&plan, from, until), expected);
    }

    /// From wherever one asks: the answer lies ahead, and nothing lies between.
    #[test]
    fn the_next_slot_does_not_hang_on_where_one_asks(zone in prop::sample::select(&ZONES[..]), hour in 0_u32..24, minute in 0_u32..60, star: bool, from in 1_450_000_000_000_i64..2_100_000_000_000, ahead in 0_i64..3 * 86_400_000) {
        let minute = if star { "*/20".to_owned() } else { minute.to_string() };
        let plan = cron(&format!("{minute} {hour} * * *"), zone);
        let next = plan.next_after(from).unwrap();
        prop_assert!(next > from);
        let between = from + ahead;
        let again = plan.next_after(between).unwrap();
        prop_assert!(again > between);
        prop_assert_eq!(again == next, between < next);
    }
}
