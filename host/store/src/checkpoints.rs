//! Table `checkpoints`: every position that a destination committed. Only ever added to, by the mirror.

use sqlx::{AnyConnection, Row};
use thimble_record::{BatchSeq, ConnectionId, Position};

use crate::{
    Store, StoreError,
    columns::{counter, json, parse_column, stored},
    limits::MAX_PAGE,
};

/// A committed position, without the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Checkpoint {
    pub seq: BatchSeq,
    /// Milliseconds since the epoch.
    pub committed_at: i64,
}

impl Store {
    /// The last committed positions of a connection, the newest first.
    pub async fn checkpoints(&self, connection: &ConnectionId, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
        self.checkpoints_before(connection, None, limit).await
    }

    /// The committed positions of a connection before a batch, the newest first, at most [`MAX_PAGE`].
    pub async fn checkpoints_before(
        &self,
        connection: &ConnectionId,
        before: Option<BatchSeq>,
        limit: u32,
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let rows = sqlx::query(
            "select seq, committed_at from checkpoints where connection = $1 and seq < $2 order by seq desc limit $3",
        )
        .bind(connection.as_str())
        .bind(before.map_or(i64::MAX, |seq| stored(seq.0)))
        .bind(i64::from(limit.min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Checkpoint { seq: BatchSeq(counter(row.try_get("seq")?)), committed_at: row.try_get("committed_at")? })
        };
        rows.iter().map(read).collect()
    }

    /// The last batch that was committed before a time; `None` where there is none.
    pub async fn checkpoint_before(
        &self,
        connection: &ConnectionId,
        at_ms: i64,
    ) -> Result<Option<BatchSeq>, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar(
            "select seq from checkpoints where connection = $1 and committed_at < $2 order by seq desc limit 1",
        )
        .bind(connection.as_str())
        .bind(at_ms)
        .fetch_optional(&self.reader)
        .await?;
        Ok(seq.map(|seq| BatchSeq(counter(seq))))
    }

    /// The position that was committed with a batch; `NotFound` where none was, or by another installation.
    pub async fn checkpoint(&self, connection: &ConnectionId, seq: BatchSeq) -> Result<Position, StoreError> {
        let row = sqlx::query("select position from checkpoints where connection = $1 and seq = $2")
            .bind(connection.as_str())
            .bind(stored(seq.0))
            .fetch_optional(&self.reader)
            .await?;
        let row = row.ok_or_else(|| StoreError::not_found("checkpoint", format!("{connection}/{seq}")))?;
        parse_column(&row, "position", "checkpoint's position")
    }
}

pub(crate) async fn add(
    tx: &mut AnyConnection,
    connection: &ConnectionId,
    seq: BatchSeq,
    position: &Position,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into checkpoints (connection, seq, position, committed_at) values ($1, $2, $3, $4)
         on conflict (connection, seq) do nothing",
    )
    .bind(connection.as_str())
    .bind(stored(seq.0))
    .bind(json(position))
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(())
}
