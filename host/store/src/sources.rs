//! Table `sources`: a plugin with its configuration under a name, for any number of connections.

use serde_json::Value;
use sqlx::{Row, any::AnyRow};
use thimble_record::Catalog;

use crate::{
    SealedSecrets, Store, StoreError,
    columns::{json, parse_column, parse_optional},
    error::refuse_changed,
    limits::MAX_PAGE,
    lock::{self, Lock},
    slots, workspaces,
};

/// A source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// Unique in the installation.
    pub name: String,
    pub workspace: String,
    /// Name of an installed plugin.
    pub plugin: String,
    /// The configuration; `{"$secret": true}` stands where a secret was.
    pub config: Value,
    pub secrets: SealedSecrets,
    /// The last discovered catalog.
    pub catalog: Option<Catalog>,
    pub created_at: i64,
    pub updated_at: i64,
    /// Counts its changes from 1.
    pub version: i64,
}

fn from_row(row: &AnyRow) -> Result<SourceRow, StoreError> {
    Ok(SourceRow {
        name: row.try_get("name")?,
        workspace: row.try_get("workspace")?,
        plugin: row.try_get("plugin")?,
        config: parse_column(row, "config", "source's configuration")?,
        secrets: SealedSecrets(row.try_get("secrets")?),
        catalog: parse_optional(row, "catalog", "source's catalog")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

impl Store {
    /// Creates or replaces a source; its times and version are set here. Answers whether it was created. `NotFound`
    /// where its plugin or workspace is unknown, `Changed` where `expected` is not the stored version (0: none).
    pub async fn put_source(&self, source: &SourceRow, expected: Option<i64>, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        lock::name(&mut tx, "source", &source.name).await?;
        if !lock::row(&mut tx, "plugins", "name", &source.plugin, Lock::Reference).await? {
            return Err(StoreError::not_found("plugin", &source.plugin));
        }
        workspaces::refuse_unknown(&mut tx, &source.workspace).await?;
        let stored = lock::version(&mut tx, "sources", "name", &source.name).await?;
        refuse_changed("source", &source.name, expected, stored)?;
        sqlx::query(
            "insert into sources (name, workspace, plugin, config, secrets, catalog, created_at, updated_at, version)
             values ($1, $2, $3, $4, $5, $6, $7, $7, 1)
             on conflict (name) do update set plugin = excluded.plugin, config = excluded.config,
               secrets = excluded.secrets, catalog = excluded.catalog, updated_at = excluded.updated_at,
               version = sources.version + 1",
        )
        .bind(&source.name)
        .bind(&source.workspace)
        .bind(&source.plugin)
        .bind(json(&source.config))
        .bind(&source.secrets.0)
        .bind(source.catalog.as_ref().map(json))
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        // The database's references want the plugin's name beside the source's.
        sqlx::query("update connections set plugin = $1 where source = $2")
            .bind(&source.plugin)
            .bind(&source.name)
            .execute(&mut *tx)
            .await?;
        slots::wake(&mut tx, &source.name).await?;
        tx.commit().await?;
        Ok(stored.is_none())
    }

    /// One source. `NotFound` where there is none.
    pub async fn source(&self, name: &str) -> Result<SourceRow, StoreError> {
        let row = sqlx::query("select * from sources where name = $1").bind(name).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("source", name))?)
    }

    /// A page of sources by name, after `after`, of one workspace or all.
    pub async fn sources(
        &self,
        workspace: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<SourceRow>, StoreError> {
        let rows =
            sqlx::query("select * from sources where name > $1 and ($2 = '' or workspace = $2) order by name limit $3")
                .bind(after)
                .bind(workspace.unwrap_or(""))
                .bind(i64::from(limit.min(MAX_PAGE)))
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes a source. `InUse` where a connection uses it.
    pub async fn delete_source(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        lock::row(&mut tx, "sources", "name", name, Lock::Delete).await?;
        let user: Option<String> =
            sqlx::query_scalar("select id from connections where source = $1 order by id limit 1")
                .bind(name)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(user) = user {
            return Err(StoreError::InUse { what: "source", name: name.into(), by: format!("connection {user}") });
        }
        let done = sqlx::query("delete from sources where name = $1").bind(name).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("source", name));
        }
        Ok(tx.commit().await?)
    }
}
