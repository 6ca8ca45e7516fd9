//! The life of a run in table `runs`: queued, claimed, heard of, finished, interrupted.
//!
//! A running run has a holder and an expiry. Whoever executes it is heard of by `heartbeat`, and a
//! sync also by renewing its connection's lease; a run that expires becomes Interrupted.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use thimble_record::{Epoch, ErrorKind, Failure, RunId};

use crate::{
    NewRun, RunKind, RunOutcome, RunRow, RunStatus, Store, StoreError, Trigger,
    columns::{json, stored, word},
    ids::new_run_id,
    limits::MAX_PAGE,
    lock::{self, Lock},
    runs::from_row,
    takeover, totals,
};

impl Store {
    /// Queues a run. A sync is refused with `AlreadyRunning` while another sync of the connection is
    /// unfinished; one whose holder expired becomes Interrupted and does not stand in the way.
    /// `NotFound` where the connection does not exist.
    pub async fn enqueue(&self, run: &NewRun, now_ms: i64) -> Result<RunRow, StoreError> {
        let mut tx = self.write().await?;
        let row = insert(&mut tx, run, None, now_ms).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Queues a run and claims it in the same step, for a process that executes it itself. A running sync of the
    /// same `holder` is taken over: it becomes Interrupted.
    pub async fn start(&self, run: &NewRun, holder: &str, ttl_ms: i64, now_ms: i64) -> Result<RunRow, StoreError> {
        let mut tx = self.write().await?;
        let row = insert(&mut tx, run, Some((holder, ttl_ms)), now_ms).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Claims one queued run by name. `Conflict` where somebody else claimed or cancelled it.
    pub async fn begin(&self, run: &RunId, holder: &str, ttl_ms: i64, now_ms: i64) -> Result<RunRow, StoreError> {
        let mut tx = self.write_soon().await?;
        let row = sqlx::query(
            "update runs set status = 'running', holder = $1, started_at = $2, expires_at = $3
             where id = $4 and status = 'queued' returning *",
        )
        .bind(holder)
        .bind(now_ms)
        .bind(now_ms.saturating_add(ttl_ms))
        .bind(&run.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Err(not_in_state(&mut tx, run, "queued").await?) };
        let claimed = from_row(&row)?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Says that a running run is alive, and answers whether somebody asked for it to stop.
    /// `Conflict` where it is no longer running (it was interrupted, for one): stop.
    pub async fn heartbeat(&self, run: &RunId, ttl_ms: i64, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.write_soon().await?;
        let cancel: Option<i64> = sqlx::query_scalar(
            "update runs set expires_at = $1 where id = $2 and status = 'running' returning cancel_requested",
        )
        .bind(now_ms.saturating_add(ttl_ms))
        .bind(&run.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(cancel) = cancel else { return Err(not_in_state(&mut tx, run, "running").await?) };
        tx.commit().await?;
        Ok(cancel != 0)
    }

    /// Stores the progress of a running run. `Conflict` where it is not running.
    pub async fn progress(&self, run: &RunId, report: &Value) -> Result<(), StoreError> {
        let mut tx = self.write_soon().await?;
        let done = sqlx::query("update runs set report = $1 where id = $2 and status = 'running'")
            .bind(json(report))
            .bind(&run.0)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(not_in_state(&mut tx, run, "running").await?);
        }
        Ok(tx.commit().await?)
    }

    /// Notes the epoch that a sync works under.
    pub async fn set_run_epoch(&self, run: &RunId, epoch: Epoch) -> Result<(), StoreError> {
        let mut tx = self.write_soon().await?;
        let done = sqlx::query("update runs set epoch = $1 where id = $2 and status = 'running'")
            .bind(stored(epoch.0))
            .bind(&run.0)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(not_in_state(&mut tx, run, "running").await?);
        }
        Ok(tx.commit().await?)
    }

    /// Ends a running run. `Conflict` where it is not running, and where the outcome is no end.
    pub async fn finish(&self, run: &RunId, outcome: &RunOutcome, now_ms: i64) -> Result<RunRow, StoreError> {
        if !outcome.status.finished() {
            return Err(StoreError::conflict(format!("run {run} cannot end as {:?}", outcome.status)));
        }
        let mut tx = self.write_soon().await?;
        let row = sqlx::query(
            "update runs set status = $1, finished_at = $2, report = $3, failure = $4, expires_at = null
             where id = $5 and status = 'running' returning *",
        )
        .bind(word(&outcome.status))
        .bind(now_ms)
        .bind(json(&outcome.report))
        .bind(outcome.failure.as_ref().map(json))
        .bind(&run.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Err(not_in_state(&mut tx, run, "running").await?) };
        let mut ended = from_row(&row)?;
        let overran: Option<i64> = row.try_get("overran_ms")?;
        if let Some(limit_ms) = overran.filter(|_| ended.status == RunStatus::Cancelled) {
            ended = fail_overrun(&mut tx, run, limit_ms).await?;
        }
        totals::run_ended(&mut tx, &ended, now_ms).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Asks a run to stop: a queued one is Cancelled at once, a running one learns of it at its next
    /// heartbeat. `Conflict` where it has ended.
    pub async fn request_cancel(&self, run: &RunId, now_ms: i64) -> Result<RunRow, StoreError> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "update runs set cancel_requested = 1,
               finished_at = case status when 'queued' then $1 end,
               status = case status when 'queued' then 'cancelled' else status end
             where id = $2 and status in ('queued', 'running') returning *",
        )
        .bind(now_ms)
        .bind(&run.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Err(not_in_state(&mut tx, run, "queued or running").await?) };
        let asked = from_row(&row)?;
        tx.commit().await?;
        Ok(asked)
    }

    /// Turns running runs that expired into Interrupted ones and answers them. A sync of the queue is queued again at
    /// once, in the same transaction.
    pub async fn interrupt_expired(&self, now_ms: i64) -> Result<Vec<RunRow>, StoreError> {
        let dead: Option<i64> =
            sqlx::query_scalar("select 1 from runs where status = 'running' and expires_at <= $1 limit 1")
                .bind(now_ms)
                .fetch_optional(&self.reader)
                .await?;
        if dead.is_none() {
            return Ok(Vec::new());
        }
        // One transaction each: what many lock in any order may stop one another.
        let expired = sqlx::query(
            "select id, connection from runs where status = 'running' and expires_at <= $1 order by id limit $2",
        )
        .bind(now_ms)
        .bind(i64::from(MAX_PAGE))
        .fetch_all(&self.reader)
        .await?;
        let mut ended = Vec::new();
        for row in expired {
            let (id, connection): (String, Option<String>) = (row.try_get("id")?, row.try_get("connection")?);
            ended.extend(self.interrupt(&id, connection.as_deref(), now_ms).await?);
        }
        Ok(ended)
    }

    /// `None` where it was heard of meanwhile, or another process had it first.
    async fn interrupt(&self, id: &str, connection: Option<&str>, now_ms: i64) -> Result<Option<RunRow>, StoreError> {
        let mut tx = self.write().await?;
        if let Some(connection) = connection {
            lock::row(&mut tx, "leases", "connection", connection, Lock::Change).await?;
            lock::row(&mut tx, "connections", "id", connection, Lock::Change).await?;
        }
        let row = sqlx::query(
            "update runs set status = 'interrupted', finished_at = $1, expires_at = null, failure = $2
             where id = $3 and status = 'running' and expires_at <= $1 returning *",
        )
        .bind(now_ms)
        .bind(json(&interrupted()))
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let ended = from_row(&row)?;
        totals::run_ended(&mut tx, &ended, now_ms).await?;
        if let (Some(connection), Some(holder)) = (connection, &ended.holder) {
            free_lease(&mut tx, connection, holder).await?;
        }
        takeover::take_over(&mut tx, &ended, now_ms).await?;
        tx.commit().await?;
        Ok(Some(ended))
    }

    /// For a caller that knows a holder to be dead (its process is gone): its running runs become Interrupted and its
    /// leases free at once. Answers the runs; none of them is queued again.
    pub async fn expire_holder(&self, holder: &str, now_ms: i64) -> Result<Vec<RunRow>, StoreError> {
        let mut ended = Vec::new();
        let runs: Vec<String> = sqlx::query_scalar("select id from runs where status = 'running' and holder = $1")
            .bind(holder)
            .fetch_all(&self.reader)
            .await?;
        for run in runs {
            let mut tx = self.write().await?;
            let row = sqlx::query(
                "update runs set status = 'interrupted', finished_at = $1, expires_at = null, failure = $2
                 where id = $3 and status = 'running' and holder = $4 returning *",
            )
            .bind(now_ms)
            .bind(json(&interrupted()))
            .bind(run)
            .bind(holder)
            .fetch_optional(&mut *tx)
            .await?;
            if let Some(row) = row {
                let run = from_row(&row)?;
                totals::run_ended(&mut tx, &run, now_ms).await?;
                ended.push(run);
            }
            tx.commit().await?;
        }
        let leases: Vec<String> = sqlx::query_scalar("select connection from leases where holder = $1")
            .bind(holder)
            .fetch_all(&self.reader)
            .await?;
        for connection in leases {
            let mut tx = self.write().await?;
            sqlx::query("update leases set holder = null where connection = $1 and holder = $2")
                .bind(connection)
                .bind(holder)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        }
        Ok(ended)
    }

    /// Whoever holds a running run or an unexpired lease, in order.
    pub async fn holders(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "select holder from runs where status = 'running' and holder is not null
             union select holder from leases where holder is not null and expires_at > $1 order by 1 limit $2",
        )
        .bind(now_ms)
        .bind(i64::from(MAX_PAGE))
        .fetch_all(&self.reader)
        .await?)
    }
}

/// A run that was stopped because it took too long did not do what was asked.
async fn fail_overrun(tx: &mut AnyConnection, run: &RunId, limit_ms: i64) -> Result<RunRow, StoreError> {
    let message = format!(
        "the run took longer than the {} s that `max_duration` of the connection allows and was stopped; what it had committed stays",
        limit_ms / 1_000
    );
    let row = sqlx::query("update runs set status = 'failed', failure = $1 where id = $2 returning *")
        .bind(json(&Failure::new(ErrorKind::Transient, message)))
        .bind(&run.0)
        .fetch_one(tx)
        .await?;
    from_row(&row)
}

fn interrupted() -> Failure {
    Failure::new(
        ErrorKind::Transient,
        "the process that executed the run went away before it ended; the next sync continues where it stopped",
    )
}

/// Queues a run, or starts it for a holder.
pub(crate) async fn insert(
    tx: &mut AnyConnection,
    run: &NewRun,
    claim: Option<(&str, i64)>,
    now_ms: i64,
) -> Result<RunRow, StoreError> {
    if let Some(connection) = run.connection.as_ref().filter(|_| run.kind == RunKind::Sync) {
        lock::row(tx, "leases", "connection", connection.as_str(), Lock::Change).await?;
    }
    // Locked: the runs of a connection are queued one after the other, and it does not go away meanwhile.
    if let Some(connection) = &run.connection
        && !lock::row(tx, "connections", "id", connection.as_str(), Lock::Change).await?
    {
        return Err(StoreError::not_found("connection", connection.as_str()));
    }
    if let Some(connection) = run.connection.as_ref().filter(|_| run.kind == RunKind::Sync) {
        make_way(tx, connection.as_str(), claim.map(|(holder, _)| holder), run.trigger, now_ms).await?;
    }
    let status = if claim.is_some() { RunStatus::Running } else { RunStatus::Queued };
    let row = sqlx::query(
        "insert into runs (id, connection, subject, kind, run_trigger, status, request, holder, expires_at, queued_at,
           started_at, report, workspace, slot, attempt, retry_of, not_before, slot_key)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'null',
           (select workspace from connections where id = $2), $12, $13, $14, $15, $16) returning *",
    )
    .bind(new_run_id(now_ms)?.0)
    .bind(run.connection.as_ref().map(|connection| connection.as_str()))
    .bind(&run.subject)
    .bind(word(&run.kind))
    .bind(word(&run.trigger))
    .bind(word(&status))
    .bind(json(&run.request))
    .bind(claim.map(|(holder, _)| holder))
    .bind(claim.map(|(_, ttl_ms)| now_ms.saturating_add(ttl_ms)))
    .bind(now_ms)
    .bind(claim.map(|_| now_ms))
    .bind(run.slot)
    .bind(run.attempt)
    .bind(run.retry_of.as_ref().map(|run| &run.0))
    .bind(run.not_before)
    .bind(run.slot.map(|_| slot_key(&run.request)))
    .fetch_one(&mut *tx)
    .await?;
    from_row(&row)
}

/// Stands for what a slot's run reads, so that one slot has one run for the same streams.
fn slot_key(request: &Value) -> String {
    hex::encode(&Sha256::digest(json(request))[..16])
}

/// Refuses where an unfinished sync stands in the way; one that is dead is ended instead, and so is one that only waits to
/// try again what somebody asks for now.
async fn make_way(
    tx: &mut AnyConnection,
    connection: &str,
    holder: Option<&str>,
    trigger: Trigger,
    now_ms: i64,
) -> Result<(), StoreError> {
    let select = format!(
        "select id, status, holder, expires_at, run_trigger, not_before from runs
         where connection = $1 and kind = 'sync' and status in ('queued', 'running'){}",
        lock::clause(tx, Lock::Change)
    );
    let row = sqlx::query(AssertSqlSafe(select)).bind(connection).fetch_optional(&mut *tx).await?;
    let Some(row) = row else { return Ok(()) };
    let run: String = row.try_get("id")?;
    let running = row.try_get::<&str, _>("status")? == "running";
    let expired = row.try_get::<Option<i64>, _>("expires_at")?.is_some_and(|expires_at| expires_at <= now_ms);
    let waits = row.try_get::<Option<i64>, _>("not_before")?.is_some_and(|not_before| not_before > now_ms);
    let retrying = !running && waits && row.try_get::<&str, _>("run_trigger")? == "retry";
    if retrying && matches!(trigger, Trigger::Manual | Trigger::Api) {
        sqlx::query("update runs set status = 'cancelled', finished_at = $1 where id = $2 and status = 'queued'")
            .bind(now_ms)
            .bind(run)
            .execute(&mut *tx)
            .await?;
        return Ok(());
    }
    let held_by: Option<String> = row.try_get("holder")?;
    let own = holder.is_some() && held_by.as_deref() == holder;
    if !(running && (expired || own)) {
        return Err(StoreError::AlreadyRunning { connection: connection.into(), run: RunId(run) });
    }
    sqlx::query(
        "update runs set status = 'interrupted', finished_at = $1, expires_at = null, failure = $2 where id = $3",
    )
    .bind(now_ms)
    .bind(json(&interrupted()))
    .bind(run)
    .execute(&mut *tx)
    .await?;
    match held_by {
        Some(dead) => free_lease(tx, connection, &dead).await,
        None => Ok(()),
    }
}

/// Takes the lease from whoever executed a run that was ended: it may have been taken after the run was last heard of, and
/// the next one must not wait for its end. Its owner is fenced.
async fn free_lease(tx: &mut AnyConnection, connection: &str, holder: &str) -> Result<(), StoreError> {
    sqlx::query("update leases set holder = null where connection = $1 and holder = $2")
        .bind(connection)
        .bind(holder)
        .execute(tx)
        .await?;
    Ok(())
}

/// The error for a run that is not in the state that the change needs.
async fn not_in_state(tx: &mut AnyConnection, run: &RunId, needed: &str) -> Result<StoreError, StoreError> {
    let status: Option<String> =
        sqlx::query_scalar("select status from runs where id = $1").bind(&run.0).fetch_optional(&mut *tx).await?;
    Ok(match status {
        None => StoreError::not_found("run", &run.0),
        Some(status) => StoreError::conflict(format!("run {run} is {status}, not {needed}")),
    })
}
