//! Table `grants`: the host patterns that the operator allows each plugin.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};

use crate::{
    Store, StoreError,
    lock::{self, Lock},
    slots,
};

impl Store {
    /// Allows a plugin a host pattern or template. Granting twice is success. `NotFound` where the
    /// plugin is not installed.
    pub async fn grant(&self, plugin: &str, pattern: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        refuse_unknown(&mut tx, plugin).await?;
        insert(&mut tx, plugin, pattern, now_ms).await?;
        slots::wake(&mut tx, plugin).await?;
        Ok(tx.commit().await?)
    }

    /// Makes exactly these the grants of a plugin. `NotFound` where it is not installed.
    pub async fn set_grants(&self, plugin: &str, patterns: &[String], now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        refuse_unknown(&mut tx, plugin).await?;
        let rows = sqlx::query("select pattern, granted_at from grants where plugin = $1")
            .bind(plugin)
            .fetch_all(&mut *tx)
            .await?;
        let mut before = BTreeMap::<String, i64>::new();
        for row in rows {
            before.insert(row.try_get("pattern")?, row.try_get("granted_at")?);
        }
        sqlx::query("delete from grants where plugin = $1").bind(plugin).execute(&mut *tx).await?;
        for pattern in patterns {
            let granted_at = before.get(pattern).copied().unwrap_or(now_ms);
            insert(&mut tx, plugin, pattern, granted_at).await?;
        }
        slots::wake(&mut tx, plugin).await?;
        Ok(tx.commit().await?)
    }

    /// Takes a grant back. `NotFound` where it was not granted.
    pub async fn revoke(&self, plugin: &str, pattern: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("delete from grants where plugin = $1 and pattern = $2")
            .bind(plugin)
            .bind(pattern)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("grant", format!("{pattern} of plugin {plugin}")));
        }
        Ok(tx.commit().await?)
    }

    /// The grants of a plugin, in order; empty where there are none.
    pub async fn grants(&self, plugin: &str) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("select pattern from grants where plugin = $1 order by pattern")
            .bind(plugin)
            .fetch_all(&self.reader)
            .await?)
    }
}

async fn insert(tx: &mut AnyConnection, plugin: &str, pattern: &str, granted_at: i64) -> Result<(), StoreError> {
    sqlx::query("insert into grants (plugin, pattern, granted_at) values ($1, $2, $3) on conflict do nothing")
        .bind(plugin)
        .bind(pattern)
        .bind(granted_at)
        .execute(tx)
        .await?;
    Ok(())
}

async fn refuse_unknown(tx: &mut AnyConnection, plugin: &str) -> Result<(), StoreError> {
    // Locked: the grants of a plugin change one after the other.
    match lock::row(tx, "plugins", "name", plugin, Lock::Change).await? {
        true => Ok(()),
        false => Err(StoreError::not_found("plugin", plugin)),
    }
}
