//! Schedules: what may be set, which slots come, what is decided when the clock does as it likes.
#![allow(clippy::unwrap_used)]

mod clock;
mod settings;
mod zones;

use chrono::{DateTime, Utc};
use thimble_engine::schedule::{Identity, Plan, Schedule};

const ME: Identity<'static> = Identity { connection: "github", stream: "" };

fn schedule(text: &str) -> Schedule {
    serde_json::from_str(text).unwrap()
}

fn plan(text: &str) -> Plan {
    schedule(text).plan(ME).unwrap()
}

fn at(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
}

/// The slots after a moment up to another.
fn slots(plan: &Plan, after: i64, until: i64) -> Vec<i64> {
    let next = |slot: &i64| plan.next_after(*slot);
    std::iter::successors(plan.next_after(after), next).take_while(|slot| *slot <= until).collect()
}
