//! Table `events`: what happened that somebody may want to hear of. Rows are added and never changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AnyConnection, Row, any::AnyRow};
use thimble_record::RunId;

use crate::{
    Store, StoreError, alerts,
    columns::{json, parse_column, parse_word, word},
    limits::MAX_PAGE,
};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    RunFailed,
    /// The first success after failures.
    RunRecovered,
    /// A schedule's slot passed without a run.
    SlotSkipped,
    SchemaChanged,
    /// The destination's rows are older than the connection's objective.
    FreshnessBreached,
    FreshnessRestored,
    /// Its schedules rest until somebody puts right what is wrong.
    ConnectionPaused,
    /// A connector asked for a host that it may not reach.
    EgressDenied,
    RejectsOverThreshold,
    HookFailed,
    ClockJumped,
    WorkerLost,
}

/// An event to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub kind: EventKind,
    pub workspace: Option<String>,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub run: Option<RunId>,
    /// Free of secrets.
    pub detail: Value,
}

impl NewEvent {
    /// An event of a connection; its workspace is looked up where it is stored.
    pub fn of(kind: EventKind, connection: impl Into<String>, detail: Value) -> Self {
        Self { kind, workspace: None, connection: Some(connection.into()), stream: None, run: None, detail }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// Counts up; gaps may occur.
    pub id: i64,
    /// Milliseconds since the epoch.
    pub at: i64,
    pub kind: EventKind,
    pub workspace: Option<String>,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub run: Option<RunId>,
    pub detail: Value,
}

fn from_row(row: &AnyRow) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        kind: parse_word(row, "kind", "event's kind")?,
        workspace: row.try_get("workspace")?,
        connection: row.try_get("connection")?,
        stream: row.try_get("stream")?,
        run: row.try_get::<Option<String>, _>("run")?.map(RunId),
        detail: parse_column(row, "detail", "event's detail")?,
    })
}

/// Which events a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    pub workspace: Option<String>,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub kind: Option<EventKind>,
    /// Only events from this time on.
    pub since: Option<i64>,
    /// Only events before this one, by id.
    pub before: Option<i64>,
    /// At most [`MAX_PAGE`].
    pub limit: u32,
}

impl Store {
    /// Events, newest first.
    pub async fn events_page(&self, page: &EventPage) -> Result<Vec<EventRow>, StoreError> {
        let EventPage { workspace, connection, stream, kind, since, before, limit } = page;
        let rows = sqlx::query(
            "select * from events where id < $1 and ($2 = '' or workspace = $2) and ($3 = '' or connection = $3)
               and ($4 = '' or stream = $4) and ($5 = '' or kind = $5) and at >= $6 order by id desc limit $7",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(workspace.as_deref().unwrap_or(""))
        .bind(connection.as_deref().unwrap_or(""))
        .bind(stream.as_deref().unwrap_or(""))
        .bind(kind.as_ref().map(word).unwrap_or_default())
        .bind(since.unwrap_or(0))
        .bind(i64::from((*limit).min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Adds an event.
    pub async fn append_event(&self, event: &NewEvent, now_ms: i64) -> Result<i64, StoreError> {
        let mut tx = self.write().await?;
        let id = append(&mut tx, event, now_ms).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Events, newest first, at most [`MAX_PAGE`]; `before` is the id of the last one of the page before.
    pub async fn events(
        &self,
        workspace: Option<&str>,
        connection: Option<&str>,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query(
            "select * from events where id < $1 and ($2 = '' or workspace = $2) and ($3 = '' or connection = $3)
             order by id desc limit $4",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(workspace.unwrap_or(""))
        .bind(connection.unwrap_or(""))
        .bind(i64::from(limit.min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }
}

/// Adds an event inside of another change, with what follows from it: alerts, and what is to be told of them.
pub(crate) async fn append(tx: &mut AnyConnection, event: &NewEvent, now_ms: i64) -> Result<i64, StoreError> {
    let mut event = event.clone();
    place(tx, &mut event).await?;
    let id = insert(tx, &event, now_ms).await?;
    alerts::on_event(tx, &event, now_ms).await?;
    Ok(id)
}

/// Looks up the workspace of an event's connection.
pub(crate) async fn place(tx: &mut AnyConnection, event: &mut NewEvent) -> Result<(), StoreError> {
    if let (None, Some(connection)) = (&event.workspace, &event.connection) {
        event.workspace = sqlx::query_scalar("select workspace from connections where id = $1")
            .bind(connection)
            .fetch_optional(tx)
            .await?;
    }
    Ok(())
}

/// Adds the row of an event alone.
pub(crate) async fn insert(tx: &mut AnyConnection, event: &NewEvent, now_ms: i64) -> Result<i64, StoreError> {
    let NewEvent { kind, workspace, connection, stream, run, detail } = event;
    Ok(sqlx::query_scalar(
        "insert into events (at, kind, workspace, connection, stream, run, detail)
         values ($1, $2, $3, $4, $5, $6, $7) returning id",
    )
    .bind(now_ms)
    .bind(word(kind))
    .bind(workspace)
    .bind(connection)
    .bind(stream)
    .bind(run.as_ref().map(|run| &run.0))
    .bind(json(detail))
    .fetch_one(tx)
    .await?)
}
