//! What becomes of runs whose process went away: they are Interrupted, and syncs of the queue are queued again.
//!
//! A run that was interrupted never goes on: its process may still live, and must find it ended. Another run takes its
//! place, with its request, its slot and the number of its try.

use serde_json::json;
use sqlx::AnyConnection;
use thimble_record::RunId;

use crate::{
    EventKind, NewEvent, NewRun, RunKind, RunRow, RunStatus, Store, StoreError, Trigger, events,
    limits::MAX_TAKEOVERS_WITHOUT_PROGRESS, queue,
};

impl Store {
    /// Queues a sync again that a process gave up because it is about to end. `None` where somebody asked the sync to
    /// stop, another sync is queued already, or the connection is gone.
    pub async fn hand_over(&self, run: &RunId, now_ms: i64) -> Result<Option<RunId>, StoreError> {
        let run = self.run(run).await?;
        if !matches!(run.status, RunStatus::Cancelled | RunStatus::Interrupted) || run.cancel_requested {
            return Ok(None);
        }
        let Some(next) = successor(&run) else { return Ok(None) };
        match self.enqueue(&next, now_ms).await {
            Ok(next) => Ok(Some(next.id)),
            Err(StoreError::AlreadyRunning { .. } | StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Queues the successor of a run that was just interrupted, and tells of it.
pub(crate) async fn take_over(tx: &mut AnyConnection, lost: &RunRow, now_ms: i64) -> Result<(), StoreError> {
    let next = match successor(lost).filter(|_| !lost.cancel_requested) {
        Some(next) if lost_without_progress(tx, lost).await? < MAX_TAKEOVERS_WITHOUT_PROGRESS => {
            match queue::insert(tx, &next, None, now_ms).await {
                Ok(next) => Some(next.id),
                Err(StoreError::AlreadyRunning { .. } | StoreError::NotFound { .. }) => None,
                Err(error) => return Err(error),
            }
        }
        _ => None,
    };
    let event = NewEvent {
        kind: EventKind::WorkerLost,
        workspace: lost.workspace.clone(),
        connection: lost.connection.as_ref().map(ToString::to_string),
        stream: None,
        run: Some(lost.id.clone()),
        detail: json!({"holder": lost.holder, "next": next}),
    };
    events::append(tx, &event, now_ms).await?;
    Ok(())
}

/// The run that goes on where this one stopped. Somebody who ran a sync by hand sees for himself that it ended.
fn successor(lost: &RunRow) -> Option<NewRun> {
    let connection = lost.connection.clone()?;
    if lost.kind != RunKind::Sync || lost.trigger == Trigger::Manual {
        return None;
    }
    Some(NewRun {
        request: lost.request.clone(),
        slot: lost.slot,
        attempt: lost.attempt,
        retry_of: Some(lost.id.clone()),
        ..NewRun::on(connection, RunKind::Sync, Trigger::Retry)
    })
}

/// How many syncs of the connection were lost since something was committed or a sync ended by itself: a sync that ends
/// each of its processes must not go from one to the next for ever.
async fn lost_without_progress(tx: &mut AnyConnection, lost: &RunRow) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "select count(*) from runs where connection = $1 and kind = 'sync' and status = 'interrupted' and id <> $2
           and finished_at > coalesce((select max(committed_at) from checkpoints where connection = $1), 0)
           and finished_at > coalesce((select max(finished_at) from runs where connection = $1 and kind = 'sync'
             and status in ('succeeded', 'failed', 'cancelled')), 0)",
    )
    .bind(lost.connection.as_ref().map(|connection| connection.as_str()))
    .bind(&lost.id.0)
    .fetch_one(tx)
    .await?)
}
