//! Every limit of the decisions, in one place.

use std::time::Duration;

/// Shortest interval of a schedule.
pub const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Longest interval of a schedule, and longest pause of a continuous one.
pub const MAX_INTERVAL: Duration = Duration::from_secs(366 * 86_400);

/// Shortest pause between two runs of a continuous schedule.
pub const MIN_PAUSE: Duration = Duration::from_secs(1);

/// Longest delay by jitter.
pub const MAX_JITTER: Duration = Duration::from_secs(3_600);

/// Longest cron pattern, in bytes.
pub const MAX_CRON_BYTES: usize = 100;

/// Missed slots that are listed one by one; further ones are counted.
pub const MAX_MISSED_LISTED: usize = 100;

/// Missed slots of a cron pattern that are counted; of more it is only said that they are more.
pub const MAX_MISSED_COUNTED: u64 = 10_000;

/// A slot that starts later than this counts as missed where the schedule does not catch up.
pub const LATE_AFTER: Duration = Duration::from_secs(60);

/// Most retries of a failed run.
pub const MAX_RUN_RETRIES: u32 = 20;

/// Longest wait before a failed run is run again, also where the source asks for a longer one.
pub const MAX_RUN_WAIT: Duration = Duration::from_secs(86_400);

/// After so long in the queue, a run that does not fit holds back those behind it.
pub const HOLD_BACK_AFTER: Duration = Duration::from_secs(60);

/// Fields that a canary names of each kind of difference, and streams that it lists.
pub const MAX_CANARY_NAMES: usize = 100;

/// Sentences of one canary; of further ones it is only said how many they are.
pub const MAX_CANARY_SENTENCES: usize = 200;
