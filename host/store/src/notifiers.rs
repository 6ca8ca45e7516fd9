//! Table `notifiers`: who is told of what.

use serde_json::Value;
use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{
    EventKind, SealedSecrets, Store, StoreError,
    columns::{json, parse_column},
    error::refuse_changed,
    limits::{MAX_NOTIFIERS, MAX_PAGE},
    lock, workspaces,
};

/// A notifier.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifierRow {
    /// Unique in the installation.
    pub name: String,
    pub workspace: String,
    /// Kind of the receiver, in kebab-case.
    pub kind: String,
    /// The settings; `{"$secret": true}` stands where a secret was.
    pub config: Value,
    pub secrets: SealedSecrets,
    /// What it is told of; empty: everything.
    pub events: Vec<EventKind>,
    /// Of which connections; empty: all of its workspace.
    pub connections: Vec<String>,
    /// A condition that ends within this time is not told; milliseconds.
    pub delay_ms: i64,
    /// Whether it rests.
    pub paused: bool,
    pub created_at: i64,
    pub updated_at: i64,
    /// Counts its changes from 1.
    pub version: i64,
}

impl NotifierRow {
    /// Whether it is told of an event.
    pub fn wants(&self, kind: EventKind, connection: Option<&str>) -> bool {
        let of_connection = match connection {
            Some(connection) => self.connections.is_empty() || self.connections.iter().any(|known| known == connection),
            None => self.connections.is_empty(),
        };
        of_connection && (self.events.is_empty() || self.events.contains(&kind))
    }
}

fn from_row(row: &AnyRow) -> Result<NotifierRow, StoreError> {
    Ok(NotifierRow {
        name: row.try_get("name")?,
        workspace: row.try_get("workspace")?,
        kind: row.try_get("kind")?,
        config: parse_column(row, "config", "notifier's settings")?,
        secrets: SealedSecrets(row.try_get("secrets")?),
        events: parse_column(row, "events", "notifier's events")?,
        connections: parse_column(row, "connections", "notifier's connections")?,
        delay_ms: row.try_get("delay_ms")?,
        paused: row.try_get::<i64, _>("paused")? != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

/// The notifiers of a workspace that do not rest.
pub(crate) async fn awake(tx: &mut AnyConnection, workspace: &str) -> Result<Vec<NotifierRow>, StoreError> {
    let rows = sqlx::query("select * from notifiers where workspace = $1 and paused = 0 order by name limit $2")
        .bind(workspace)
        .bind(i64::from(MAX_NOTIFIERS))
        .fetch_all(tx)
        .await?;
    rows.iter().map(from_row).collect()
}

impl Store {
    /// Creates or replaces a notifier; its times and version are set here. Answers whether it was created. `NotFound`
    /// where its workspace is unknown, `Changed` where `expected` is not the stored version (0: none), `Conflict` where
    /// its workspace has [`MAX_NOTIFIERS`] already.
    pub async fn put_notifier(
        &self,
        notifier: &NotifierRow,
        expected: Option<i64>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        lock::name(&mut tx, "notifier", &notifier.name).await?;
        workspaces::refuse_unknown(&mut tx, &notifier.workspace).await?;
        let stored = lock::version(&mut tx, "notifiers", "name", &notifier.name).await?;
        refuse_changed("notifier", &notifier.name, expected, stored)?;
        let count: i64 = sqlx::query_scalar("select count(*) from notifiers where workspace = $1")
            .bind(&notifier.workspace)
            .fetch_one(&mut *tx)
            .await?;
        if stored.is_none() && count >= i64::from(MAX_NOTIFIERS) {
            return Err(StoreError::conflict(format!(
                "workspace {:?} has {MAX_NOTIFIERS} notifiers already: delete one first",
                notifier.workspace
            )));
        }
        sqlx::query(
            "insert into notifiers (name, workspace, kind, config, secrets, events, connections, delay_ms, paused,
               created_at, updated_at, version)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 1)
             on conflict (name) do update set kind = excluded.kind, config = excluded.config,
               secrets = excluded.secrets, events = excluded.events, connections = excluded.connections,
               delay_ms = excluded.delay_ms, paused = excluded.paused, updated_at = excluded.updated_at,
               version = notifiers.version + 1",
        )
        .bind(&notifier.name)
        .bind(&notifier.workspace)
        .bind(&notifier.kind)
        .bind(json(&notifier.config))
        .bind(&notifier.secrets.0)
        .bind(json(&notifier.events))
        .bind(json(&notifier.connections))
        .bind(notifier.delay_ms)
        .bind(i64::from(notifier.paused))
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(stored.is_none())
    }

    /// One notifier. `NotFound` where there is none.
    pub async fn notifier(&self, name: &str) -> Result<NotifierRow, StoreError> {
        let row =
            sqlx::query("select * from notifiers where name = $1").bind(name).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("notifier", name))?)
    }

    /// A page of notifiers by name, after `after`, of one workspace or all.
    pub async fn notifiers(
        &self,
        workspace: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<NotifierRow>, StoreError> {
        let rows = sqlx::query(
            "select * from notifiers where name > $1 and ($2 = '' or workspace = $2) order by name limit $3",
        )
        .bind(after)
        .bind(workspace.unwrap_or(""))
        .bind(i64::from(limit.min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes a notifier with what it was still to be told. `NotFound` where there is none.
    pub async fn delete_notifier(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("delete from notifiers where name = $1").bind(name).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("notifier", name));
        }
        Ok(tx.commit().await?)
    }
}
