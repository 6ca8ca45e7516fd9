//! Routes of alerts and events: what is wrong now, and what happened.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_store::{AlertPage, AlertRow, EventPage, EventRow};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    extract::{Params, Place},
    notify::word,
    page::{Page, from_overfull, page_size},
    workspaced::{self, note},
};

/// A condition that lasts, or lasted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alert {
    pub id: String,
    pub workspace: String,
    pub connection: Option<String>,
    pub stream: Option<String>,
    /// `run-failed`, `freshness-breached` or `connection-paused`.
    pub kind: String,
    /// Milliseconds since the epoch.
    pub opened_at: i64,
    /// When it was met last, milliseconds since the epoch.
    pub last_at: i64,
    /// Null while it lasts.
    pub resolved_at: Option<i64>,
    /// How often it was met.
    pub times: i64,
    /// The run that met it last.
    pub run: Option<String>,
    pub detail: Value,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<i64>,
}

impl From<AlertRow> for Alert {
    fn from(row: AlertRow) -> Self {
        Self {
            id: row.id.to_string(),
            workspace: row.workspace,
            connection: row.connection,
            stream: row.stream,
            kind: word(row.kind),
            opened_at: row.opened_at,
            last_at: row.last_at,
            resolved_at: row.resolved_at,
            times: row.times,
            run: row.run.map(|run| run.0),
            detail: row.detail,
            acknowledged_by: row.acknowledged_by,
            acknowledged_at: row.acknowledged_at,
        }
    }
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    pub id: String,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// In kebab-case, such as `slot-skipped`.
    pub kind: String,
    pub workspace: Option<String>,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub run: Option<String>,
    pub detail: Value,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        let EventRow { id, at, kind, workspace, connection, stream, run, detail } = row;
        let run = run.map(|run| run.0);
        Self { id: id.to_string(), at, kind: word(kind), workspace, connection, stream, run, detail }
    }
}

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AlertParams {
    /// Items of a page, 1 to 1,000; 100 where absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<i64>,
    /// Only alerts of this connection.
    connection: Option<String>,
    /// Only those that last.
    #[serde(default)]
    open: bool,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventParams {
    /// Items of a page, 1 to 1,000; 100 where absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<i64>,
    /// Only events of this connection.
    connection: Option<String>,
    /// Only events of this stream.
    stream: Option<String>,
    /// Only events of this kind.
    kind: Option<String>,
    /// Only events from this time on, milliseconds since the epoch.
    since: Option<i64>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(acknowledge))
        .routes(routes!(list_events))
}

async fn seen(settings: &ControlSettings, caller: &Caller, id: &str) -> Result<AlertRow, Problem> {
    let number = id.parse().map_err(|_| Problem::not_found("alert", id))?;
    workspaced::seen(caller, settings.store.alert(number).await)
}

/// Alerts, newest first.
#[utoipa::path(get, path = "/alerts", operation_id = "listAlerts",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "alerts", params(AlertParams),
    responses((status = 200, body = Page<Alert>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(AlertParams { limit, cursor, connection, open }): Params<AlertParams>,
) -> Result<Json<Page<Alert>>, Problem> {
    let size = page_size(limit);
    let page = AlertPage { workspace: caller.workspace, connection, open_only: open, before: cursor, limit: size + 1 };
    let Page { items, next } = from_overfull(settings.store.alerts(&page).await?, size, |row| row.id.to_string());
    Ok(Json(Page { items: items.into_iter().map(Alert::from).collect(), next }))
}

/// One alert.
#[utoipa::path(get, path = "/alerts/{alert}", operation_id = "getAlert",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "alerts",
    params(("alert" = String, Path, description = "The alert's id.")),
    responses((status = 200, body = Alert), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Alert>, Problem> {
    Ok(Json(seen(&settings, &caller, &id).await?.into()))
}

/// Notes that the caller looks after an alert. The first one stays.
#[utoipa::path(post, path = "/alerts/{alert}/acknowledge", operation_id = "acknowledgeAlert",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "alerts",
    params(("alert" = String, Path, description = "The alert's id.")),
    responses((status = 200, body = Alert), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn acknowledge(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Alert>, Problem> {
    let row = seen(&settings, &caller, &id).await?;
    let now_ms = settings.now_ms();
    let row = settings.store.acknowledge_alert(row.id, caller.actor(), now_ms).await?;
    note(&settings, &caller, "alert.acknowledge", &row, &json!({"kind": word(row.kind)})).await?;
    Ok(Json(row.into()))
}

/// What happened, newest first.
#[utoipa::path(get, path = "/events", operation_id = "listEvents",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "alerts", params(EventParams),
    responses((status = 200, body = Page<Event>), (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn list_events(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(EventParams { limit, cursor, connection, stream, kind, since }): Params<EventParams>,
) -> Result<Json<Page<Event>>, Problem> {
    let size = page_size(limit);
    let kind = kind.map(|kind| event_kind(&kind)).transpose()?;
    let page =
        EventPage { workspace: caller.workspace, connection, stream, kind, since, before: cursor, limit: size + 1 };
    let Page { items, next } = from_overfull(settings.store.events_page(&page).await?, size, |row| row.id.to_string());
    Ok(Json(Page { items: items.into_iter().map(Event::from).collect(), next }))
}

/// The kind that a word stands for.
pub(crate) fn event_kind(word: &str) -> Result<thimble_store::EventKind, Problem> {
    serde_json::from_value(Value::String(word.to_owned()))
        .map_err(|_| Problem::invalid(format!("{word:?} is no kind of event, such as run-failed or slot-skipped")))
}
