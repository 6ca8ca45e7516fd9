//! Removes segments that nothing can need any more.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, path::Path};
use thimble_record::{BatchSeq, ConnectionId, Epoch};

use crate::{Stage, StageError, put::origin};

/// Whether a segment can go. Committed batches are never read again. The batch after the last committed one may be
/// sealed and waiting, however long, so its segments stay. At most one batch is sealed ahead, so what lies beyond that
/// belongs to an extraction under way, or, when it is old, to one that died.
fn disposable(seq: BatchSeq, committed: BatchSeq, age: Duration, grace: Duration) -> bool {
    seq <= committed || (seq > committed.next() && age > grace)
}

impl Stage {
    /// Deletes the segments of batches up to `committed`, and those of unsealed batches that are older than
    /// `keep_orphans_younger_than`. Returns how many were deleted.
    ///
    /// `own` is the caller's epoch. What a later owner staged stays: a caller that slept and was overtaken knows nothing of
    /// what that owner has sealed since.
    ///
    /// `now_ms`: milliseconds since the epoch.
    pub async fn collect(
        &self,
        connection: &ConnectionId,
        committed: BatchSeq,
        own: Epoch,
        keep_orphans_younger_than: Duration,
        now_ms: i64,
    ) -> Result<u64, StageError> {
        let folder = Path::from(connection.as_str());
        let failed = |source| StageError::store("collect the segments of", connection.as_str(), source);
        let mut found = self.store.list(Some(&folder));
        let mut doomed = Vec::new();
        while let Some(object) = found.try_next().await.map_err(failed)? {
            let Some((seq, epoch)) = origin(connection, object.location.as_ref()) else { continue };
            let age = now_ms.saturating_sub(object.last_modified.timestamp_millis()).max(0);
            if epoch <= own && disposable(seq, committed, Duration::from_millis(age as u64), keep_orphans_younger_than)
            {
                doomed.push(object.location);
            }
        }
        drop(found);
        let deletions = futures::stream::iter(doomed.into_iter().map(Ok)).boxed();
        let mut results = self.store.delete_stream(deletions);
        let mut deleted = 0;
        while let Some(result) = results.next().await {
            match result {
                Ok(_) => deleted += 1,
                // Another owner collects the same.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_batch_that_waits_is_never_disposable() {
        let (old, grace) = (Duration::from_secs(1_000_000), Duration::from_secs(60));
        let committed = BatchSeq(7);
        assert!(disposable(BatchSeq(7), committed, Duration::ZERO, grace));
        assert!(!disposable(BatchSeq(8), committed, old, grace), "may be sealed");
        assert!(disposable(BatchSeq(9), committed, old, grace));
        assert!(!disposable(BatchSeq(9), committed, grace, grace));
    }
}
