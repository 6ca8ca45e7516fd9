//! What may be set, and the sentences about what may not.

use std::time::Duration;

use thimble_engine::{
    limits::{MAX_CRON_BYTES, MAX_INTERVAL, MAX_JITTER, MIN_INTERVAL, MIN_PAUSE},
    schedule::{Identity, Overlap, Schedule},
    span::Span,
};

use crate::{ME, at, plan, schedule};

fn told(text: &str) -> String {
    schedule(text).validate().unwrap_err().to_string()
}

#[test]
fn mistakes_name_the_setting_and_say_what_is_allowed() {
    let cases = [
        (r"{}", "exactly one of `every`, `cron`, `continuous` and `manual`, but this one has none"),
        (r#"{"every": "1h", "manual": true}"#, "but this one has several"),
        (r#"{"cron": "0 6 * * *", "anchor": "2026-01-01T06:00:00Z"}"#, "`anchor` of a schedule goes with `every` only"),
        (r#"{"every": "1h", "timezone": "UTC"}"#, "`timezone` of a schedule goes with `cron` only"),
        (r#"{"every": "1h", "pause": "5s"}"#, "`pause` of a schedule goes with `continuous` only"),
        (r#"{"manual": true, "jitter": "5s"}"#, "`jitter` of a schedule goes with `every` or `cron` only"),
        (r#"{"continuous": true, "overlap": "skip"}"#, "`overlap` of a schedule goes with"),
        (r#"{"manual": true, "catch_up": "none"}"#, "`catch_up` of a schedule goes with"),
        (r#"{"every": "9s"}"#, "`every` of a schedule must be between 10s and 366d, but is 9s"),
        (r#"{"every": "367d"}"#, "but is 367d"),
        (
            r#"{"continuous": true, "pause": "999ms"}"#,
            "`pause` of a schedule must be between 1s and 366d, but is 999ms",
        ),
        (r#"{"cron": "0 6 * *"}"#, "`cron` of a schedule must have five fields"),
        (r#"{"cron": "0 0 6 * * *"}"#, "`cron` of a schedule must have five fields"),
        (r#"{"cron": "@daily"}"#, "`cron` of a schedule must have five fields"),
        (r#"{"cron": "61 6 * * *"}"#, "`cron` of a schedule cannot be read: "),
        (r#"{"cron": "0 6 * * FUN"}"#, "`cron` of a schedule cannot be read: "),
        (r#"{"cron": "0 6 30 2 *"}"#, "`cron` of a schedule names no date that ever comes"),
        (
            r#"{"cron": "0 6 * * *", "timezone": "Europe/Berln"}"#,
            "`timezone` \"Europe/Berln\" of a schedule is no time zone",
        ),
        (
            r#"{"every": "10m", "jitter": "10m"}"#,
            "`jitter` of a schedule must be at most 1h and shorter than the 10m between two of its slots, but is 10m",
        ),
        (r#"{"cron": "*/5 * * * *", "jitter": "5m"}"#, "shorter than the 5m between two of its slots"),
        (r#"{"cron": "0 0 * * *", "jitter": "61m"}"#, "`jitter` of a schedule must be at most 1h"),
    ];
    for (text, expected) in cases {
        assert!(told(text).contains(expected), "{text}: {}", told(text));
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let every = |span: Duration| Schedule::every(Span(span)).validate();
    every(MIN_INTERVAL).unwrap();
    every(MAX_INTERVAL).unwrap();
    assert!(every(MIN_INTERVAL - Duration::from_millis(1)).is_err());
    assert!(every(MAX_INTERVAL + Duration::from_millis(1)).is_err());
    let pause = |pause| Schedule { continuous: true, pause: Some(Span(pause)), ..Schedule::default() }.validate();
    pause(MIN_PAUSE).unwrap();
    let jitter = |jitter| Schedule { jitter: Some(Span(jitter)), ..Schedule::every(Span::seconds(86_400)) }.validate();
    jitter(MAX_JITTER).unwrap();
    assert!(jitter(MAX_JITTER + Duration::from_millis(1)).is_err());
    let long = |bytes: usize| Schedule::cron(format!("{} 6 * * *", "0,".repeat(bytes) + "0")).validate();
    long((MAX_CRON_BYTES - 9) / 2).unwrap();
    assert!(long(MAX_CRON_BYTES / 2).unwrap_err().to_string().contains("five fields"));
    Schedule::cron("0 6 29 2 *").validate().unwrap();
}

/// A pattern that never comes is searched through to the end of the calendar; that must not be a way to keep a core busy.
#[test]
fn a_hostile_pattern_is_soon_refused() {
    let started = std::time::Instant::now();
    for pattern in ["0 0 31 2,4,6,9,11 *", "59 23 30 2 *", "*/7 * 31 2,4,6,9,11 *"] {
        assert!(Schedule::cron(pattern).validate().is_err(), "{pattern}");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn settings_are_written_as_they_are_read() {
    for text in [
        r#"{"every":"15m"}"#,
        r#"{"every":"1d","anchor":"2026-01-01T06:00:00Z","jitter":"30s","overlap":"queue","catch_up":"none"}"#,
        r#"{"cron":"0 6 * * MON-FRI","timezone":"Europe/Berlin"}"#,
        r#"{"continuous":true,"pause":"10s"}"#,
        r#"{"manual":true}"#,
    ] {
        assert_eq!(serde_json::to_string(&schedule(text)).unwrap(), text);
        schedule(text).validate().unwrap();
    }
    assert!(serde_json::from_str::<Schedule>(r#"{"evry": "1h"}"#).unwrap_err().to_string().contains("evry"));
}

#[test]
fn the_published_schema_takes_what_is_meant_and_wants_one_kind() {
    let schema = schemars::schema_for!(Schedule).to_value();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 10);
    assert!(properties.values().all(|property| property["description"].is_string()), "{schema}");
    assert_eq!(schema["oneOf"].as_array().unwrap().len(), 4);
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn intervals_count_from_their_anchor_or_from_a_phase_of_their_own() {
    let anchored = plan(r#"{"every": "6h", "anchor": "2026-01-01T05:00:00Z"}"#);
    assert_eq!(anchored.next_after(at("2026-03-01T05:00:00Z")), Some(at("2026-03-01T11:00:00Z")));
    assert_eq!(anchored.next_after(at("2026-03-01T04:59:59.999Z")), Some(at("2026-03-01T05:00:00Z")));
    assert_eq!(anchored.next_after(at("2025-12-31T23:30:00Z")), Some(at("2026-01-01T05:00:00Z")));
    assert_eq!(anchored.next_after(at("1960-01-01T00:00:00Z")), Some(at("1960-01-01T05:00:00Z")), "and before 1970");
    // 1,000 connections of one minute: no second starts a great part of them.
    let mut starts = vec![0; 60];
    for number in 0..1_000 {
        let name = format!("connection-{number}");
        let plan = schedule(r#"{"every": "1m"}"#).plan(Identity { connection: &name, stream: "" }).unwrap();
        let slot = plan.next_after(0).unwrap();
        assert_eq!(plan.next_after(slot), Some(slot + 60_000));
        starts[usize::try_from(slot / 1_000 % 60).unwrap()] += 1;
    }
    assert!(starts.iter().all(|count| (3..=40).contains(count)), "{starts:?}");
    let stream = schedule(r#"{"every": "1m"}"#).plan(Identity { stream: "issues", ..ME }).unwrap();
    assert_ne!(stream.next_after(0), plan(r#"{"every": "1m"}"#).next_after(0));
}

#[test]
fn jitter_is_the_same_everywhere_and_stays_within_its_bound() {
    let jittered = plan(r#"{"every": "10m", "jitter": "30s"}"#);
    let again = plan(r#"{"every": "10m", "jitter": "30s"}"#);
    let mut delays = Vec::new();
    let mut slot = 0;
    for _ in 0..1_000 {
        slot = jittered.next_after(slot).unwrap();
        let delay = jittered.starts_at(slot) - slot;
        assert!((0..=30_000).contains(&delay), "{delay}");
        assert_eq!(again.starts_at(slot), slot + delay);
        delays.push(delay);
    }
    assert!(delays.iter().min().unwrap() < &2_000 && delays.iter().max().unwrap() > &28_000, "spread over the span");
}

#[test]
fn a_stream_queues_and_a_connection_skips_unless_told() {
    let hourly = schedule(r#"{"every": "1h"}"#);
    assert_eq!(hourly.plan(ME).unwrap().overlap(), Overlap::Skip);
    assert_eq!(hourly.plan(Identity { stream: "issues", ..ME }).unwrap().overlap(), Overlap::Queue);
    assert_eq!(plan(r#"{"every": "1h", "overlap": "queue"}"#).overlap(), Overlap::Queue);
}
