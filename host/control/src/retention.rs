//! How long history is kept.

use std::time::Duration;

use thimble_record::Failure;
use thimble_store::{Store, StoreError};

use crate::{SharedUploads, limits::ANSWERS_KEPT};

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

/// How long an uploaded component stays that no version of a plugin names.
const UPLOADS_KEPT: Duration = DAY;

/// Removes uploaded components that no plugin came of.
pub(crate) async fn prune_uploads(store: &Store, uploads: &dyn SharedUploads, now_ms: i64) -> Result<(), Failure> {
    // What is put from now on is younger than the grace time.
    let kept = store.named_components().await.map_err(|error| error.failure())?;
    let age = i64::try_from(UPLOADS_KEPT.as_millis()).unwrap_or(i64::MAX);
    let components = uploads.prune(&kept, now_ms.saturating_sub(age)).await?;
    if components > 0 {
        tracing::info!(components, "uploaded components removed that no plugin names");
    }
    Ok(())
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        collections::BTreeSet,
        path::Path,
        sync::{Mutex, PoisonError},
    };

    use thimble_store::{NewRun, Trigger};

    use super::*;

    /// Remembers what it was asked to keep, and until when.
    #[derive(Default)]
    struct Asked(Mutex<Option<(BTreeSet<String>, i64)>>);

    #[async_trait::async_trait]
    impl SharedUploads for Asked {
        async fn share(&self, _: &str, _: &Path) -> Result<(), Failure> {
            Ok(())
        }

        async fn prune(&self, kept: &BTreeSet<String>, put_before_ms: i64) -> Result<u64, Failure> {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((kept.clone(), put_before_ms));
            Ok(1)
        }
    }

    #[tokio::test]
    async fn uploads_stay_for_a_day_and_while_something_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("thimble.db")).await.unwrap();
        store.enqueue(&NewRun::install("sha256:ab", Trigger::Api), 1).await.unwrap();
        let (uploads, now_ms) = (Asked::default(), 1_700_000_000_000);
        prune_uploads(&store, &uploads, now_ms).await.unwrap();
        let asked = uploads.0.lock().unwrap().clone().unwrap();
        assert_eq!(asked, (BTreeSet::from(["ab".to_owned()]), now_ms - 24 * 3_600_000));
    }
}
