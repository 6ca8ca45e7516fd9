//! Table `plugins`: the installed connectors, one row a name.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{
    Store, StoreError,
    columns::{json, parse_column},
    lock::{self, Lock},
    slots, versions,
};

/// An installed connector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginRow {
    /// Registry name, unique.
    pub name: String,
    /// Semantic version of the connector.
    pub version: String,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// Version of the plugin interface it was built for.
    pub api_version: String,
    pub title: String,
    /// Markdown.
    pub docs: String,
    /// JSON Schema of the configuration; secret fields carry `"x-secret": true`.
    pub config_schema: Value,
    /// What it asks for, as `Permissions` of the plugin crate.
    pub permissions: Value,
    pub installed_at: i64,
}

pub(crate) fn from_row(row: &AnyRow) -> Result<PluginRow, StoreError> {
    Ok(PluginRow {
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        digest: row.try_get("digest")?,
        api_version: row.try_get("api_version")?,
        title: row.try_get("title")?,
        docs: row.try_get("docs")?,
        config_schema: parse_column(row, "config_schema", "plugin's configuration schema")?,
        permissions: parse_column(row, "permissions", "plugin's permissions")?,
        installed_at: row.try_get("installed_at")?,
    })
}

impl Store {
    /// Installs or replaces a plugin, whether it is pinned or not. Grants stay.
    pub async fn upsert_plugin(&self, plugin: &PluginRow) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        versions::insert(&mut tx, plugin).await?;
        upsert(&mut tx, plugin).await?;
        Ok(tx.commit().await?)
    }

    /// One plugin. `NotFound` where there is none.
    pub async fn plugin(&self, name: &str) -> Result<PluginRow, StoreError> {
        let row = sqlx::query("select * from plugins where name = $1").bind(name).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("plugin", name))?)
    }

    /// All plugins by name.
    pub async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        sqlx::query("select * from plugins order by name").fetch_all(&self.reader).await?.iter().map(from_row).collect()
    }

    /// Removes a plugin and its grants, and answers what it was. `InUse` where a connection uses it.
    pub async fn remove_plugin(&self, name: &str) -> Result<PluginRow, StoreError> {
        let mut tx = self.write().await?;
        lock::row(&mut tx, "plugins", "name", name, Lock::Delete).await?;
        let user: Option<String> =
            sqlx::query_scalar("select id from connections where plugin = $1 order by id limit 1")
                .bind(name)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(user) = user {
            return Err(StoreError::InUse { what: "plugin", name: name.into(), by: format!("connection {user}") });
        }
        let user: Option<String> =
            sqlx::query_scalar("select name from sources where plugin = $1 order by name limit 1")
                .bind(name)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(user) = user {
            return Err(StoreError::InUse { what: "plugin", name: name.into(), by: format!("source {user}") });
        }
        let row =
            sqlx::query("delete from plugins where name = $1 returning *").bind(name).fetch_optional(&mut *tx).await?;
        let removed = from_row(&row.ok_or_else(|| StoreError::not_found("plugin", name))?)?;
        sqlx::query("delete from plugin_versions where name = $1").bind(name).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(removed)
    }
}

/// Makes a version the one that runs use.
pub(crate) async fn upsert(tx: &mut AnyConnection, plugin: &PluginRow) -> Result<(), StoreError> {
    sqlx::query(
        "insert into plugins (name, version, digest, api_version, title, docs, config_schema, permissions, installed_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (name) do update set version = excluded.version, digest = excluded.digest,
           api_version = excluded.api_version, title = excluded.title, docs = excluded.docs,
           config_schema = excluded.config_schema, permissions = excluded.permissions,
           installed_at = excluded.installed_at, revision = plugins.revision + 1",
    )
    .bind(&plugin.name)
    .bind(&plugin.version)
    .bind(&plugin.digest)
    .bind(&plugin.api_version)
    .bind(&plugin.title)
    .bind(&plugin.docs)
    .bind(json(&plugin.config_schema))
    .bind(json(&plugin.permissions))
    .bind(plugin.installed_at)
    .execute(&mut *tx)
    .await?;
    // What its connections failed for may be put right by another version.
    slots::wake(tx, &plugin.name).await
}
