//! Routes of the host key: which there are, a new one, the end of the old ones. No key is ever answered.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    rewrap::{is_unfinished, needs_old_keys, rewrap_all},
};

/// The host keys, by their ids.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostKeys {
    /// The one that wraps.
    pub current: String,
    /// Those that only open what they wrapped.
    pub older: Vec<String>,
    /// When the current one was added, in milliseconds since the epoch; null for the first.
    pub added_at: Option<i64>,
    /// Why the older ones are still needed.
    pub needed_because: Vec<String>,
}

/// What a rotation did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rotation {
    pub keys: HostKeys,
    /// Whether a key was added; false where an interrupted rotation was brought to its end.
    pub added: bool,
    /// Rows with secrets.
    pub rows: u64,
    /// Of these, those that were wrapped anew.
    pub rewrapped: u64,
    /// Rows whose secrets no key opens, by kind and name: set them again.
    pub unopenable: Vec<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(rotate)).routes(routes!(retire))
}

/// The host keys, by their ids.
#[utoipa::path(get, path = "/keys", operation_id = "getKeys", tag = "keys", extensions(("x-roles" = json!(["admin"])), ("x-scope" = json!("installation"))),
    responses((status = 200, body = HostKeys)))]
async fn get(State(settings): State<ControlSettings>) -> Result<Json<HostKeys>, Problem> {
    Ok(Json(describe(&settings).await?))
}

/// Adds a host key and wraps all stored secrets by it; syncs go on meanwhile. An interrupted rotation is brought to its
/// end instead.
#[utoipa::path(post, path = "/keys/rotate", operation_id = "rotateKeys", tag = "keys",
    extensions(("x-roles" = json!(["admin"])), ("x-scope" = json!("installation"))),
    responses((status = 200, body = Rotation),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn rotate(State(settings): State<ControlSettings>, caller: Caller) -> Result<Json<Rotation>, Problem> {
    let now_ms = settings.now_ms();
    let added = !is_unfinished(&settings.store, &settings.keys).await?;
    if added {
        let rotation = settings.rotation.clone();
        off_thread(move || rotation.rotate(now_ms)).await?;
    }
    let told = rewrap_all(&settings.store, &settings.keys).await?;
    let current = settings.keys.ring().current().id().to_string();
    let detail = json!({"added": added, "rows": told.rows, "rewrapped": told.rewrapped});
    settings.store.append_audit(caller.actor(), "key.rotate", &current, &detail, now_ms).await?;
    let keys = describe(&settings).await?;
    let crate::Rewrapped { rows, rewrapped, unopenable } = told;
    Ok(Json(Rotation { keys, added, rows, rewrapped, unopenable }))
}

/// Removes the older host keys, once nothing needs them.
#[utoipa::path(post, path = "/keys/retire", operation_id = "retireKeys", tag = "keys",
    extensions(("x-roles" = json!(["admin"])), ("x-scope" = json!("installation"))),
    responses((status = 200, body = HostKeys),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn retire(State(settings): State<ControlSettings>, caller: Caller) -> Result<Json<HostKeys>, Problem> {
    let now_ms = settings.now_ms();
    let current = settings.keys.ring().current().id();
    let reasons = needs_old_keys(&settings.store, &settings.keys, now_ms).await?;
    if !reasons.is_empty() {
        return Err(Problem::conflict(format!("the older keys are still needed: {}", reasons.join("; "))));
    }
    let rotation = settings.rotation.clone();
    off_thread(move || rotation.retire(current)).await?;
    settings.store.append_audit(caller.actor(), "key.retire", &current.to_string(), &json!({}), now_ms).await?;
    Ok(Json(describe(&settings).await?))
}

/// The key file is a file.
async fn off_thread(
    work: impl FnOnce() -> Result<(), thimble_record::Failure> + Send + 'static,
) -> Result<(), Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|failure| Problem::from_failure(&failure)),
        Err(error) => {
            tracing::error!(%error, "the change of the key file stopped");
            Err(Problem::internal())
        }
    }
}

async fn describe(settings: &ControlSettings) -> Result<HostKeys, Problem> {
    let ring = settings.keys.ring();
    let mut ids = ring.ids().into_iter().map(|id| id.to_string());
    Ok(HostKeys {
        current: ids.next().unwrap_or_default(),
        older: ids.collect(),
        added_at: ring.added().map(|at| at.timestamp_millis()),
        needed_because: needs_old_keys(&settings.store, &settings.keys, settings.now_ms()).await?,
    })
}
