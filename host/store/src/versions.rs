//! Table `plugin_versions`: every version of a plugin that was installed, and which one runs use.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    PluginRow, Store, StoreError,
    columns::json,
    limits::MAX_PLUGIN_VERSIONS,
    lock::{self, Lock},
    plugins::{self, from_row},
};

/// One version of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRow {
    pub plugin: PluginRow,
    /// Whether runs use it.
    pub active: bool,
    /// When it last became the one that runs use; absent where it never did.
    pub activated_at: Option<i64>,
}

/// How a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStanding {
    /// Whether its version stays, whatever is installed.
    pub pinned: bool,
    /// Counts its changes from 1.
    pub revision: i64,
}

/// What an installation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activated {
    /// Runs use it from now on.
    Active,
    /// It waits, because the plugin is pinned to another version.
    Pinned,
    /// It waits, as was asked.
    Candidate,
}

impl Store {
    /// Keeps a version of a plugin. Runs use it where the plugin is new, or where `activate` and it is not pinned to
    /// another version. `Conflict` over [`MAX_PLUGIN_VERSIONS`] versions.
    pub async fn install_version(&self, plugin: &PluginRow, activate: bool) -> Result<Activated, StoreError> {
        let mut tx = self.write().await?;
        let present = held(&mut tx, &plugin.name).await?;
        insert(&mut tx, plugin).await?;
        let outcome = match present {
            Some((digest, _)) if digest == plugin.digest => Activated::Active,
            Some((_, true)) => Activated::Pinned,
            Some((_, false)) if !activate => Activated::Candidate,
            Some((_, false)) | None => Activated::Active,
        };
        if outcome == Activated::Active {
            switch(&mut tx, plugin, plugin.installed_at).await?;
        }
        let kept: i64 = sqlx::query_scalar("select count(*) from plugin_versions where name = $1")
            .bind(&plugin.name)
            .fetch_one(&mut *tx)
            .await?;
        if kept > MAX_PLUGIN_VERSIONS {
            return Err(StoreError::conflict(format!(
                "plugin {} has {MAX_PLUGIN_VERSIONS} versions already: remove some of them",
                plugin.name
            )));
        }
        tx.commit().await?;
        Ok(outcome)
    }

    /// Makes a version the one that runs use, from the next run on. `NotFound` where it is not installed, `Conflict`
    /// where the plugin is pinned to another one.
    pub async fn activate_version(&self, name: &str, digest: &str, now_ms: i64) -> Result<PluginRow, StoreError> {
        let mut tx = self.write().await?;
        let (active, pinned) = held(&mut tx, name).await?.ok_or_else(|| StoreError::not_found("plugin", name))?;
        let version = one(&mut tx, name, digest).await?;
        if pinned && active != digest {
            let message = format!("plugin {name} is pinned to {active}: unpin it first");
            return Err(StoreError::conflict(message));
        }
        switch(&mut tx, &version, now_ms).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Goes back to the version that runs used before the present one. `Conflict` where there is none, or the plugin
    /// is pinned.
    pub async fn roll_back(&self, name: &str, now_ms: i64) -> Result<PluginRow, StoreError> {
        let mut tx = self.write().await?;
        let (active, pinned) = held(&mut tx, name).await?.ok_or_else(|| StoreError::not_found("plugin", name))?;
        if pinned {
            return Err(StoreError::conflict(format!("plugin {name} is pinned to {active}: unpin it first")));
        }
        let before: Option<String> = sqlx::query_scalar(
            "select digest from plugin_versions where name = $1 and digest <> $2 and activated_at is not null
             order by activated_at desc, installed_at desc limit 1",
        )
        .bind(name)
        .bind(&active)
        .fetch_optional(&mut *tx)
        .await?;
        let before = before
            .ok_or_else(|| StoreError::conflict(format!("plugin {name} had no other version before: {active}")))?;
        let version = one(&mut tx, name, &before).await?;
        switch(&mut tx, &version, now_ms).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Pins a plugin to its present version, or lets it go. `NotFound` where it is not installed.
    pub async fn pin_plugin(&self, name: &str, pinned: bool) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("update plugins set pinned = $1, revision = revision + 1 where name = $2")
            .bind(i64::from(pinned))
            .bind(name)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("plugin", name));
        }
        Ok(tx.commit().await?)
    }

    /// Whether a plugin is pinned, and its revision. `NotFound` where it is not installed.
    pub async fn plugin_standing(&self, name: &str) -> Result<PluginStanding, StoreError> {
        let row = sqlx::query("select pinned, revision from plugins where name = $1")
            .bind(name)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| StoreError::not_found("plugin", name))?;
        Ok(PluginStanding { pinned: row.try_get::<i64, _>("pinned")? != 0, revision: row.try_get("revision")? })
    }

    /// The versions of a plugin, the last installed first. `NotFound` where there is none.
    pub async fn plugin_versions(&self, name: &str) -> Result<Vec<VersionRow>, StoreError> {
        let rows = sqlx::query(
            "select v.*, case when p.digest = v.digest then 1 else 0 end as active
             from plugin_versions v left join plugins p on p.name = v.name
             where v.name = $1 order by v.installed_at desc, v.digest limit $2",
        )
        .bind(name)
        .bind(MAX_PLUGIN_VERSIONS)
        .fetch_all(&self.reader)
        .await?;
        if rows.is_empty() {
            return Err(StoreError::not_found("plugin", name));
        }
        rows.iter()
            .map(|row| {
                Ok(VersionRow {
                    plugin: from_row(row)?,
                    active: row.try_get::<i64, _>("active")? != 0,
                    activated_at: row.try_get("activated_at")?,
                })
            })
            .collect()
    }

    /// The digests of all versions, and those that installations under way name.
    pub async fn named_components(&self) -> Result<BTreeSet<String>, StoreError> {
        let digests: Vec<String> =
            sqlx::query_scalar("select digest from plugin_versions union select digest from plugins")
                .fetch_all(&self.reader)
                .await?;
        let installing: Vec<Option<String>> =
            sqlx::query_scalar("select subject from runs where kind = 'install' and status in ('queued', 'running')")
                .fetch_all(&self.reader)
                .await?;
        let installing =
            installing.into_iter().flatten().filter_map(|subject| subject.strip_prefix("sha256:").map(str::to_owned));
        Ok(digests.into_iter().chain(installing).collect())
    }

    /// Forgets a version that runs do not use. `InUse` where they do.
    pub async fn remove_version(&self, name: &str, digest: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let present = held(&mut tx, name).await?;
        if present.is_some_and(|(active, _)| active == digest) {
            let by = "the runs of its connections: activate another version first".to_owned();
            return Err(StoreError::InUse { what: "version", name: digest.into(), by });
        }
        let done = sqlx::query("delete from plugin_versions where name = $1 and digest = $2")
            .bind(name)
            .bind(digest)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("version", format!("{name} {digest}")));
        }
        Ok(tx.commit().await?)
    }
}

/// The active digest of a plugin and whether it is pinned, kept from changing until the transaction's end.
async fn held(tx: &mut AnyConnection, name: &str) -> Result<Option<(String, bool)>, StoreError> {
    let select = format!("select digest, pinned from plugins where name = $1{}", lock::clause(tx, Lock::Change));
    let row = sqlx::query(AssertSqlSafe(select)).bind(name).fetch_optional(tx).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((row.try_get("digest")?, row.try_get::<i64, _>("pinned")? != 0)))
}

async fn one(tx: &mut AnyConnection, name: &str, digest: &str) -> Result<PluginRow, StoreError> {
    let row = sqlx::query("select * from plugin_versions where name = $1 and digest = $2")
        .bind(name)
        .bind(digest)
        .fetch_optional(tx)
        .await?;
    from_row(&row.ok_or_else(|| StoreError::not_found("version", format!("{name} {digest}")))?)
}

pub(crate) async fn insert(tx: &mut AnyConnection, plugin: &PluginRow) -> Result<(), StoreError> {
    sqlx::query(
        "insert into plugin_versions (name, version, digest, api_version, title, docs, config_schema, permissions,
           installed_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (name, digest) do update set installed_at = excluded.installed_at",
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
    .execute(tx)
    .await?;
    Ok(())
}

async fn switch(tx: &mut AnyConnection, version: &PluginRow, now_ms: i64) -> Result<(), StoreError> {
    plugins::upsert(tx, version).await?;
    sqlx::query("update plugin_versions set activated_at = $1 where name = $2 and digest = $3")
        .bind(now_ms)
        .bind(&version.name)
        .bind(&version.digest)
        .execute(tx)
        .await?;
    Ok(())
}
