//! Routes of plugins: list, look, upload, remove.

use axum::{
    Json,
    body::Body as HttpBody,
    extract::{Request, State},
    http::{HeaderName, StatusCode, header},
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use thimble_registry::is_manifest;
use thimble_store::{NewRun, PluginRow, RunKind, Trigger};
use tokio::io::AsyncWriteExt;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, Role, component,
    extract::{Params, Place},
    limits::{MAX_COMPONENT_BYTES, MAX_MANIFEST_BYTES, MAX_PENDING_INSTALLS},
    page::{Page, PageParams, cut},
    runs::{self, Run},
};

/// An installed connector.
#[derive(Debug, Serialize, ToSchema)]
pub struct Plugin {
    pub name: String,
    pub version: String,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// Version of the plugin interface.
    pub api_version: String,
    pub title: String,
    /// Markdown.
    pub docs: String,
    /// JSON Schema of a connection's configuration; secret fields carry `"x-secret": true`.
    pub config_schema: Value,
    /// What it asks for: hosts, memory, secrets that it must see.
    pub permissions: Value,
    /// The host patterns that it may reach.
    pub grants: Vec<String>,
    /// Whether it stays at this version, whatever is installed.
    pub pinned: bool,
    /// Milliseconds since the epoch.
    pub installed_at: i64,
}

impl Plugin {
    fn new(row: PluginRow, grants: Vec<String>, pinned: bool) -> Self {
        let PluginRow { name, version, digest, api_version, title, docs, config_schema, permissions, installed_at } =
            row;
        Self {
            name,
            version,
            digest,
            api_version,
            title,
            docs,
            config_schema,
            permissions,
            grants,
            pinned,
            installed_at,
        }
    }
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, remove))
}

/// Apart from the others, because a body may be larger and take longer.
pub(crate) fn upload_routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(upload))
}

/// The installed plugins, by name.
#[utoipa::path(get, path = "/plugins", operation_id = "listPlugins",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "plugins", params(PageParams),
    responses((status = 200, body = Page<Plugin>)))]
async fn list(
    State(settings): State<ControlSettings>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Plugin>>, Problem> {
    let Page { items, next } = cut(settings.store.plugins().await?, &params, |row| row.name.as_str());
    let mut plugins = Vec::with_capacity(items.len());
    for row in items {
        plugins.push(shown(&settings, row).await?);
    }
    Ok(Json(Page { items: plugins, next }))
}

/// One plugin.
#[utoipa::path(get, path = "/plugins/{name}", operation_id = "getPlugin",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")),
    responses((status = 200, body = Plugin), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(State(settings): State<ControlSettings>, Place(name): Place<String>) -> Result<Json<Plugin>, Problem> {
    Ok(Json(shown(&settings, settings.store.plugin(&name).await?).await?))
}

/// A plugin with what it was granted.
pub(crate) async fn shown(settings: &ControlSettings, row: PluginRow) -> Result<Plugin, Problem> {
    let grants = settings.store.grants(&row.name).await?;
    let pinned = settings.store.plugin_standing(&row.name).await?.pinned;
    Ok(Plugin::new(row, grants, pinned))
}

/// Removes a plugin and its grants. Refused while a connection uses it.
#[utoipa::path(delete, path = "/plugins/{name}", operation_id = "removePlugin",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<StatusCode, Problem> {
    let removed = settings.store.remove_plugin(&name).await?;
    let detail = json!({"version": removed.version, "digest": removed.digest});
    settings.store.append_audit(caller.actor(), "plugin.remove", &name, &detail, settings.now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether runs use what is installed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UploadParams {
    /// `safe` (absent): runs use it unless it asks for more than the active version, may refuse configurations of its
    /// connections, or the plugin is pinned; `never`: it is kept for a look.
    #[serde(default)]
    #[param(inline)]
    activate: Activate,
}

/// Whether runs use what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activate {
    #[default]
    Safe,
    Never,
}

/// Uploads a component and queues its installation. The run says what became of it, and whether it is active.
#[utoipa::path(post, path = "/plugins", operation_id = "installPlugin",
    extensions(("x-roles" = json!(["operator", "author", "admin"]))), tag = "plugins",
    params(UploadParams),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component's bytes, or a declarative manifest in YAML or JSON."),
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the run."))),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")))]
async fn upload(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(UploadParams { activate }): Params<UploadParams>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    refuse_too_many(&settings).await?;
    let origin = json!({"upload": true});
    install(&settings, &caller, request.into_body(), activate, origin).await
}

/// Refuses where too many installations wait.
pub(crate) async fn refuse_too_many(settings: &ControlSettings) -> Result<(), Problem> {
    let pending = settings.store.unfinished_runs().await?;
    if pending.iter().filter(|run| run.kind == RunKind::Install).count() < MAX_PENDING_INSTALLS {
        return Ok(());
    }
    let detail = format!("{MAX_PENDING_INSTALLS} installations are waiting: try again when some have ended");
    Err(Problem::busy(detail))
}

/// Keeps a component and queues its installation; `origin` says in the audit log where it came from.
pub(crate) async fn install(
    settings: &ControlSettings,
    caller: &Caller,
    component: impl Into<HttpBody>,
    activate: Activate,
    origin: Value,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    // What runs use is for others to decide than its author.
    let activate = if caller.role == Role::Author { Activate::Never } else { activate };
    let digest = keep(settings, component.into()).await?;
    if let Some(shared) = &settings.shared_uploads {
        let file = settings.blobs_dir.join(format!("{digest}.wasm"));
        let kept = shared.share(&digest, &file).await;
        // Any host may execute the run; this one's copy would stay.
        let removed = tokio::fs::remove_file(&file).await;
        kept.map_err(|failure| Problem::from_failure(&failure))?;
        removed.map_err(|error| Problem::from_io(&error, "sharing an uploaded component"))?;
    }
    let new = NewRun {
        request: json!({"blob": format!("{digest}.wasm"), "digest": digest, "activate": activate}),
        ..NewRun::install(format!("sha256:{digest}"), Trigger::Api)
    };
    let now_ms = settings.now_ms();
    let row = settings.store.enqueue(&new, now_ms).await?;
    settings.signals.wake();
    let detail = json!({"run": row.id, "origin": origin});
    settings.store.append_audit(caller.actor(), "plugin.upload", &digest, &detail, now_ms).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, runs::location(&row.id))], Json(row.into())))
}

/// Writes the body to `<blobs_dir>/<sha256>.wasm` and answers the SHA-256. An upload that ends early
/// leaves nothing.
async fn keep(settings: &ControlSettings, body: HttpBody) -> Result<String, Problem> {
    let failed = |error: std::io::Error| Problem::from_io(&error, "keeping an uploaded component");
    let file = NamedTempFile::new_in(&settings.blobs_dir).map_err(failed)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    let (mut start, mut length, mut hash) = (Vec::new(), 0_u64, Sha256::new());
    let mut manifest = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::malformed(StatusCode::BAD_REQUEST, "the upload broke off before its end: send it again")
        })?;
        length += chunk.len() as u64;
        if length > MAX_COMPONENT_BYTES {
            return Err(Problem::too_large(MAX_COMPONENT_BYTES));
        }
        if start.len() < component::PREAMBLE {
            start.extend(chunk.iter().take(component::PREAMBLE - start.len()));
            let complete = start.len() == component::PREAMBLE;
            refuse(&start, complete && !component::may_be_text(&start))?;
        }
        if component::may_be_text(&start) {
            refuse(&start, manifest.len() + chunk.len() > MAX_MANIFEST_BYTES)?;
            manifest.extend_from_slice(&chunk);
        }
        hash.update(&chunk);
        writer.write_all(&chunk).await.map_err(failed)?;
    }
    refuse(&start, !is_manifest(&manifest))?;
    writer.sync_all().await.map_err(failed)?;
    let digest = hex::encode(hash.finalize());
    file.persist(settings.blobs_dir.join(format!("{digest}.wasm"))).map_err(|error| failed(error.error))?;
    Ok(digest)
}

fn refuse(start: &[u8], complete: bool) -> Result<(), Problem> {
    match component::refusal(start) {
        Some(reason) if complete => Err(Problem::invalid(reason)),
        _ => Ok(()),
    }
}
