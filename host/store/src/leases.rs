//! Table `leases`: who may work on a connection, and under which epoch.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use thimble_record::{ConnectionId, Epoch};

use crate::{
    Store, StoreError,
    columns::{counter, stored},
    lock::{self, Lock},
};

/// The lease of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    pub connection: ConnectionId,
    /// Counts every acquisition; never goes back, not even when the connection is deleted.
    pub epoch: Epoch,
    /// Absent where it was released.
    pub holder: Option<String>,
    pub acquired_at: i64,
    pub expires_at: i64,
}

impl LeaseRow {
    /// Whether somebody holds it.
    pub fn held(&self, now_ms: i64) -> bool {
        self.holder.is_some() && self.expires_at > now_ms
    }
}

impl Store {
    /// Takes the lease: the epoch goes up by one where it is free, expired or held by the same holder.
    /// `InUse` names another holder.
    pub async fn acquire(
        &self,
        connection: &ConnectionId,
        holder: &str,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<Epoch, StoreError> {
        let mut tx = self.write().await?;
        let epoch: Option<i64> = sqlx::query_scalar(
            "insert into leases (connection, epoch, holder, acquired_at, expires_at) values ($1, 1, $2, $3, $4)
             on conflict (connection) do update set epoch = leases.epoch + 1, holder = excluded.holder,
               acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
             where leases.holder is null or leases.holder = excluded.holder or leases.expires_at <= $3
             returning epoch",
        )
        .bind(connection.as_str())
        .bind(holder)
        .bind(now_ms)
        .bind(now_ms.saturating_add(ttl_ms))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(epoch) = epoch else {
            let other: Option<String> = sqlx::query_scalar("select holder from leases where connection = $1")
                .bind(connection.as_str())
                .fetch_one(&mut *tx)
                .await?;
            return Err(StoreError::InUse {
                what: "connection",
                name: connection.to_string(),
                by: other.unwrap_or_default(),
            });
        };
        tx.commit().await?;
        Ok(Epoch(counter(epoch)))
    }

    /// Keeps the lease, and the connection's running sync with it. `Fenced` where it was lost.
    pub async fn renew(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let expires_at = now_ms.saturating_add(ttl_ms);
        let mut tx = self.write_soon().await?;
        check(&mut tx, connection, epoch).await?;
        sqlx::query("update leases set expires_at = $1 where connection = $2")
            .bind(expires_at)
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query("update runs set expires_at = $1 where connection = $2 and kind = 'sync' and status = 'running'")
            .bind(expires_at)
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Gives the lease back. Success also where it was lost meanwhile: nothing is left to give.
    pub async fn release(&self, connection: &ConnectionId, epoch: Epoch) -> Result<(), StoreError> {
        let mut tx = self.write_soon().await?;
        sqlx::query("update leases set holder = null where connection = $1 and epoch = $2")
            .bind(connection.as_str())
            .bind(stored(epoch.0))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// For a holder whose destination knows a greater epoch than this database (it was restored from a
    /// backup): continues above it. Answers the new epoch, greater than `known`. `Fenced` where the
    /// lease was lost.
    pub async fn raise_epoch(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        known: Epoch,
    ) -> Result<Epoch, StoreError> {
        let raised = epoch.max(known).next();
        let mut tx = self.write().await?;
        check(&mut tx, connection, epoch).await?;
        sqlx::query("update leases set epoch = $1 where connection = $2")
            .bind(stored(raised.0))
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(raised)
    }

    /// The lease of a connection; `None` where it was never taken.
    pub async fn lease(&self, connection: &ConnectionId) -> Result<Option<LeaseRow>, StoreError> {
        let row = sqlx::query("select * from leases where connection = $1")
            .bind(connection.as_str())
            .fetch_optional(&self.reader)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(LeaseRow {
            connection: connection.clone(),
            epoch: Epoch(counter(row.try_get("epoch")?)),
            holder: row.try_get("holder")?,
            acquired_at: row.try_get("acquired_at")?,
            expires_at: row.try_get("expires_at")?,
        }))
    }
}

/// Refuses with `Fenced` unless the lease is held under exactly this epoch, and keeps it so until the end of the
/// transaction. An expired lease that nobody took still counts: nobody else can have written.
pub(crate) async fn check(tx: &mut AnyConnection, connection: &ConnectionId, epoch: Epoch) -> Result<(), StoreError> {
    let select = format!("select epoch, holder from leases where connection = $1{}", lock::clause(tx, Lock::Change));
    let row = sqlx::query(AssertSqlSafe(select)).bind(connection.as_str()).fetch_optional(&mut *tx).await?;
    let current = match &row {
        Some(row) => Epoch(counter(row.try_get("epoch")?)),
        None => Epoch(0),
    };
    let held = match &row {
        Some(row) => row.try_get::<Option<&str>, _>("holder")?.is_some(),
        None => false,
    };
    if held && current == epoch {
        return Ok(());
    }
    Err(StoreError::Fenced { connection: connection.clone(), epoch, current })
}
