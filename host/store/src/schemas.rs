//! Table `schemas`: the fields of each stream as of its last sealed batch.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};
use thimble_record::{BatchSeq, ConnectionId, StreamSchema};

use crate::{
    EventKind, NewEvent, Store, StoreError,
    columns::{json, parse, parse_column, stored},
    events,
    limits::MAX_TOLD_FIELDS,
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
    let known: Option<String> = sqlx::query_scalar("select fields from schemas where connection = $1 and stream = $2")
        .bind(connection.as_str())
        .bind(stream)
        .fetch_optional(&mut *tx)
        .await?;
    let text = json(schema);
    match known {
        Some(known) if known == text => {}
        Some(known) => tell(tx, connection, stream, &parse(&known, "stream's schema")?, schema, now_ms).await?,
        // The first batch shows what there is to hold to.
        None => {}
    }
    sqlx::query(
        "insert into schemas (connection, stream, fields, seq, updated_at) values ($1, $2, $3, $4, $5)
         on conflict (connection, stream) do update set fields = excluded.fields, seq = excluded.seq,
           updated_at = excluded.updated_at",
    )
    .bind(connection.as_str())
    .bind(stream)
    .bind(text)
    .bind(stored(seq.0))
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(())
}

/// Tells which fields are new, and which are of another type now.
async fn tell(
    tx: &mut AnyConnection,
    connection: &ConnectionId,
    stream: &str,
    known: &StreamSchema,
    schema: &StreamSchema,
    now_ms: i64,
) -> Result<(), StoreError> {
    let before = |name: &str| known.fields.iter().find(|field| field.name == name);
    let mut added = Vec::new();
    let mut changed = Vec::new();
    for field in schema.fields.iter().take(MAX_TOLD_FIELDS) {
        let now = field.data_type.short_name();
        match before(&field.name) {
            None => added.push(serde_json::json!({"name": field.name, "type": now})),
            Some(old) if old.data_type != field.data_type => {
                let from = old.data_type.short_name();
                changed.push(serde_json::json!({"name": field.name, "from": from, "to": now}));
            }
            Some(_) => {}
        }
    }
    if added.is_empty() && changed.is_empty() {
        return Ok(());
    }
    let detail = serde_json::json!({"added": added, "changed": changed});
    let event = NewEvent {
        stream: Some(stream.to_owned()),
        ..NewEvent::of(EventKind::SchemaChanged, connection.as_str(), detail)
    };
    events::append(tx, &event, now_ms).await?;
    Ok(())
}
