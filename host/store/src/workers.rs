//! Tables `workers` and `meta`: the processes that execute runs, and what all of them must agree upon. Both only tell:
//! what a process may do hangs on its leases and runs.

use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};

use crate::{Store, StoreError, limits::MAX_PAGE};

/// A process that executes runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Name under which it holds runs and leases.
    pub holder: String,
    /// Name of its machine.
    pub host: String,
    /// Version of the program.
    pub version: String,
    /// `serve` or `worker`.
    pub role: String,
    /// Most runs at once.
    pub capacity: i64,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// When it was heard of last.
    pub heartbeat_at: i64,
}

/// The same with what it does now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStanding {
    #[serde(flatten)]
    pub worker: WorkerRow,
    /// Runs that it executes.
    pub running: i64,
}

fn from_row(row: &AnyRow) -> Result<WorkerStanding, StoreError> {
    let worker = WorkerRow {
        holder: row.try_get("holder")?,
        host: row.try_get("host")?,
        version: row.try_get("version")?,
        role: row.try_get("role")?,
        capacity: row.try_get("capacity")?,
        started_at: row.try_get("started_at")?,
        heartbeat_at: row.try_get("heartbeat_at")?,
    };
    Ok(WorkerStanding { worker, running: row.try_get("running")? })
}

impl Store {
    /// Says that a process is there, with all that is known of it; repeated as long as it lives.
    pub async fn announce(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "insert into workers (holder, host, version, role, capacity, started_at, heartbeat_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (holder) do update set capacity = excluded.capacity, heartbeat_at = excluded.heartbeat_at",
        )
        .bind(&worker.holder)
        .bind(&worker.host)
        .bind(&worker.version)
        .bind(&worker.role)
        .bind(worker.capacity)
        .bind(worker.started_at)
        .bind(worker.heartbeat_at)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Takes a process off the list, because it ends.
    pub async fn leave(&self, holder: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("delete from workers where holder = $1").bind(holder).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// The processes that were heard of since a time, the oldest first.
    pub async fn workers(&self, heard_since_ms: i64) -> Result<Vec<WorkerStanding>, StoreError> {
        let rows = sqlx::query(
            "select w.holder, w.host, w.version, w.role, w.capacity, w.started_at, w.heartbeat_at,
               (select count(*) from runs r where r.holder = w.holder and r.status = 'running') as running
             from workers w where w.heartbeat_at >= $1 order by w.started_at, w.holder limit $2",
        )
        .bind(heard_since_ms)
        .bind(i64::from(MAX_PAGE))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Forgets processes that were not heard of since a time. Answers how many.
    pub async fn prune_workers(&self, heard_before_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done =
            sqlx::query("delete from workers where heartbeat_at < $1").bind(heard_before_ms).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// What the installation holds under a name; `value` where nobody wrote it before.
    pub async fn agree(&self, name: &str, value: &str) -> Result<String, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("insert into meta (name, value) values ($1, $2) on conflict (name) do nothing")
            .bind(name)
            .bind(value)
            .execute(&mut *tx)
            .await?;
        let agreed =
            sqlx::query_scalar("select value from meta where name = $1").bind(name).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(agreed)
    }
}
