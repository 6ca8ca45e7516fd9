//! How long history is kept.

use std::time::Duration;

use thimble_store::{Store, StoreError};

use crate::limits::ANSWERS_KEPT;

/// How long history is kept after a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Log lines; 30 days.
    pub logs: Duration,
    /// Runs; 365 days.
    pub runs: Duration,
    /// How often old history is looked for; hourly.
    pub every: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Retention {
    fn default() -> Self {
        Self { logs: DAY * 30, runs: DAY * 365, every: Duration::from_secs(3600) }
    }
}

/// How long silent workers stay on the list's table.
const WORKERS_KEPT: Duration = Duration::from_secs(3600);

/// Forgets what is older.
pub(crate) async fn prune(store: &Store, retention: &Retention, now_ms: i64) -> Result<(), StoreError> {
    let before = |age: Duration| now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let lines = store.prune_logs(before(retention.logs)).await?;
    let runs = store.prune_runs(before(retention.runs)).await?;
    store.prune_answers(before(ANSWERS_KEPT)).await?;
    store.prune_workers(before(WORKERS_KEPT)).await?;
    let notices = store.prune_notices(before(retention.runs)).await?;
    if lines > 0 || runs > 0 || notices > 0 {
        tracing::info!(lines, runs, notices, "old history forgotten");
    }
    Ok(())
}
