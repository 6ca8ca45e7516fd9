//! Routes of a connection's state: how far it was read, and corrections of it.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_record::{ConnectionId, Position};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    connections::seen as seen_connection,
    extract::{Body, Place},
    workspaced::note,
};

/// How far a connection was read and committed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionState {
    /// Number of the last committed batch; 0 before the first.
    pub seq: u64,
    /// The position by stream; null before the first batch.
    pub position: Option<Value>,
    /// A correction that the next sync will commit; null where there is none.
    pub pending: Option<Value>,
}

/// A correction.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateSpec {
    /// The whole position, in the shape that GET answers.
    #[schema(value_type = Object)]
    pub position: Position,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get, put))
}

/// The state of a connection.
#[utoipa::path(get, path = "/connections/{id}/state", operation_id = "getState",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = ConnectionState), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<ConnectionState>, Problem> {
    let id = seen_connection(&settings, &caller, id).await?.id;
    Ok(Json(read(&settings, &id).await?))
}

/// Corrects the state of a connection; the next sync commits it to the destination and continues from
/// there. Refused while a sync holds the connection.
#[utoipa::path(put, path = "/connections/{id}/state", operation_id = "putState",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")), request_body = StateSpec,
    responses((status = 202, body = ConnectionState),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Body(StateSpec { position }): Body<StateSpec>,
) -> Result<(StatusCode, Json<ConnectionState>), Problem> {
    let row = seen_connection(&settings, &caller, id).await?;
    let id = row.id.clone();
    let now_ms = settings.now_ms();
    settings.store.put_position_edit(&id, &position, caller.actor(), now_ms).await?;
    let detail = json!({"position": position.digest()});
    note(&settings, &caller, "state.set", &row, &detail).await?;
    Ok((StatusCode::ACCEPTED, Json(read(&settings, &id).await?)))
}

pub(crate) async fn read(settings: &ControlSettings, id: &ConnectionId) -> Result<ConnectionState, Problem> {
    let (seq, position) = match settings.store.position(id).await? {
        Some((seq, position)) => (seq.0, Some(json!(position))),
        None => (0, None),
    };
    let pending = settings.store.position_edit(id).await?.map(|edit| json!(edit.position));
    Ok(ConnectionState { seq, position, pending })
}
