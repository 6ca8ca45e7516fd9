//! Routes of a plugin's versions: what differs, which one runs use, pinning and going back.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_engine::upgrade::{self, Version, upgrade};
use thimble_store::{PluginRow, VersionRow};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    extract::{Body, Place},
    plugins::{self, Plugin},
};

/// A version of a plugin that was installed.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginVersion {
    pub version: String,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// Version of the plugin interface.
    pub api_version: String,
    /// Whether runs use it.
    pub active: bool,
    /// Milliseconds since the epoch.
    pub installed_at: i64,
    /// When it last became the one that runs use; null where it never did.
    pub activated_at: Option<i64>,
}

impl From<VersionRow> for PluginVersion {
    fn from(row: VersionRow) -> Self {
        let VersionRow { plugin, active, activated_at } = row;
        let PluginRow { version, digest, api_version, installed_at, .. } = plugin;
        Self { version, digest, api_version, active, installed_at, activated_at }
    }
}

/// The versions of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginVersions {
    /// The last installed first.
    pub items: Vec<PluginVersion>,
}

/// A version, and what would change if runs used it.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionDetail {
    #[serde(flatten)]
    pub version: PluginVersion,
    /// What it asks for.
    pub permissions: Value,
    /// JSON Schema of a connection's configuration.
    pub config_schema: Value,
    /// Markdown.
    pub docs: String,
    /// Compared with the active version: `hosts`, `reads_secrets`, `memory_mib`, `settings`, and whether it
    /// `asks_for_more` or is `breaking`.
    #[schema(value_type = Object)]
    pub upgrade: upgrade::Upgrade,
}

/// Consent to what a version changes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActivateSpec {
    /// Must be true where the version asks for more than the active one. Grants stay as they are in any case.
    pub accept_permissions: bool,
    /// Must be true where configurations of the active version may be refused.
    pub accept_breaking: bool,
}

/// Whether a plugin stays at its version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub pinned: bool,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, remove))
        .routes(routes!(activate))
        .routes(routes!(roll_back))
        .routes(routes!(pin))
}

/// The versions of a plugin that were installed.
#[utoipa::path(get, path = "/plugins/{name}/versions", operation_id = "listPluginVersions",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")),
    responses((status = 200, body = PluginVersions), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(settings): State<ControlSettings>,
    Place(name): Place<String>,
) -> Result<Json<PluginVersions>, Problem> {
    let rows = settings.store.plugin_versions(&name).await?;
    Ok(Json(PluginVersions { items: rows.into_iter().map(PluginVersion::from).collect() }))
}

/// One version, and what would change if runs used it.
#[utoipa::path(get, path = "/plugins/{name}/versions/{digest}", operation_id = "getPluginVersion",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name."),
        ("digest" = String, Path, description = "SHA-256 of the component, hex.")),
    responses((status = 200, body = VersionDetail), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    Place((name, digest)): Place<(String, String)>,
) -> Result<Json<VersionDetail>, Problem> {
    let row = version(&settings, &name, &digest).await?;
    let upgrade = difference(&settings, &name, &row.plugin).await?;
    let PluginRow { permissions, config_schema, docs, .. } = row.plugin.clone();
    Ok(Json(VersionDetail { version: row.into(), permissions, config_schema, docs, upgrade }))
}

pub(crate) async fn version(settings: &ControlSettings, name: &str, digest: &str) -> Result<VersionRow, Problem> {
    let rows = settings.store.plugin_versions(name).await?;
    rows.into_iter()
        .find(|row| row.plugin.digest == digest)
        .ok_or_else(|| Problem::not_found("version", &format!("{name} {digest}")))
}

async fn difference(
    settings: &ControlSettings,
    name: &str,
    candidate: &PluginRow,
) -> Result<upgrade::Upgrade, Problem> {
    let active = settings.store.plugin(name).await?;
    Ok(upgrade(of(&active), of(candidate)))
}

fn of(row: &PluginRow) -> Version<'_> {
    Version { permissions: &row.permissions, config_schema: &row.config_schema, api_version: &row.api_version }
}

/// Has runs use a version, from the next run on. What it asks for beyond the active one has to be accepted.
#[utoipa::path(post, path = "/plugins/{name}/versions/{digest}/activate", operation_id = "activatePluginVersion",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name."),
        ("digest" = String, Path, description = "SHA-256 of the component, hex.")),
    request_body = ActivateSpec,
    responses((status = 200, body = Plugin), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn activate(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place((name, digest)): Place<(String, String)>,
    Body(ActivateSpec { accept_permissions, accept_breaking }): Body<ActivateSpec>,
) -> Result<Json<Plugin>, Problem> {
    let row = version(&settings, &name, &digest).await?;
    let upgrade = difference(&settings, &name, &row.plugin).await?;
    if upgrade.asks_for_more && !accept_permissions {
        return Err(Problem::conflict(format!(
            "version {} asks for more than the active one (hosts: {}; secrets: {}): look at the version's `upgrade`, and activate it with `accept_permissions`",
            row.plugin.version,
            listed(&upgrade.hosts.added),
            listed(&upgrade.reads_secrets.added),
        )));
    }
    if upgrade.breaking && !accept_breaking {
        let told = upgrade.settings.iter().filter(|change| change.breaking);
        let told: Vec<_> = told.map(|change| format!("`{}` {}", change.setting, change.change)).collect();
        return Err(Problem::conflict(format!(
            "version {} may refuse configurations of its connections ({}): activate it with `accept_breaking`",
            row.plugin.version,
            told.join("; "),
        )));
    }
    let now_ms = settings.now_ms();
    let activated = settings.store.activate_version(&name, &digest, now_ms).await?;
    let detail = json!({"version": activated.version, "digest": digest, "upgrade": upgrade});
    settings.store.append_audit(caller.actor(), "plugin.activate", &name, &detail, now_ms).await?;
    Ok(Json(plugins::shown(&settings, activated).await?))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Goes back to the version that runs used before.
#[utoipa::path(post, path = "/plugins/{name}/rollback", operation_id = "rollBackPlugin",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")),
    responses((status = 200, body = Plugin), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn roll_back(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<Json<Plugin>, Problem> {
    let now_ms = settings.now_ms();
    let row = settings.store.roll_back(&name, now_ms).await?;
    let detail = json!({"version": row.version, "digest": row.digest});
    settings.store.append_audit(caller.actor(), "plugin.rollback", &name, &detail, now_ms).await?;
    Ok(Json(plugins::shown(&settings, row).await?))
}

/// Pins a plugin to its present version, or lets it go. While it is pinned, other versions are kept and not used.
#[utoipa::path(put, path = "/plugins/{name}/pin", operation_id = "pinPlugin",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")), request_body = Pin,
    responses((status = 200, body = Pin), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn pin(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    Body(Pin { pinned }): Body<Pin>,
) -> Result<Json<Pin>, Problem> {
    settings.store.pin_plugin(&name, pinned).await?;
    let detail = json!({"pinned": pinned});
    settings.store.append_audit(caller.actor(), "plugin.pin", &name, &detail, settings.now_ms()).await?;
    Ok(Json(Pin { pinned }))
}

/// Forgets a version that runs do not use.
#[utoipa::path(delete, path = "/plugins/{name}/versions/{digest}", operation_id = "removePluginVersion",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name."),
        ("digest" = String, Path, description = "SHA-256 of the component, hex.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place((name, digest)): Place<(String, String)>,
) -> Result<StatusCode, Problem> {
    settings.store.remove_version(&name, &digest).await?;
    let detail = json!({"digest": digest});
    settings.store.append_audit(caller.actor(), "plugin.version.remove", &name, &detail, settings.now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}
