//! What can be wrong with a schedule.

use crate::{
    limits::{MAX_CRON_BYTES, MAX_INTERVAL, MAX_JITTER, MIN_INTERVAL, MIN_PAUSE},
    span::Span,
};

/// What is wrong with a schedule. Each message names the setting and says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("a schedule needs exactly one of `every`, `cron`, `continuous` and `manual`, but this one has {found}")]
    NotOneKind { found: &'static str },
    #[error("`{setting}` of a schedule goes with `{partner}` only: leave it out")]
    Stray { setting: &'static str, partner: &'static str },
    #[error("`every` of a schedule must be between {} and {}, but is {every}", Span(MIN_INTERVAL), Span(MAX_INTERVAL))]
    Interval { every: Span },
    #[error("`pause` of a schedule must be between {} and {}, but is {pause}", Span(MIN_PAUSE), Span(MAX_INTERVAL))]
    Pause { pause: Span },
    #[error(
        "`jitter` of a schedule must be at most {} and shorter than the {gap} between two of its slots, but is {jitter}",
        Span(MAX_JITTER)
    )]
    Jitter { jitter: Span, gap: Span },
    #[error(
        "`cron` of a schedule must have five fields (minute, hour, day of month, month, day of week) in at most {MAX_CRON_BYTES} characters"
    )]
    CronShape,
    #[error("`cron` of a schedule cannot be read: {reason}")]
    Cron { reason: String },
    #[error("`cron` of a schedule names no date that ever comes: check its day of month and month")]
    CronNever,
    #[error(
        "`timezone` {zone:?} of a schedule is no time zone of the IANA database: use a name such as `Europe/Berlin` or `UTC`"
    )]
    Timezone { zone: String },
}
