//! Tables `positions` and `position_edits`: the mirror of what each destination committed, and the
//! operator's pending corrections. The destination decides; the mirror only follows.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use thimble_record::{BatchSeq, ConnectionId, Epoch, Position};

use crate::{
    Store, StoreError, checkpoints,
    columns::{counter, json, parse_column, stored},
    leases,
    lock::{self, Lock},
};

/// A correction of the position that waits for the next sync to commit it to the destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PositionEdit {
    /// Given to [`Store::seal`] with the batch that applies it.
    pub id: i64,
    pub position: Position,
    /// Who made it.
    pub actor: String,
    pub edited_at: i64,
}

impl Store {
    /// The mirrored position and the batch that it was committed with; `None` before the first.
    pub async fn position(&self, connection: &ConnectionId) -> Result<Option<(BatchSeq, Position)>, StoreError> {
        let row = sqlx::query("select seq, position from positions where connection = $1")
            .bind(connection.as_str())
            .fetch_optional(&self.reader)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let seq = BatchSeq(counter(row.try_get("seq")?));
        Ok(Some((seq, parse_column(&row, "position", "connection's position")?)))
    }

    /// Mirrors what the destination says it committed, where that is ahead of the mirror (a crash
    /// between its commit and ours); batches up to `seq` count as committed. `Fenced` where the lease was lost.
    pub async fn mirror(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        seq: BatchSeq,
        position: &Position,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        leases::check(&mut tx, connection, epoch).await?;
        sqlx::query("update batches set committed_at = coalesce(committed_at, $1) where connection = $2 and seq <= $3")
            .bind(now_ms)
            .bind(connection.as_str())
            .bind(stored(seq.0))
            .execute(&mut *tx)
            .await?;
        advance(&mut tx, connection, seq, position, now_ms).await?;
        Ok(tx.commit().await?)
    }

    /// Starts over from what the destination says, also where that lies behind: for a connection that was pointed at
    /// another destination. Forgets every sealed batch. `Fenced` where the lease was lost.
    pub async fn rebase(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        seq: BatchSeq,
        position: &Position,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        leases::check(&mut tx, connection, epoch).await?;
        sqlx::query("delete from batches where connection = $1").bind(connection.as_str()).execute(&mut *tx).await?;
        sqlx::query("delete from positions where connection = $1").bind(connection.as_str()).execute(&mut *tx).await?;
        sqlx::query("delete from checkpoints where connection = $1")
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        advance(&mut tx, connection, seq, position, now_ms).await?;
        Ok(tx.commit().await?)
    }

    /// Leaves a correction for the next sync to commit; replaces an earlier one. `InUse` while somebody
    /// holds the connection's lease, `NotFound` where there is no such connection.
    pub async fn put_position_edit(
        &self,
        connection: &ConnectionId,
        position: &Position,
        actor: &str,
        now_ms: i64,
    ) -> Result<PositionEdit, StoreError> {
        let mut tx = self.write().await?;
        refuse_unless_idle(&mut tx, connection, now_ms).await?;
        sqlx::query("delete from position_edits where connection = $1")
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        let id: i64 = sqlx::query_scalar(
            "insert into position_edits (connection, position, actor, edited_at) values ($1, $2, $3, $4) returning id",
        )
        .bind(connection.as_str())
        .bind(json(position))
        .bind(actor)
        .bind(now_ms)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(PositionEdit { id, position: position.clone(), actor: actor.into(), edited_at: now_ms })
    }

    /// The pending correction of a connection. It stays until a batch that applies it is sealed.
    pub async fn position_edit(&self, connection: &ConnectionId) -> Result<Option<PositionEdit>, StoreError> {
        let row = sqlx::query("select * from position_edits where connection = $1")
            .bind(connection.as_str())
            .fetch_optional(&self.reader)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(PositionEdit {
            id: row.try_get("id")?,
            position: parse_column(&row, "position", "position edit")?,
            actor: row.try_get("actor")?,
            edited_at: row.try_get("edited_at")?,
        }))
    }
}

async fn refuse_unless_idle(tx: &mut AnyConnection, connection: &ConnectionId, now_ms: i64) -> Result<(), StoreError> {
    // Locked until the end: whoever takes it now reads the edit.
    let select = format!(
        "select holder from leases where connection = $1 and holder is not null and expires_at > $2{}",
        lock::clause(tx, Lock::Change)
    );
    let holder: Option<String> = sqlx::query_scalar(AssertSqlSafe(select))
        .bind(connection.as_str())
        .bind(now_ms)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(by) = holder {
        return Err(StoreError::InUse { what: "connection", name: connection.to_string(), by });
    }
    // Two edits come one after the other.
    match lock::row(tx, "connections", "id", connection.as_str(), Lock::Change).await? {
        true => Ok(()),
        false => Err(StoreError::not_found("connection", connection.as_str())),
    }
}

/// Moves the mirror forward; a position that is not ahead changes nothing.
pub(crate) async fn advance(
    tx: &mut AnyConnection,
    connection: &ConnectionId,
    seq: BatchSeq,
    position: &Position,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into positions (connection, seq, position, updated_at) values ($1, $2, $3, $4)
         on conflict (connection) do update set seq = excluded.seq, position = excluded.position,
           updated_at = excluded.updated_at
         where excluded.seq > positions.seq",
    )
    .bind(connection.as_str())
    .bind(stored(seq.0))
    .bind(json(position))
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    checkpoints::add(tx, connection, seq, position, now_ms).await
}

/// Removes the edit that a batch applies. `Conflict` where it was replaced meanwhile.
pub(crate) async fn apply_edit(tx: &mut AnyConnection, connection: &ConnectionId, edit: i64) -> Result<(), StoreError> {
    let done = sqlx::query("delete from position_edits where connection = $1 and id = $2")
        .bind(connection.as_str())
        .bind(edit)
        .execute(tx)
        .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::conflict(format!(
            "the edit of connection {connection}'s position that the batch applies is no longer pending"
        )));
    }
    Ok(())
}
