//! Table `alerts`: conditions that last. One is open at most once for each workspace, connection, stream and kind.
//!
//! Whatever an event opens, ends or tells is written in the transaction that writes the event, so that nothing is told
//! twice and nothing is forgotten, whoever crashes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row, any::AnyRow};
use thimble_record::RunId;

use crate::{
    EventKind, NewEvent, Store, StoreError,
    columns::{json as text, parse_column, parse_word, word},
    deliveries::{self, Phase},
    events,
    limits::MAX_PAGE,
    workspaces::DEFAULT_WORKSPACE,
};

/// A condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertRow {
    pub id: i64,
    pub workspace: String,
    pub connection: Option<String>,
    pub stream: Option<String>,
    /// The event that opened it.
    pub kind: EventKind,
    pub opened_at: i64,
    /// When it was met last.
    pub last_at: i64,
    /// Absent while it lasts.
    pub resolved_at: Option<i64>,
    /// How often it was met.
    pub times: i64,
    /// The run that met it last.
    pub run: Option<RunId>,
    pub detail: Value,
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<i64>,
}

/// Which alerts a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct AlertPage {
    pub workspace: Option<String>,
    pub connection: Option<String>,
    pub open_only: bool,
    /// Only alerts before this one, by id.
    pub before: Option<i64>,
    pub limit: u32,
}

/// What an event does to alerts.
enum Effect {
    Open,
    /// Ends alerts of these kinds.
    Resolve(&'static [EventKind]),
    /// Is told, and there is nothing to end.
    Tell,
}

fn effect(kind: EventKind) -> Effect {
    match kind {
        EventKind::RunFailed | EventKind::FreshnessBreached | EventKind::ConnectionPaused => Effect::Open,
        EventKind::RunRecovered => Effect::Resolve(&[EventKind::RunFailed, EventKind::ConnectionPaused]),
        EventKind::FreshnessRestored => Effect::Resolve(&[EventKind::FreshnessBreached]),
        EventKind::SlotSkipped
        | EventKind::SchemaChanged
        | EventKind::EgressDenied
        | EventKind::RejectsOverThreshold
        | EventKind::HookFailed
        | EventKind::ClockJumped
        | EventKind::WorkerLost => Effect::Tell,
    }
}

/// Does what follows from an event that was just written.
pub(crate) async fn on_event(tx: &mut AnyConnection, event: &NewEvent, now_ms: i64) -> Result<(), StoreError> {
    // What concerns the whole installation is told where its operators are.
    let workspace = event.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE);
    match effect(event.kind) {
        Effect::Open => {
            open(tx, workspace, event, now_ms).await?;
        }
        Effect::Resolve(kinds) => {
            for kind in kinds {
                resolve(tx, workspace, event, *kind, now_ms).await?;
            }
        }
        Effect::Tell => {
            let body = body(event, event.kind, None, now_ms);
            deliveries::tell(tx, workspace, event, None, Phase::Tell, &body, now_ms).await?;
        }
    }
    Ok(())
}

/// Opens an alert, or counts it where it is open. Answers whether it was opened.
async fn open(tx: &mut AnyConnection, workspace: &str, event: &NewEvent, now_ms: i64) -> Result<bool, StoreError> {
    let (connection, stream) = (event.connection.as_deref().unwrap_or(""), event.stream.as_deref().unwrap_or(""));
    let opened: Option<i64> = sqlx::query_scalar(
        "insert into alerts (workspace, connection, stream, kind, opened_at, last_at, times, run, detail)
         values ($1, $2, $3, $4, $5, $5, 1, $6, $7)
         on conflict (workspace, connection, stream, kind) where resolved_at is null do nothing returning id",
    )
    .bind(workspace)
    .bind(connection)
    .bind(stream)
    .bind(word(&event.kind))
    .bind(now_ms)
    .bind(event.run.as_ref().map(|run| &run.0))
    .bind(text(&event.detail))
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(id) = opened {
        let body = body(event, event.kind, None, now_ms);
        deliveries::tell(tx, workspace, event, Some(id), Phase::Open, &body, now_ms).await?;
        return Ok(true);
    }
    sqlx::query(
        "update alerts set times = times + 1, last_at = $1, run = $2, detail = $3
         where workspace = $4 and connection = $5 and stream = $6 and kind = $7 and resolved_at is null",
    )
    .bind(now_ms)
    .bind(event.run.as_ref().map(|run| &run.0))
    .bind(text(&event.detail))
    .bind(workspace)
    .bind(connection)
    .bind(stream)
    .bind(word(&event.kind))
    .execute(tx)
    .await?;
    Ok(false)
}

async fn resolve(
    tx: &mut AnyConnection,
    workspace: &str,
    event: &NewEvent,
    kind: EventKind,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "update alerts set resolved_at = $1 where workspace = $2 and connection = $3 and stream = $4 and kind = $5
           and resolved_at is null returning id, opened_at",
    )
    .bind(now_ms)
    .bind(workspace)
    .bind(event.connection.as_deref().unwrap_or(""))
    .bind(event.stream.as_deref().unwrap_or(""))
    .bind(word(&kind))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let body = body(event, kind, Some(row.try_get("opened_at")?), now_ms);
    deliveries::tell_end(tx, workspace, event, row.try_get("id")?, kind, &body, now_ms).await
}

/// What a notice is made of when it is sent.
fn body(event: &NewEvent, kind: EventKind, opened_at: Option<i64>, now_ms: i64) -> Value {
    let NewEvent { kind: event_kind, workspace, connection, stream, run, detail } = event;
    json!({
        "kind": kind, "event": event_kind, "workspace": workspace, "connection": connection, "stream": stream,
        "run": run, "detail": detail, "at": now_ms, "opened_at": opened_at,
    })
}

/// Whether an alert of a connection is open.
pub(crate) async fn is_open(tx: &mut AnyConnection, connection: &str, kind: EventKind) -> Result<bool, StoreError> {
    let open: Option<i64> =
        sqlx::query_scalar("select id from alerts where connection = $1 and kind = $2 and resolved_at is null limit 1")
            .bind(connection)
            .bind(word(&kind))
            .fetch_optional(tx)
            .await?;
    Ok(open.is_some())
}

fn from_row(row: &AnyRow) -> Result<AlertRow, StoreError> {
    let named = |column| row.try_get::<String, _>(column).map(|name| Some(name).filter(|name| !name.is_empty()));
    Ok(AlertRow {
        id: row.try_get("id")?,
        workspace: row.try_get("workspace")?,
        connection: named("connection")?,
        stream: named("stream")?,
        kind: parse_word(row, "kind", "alert's kind")?,
        opened_at: row.try_get("opened_at")?,
        last_at: row.try_get("last_at")?,
        resolved_at: row.try_get("resolved_at")?,
        times: row.try_get("times")?,
        run: row.try_get::<Option<String>, _>("run")?.map(RunId),
        detail: parse_column(row, "detail", "alert's detail")?,
        acknowledged_by: row.try_get("acknowledged_by")?,
        acknowledged_at: row.try_get("acknowledged_at")?,
    })
}

/// Connections whose freshness does not fit what is known of it: (connection, stale, age in milliseconds, objective).
const FRESHNESS: &str = "select c.id, c.workspace, c.freshness_ms,
   case when t.complete_at > c.created_at then t.complete_at else c.created_at end as fresh_at, a.id as alert
 from connections c
   left join connection_totals t on t.connection = c.id
   left join alerts a on a.connection = c.id and a.workspace = c.workspace and a.stream = ''
     and a.kind = 'freshness-breached' and a.resolved_at is null
 where (c.freshness_ms is not null and a.id is null and
          $1 - c.freshness_ms > case when t.complete_at > c.created_at then t.complete_at else c.created_at end)
    or (a.id is not null and (c.freshness_ms is null or
          $1 - c.freshness_ms <= case when t.complete_at > c.created_at then t.complete_at else c.created_at end))
 order by c.id limit $2";

impl Store {
    /// Opens and ends the alerts that hang on the time and on settings: freshness, and pauses that were taken back.
    /// Answers how many changed.
    pub async fn check_conditions(&self, now_ms: i64) -> Result<usize, StoreError> {
        let stale = sqlx::query(FRESHNESS).bind(now_ms).bind(i64::from(MAX_PAGE)).fetch_all(&self.reader).await?;
        let resumed = sqlx::query(
            "select a.connection from alerts a join connections c on c.id = a.connection
             where a.kind = 'connection-paused' and a.resolved_at is null and c.paused = 0 limit $1",
        )
        .bind(i64::from(MAX_PAGE))
        .fetch_all(&self.reader)
        .await?;
        for row in &stale {
            let id: String = row.try_get("id")?;
            let breached = row.try_get::<Option<i64>, _>("alert")?.is_none();
            let detail = json!({
                "age_ms": now_ms - row.try_get::<i64, _>("fresh_at")?,
                "objective_ms": row.try_get::<Option<i64>, _>("freshness_ms")?,
            });
            let kind = if breached { EventKind::FreshnessBreached } else { EventKind::FreshnessRestored };
            let event = NewEvent { workspace: row.try_get("workspace")?, ..NewEvent::of(kind, id, detail) };
            self.change_condition(&event, breached, now_ms).await?;
        }
        for row in &resumed {
            let mut tx = self.write().await?;
            let id: String = row.try_get("connection")?;
            let mut event = NewEvent::of(EventKind::RunRecovered, id, json!({"resumed": true}));
            events::place(&mut tx, &mut event).await?;
            if let Some(workspace) = event.workspace.clone() {
                resolve(&mut tx, &workspace, &event, EventKind::ConnectionPaused, now_ms).await?;
            }
            tx.commit().await?;
        }
        Ok(stale.len() + resumed.len())
    }

    /// Another process may have seen the same; whoever opens or ends the alert writes the event.
    async fn change_condition(&self, event: &NewEvent, breached: bool, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let Some(workspace) = event.workspace.as_deref() else { return Ok(()) };
        let connection = event.connection.as_deref().unwrap_or("");
        if breached {
            // Not counted as met again: it is looked at every few seconds.
            let open_already = is_open(&mut tx, connection, event.kind).await?;
            if open_already || !open(&mut tx, workspace, event, now_ms).await? {
                return Ok(());
            }
        } else {
            if !is_open(&mut tx, connection, EventKind::FreshnessBreached).await? {
                return Ok(());
            }
            resolve(&mut tx, workspace, event, EventKind::FreshnessBreached, now_ms).await?;
        }
        events::insert(&mut tx, event, now_ms).await?;
        Ok(tx.commit().await?)
    }

    /// One alert. `NotFound` where there is none.
    pub async fn alert(&self, id: i64) -> Result<AlertRow, StoreError> {
        let row = sqlx::query("select * from alerts where id = $1").bind(id).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("alert", id.to_string()))?)
    }

    /// Alerts, newest first.
    pub async fn alerts(&self, page: &AlertPage) -> Result<Vec<AlertRow>, StoreError> {
        let AlertPage { workspace, connection, open_only, before, limit } = page;
        let rows = sqlx::query(
            "select * from alerts where id < $1 and ($2 = '' or workspace = $2) and ($3 = '' or connection = $3)
               and ($4 = 0 or resolved_at is null) order by id desc limit $5",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(workspace.as_deref().unwrap_or(""))
        .bind(connection.as_deref().unwrap_or(""))
        .bind(i64::from(*open_only))
        .bind(i64::from((*limit).min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Notes that somebody looks after an alert; the first one stays. `NotFound` where there is none.
    pub async fn acknowledge_alert(&self, id: i64, actor: &str, now_ms: i64) -> Result<AlertRow, StoreError> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "update alerts set acknowledged_by = coalesce(acknowledged_by, $1),
               acknowledged_at = coalesce(acknowledged_at, $2) where id = $3 returning *",
        )
        .bind(actor)
        .bind(now_ms)
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
        let alert = from_row(&row.ok_or_else(|| StoreError::not_found("alert", id.to_string()))?)?;
        tx.commit().await?;
        Ok(alert)
    }
}
