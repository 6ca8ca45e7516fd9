//! Routes of checkpoints: the positions that a destination committed, and going back to one.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thimble_record::{BatchSeq, Position};
use thimble_store::MAX_PAGE;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, connections,
    extract::{Body, Params, Place},
    page::{NumberedParams, Page, from_overfull, page_size},
    state::{self, ConnectionState},
    workspaced,
};

/// A position that was committed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    /// Number of the batch that it was committed with.
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub committed_at: i64,
}

/// A committed position as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointDetail {
    /// Number of the batch that it was committed with.
    pub seq: u64,
    /// By stream, as a connection's state.
    #[schema(value_type = Object)]
    pub position: Position,
}

/// Where to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewindSpec {
    /// Number of a batch, of those that the checkpoints list.
    pub seq: u64,
    /// Only this stream; absent: all.
    #[serde(default)]
    pub stream: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(rewind))
}

/// The committed positions of a connection, the newest first.
#[utoipa::path(get, path = "/connections/{id}/checkpoints", operation_id = "listCheckpoints",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name."), NumberedParams),
    responses((status = 200, body = Page<Checkpoint>), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Params(params): Params<NumberedParams>,
) -> Result<Json<Page<Checkpoint>>, Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let size = page_size(params.limit).min(MAX_PAGE - 1);
    let before = params.cursor.and_then(|cursor| u64::try_from(cursor).ok()).map(BatchSeq);
    let rows = settings.store.checkpoints_before(&row.id, before, size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.seq.to_string());
    let items = items.into_iter().map(|row| Checkpoint { seq: row.seq.0, committed_at: row.committed_at }).collect();
    Ok(Json(Page { items, next }))
}

/// One committed position.
#[utoipa::path(get, path = "/connections/{id}/checkpoints/{seq}", operation_id = "getCheckpoint",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name."),
        ("seq" = u64, Path, description = "Number of the batch.")),
    responses((status = 200, body = CheckpointDetail), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place((id, seq)): Place<(String, u64)>,
) -> Result<Json<CheckpointDetail>, Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let position = settings.store.checkpoint(&row.id, BatchSeq(seq)).await?;
    Ok(Json(CheckpointDetail { seq, position }))
}

/// Has the next sync start where a batch ended. Refused while a sync holds the connection.
#[utoipa::path(post, path = "/connections/{id}/rewind", operation_id = "rewindState",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")), request_body = RewindSpec,
    responses((status = 202, body = ConnectionState),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn rewind(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Body(RewindSpec { seq, stream }): Body<RewindSpec>,
) -> Result<(StatusCode, Json<ConnectionState>), Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let past = settings.store.checkpoint(&row.id, BatchSeq(seq)).await?;
    let current = settings.store.position(&row.id).await?.map(|(_, position)| position).unwrap_or_default();
    if let Some(stream) = stream.as_deref().filter(|stream| !current.streams.contains_key(*stream)) {
        return Err(Problem::invalid(format!("connection {} has no position for the stream {stream}", row.id)));
    }
    let position = current.rewound(&past, stream.as_deref());
    settings.store.put_position_edit(&row.id, &position, caller.actor(), settings.now_ms()).await?;
    let detail = json!({"stream": stream, "batch": seq});
    workspaced::note(&settings, &caller, "state.rewind", &row, &detail).await?;
    Ok((StatusCode::ACCEPTED, Json(state::read(&settings, &row.id).await?)))
}
