//! What follows the end of a run: another try, or a schedule that rests.

use serde_json::json;
use sha2::{Digest, Sha256};
use thimble_engine::retry::{AfterFailure, RunRetry};
use thimble_record::{Failure, RunId};
use thimble_store::{EventKind, NewEvent, NewRun, RunKind, RunRow, RunStatus, Store, StoreError, Trigger};

/// Follows up a run that ended: a scheduled sync that failed is run again later, or its connection's schedules rest. Nothing
/// is lost where this does not happen, because a process ended just now: the next slot is the next try.
pub(crate) async fn follow_up(store: &Store, run: &RunRow, now_ms: i64) -> Result<(), StoreError> {
    let by_itself = matches!(run.trigger, Trigger::Schedule | Trigger::Retry);
    let (Some(connection), Some(failure)) = (&run.connection, &run.failure) else { return Ok(()) };
    if run.kind != RunKind::Sync || run.status != RunStatus::Failed || !by_itself {
        return Ok(());
    }
    let row = match store.connection(connection).await {
        Ok(row) => row,
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let policy = row.retry.and_then(|retry| serde_json::from_value(retry).ok()).unwrap_or_else(RunRetry::default);
    let attempt = u32::try_from(run.attempt).unwrap_or(u32::MAX);
    match policy.after_run(failure, attempt, now_ms, jitter(&run.id)) {
        AfterFailure::RetryAt(at) => retry(store, run, at, now_ms).await,
        AfterFailure::GiveUp => Ok(()),
        AfterFailure::Pause => {
            let event = paused(run, connection.as_str(), failure);
            store.pause(connection, true, Some(&failure.message), Some(&event), now_ms).await.map(drop)
        }
    }
}

async fn retry(store: &Store, run: &RunRow, at: i64, now_ms: i64) -> Result<(), StoreError> {
    let again = NewRun {
        kind: run.kind,
        trigger: Trigger::Retry,
        connection: run.connection.clone(),
        subject: None,
        request: run.request.clone(),
        slot: run.slot,
        attempt: run.attempt.saturating_add(1),
        retry_of: Some(run.id.clone()),
        not_before: Some(at),
    };
    match store.enqueue(&again, now_ms).await {
        // Somebody asked for a sync meanwhile, or removed the connection: that is as good.
        Ok(_) | Err(StoreError::AlreadyRunning { .. } | StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn paused(run: &RunRow, connection: &str, failure: &Failure) -> NewEvent {
    let detail = json!({"kind": failure.kind, "message": failure.message});
    NewEvent { run: Some(run.id.clone()), ..NewEvent::of(EventKind::ConnectionPaused, connection, detail) }
}

/// A number in 0.0..1.0 that differs from run to run, so that those that failed together are not tried again together.
fn jitter(run: &RunId) -> f64 {
    let digest: [u8; 32] = Sha256::digest(run.0.as_bytes()).into();
    f64::from(u16::from_le_bytes([digest[0], digest[1]])) / f64::from(u16::MAX)
}
