//! Cron patterns in a time zone, where clocks go forward and back.
//!
//! A pattern of fixed minutes and hours stands for labels on the wall's clock: each label gets one slot, the first moment that
//! shows it or, where the clock jumps over it, the first moment after the jump. A pattern with `*` in minute or hour stands for
//! moments: every one that shows a matching label.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use super::ScheduleError;
use crate::limits::MAX_CRON_BYTES;

const FIELDS: usize = 5;

/// Labels to look at before the first one whose moment lies ahead: as many as fit into an hour that occurs twice, and a day
/// that is left out.
const MAX_LABELS: usize = 3_000;

/// No zone's clock differs from UTC by more, and no jump is longer.
const MAX_SHIFT: TimeDelta = TimeDelta::hours(26);

/// A pattern in its zone.
#[derive(Debug, Clone)]
pub(super) struct Cron {
    pattern: croner::Cron,
    zone: Tz,
    by_moment: bool,
}

impl Cron {
    pub(super) fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        if text.len() > MAX_CRON_BYTES || !text.is_ascii() || fields.len() != FIELDS {
            return Err(ScheduleError::CronShape);
        }
        let zone = zone.unwrap_or("UTC");
        let zone: Tz = zone.parse().map_err(|_| ScheduleError::Timezone { zone: shortened(zone) })?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(text).map_err(|error| {
            let reason = error.to_string();
            ScheduleError::Cron { reason: reason.trim_end_matches('.').to_owned() }
        })?;
        let by_moment = fields[..2].iter().any(|field| field.contains('*'));
        Ok(Self { pattern, zone, by_moment })
    }

    /// The first slot after a moment; `None` where none ever comes.
    pub(super) fn next_after(&self, after_ms: i64) -> Option<i64> {
        let after = DateTime::from_timestamp_millis(after_ms)?.with_timezone(&self.zone);
        if self.by_moment {
            return self.pattern.find_next_occurrence(&after, false).ok().map(whole_seconds);
        }
        let mut label = after.naive_local();
        let mut inclusive = true;
        for _ in 0..MAX_LABELS {
            label = self.pattern.find_next_occurrence(&label, inclusive).ok()?;
            inclusive = false;
            let at = whole_seconds(self.moment(label)?);
            if at > after_ms {
                return Some(at);
            }
        }
        None
    }

    /// The first moment that shows the label, or the first after the jump that leaves it out.
    fn moment(&self, label: NaiveDateTime) -> Option<DateTime<Tz>> {
        match self.zone.from_local_datetime(&label) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => Some(moment),
            LocalResult::None => self.after_jump(label),
        }
    }

    /// The first moment whose label is later than one that no moment shows.
    fn after_jump(&self, label: NaiveDateTime) -> Option<DateTime<Tz>> {
        let mut before = label.checked_sub_signed(MAX_SHIFT)?.and_utc().timestamp();
        let mut after = label.checked_add_signed(MAX_SHIFT)?.and_utc().timestamp();
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.local(middle)?.naive_local() > label {
                after = middle;
            } else {
                before = middle;
            }
        }
        self.local(after)
    }

    fn local(&self, seconds: i64) -> Option<DateTime<Tz>> {
        Some(DateTime::<Utc>::from_timestamp(seconds, 0)?.with_timezone(&self.zone))
    }
}

/// Slots lie on whole seconds, wherever the search began.
fn whole_seconds(moment: DateTime<Tz>) -> i64 {
    moment.timestamp() * 1_000
}

/// What is said back must not be long.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
