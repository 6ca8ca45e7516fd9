//! Table `schemas`: the fields of each stream as of its last sealed batch.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};
use thimble_record::{BatchSeq, ConnectionId, StreamSchema};

use crate::{
    Store, StoreError,
    columns::{json, parse_column, stored},
};

impl Store {
    /// The schema of a stream; `None` before its first batch.
    pub async fn schema(&self, connection: &ConnectionId, stream: &str) -> Result<Option<StreamSchema>, StoreError> {
        let row = sqlx::query("select fields from schemas where connection = $1 and stream = $2")
            .bind(connection.as_str())
            .bind(stream)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| parse_column(&row, "fields", "stream's schema")).transpose()
    }

    /// The schemas of all streams of a connection.
    pub async fn schemas(&self, connection: &ConnectionId) -> Result<BTreeMap<String, StreamSchema>, StoreError> {
        let rows = sqlx::query("select stream, fields from schemas where connection = $1")
            .bind(connection.as_str())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("stream")?, parse_column(row, "fields", "stream's schema")?))).collect()
    }
}

pub(crate) async fn put(
    tx: &mut AnyConnection,
    connection: &ConnectionId,
    stream: &str,
    schema: &StreamSchema,
    seq: BatchSeq,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into schemas (connection, stream, fields, seq, updated_at) values ($1, $2, $3, $4, $5)
         on conflict (connection, stream) do update set fields = excluded.fields, seq = excluded.seq,
           updated_at = excluded.updated_at",
    )
    .bind(connection.as_str())
    .bind(stream)
    .bind(json(schema))
    .bind(stored(seq.0))
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(())
}
