//! Route of a canary: has a version of a plugin read again what a sync read, before runs use it.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode},
};
use serde::Deserialize;
use serde_json::json;
use thimble_store::{NewRun, RunKind, Trigger};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, connections,
    extract::{Body, Place},
    runs::{self, Run},
    versions,
};

/// What a version is tried on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanarySpec {
    /// A connection of the plugin.
    pub connection: String,
    /// A sync of it that succeeded; absent: the last one.
    #[serde(default)]
    pub run: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(create))
}

/// Queues a run in which a version reads again what a recorded sync read, from the position that stood before it. Nothing is
/// loaded and no position moves. The run's report holds under `answer` the `verdict` (`same`, `differs` or `failed`), the
/// `sentences` behind it, and per stream the records and fields beside those recorded.
#[utoipa::path(post, path = "/plugins/{name}/versions/{digest}/canary", operation_id = "tryPluginVersion",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name."),
        ("digest" = String, Path, description = "SHA-256 of the component, hex.")),
    request_body = CanarySpec,
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the run."))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place((name, digest)): Place<(String, String)>,
    Body(CanarySpec { connection, run }): Body<CanarySpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let version = versions::version(&settings, &name, &digest).await?;
    let connection = connections::seen(&settings, &caller, connection).await?;
    if connection.plugin != name {
        let detail = format!("connection {} uses plugin {}, not {name}", connection.id, connection.plugin);
        return Err(Problem::conflict(detail));
    }
    let recorded = match run {
        Some(run) => runs::seen(&settings, &caller, run).await?,
        None => settings.store.last_recording(&connection.id).await?.ok_or_else(|| {
            let detail = format!("connection {} has no sync that succeeded lately: sync it first", connection.id);
            Problem::conflict(detail)
        })?,
    };
    if recorded.connection.as_ref() != Some(&connection.id) || !recorded.is_recording() {
        return Err(Problem::conflict(format!(
            "run {} cannot be read again: name a sync of connection {} that succeeded and read its source",
            recorded.id, connection.id
        )));
    }
    let request = json!({"digest": version.plugin.digest, "recorded": recorded.id});
    let new = NewRun { request, ..NewRun::on(connection.id.clone(), RunKind::Canary, Trigger::Api) };
    runs::queue(&settings, &caller, &connection, new, "plugin.canary").await
}
