//! Table `destinations`: where records go, under a name. What a configuration means is judged by whoever opens it.

use serde_json::Value;
use sqlx::{Row, any::AnyRow};

use crate::{
    SealedSecrets, Store, StoreError,
    columns::{json, parse_column},
    error::refuse_changed,
    limits::MAX_PAGE,
    lock::{self, Lock},
    workspaces,
};

/// A destination.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRow {
    /// Unique in the installation.
    pub name: String,
    pub workspace: String,
    /// `lake` or `postgres`.
    pub kind: String,
    /// The configuration; `{"$secret": true}` stands where a secret was.
    pub config: Value,
    pub secrets: SealedSecrets,
    pub created_at: i64,
    pub updated_at: i64,
    /// Counts its changes from 1.
    pub version: i64,
}

fn from_row(row: &AnyRow) -> Result<DestinationRow, StoreError> {
    Ok(DestinationRow {
        name: row.try_get("name")?,
        workspace: row.try_get("workspace")?,
        kind: row.try_get("kind")?,
        config: parse_column(row, "config", "destination's configuration")?,
        secrets: SealedSecrets(row.try_get("secrets")?),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

impl Store {
    /// Creates or replaces a destination; its times and version are set here. Answers whether it was created.
    /// `NotFound` where its workspace is unknown, `Changed` where `expected` is not the stored version (0: none).
    pub async fn put_destination(
        &self,
        destination: &DestinationRow,
        expected: Option<i64>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        workspaces::refuse_unknown(&mut tx, &destination.workspace).await?;
        lock::name(&mut tx, "destination", &destination.name).await?;
        let stored = lock::version(&mut tx, "destinations", "name", &destination.name).await?;
        refuse_changed("destination", &destination.name, expected, stored)?;
        sqlx::query(
            "insert into destinations (name, workspace, kind, config, secrets, created_at, updated_at, version)
             values ($1, $2, $3, $4, $5, $6, $6, 1)
             on conflict (name) do update set kind = excluded.kind, config = excluded.config,
               secrets = excluded.secrets, updated_at = excluded.updated_at, version = destinations.version + 1",
        )
        .bind(&destination.name)
        .bind(&destination.workspace)
        .bind(&destination.kind)
        .bind(json(&destination.config))
        .bind(&destination.secrets.0)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(stored.is_none())
    }

    /// One destination. `NotFound` where there is none.
    pub async fn destination(&self, name: &str) -> Result<DestinationRow, StoreError> {
        let row =
            sqlx::query("select * from destinations where name = $1").bind(name).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("destination", name))?)
    }

    /// A page of destinations by name, after `after`, of one workspace or all.
    pub async fn destinations(
        &self,
        workspace: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<DestinationRow>, StoreError> {
        let rows = sqlx::query(
            "select * from destinations where name > $1 and ($2 = '' or workspace = $2) order by name limit $3",
        )
        .bind(after)
        .bind(workspace.unwrap_or(""))
        .bind(i64::from(limit.min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes a destination. `InUse` where a connection loads into it.
    pub async fn delete_destination(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        lock::row(&mut tx, "destinations", "name", name, Lock::Delete).await?;
        let choice = json(&serde_json::json!({ "name": name }));
        let user: Option<String> =
            sqlx::query_scalar("select id from connections where destination = $1 order by id limit 1")
                .bind(choice)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(user) = user {
            return Err(StoreError::InUse { what: "destination", name: name.into(), by: format!("connection {user}") });
        }
        let done = sqlx::query("delete from destinations where name = $1").bind(name).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("destination", name));
        }
        Ok(tx.commit().await?)
    }
}
