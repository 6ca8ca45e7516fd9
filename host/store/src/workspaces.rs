//! Table `workspaces`: who sees what. Everything but plugins and grants belongs to one workspace.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    Store, StoreError,
    error::is_unique,
    lock::{self, Lock},
};

/// The workspace that exists from the start.
pub const DEFAULT_WORKSPACE: &str = "default";

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceRow {
    pub id: String,
    pub title: String,
    /// Milliseconds since the epoch.
    pub created_at: i64,
}

impl Store {
    /// All workspaces by name.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        let rows = sqlx::query("select * from workspaces order by id").fetch_all(&self.reader).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(WorkspaceRow {
                id: row.try_get("id")?,
                title: row.try_get("title")?,
                created_at: row.try_get("created_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Adds a workspace. `Conflict` where there is one of that name.
    pub async fn add_workspace(&self, workspace: &WorkspaceRow) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("insert into workspaces (id, title, created_at) values ($1, $2, $3)")
            .bind(&workspace.id)
            .bind(&workspace.title)
            .bind(workspace.created_at)
            .execute(&mut *tx)
            .await;
        match done {
            Ok(_) => Ok(tx.commit().await?),
            Err(error) if is_unique(&error) => {
                Err(StoreError::conflict(format!("there is a workspace named {:?} already", workspace.id)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What may belong to a workspace, and the column that says so. A workspace with any of it cannot be removed; runs and
/// the audit log are history and do not count.
const MEMBERS: [(&str, &str); 4] =
    [("connection", "connections"), ("source", "sources"), ("destination", "destinations"), ("token", "tokens")];

impl Store {
    /// Removes an empty workspace. `NotFound` where there is none, `InUse` where something belongs to it, `Conflict` for
    /// the default one.
    pub async fn remove_workspace(&self, id: &str) -> Result<(), StoreError> {
        if id == DEFAULT_WORKSPACE {
            return Err(StoreError::conflict("the workspace \"default\" cannot be removed"));
        }
        let mut tx = self.write().await?;
        let live = |table: &str| if table == "tokens" { " and revoked_at is null" } else { "" };
        for (what, table) in MEMBERS {
            let select = format!("select 1 from {table} where workspace = $1{} limit 1", live(table));
            let found: Option<i64> =
                sqlx::query_scalar(AssertSqlSafe(select)).bind(id).fetch_optional(&mut *tx).await?;
            if found.is_some() {
                return Err(StoreError::InUse { what: "workspace", name: id.into(), by: format!("a {what} in it") });
            }
        }
        // Revoked ones are kept for the audit log's sake, which names them itself.
        sqlx::query("delete from tokens where workspace = $1").bind(id).execute(&mut *tx).await?;
        let done = sqlx::query("delete from workspaces where id = $1").bind(id).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("workspace", id));
        }
        Ok(tx.commit().await?)
    }
}

pub(crate) async fn refuse_unknown(tx: &mut AnyConnection, workspace: &str) -> Result<(), StoreError> {
    match lock::row(tx, "workspaces", "id", workspace, Lock::Reference).await? {
        true => Ok(()),
        false => Err(StoreError::not_found("workspace", workspace)),
    }
}
