//! Routes of sources: a plugin with its configuration under a name, for any number of connections.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_record::envelope::SecretRow;
use thimble_store::{SourceRow, StoreError};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    etag::{self, etag},
    extract::{Body, Params, Place, connection_id},
    page::{Page, PageParams, from_overfull, page_size},
    workspaced::{self, note, put_status},
};

/// A source to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Name of an installed plugin.
    pub plugin: String,
    /// By the plugin's `config_schema`. A secret is given by its value, or by `{"$secret": true}` to keep
    /// the stored one.
    #[schema(value_type = Object)]
    pub config: serde_json::Map<String, Value>,
    /// Absent: the caller's own, or `default`. A source never changes its workspace.
    #[serde(default)]
    pub workspace: Option<String>,
}

/// A source.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    pub name: String,
    pub workspace: String,
    pub plugin: String,
    /// `{"$secret": true}` stands where a secret is stored.
    pub config: Value,
    /// The streams that it offered when it was last asked; null before that.
    pub catalog: Option<Value>,
    /// Counts its changes; also the entity tag.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
}

impl From<SourceRow> for Source {
    fn from(row: SourceRow) -> Self {
        let SourceRow { name, workspace, plugin, config, secrets: _, catalog, created_at, updated_at, version } = row;
        let catalog = catalog.map(|catalog| json!(catalog));
        Self { name, workspace, plugin, config, catalog, version, created_at, updated_at }
    }
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove))
}

/// The sources, by name.
#[utoipa::path(get, path = "/sources", operation_id = "listSources",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "sources", params(PageParams),
    responses((status = 200, body = Page<Source>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Source>>, Problem> {
    let size = page_size(params.limit);
    let after = params.cursor.as_deref().unwrap_or("");
    let rows = settings.store.sources(caller.workspace.as_deref(), after, size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.name.clone());
    Ok(Json(Page { items: items.into_iter().map(Source::from).collect(), next }))
}

/// One source.
#[utoipa::path(get, path = "/sources/{name}", operation_id = "getSource",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "sources",
    params(("name" = String, Path, description = "The source's name.")),
    responses((status = 200, body = Source, headers(("ETag" = String, description = "The version."))),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<([(HeaderName, String); 1], Json<Source>), Problem> {
    let row = seen(&settings, &caller, &name).await?;
    Ok((etag(row.version), Json(row.into())))
}

async fn seen(settings: &ControlSettings, caller: &Caller, name: &str) -> Result<SourceRow, Problem> {
    workspaced::seen(caller, settings.store.source(name).await)
}

/// Creates or replaces a source. Its connections use the new configuration from their next run on.
#[utoipa::path(put, path = "/sources/{name}", operation_id = "putSource",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "sources",
    params(("name" = String, Path, description = "1 to 64 lower-case letters, digits, '-' or '_'."),
        ("If-Match" = Option<String>, Header, description = "The version that is to be replaced."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not exist yet.")),
    request_body = SourceSpec,
    responses((status = 200, body = Source), (status = 201, body = Source),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    headers: HeaderMap,
    Body(SourceSpec { plugin, config, workspace }): Body<SourceSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Source>), Problem> {
    // The same letters as a connection's name.
    let name = String::from(connection_id(name)?);
    let expected = etag::expected(&headers)?;
    let stored = workspaced::replaced(&caller, settings.store.source(&name).await)?;
    let workspace = workspaced::home(&caller, stored.as_ref(), workspace)?;
    let installed = settings.store.plugin(&plugin).await.map_err(|error| match error {
        StoreError::NotFound { .. } => Problem::invalid(format!("plugin {plugin:?} is not installed")),
        other => other.into(),
    })?;
    // Another plugin's secrets are none of this plugin's business.
    let kept = stored.filter(|stored| stored.plugin == plugin);
    let (config, secrets) = settings
        .sealer
        .seal(
            &SecretRow::new(&workspace, "source", &name),
            &installed.config_schema,
            Value::Object(config),
            kept.as_ref().map(|stored| &stored.secrets),
        )
        .map_err(|failure| Problem::from_failure(&failure))?;
    let row = SourceRow {
        name,
        workspace,
        plugin,
        config,
        secrets,
        catalog: kept.and_then(|stored| stored.catalog),
        created_at: 0,
        updated_at: 0,
        version: 0,
    };
    let created = settings.store.put_source(&row, expected, settings.now_ms()).await?;
    let detail = json!({"plugin": row.plugin, "created": created});
    note(&settings, &caller, "source.put", &row, &detail).await?;
    settings.signals.wake();
    let row = settings.store.source(&row.name).await?;
    Ok((put_status(created), etag(row.version), Json(row.into())))
}

/// Deletes a source. Refused while a connection uses it.
#[utoipa::path(delete, path = "/sources/{name}", operation_id = "deleteSource",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "sources",
    params(("name" = String, Path, description = "The source's name.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<StatusCode, Problem> {
    let row = seen(&settings, &caller, &name).await?;
    settings.store.delete_source(&name).await?;
    note(&settings, &caller, "source.delete", &row, &json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}
