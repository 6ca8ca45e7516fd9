//! When a connection, or one of its streams, is to run by itself.
//!
//! Owns the setting, what is wrong with one, and which slots it makes. A slot is a moment at which a run is to start;
//! it is decided upon once. Must never ask a clock: times are parameters, in milliseconds since the epoch.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::span::Span;

mod cron;
mod decide;
mod error;
mod plan;

pub use decide::{Decision, Missed, Next};
pub use error::ScheduleError;
pub use plan::{Identity, Plan};

/// Pause of a continuous schedule where none is given.
pub const DEFAULT_PAUSE: Span = Span::seconds(10);

/// When something runs by itself: exactly one of `every`, `cron`, `continuous` and `manual`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [
    { "required": ["every"] }, { "required": ["cron"] }, { "required": ["continuous"] }, { "required": ["manual"] },
]))]
pub struct Schedule {
    /// Time from the start of one slot to the start of the next, 10 seconds to 366 days. Without `anchor` each
    /// connection gets a phase of its own, so that many with the same interval do not start together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// A moment from which the slots of `every` are counted, forwards and backwards: `2026-01-01T06:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub anchor: Option<DateTime<Utc>>,
    /// Minute, hour, day of month, month and day of week, as in crontab: `0 6 * * MON-FRI`. Where the clocks go forward, a
    /// time that is left out runs once, at the first moment after; where they go back, a time that occurs twice runs once, the
    /// first time. A pattern with `*` in minute or hour follows the clock instead: nothing is made up for, and what
    /// occurs twice runs twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Name of the IANA time zone that `cron` is read in, such as `Europe/Berlin`. Default: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Again whenever the last run has ended.
    #[serde(skip_serializing_if = "is_false")]
    pub continuous: bool,
    /// Time from the end of one run to the start of the next, with `continuous`; 1 second or more. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Span>,
    /// Never by itself.
    #[serde(skip_serializing_if = "is_false")]
    pub manual: bool,
    /// Each start is delayed by up to this much, by an amount that hangs on connection, stream and slot. At most an hour, and
    /// shorter than the time between two slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// What becomes of a slot that comes while the connection is running. Default: `skip` for a connection, `queue`
    /// for a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// What becomes of slots that nobody was there to start. Default: `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
}

/// What becomes of a slot that comes while the connection is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It is left out; an event says so.
    Skip,
    /// It starts as soon as the connection is free. Of several only the latest starts; events name the others.
    Queue,
}

/// What becomes of slots that nobody was there to start, because the host was down or its clock jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// The latest of them starts now; events name the others.
    #[default]
    Latest,
    /// None starts, unless it is less than a minute late; events name them.
    None,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Schedule {
    /// Slots at equal distances.
    pub fn every(interval: Span) -> Self {
        Self { every: Some(interval), ..Self::default() }
    }

    /// Slots by a cron pattern in UTC.
    pub fn cron(pattern: impl Into<String>) -> Self {
        Self { cron: Some(pattern.into()), ..Self::default() }
    }

    /// What is wrong with it, in a sentence that names the setting and says what is allowed.
    pub fn validate(&self) -> Result<(), ScheduleError> {
        self.plan(Identity { connection: "", stream: "" }).map(drop)
    }
}
