//! Hooks of connections: in the row of the connection, their secrets in a table of their own.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};
use thimble_record::ConnectionId;

use crate::{
    SealedSecrets, Store, StoreError,
    columns::json,
    error::refuse_changed,
    lock::{self, Lock},
};

impl Store {
    /// Replaces the hooks of a connection (an object by name) and their secrets; its version goes up. `NotFound` where
    /// there is no such connection, `Changed` where `expected` is not the stored version.
    pub async fn put_hooks(
        &self,
        connection: &ConnectionId,
        hooks: &Value,
        secrets: &SealedSecrets,
        expected: Option<i64>,
        now_ms: i64,
    ) -> Result<i64, StoreError> {
        let id = connection.as_str();
        let mut tx = self.write().await?;
        let select =
            format!("select version, workspace from connections where id = $1{}", lock::clause(&tx, Lock::Change));
        let stored = sqlx::query(AssertSqlSafe(select)).bind(id).fetch_optional(&mut *tx).await?;
        let stored = stored.ok_or_else(|| StoreError::not_found("connection", id))?;
        refuse_changed("connection", id, expected, Some(stored.try_get("version")?))?;
        let workspace: String = stored.try_get("workspace")?;
        // No hooks are written as they are from the start, so that a look at the text tells whether there are any.
        let none = hooks.as_object().is_none_or(serde_json::Map::is_empty);
        let row = sqlx::query(
            "update connections set hooks = $1, updated_at = $2, version = version + 1 where id = $3 returning version",
        )
        .bind(if none { "[]".to_owned() } else { json(hooks) })
        .bind(now_ms)
        .bind(id)
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query(
            "insert into hook_secrets (connection, workspace, secrets) values ($1, $2, $3)
             on conflict (connection) do update set secrets = excluded.secrets",
        )
        .bind(id)
        .bind(workspace)
        .bind(&secrets.0)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(row.try_get("version")?)
    }

    /// The sealed secrets of a connection's hooks; empty where there are none.
    pub async fn hook_secrets(&self, connection: &ConnectionId) -> Result<SealedSecrets, StoreError> {
        let secrets: Option<Vec<u8>> = sqlx::query_scalar("select secrets from hook_secrets where connection = $1")
            .bind(connection.as_str())
            .fetch_optional(&self.reader)
            .await?;
        Ok(SealedSecrets(secrets.unwrap_or_default()))
    }
}
