//! The queue as a process sees it that executes many runs: what waits, and claiming and keeping alive many at once.
//!
//! Each change of many runs is one transaction: with hundreds of small runs it is the disk that counts.

use serde_json::Value;
use sqlx::{Row, any::AnyRow};
use thimble_record::RunId;

use crate::{
    RunRow, Store, StoreError, Trigger,
    columns::{parse, parse_word},
    runs::from_row,
};

/// A queued run that may begin, and what is known of its needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRun {
    pub id: RunId,
    pub trigger: Trigger,
    /// Since when it may begin.
    pub since_ms: i64,
    /// What its plugin asks for, in MiB.
    pub memory_mib: Option<u64>,
    /// Of its connection: a run that takes longer is stopped.
    pub max_duration_ms: Option<i64>,
}

impl Store {
    /// Queued runs that may begin, those that somebody asked for first, then the oldest.
    pub async fn waiting_runs(&self, now_ms: i64, limit: u32) -> Result<Vec<WaitingRun>, StoreError> {
        let rows = sqlx::query(
            "select r.id, r.run_trigger, coalesce(r.not_before, r.queued_at) as since, p.permissions, c.max_duration_ms,
               case when r.run_trigger in ('manual', 'api') then 0 else 1 end as urgency
             from runs r left join connections c on c.id = r.connection left join sources s on s.name = c.source
               left join plugins p on p.name = coalesce(s.plugin, c.plugin)
             where r.status = 'queued' and (r.not_before is null or r.not_before <= $1)
             order by urgency, since, r.id limit $2",
        )
        .bind(now_ms)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(waiting).collect()
    }

    /// Claims queued runs; answers those that nobody else claimed or cancelled meanwhile, now Running.
    pub async fn begin_all(
        &self,
        runs: &[RunId],
        holder: &str,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.write_soon().await?;
        let mut begun = Vec::with_capacity(runs.len());
        // In one order in all processes, so that two that claim the same runs do not wait for each other.
        let mut runs = runs.to_vec();
        runs.sort();
        for run in runs {
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
            begun.extend(row.as_ref().map(from_row).transpose()?);
        }
        tx.commit().await?;
        Ok(begun)
    }

    /// Says that running runs are alive; answers those that are to stop: they are no longer running, or somebody asked.
    pub async fn heartbeats(&self, runs: &[RunId], ttl_ms: i64, now_ms: i64) -> Result<Vec<RunId>, StoreError> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.write_soon().await?;
        let mut to_stop = Vec::new();
        for run in runs {
            let cancel: Option<i64> = sqlx::query_scalar(
                "update runs set expires_at = $1 where id = $2 and status = 'running' returning cancel_requested",
            )
            .bind(now_ms.saturating_add(ttl_ms))
            .bind(&run.0)
            .fetch_optional(&mut *tx)
            .await?;
            if cancel != Some(0) {
                to_stop.push(run.clone());
            }
        }
        tx.commit().await?;
        Ok(to_stop)
    }

    /// The running runs of a holder that somebody asked to stop.
    pub async fn cancelled_runs(&self, holder: &str) -> Result<Vec<RunId>, StoreError> {
        let ids: Vec<String> =
            sqlx::query_scalar("select id from runs where status = 'running' and cancel_requested = 1 and holder = $1")
                .bind(holder)
                .fetch_all(&self.reader)
                .await?;
        Ok(ids.into_iter().map(RunId).collect())
    }

    /// How many unfinished runs somebody asked for: schedules have at most one for each connection.
    pub async fn count_asked(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "select count(*) from runs where status in ('queued', 'running') and run_trigger in ('manual', 'api')",
        )
        .fetch_one(&self.reader)
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Notes that a running run exceeded the duration allowed: when it ends cancelled, it counts as failed for that.
    pub async fn note_overrun(&self, run: &RunId, limit_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write_soon().await?;
        sqlx::query("update runs set overran_ms = $1 where id = $2 and status = 'running'")
            .bind(limit_ms)
            .bind(&run.0)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

fn waiting(row: &AnyRow) -> Result<WaitingRun, StoreError> {
    let permissions = row.try_get::<Option<&str>, _>("permissions")?;
    let permissions: Option<Value> = permissions.map(|text| parse(text, "plugin's permissions")).transpose()?;
    Ok(WaitingRun {
        id: RunId(row.try_get("id")?),
        trigger: parse_word(row, "run_trigger", "run's trigger")?,
        since_ms: row.try_get("since")?,
        memory_mib: permissions.and_then(|permissions| permissions.get("memory_mib")?.as_u64()),
        max_duration_ms: row.try_get("max_duration_ms")?,
    })
}
