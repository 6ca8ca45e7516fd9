//! Table `audit`: who changed what. Rows are added and never changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;

use crate::{
    Store, StoreError,
    columns::{json, parse_column},
    limits::MAX_PAGE,
};

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Counts up; gaps may occur.
    pub id: i64,
    pub at: i64,
    /// Who, for instance `cli` or `api`.
    pub actor: String,
    /// What was done, for instance `plugin.grant`.
    pub action: String,
    /// To what, for instance the plugin's name.
    pub subject: String,
    /// Free of secrets.
    pub detail: Value,
    /// Absent where it concerns the whole installation.
    pub workspace: Option<String>,
}

/// A change to be noted.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub actor: &'a str,
    pub action: &'a str,
    pub subject: &'a str,
    /// Free of secrets.
    pub detail: &'a Value,
    pub workspace: Option<&'a str>,
}

impl Store {
    /// Adds a row that concerns the whole installation.
    pub async fn append_audit(
        &self,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &Value,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.note(Change { actor, action, subject, detail, workspace: None }, now_ms).await
    }

    /// Adds a row.
    pub async fn note(&self, change: Change<'_>, now_ms: i64) -> Result<(), StoreError> {
        let Change { actor, action, subject, detail, workspace } = change;
        let mut tx = self.write().await?;
        sqlx::query(
            "insert into audit (at, actor, action, subject, detail, workspace) values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(now_ms)
        .bind(actor)
        .bind(action)
        .bind(subject)
        .bind(json(detail))
        .bind(workspace)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Rows, newest first, at most [`MAX_PAGE`]; `before` is the id of the last row of the page before.
    pub async fn audit(&self, limit: u32, before: Option<i64>) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_of(None, limit, before).await
    }

    /// The same, of one workspace only.
    pub async fn audit_of(
        &self,
        workspace: Option<&str>,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let rows =
            sqlx::query("select * from audit where id < $1 and ($2 = '' or workspace = $2) order by id desc limit $3")
                .bind(before.unwrap_or(i64::MAX))
                .bind(workspace.unwrap_or(""))
                .bind(i64::from(limit.min(MAX_PAGE)))
                .fetch_all(&self.reader)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditRow {
                    id: row.try_get("id")?,
                    at: row.try_get("at")?,
                    actor: row.try_get("actor")?,
                    action: row.try_get("action")?,
                    subject: row.try_get("subject")?,
                    detail: parse_column(row, "detail", "audit row's detail")?,
                    workspace: row.try_get("workspace")?,
                })
            })
            .collect()
    }
}
