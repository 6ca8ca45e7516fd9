//! Table `batches`: the sealed manifests. A sealed batch never changes; it is loaded, whatever happens.

use sqlx::{AnyConnection, Row};
use thimble_record::{BatchSeq, ConnectionId, Epoch, LoadOutcome, SealedBatch, StreamSchema};

use crate::{
    Store, StoreError,
    columns::{counter, json, parse_column, stored},
    leases,
    limits::MAX_BATCHES_REPLAYED,
    positions, schemas,
};

impl Store {
    /// Seals a batch in one transaction, with the schemas that it leads to and the position edit that
    /// it applies (the `id` of [`crate::PositionEdit`], which is removed).
    ///
    /// The lease must be held under `batch.epoch`, else `Fenced`. `batch.seq` must be the one after the
    /// last sealed or committed batch, else `Conflict`. Sealing the same manifest again is success;
    /// another manifest under a sealed number is a `Conflict`.
    pub async fn seal(
        &self,
        batch: &SealedBatch,
        schemas: &[(String, StreamSchema)],
        edit: Option<i64>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let connection = &batch.connection;
        let sha = batch.manifest_sha();
        let mut tx = self.write().await?;
        leases::check(&mut tx, connection, batch.epoch).await?;
        let sealed: Option<String> =
            sqlx::query_scalar("select manifest_sha from batches where connection = $1 and seq = $2")
                .bind(connection.as_str())
                .bind(stored(batch.seq.0))
                .fetch_optional(&mut *tx)
                .await?;
        match sealed {
            Some(sealed) if sealed == sha => return Ok(()),
            Some(_) => {
                return Err(StoreError::conflict(format!(
                    "batch {} of connection {connection} is sealed already with another manifest",
                    batch.seq
                )));
            }
            None => {}
        }
        let last = last_seq(&mut tx, connection).await?;
        if batch.seq != last.next() {
            return Err(StoreError::conflict(format!(
                "batch {} of connection {connection} cannot be sealed: the last one is {last}",
                batch.seq
            )));
        }
        insert(&mut tx, batch, &sha, now_ms).await?;
        for (stream, schema) in schemas {
            schemas::put(&mut tx, connection, stream, schema, batch.seq, now_ms).await?;
        }
        if let Some(edit) = edit {
            positions::apply_edit(&mut tx, connection, edit).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The sealed batches after `seq`, in order, at most [`MAX_BATCHES_REPLAYED`].
    pub async fn sealed_after(&self, connection: &ConnectionId, seq: BatchSeq) -> Result<Vec<SealedBatch>, StoreError> {
        let rows = sqlx::query("select manifest from batches where connection = $1 and seq > $2 order by seq limit $3")
            .bind(connection.as_str())
            .bind(stored(seq.0))
            .bind(i64::from(MAX_BATCHES_REPLAYED))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| parse_column(row, "manifest", "batch's manifest")).collect()
    }

    /// Forgets the sealed batches after the last committed one, which nothing can load any more. `Fenced` where the lease
    /// was lost.
    pub async fn forget_sealed(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        committed: BatchSeq,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        leases::check(&mut tx, connection, epoch).await?;
        sqlx::query("delete from batches where connection = $1 and seq > $2 and committed_at is null")
            .bind(connection.as_str())
            .bind(stored(committed.0))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// The number of the last batch that was sealed or committed; zero where there is none.
    pub async fn last_seq(&self, connection: &ConnectionId) -> Result<BatchSeq, StoreError> {
        last_seq(&mut *self.reader.acquire().await?, connection).await
    }

    /// Mirrors that the destination committed a batch: its outcome, and its position as the connection's. Never goes
    /// backward; repeating it is success. `NotFound` where the batch was not sealed here, `Fenced` where the lease was
    /// lost: its new owner asks the destination itself.
    pub async fn mark_committed(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        seq: BatchSeq,
        outcome: &LoadOutcome,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        leases::check(&mut tx, connection, epoch).await?;
        let row = sqlx::query(
            "update batches set committed_at = coalesce(committed_at, $1), outcome = coalesce(outcome, $2)
             where connection = $3 and seq = $4 returning manifest",
        )
        .bind(now_ms)
        .bind(json(outcome))
        .bind(connection.as_str())
        .bind(stored(seq.0))
        .fetch_optional(&mut *tx)
        .await?;
        let row = row.ok_or_else(|| StoreError::not_found("sealed batch", format!("{connection}/{seq}")))?;
        let batch: SealedBatch = parse_column(&row, "manifest", "batch's manifest")?;
        positions::advance(&mut tx, connection, seq, &batch.to, now_ms).await?;
        Ok(tx.commit().await?)
    }

    /// What the destination did with a batch; `None` where it is not known to be committed.
    pub async fn outcome(&self, connection: &ConnectionId, seq: BatchSeq) -> Result<Option<LoadOutcome>, StoreError> {
        let row = sqlx::query("select outcome from batches where connection = $1 and seq = $2 and outcome is not null")
            .bind(connection.as_str())
            .bind(stored(seq.0))
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| parse_column(&row, "outcome", "batch's outcome")).transpose()
    }

    /// Forgets manifests of batches that are committed here and whose number is at most `through`.
    /// Answers how many.
    pub async fn prune_batches(&self, connection: &ConnectionId, through: BatchSeq) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "delete from batches where connection = $1 and seq <= $2 and committed_at is not null
               and seq <= (select seq from positions where connection = $1)",
        )
        .bind(connection.as_str())
        .bind(stored(through.0))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

async fn last_seq(tx: &mut AnyConnection, connection: &ConnectionId) -> Result<BatchSeq, StoreError> {
    let row = sqlx::query(
        "select coalesce(max(seq), 0) as last from (select seq from batches where connection = $1
           union all select seq from positions where connection = $1) known",
    )
    .bind(connection.as_str())
    .fetch_one(tx)
    .await?;
    Ok(BatchSeq(counter(row.try_get("last")?)))
}

async fn insert(tx: &mut AnyConnection, batch: &SealedBatch, sha: &str, now_ms: i64) -> Result<(), StoreError> {
    let connection = &batch.connection;
    let done = sqlx::query(
        "insert into batches (connection, seq, epoch, manifest, manifest_sha, sealed_at)
         select $1, $2, $3, $4, $5, $6 where exists (select 1 from connections where id = $1)",
    )
    .bind(connection.as_str())
    .bind(stored(batch.seq.0))
    .bind(stored(batch.epoch.0))
    .bind(json(batch))
    .bind(sha)
    .bind(now_ms)
    .execute(tx)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::not_found("connection", connection.as_str()));
    }
    Ok(())
}
