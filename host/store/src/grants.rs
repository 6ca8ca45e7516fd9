//! Table `grants`: the host patterns that the operator allows each plugin.

use sqlx::SqliteConnection;

use crate::{Store, StoreError, columns::json};

impl Store {
    /// Allows a plugin a host pattern or template. Granting twice is success. `NotFound` where the
    /// plugin is not installed.
    pub async fn grant(&self, plugin: &str, pattern: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        refuse_unknown(&mut tx, plugin).await?;
        sqlx::query("insert into grants (plugin, pattern, granted_at) values (?, ?, ?) on conflict do nothing")
            .bind(plugin)
            .bind(pattern)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Makes exactly these the grants of a plugin. `NotFound` where it is not installed.
    pub async fn set_grants(&self, plugin: &str, patterns: &[String], now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        refuse_unknown(&mut tx, plugin).await?;
        sqlx::query("delete from grants where plugin = ? and pattern not in (select value from json_each(?))")
            .bind(plugin)
            .bind(json(patterns))
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "insert into grants (plugin, pattern, granted_at) select distinct ?1, value, ?2 from json_each(?3)
             where true on conflict do nothing",
        )
        .bind(plugin)
        .bind(now_ms)
        .bind(json(patterns))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Takes a grant back. `NotFound` where it was not granted.
    pub async fn revoke(&self, plugin: &str, pattern: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("delete from grants where plugin = ? and pattern = ?")
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
        Ok(sqlx::query_scalar("select pattern from grants where plugin = ? order by pattern")
            .bind(plugin)
            .fetch_all(&self.reader)
            .await?)
    }
}

async fn refuse_unknown(tx: &mut SqliteConnection, plugin: &str) -> Result<(), StoreError> {
    let known: Option<i64> =
        sqlx::query_scalar("select 1 from plugins where name = ?").bind(plugin).fetch_optional(&mut *tx).await?;
    known.map(|_| ()).ok_or_else(|| StoreError::not_found("plugin", plugin))
}
