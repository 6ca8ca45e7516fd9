//! The schedules of a connection as settings: what is written into its row, and what is wrong with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use thimble_engine::{
    retry::RunRetry,
    schedule::{Identity, Overlap, Schedule},
    span::Span,
};
use thimble_store::{ConnectionRow, NewSlot};

use crate::limits::{MAX_RUN_DURATION, MAX_STREAM_SCHEDULES, MIN_RUN_DURATION};

/// When a connection runs by itself and what follows a failure, as the API and the configuration file give it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleSettings {
    pub schedule: Option<Schedule>,
    pub stream_schedules: BTreeMap<String, Schedule>,
    pub retry: Option<RunRetry>,
    pub max_duration: Option<Span>,
}

impl ScheduleSettings {
    /// What is wrong, in one sentence that names the setting.
    pub fn validate(&self, row: &ConnectionRow) -> Result<(), String> {
        if let Some(schedule) = &self.schedule {
            schedule.validate().map_err(|error| format!("`schedule`: {error}"))?;
        }
        if self.stream_schedules.len() > MAX_STREAM_SCHEDULES {
            let given = self.stream_schedules.len();
            return Err(format!("`stream_schedules` may hold {MAX_STREAM_SCHEDULES} streams, but holds {given}"));
        }
        for (stream, schedule) in &self.stream_schedules {
            schedule.validate().map_err(|error| format!("`stream_schedules.{stream}`: {error}"))?;
            if !selected(row, stream) {
                return Err(format!(
                    "`stream_schedules.{stream}`: the connection reads no stream of that name; select it under `streams` first"
                ));
            }
        }
        if let Some(retry) = &self.retry {
            retry.validate().map_err(|error| error.to_string())?;
        }
        match self.max_duration {
            Some(limit) if limit.0 < MIN_RUN_DURATION || limit.0 > MAX_RUN_DURATION => Err(format!(
                "`max_duration` must be between {} and {}, but is {limit}",
                Span(MIN_RUN_DURATION),
                Span(MAX_RUN_DURATION)
            )),
            _ => Ok(()),
        }
    }

    /// Puts them into a connection's row.
    pub fn write(&self, row: &mut ConnectionRow) {
        row.schedule = self.schedule.as_ref().map(|schedule| json!(schedule));
        let streams = self.stream_schedules.iter().map(|(stream, schedule)| (stream.clone(), json!(schedule)));
        row.stream_schedules = Value::Object(streams.collect::<Map<_, _>>());
        row.retry = self.retry.as_ref().map(|retry| json!(retry));
        row.max_duration_ms = self.max_duration.map(Span::signed_millis);
    }
}

/// Whether the connection reads a stream, as far as that is known.
fn selected(row: &ConnectionRow, stream: &str) -> bool {
    let every = row.streams.is_empty() || row.streams.iter().any(|selection| selection.stream == "*");
    let offered = row.catalog.as_ref().is_none_or(|catalog| catalog.stream(stream).is_some());
    row.streams.iter().any(|selection| selection.stream == stream) || (every && offered)
}

/// The schedules of a stored connection as slots that begin now. One that cannot be read is left out; its name and why are
/// answered beside.
pub fn schedules(
    connection: &str,
    schedule: Option<&Value>,
    streams: &Value,
    now_ms: i64,
) -> (Vec<NewSlot>, Vec<String>) {
    let own = schedule.map(|schedule| ("", schedule));
    let streams = streams.as_object().into_iter().flatten().map(|(stream, schedule)| (stream.as_str(), schedule));
    let (mut slots, mut wrong) = (Vec::new(), Vec::new());
    for (stream, value) in own.into_iter().chain(streams) {
        match slot(Identity { connection, stream }, value, now_ms) {
            Ok(slot) => slots.push(slot),
            Err(reason) => wrong.push(format!("the schedule of {connection} {stream}: {reason}")),
        }
    }
    (slots, wrong)
}

fn slot(identity: Identity<'_>, value: &Value, now_ms: i64) -> Result<NewSlot, String> {
    let schedule: Schedule = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let plan = schedule.plan(identity).map_err(|error| error.to_string())?;
    // A continuous schedule has no slot to wait for.
    let next_at =
        if plan.is_continuous() { Some(now_ms) } else { plan.next_after(now_ms).map(|slot| plan.starts_at(slot)) };
    let queues = plan.is_continuous() || plan.overlap() == Overlap::Queue;
    Ok(NewSlot { stream: identity.stream.to_owned(), schedule: value.clone(), queues, next_at })
}
