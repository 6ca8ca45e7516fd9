//! The sealed secrets of all tables that hold some, for the change of the host key.
//!
//! Must never open a secret: what is stored here is opaque.

use sqlx::AssertSqlSafe;
use thimble_record::{SealedBatch, envelope::SecretRow};

use crate::{SealedSecrets, Store, StoreError, columns::parse};

/// Rows that one question answers at most.
const PAGE: i64 = 200;

/// Tables with a column `secrets`, by the kind that their secrets are bound to, and the column of the name. Every such
/// table has a column `workspace` too.
const TABLES: [(&str, &str, &str); 5] = [
    ("connection", "connections", "id"),
    ("source", "sources", "name"),
    ("destination", "destinations", "name"),
    ("notifier", "notifiers", "name"),
    ("hooks", "hook_secrets", "connection"),
];

/// The sealed secrets of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    pub row: SecretRow,
    pub sealed: SealedSecrets,
}

impl Store {
    /// The kinds of rows that hold secrets.
    pub fn secret_kinds() -> impl Iterator<Item = &'static str> {
        TABLES.iter().map(|(kind, _, _)| *kind)
    }

    /// The next rows of a kind that hold secrets, by name, after the name `after`; none after the last.
    pub async fn sealed_rows(&self, kind: &'static str, after: &str) -> Result<Vec<SealedRow>, StoreError> {
        let Some((_, table, name)) = TABLES.iter().find(|(known, _, _)| *known == kind) else { return Ok(Vec::new()) };
        let rows: Vec<(String, String, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(format!(
            "select workspace, {name}, secrets from {table} where {name} > $1 and length(secrets) > 0
             order by {name} limit $2"
        )))
        .bind(after)
        .bind(PAGE)
        .fetch_all(&self.reader)
        .await?;
        let row = |(workspace, name, sealed): (String, String, Vec<u8>)| SealedRow {
            row: SecretRow::new(workspace, kind, name),
            sealed: SealedSecrets(sealed),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// The sealed secrets of one row; `None` where it has none or is gone.
    pub async fn sealed_row(&self, row: &SecretRow) -> Result<Option<SealedRow>, StoreError> {
        let Some((_, table, name)) = TABLES.iter().find(|(known, _, _)| *known == row.kind) else { return Ok(None) };
        let sealed: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select secrets from {table} where {name} = $1 and workspace = $2 and length(secrets) > 0"
        )))
        .bind(row.name.as_str())
        .bind(row.workspace.as_str())
        .fetch_optional(&self.reader)
        .await?;
        Ok(sealed.map(|sealed| SealedRow { row: row.clone(), sealed: SealedSecrets(sealed) }))
    }

    /// Replaces the sealed secrets of a row by others of the same content; its version stays. False where the row
    /// was changed or removed meanwhile.
    pub async fn replace_sealed(&self, old: &SealedRow, new: &SealedSecrets) -> Result<bool, StoreError> {
        self.exchange_sealed(old, new, "").await
    }

    /// Replaces the sealed secrets of a source or a connection by others of another content, which is a change of the
    /// row: it counts, so that nobody writes back what he read before. False where the row was changed or removed
    /// meanwhile.
    pub async fn renew_sealed(&self, old: &SealedRow, new: &SealedSecrets) -> Result<bool, StoreError> {
        self.exchange_sealed(old, new, ", version = version + 1").await
    }

    async fn exchange_sealed(
        &self,
        old: &SealedRow,
        new: &SealedSecrets,
        beside: &'static str,
    ) -> Result<bool, StoreError> {
        let Some((_, table, name)) = TABLES.iter().find(|(kind, _, _)| *kind == old.row.kind) else {
            return Ok(false);
        };
        let mut tx = self.write().await?;
        let done = sqlx::query(AssertSqlSafe(format!(
            "update {table} set secrets = $1{beside} where {name} = $2 and workspace = $3 and secrets = $4"
        )))
        .bind(new.0.as_slice())
        .bind(old.row.name.as_str())
        .bind(old.row.workspace.as_str())
        .bind(old.sealed.0.as_slice())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// The wrapped keys of all segments that are sealed and not yet loaded: staging cannot be read without them.
    pub async fn staged_keys(&self) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        let mut after = (String::new(), 0_i64);
        loop {
            let rows: Vec<(String, i64, String)> = sqlx::query_as(
                "select connection, seq, manifest from batches
                 where committed_at is null and (connection > $1 or (connection = $1 and seq > $2))
                 order by connection, seq limit $3",
            )
            .bind(after.0.as_str())
            .bind(after.1)
            .bind(PAGE)
            .fetch_all(&self.reader)
            .await?;
            let Some((connection, seq, _)) = rows.last() else { return Ok(keys) };
            after = (connection.clone(), *seq);
            for (_, _, manifest) in &rows {
                let batch: SealedBatch = parse(manifest, "batch's manifest")?;
                let segments = batch.streams.into_iter().flat_map(|stream| stream.segments);
                keys.extend(segments.map(|segment| segment.wrapped_key));
            }
        }
    }

    /// When the oldest sync that runs now was started: it may be writing segments since then.
    pub async fn oldest_running_sync(&self) -> Result<Option<i64>, StoreError> {
        let oldest = sqlx::query_scalar(
            "select min(coalesce(started_at, queued_at)) from runs where kind = 'sync' and status = 'running'",
        );
        Ok(oldest.fetch_one(&self.reader).await?)
    }
}
