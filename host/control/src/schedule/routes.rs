//! Routes of a connection's schedules: where they stand, and making them rest.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode},
};
use serde::Serialize;
use serde_json::{Value, json};
use thimble_store::{ConnectionRow, SlotRow};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::schedules;
use crate::{Caller, ControlSettings, Problem, connections::seen, etag::etag, extract::Place, workspaced::note};

/// Where the schedules of a connection stand.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleState {
    /// Whether they rest. Runs that somebody asks for start all the same.
    pub paused: bool,
    /// Why they rest, where nobody asked for it.
    pub paused_why: Option<String>,
    /// Milliseconds since the epoch of the next start; null where none comes by itself.
    pub next_at: Option<i64>,
    /// The connection's own schedule first, then those of its streams.
    pub schedules: Vec<StreamScheduleState>,
}

/// Where one schedule stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamScheduleState {
    /// Null: the connection's own.
    pub stream: Option<String>,
    /// As it was set.
    #[schema(value_type = Object)]
    pub schedule: Value,
    /// When its next slot starts, in milliseconds since the epoch; null where none comes by itself.
    pub next_at: Option<i64>,
    /// Time of the last slot that was decided upon, or when the schedule was set.
    pub last_slot: Option<i64>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(pause)).routes(routes!(resume))
}

/// When the connection runs by itself next, and whether its schedules rest.
#[utoipa::path(get, path = "/connections/{id}/schedule", operation_id = "getSchedule",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = ScheduleState, headers(("ETag" = String, description = "The connection's version."))),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<([(HeaderName, String); 1], Json<ScheduleState>), Problem> {
    let row = seen(&settings, &caller, id).await?;
    Ok((etag(row.version), Json(state(&settings, row).await?)))
}

/// Makes the schedules of a connection rest. A run under way goes on, and runs that somebody asks for start as ever.
#[utoipa::path(post, path = "/connections/{id}/pause", operation_id = "pauseConnection",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = ScheduleState), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn pause(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ScheduleState>), Problem> {
    set(&settings, &caller, id, true).await
}

/// Lets the schedules of a connection go on. Of the slots that passed meanwhile the latest starts at once where the
/// schedule catches up.
#[utoipa::path(post, path = "/connections/{id}/resume", operation_id = "resumeConnection",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = ScheduleState), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn resume(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ScheduleState>), Problem> {
    set(&settings, &caller, id, false).await
}

async fn set(
    settings: &ControlSettings,
    caller: &Caller,
    id: String,
    paused: bool,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ScheduleState>), Problem> {
    let row = seen(settings, caller, id).await?;
    if settings.store.pause(&row.id, paused, None, None, settings.now_ms()).await? {
        let action = if paused { "connection.pause" } else { "connection.resume" };
        note(settings, caller, action, &row, &json!({})).await?;
        settings.signals.wake();
    }
    let row = settings.store.connection(&row.id).await?;
    Ok((StatusCode::OK, etag(row.version), Json(state(settings, row).await?)))
}

/// What is stored, or what will be where the reconciler has not seen the newest setting yet.
async fn state(settings: &ControlSettings, row: ConnectionRow) -> Result<ScheduleState, Problem> {
    let stored = settings.store.slots(&row.id).await?;
    let (new, _) = schedules(row.id.as_str(), row.schedule.as_ref(), &row.stream_schedules, settings.now_ms());
    let schedules: Vec<StreamScheduleState> = new
        .into_iter()
        .map(|new| {
            let known = |slot: &&SlotRow| slot.stream == new.stream && slot.schedule == new.schedule;
            let stood = stored.iter().find(known).map(|slot| (slot.next_at, Some(slot.last_slot)));
            let (next_at, last_slot) = stood.unwrap_or((new.next_at, None));
            let stream = Some(new.stream).filter(|stream| !stream.is_empty());
            StreamScheduleState { stream, schedule: new.schedule, next_at: next_at.filter(|_| !row.paused), last_slot }
        })
        .collect();
    let next_at = schedules.iter().filter_map(|schedule| schedule.next_at).min();
    Ok(ScheduleState { paused: row.paused, paused_why: row.paused_why, next_at, schedules })
}
