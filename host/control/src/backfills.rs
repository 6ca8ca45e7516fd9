//! Routes of backfills: parts of a source that are read again beside the live position.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thimble_record::Position;
use thimble_store::{NewRun, RunKind, Trigger};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, connections,
    extract::{Body, Place},
    runs::{self, Run},
};

/// A backfill to be. Asked for again by the same name, one that was interrupted goes on where it stopped.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillSpec {
    /// 1 to 64 lower-case letters, digits, `-` or `_`.
    pub name: String,
    /// Only these streams; absent or empty: all selected ones.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Settings of the connector that differ for this read, such as its start and end dates; no secrets.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub config: Map<String, Value>,
}

/// A backfill that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct Backfill {
    pub name: String,
    /// Its streams, each with how far it was read, in the shape of a connection's state.
    #[schema(value_type = Object)]
    pub streams: Value,
}

/// The backfills of a connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct Backfills {
    pub items: Vec<Backfill>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list, create))
}

/// The backfills that were begun, with how far each came.
#[utoipa::path(get, path = "/connections/{id}/backfills", operation_id = "listBackfills",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = Backfills), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Backfills>, Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let position = settings.store.position(&row.id).await?;
    let Position { backfills, .. } = position.map(|(_, position)| position).unwrap_or_default();
    let items = backfills.into_iter().map(|(name, streams)| Backfill { name, streams: json!(streams) }).collect();
    Ok(Json(Backfills { items }))
}

/// Queues a run that reads a part of the source again; the live position stays as it is.
#[utoipa::path(post, path = "/connections/{id}/backfills", operation_id = "createBackfill",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")), request_body = BackfillSpec,
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the run."))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Body(BackfillSpec { name, streams, config }): Body<BackfillSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(Problem::invalid(format!(
            "the backfill's name {name:?} is not allowed: use 1 to 64 lower-case letters, digits, '-' or '_'"
        )));
    }
    let request = json!({"streams": streams, "backfill": {"name": name, "config": config}});
    let new = NewRun { request, ..NewRun::on(row.id.clone(), RunKind::Sync, Trigger::Api) };
    runs::queue(&settings, &caller, &row, new, "backfill.create").await
}
