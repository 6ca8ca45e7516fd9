//! Table `connections`: a plugin's configuration, the streams selected and where they go.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{Row, sqlite::SqliteRow};
use thimble_record::{Catalog, ConnectionId, StreamSelection};

use crate::{
    Store, StoreError,
    columns::{json, parse_column, parse_optional},
};

/// Secrets sealed with the host key by the caller; opaque here. Shows only its length.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SealedSecrets(pub Vec<u8>);

impl std::fmt::Debug for SealedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedSecrets({} bytes)", self.0.len())
    }
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRow {
    pub id: ConnectionId,
    /// Name of an installed plugin.
    pub plugin: String,
    /// The configuration; `{"$secret": true}` stands where a secret was.
    pub config: Value,
    /// Never serialized.
    #[serde(skip)]
    pub secrets: SealedSecrets,
    /// Empty means all streams.
    pub streams: Vec<StreamSelection>,
    /// Absent: the installation's default destination.
    pub destination: Option<Value>,
    /// The last discovered catalog.
    pub catalog: Option<Catalog>,
    pub created_at: i64,
    pub updated_at: i64,
}

fn from_row(row: &SqliteRow) -> Result<ConnectionRow, StoreError> {
    let id: String = row.try_get("id")?;
    Ok(ConnectionRow {
        id: ConnectionId::new(id)
            .map_err(|source| StoreError::Corrupt { what: "connection's name", source: Box::new(source) })?,
        plugin: row.try_get("plugin")?,
        config: parse_column(row, "config", "connection's configuration")?,
        secrets: SealedSecrets(row.try_get("secrets")?),
        streams: parse_column(row, "streams", "connection's stream selection")?,
        destination: parse_optional(row, "destination", "connection's destination")?,
        catalog: parse_optional(row, "catalog", "connection's catalog")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

impl Store {
    /// Creates or replaces a connection; `created_at` and `updated_at` of the row are ignored. Answers whether it was
    /// created. `NotFound` where its plugin is not installed.
    pub async fn put_connection(&self, connection: &ConnectionRow, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let known: Option<i64> = sqlx::query_scalar("select 1 from plugins where name = ?")
            .bind(&connection.plugin)
            .fetch_optional(&mut *tx)
            .await?;
        if known.is_none() {
            return Err(StoreError::not_found("plugin", &connection.plugin));
        }
        let existing: Option<i64> = sqlx::query_scalar("select 1 from connections where id = ?")
            .bind(connection.id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        sqlx::query(
            "insert into connections (id, plugin, config, secrets, streams, destination, catalog, created_at, updated_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
             on conflict (id) do update set plugin = excluded.plugin, config = excluded.config,
               secrets = excluded.secrets, streams = excluded.streams, destination = excluded.destination,
               catalog = excluded.catalog, updated_at = excluded.updated_at",
        )
        .bind(connection.id.as_str())
        .bind(&connection.plugin)
        .bind(json(&connection.config))
        .bind(&connection.secrets.0)
        .bind(json(&connection.streams))
        .bind(connection.destination.as_ref().map(json))
        .bind(connection.catalog.as_ref().map(json))
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(existing.is_none())
    }

    /// Stores the catalog that was discovered last. `NotFound` where the connection is gone.
    pub async fn put_catalog(&self, connection: &ConnectionId, catalog: &Catalog) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("update connections set catalog = ? where id = ?")
            .bind(json(catalog))
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("connection", connection.as_str()));
        }
        Ok(tx.commit().await?)
    }

    /// One connection. `NotFound` where there is none.
    pub async fn connection(&self, id: &ConnectionId) -> Result<ConnectionRow, StoreError> {
        let row = sqlx::query("select * from connections where id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("connection", id.as_str()))?)
    }

    /// All connections by name.
    pub async fn connections(&self) -> Result<Vec<ConnectionRow>, StoreError> {
        let rows = sqlx::query("select * from connections order by id").fetch_all(&self.reader).await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes a connection with its batches, positions and schemas. Its runs stay as history, and so
    /// does its epoch. `InUse` while a run of it is unfinished.
    pub async fn delete_connection(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let run: Option<String> = sqlx::query_scalar(
            "select id from runs where connection = ? and status in ('queued', 'running') order by id limit 1",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(run) = run {
            return Err(StoreError::InUse { what: "connection", name: id.to_string(), by: format!("run {run}") });
        }
        let done = sqlx::query("delete from connections where id = ?").bind(id.as_str()).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("connection", id.as_str()));
        }
        Ok(tx.commit().await?)
    }
}
