//! Routes of connections. Secrets go in and never come out.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_engine::{retry::RunRetry, schedule::Schedule, span::Span};
use thimble_record::{ConnectionId, StreamSelection, envelope::SecretRow};
use thimble_store::{ConnectionRow, StoreError};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    etag::{self, etag},
    extract::{Body, Params, Place, connection_id},
    page::{Page, PageParams, from_overfull, page_size},
    schedule::ScheduleSettings,
    workspaced::{self, note, put_status},
};

fn selections_schema() -> utoipa::openapi::Schema {
    utoipa::openapi::ArrayBuilder::new()
        .items(utoipa::openapi::RefOr::T(setting_schema::<StreamSelection>()))
        .build()
        .into()
}

/// A value of the settings, for the OpenAPI document: its JSON Schema as the configuration file's.
fn setting_schema<T: JsonSchema>() -> utoipa::openapi::Schema {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("$schema");
    serde_json::from_value(schema.to_value()).expect("OpenAPI 3.1 takes JSON Schema as it is")
}

fn schedule_schema() -> utoipa::openapi::Schema {
    setting_schema::<Schedule>()
}

fn schedules_schema() -> utoipa::openapi::Schema {
    let streams = utoipa::openapi::RefOr::T(schedule_schema());
    utoipa::openapi::ObjectBuilder::new().additional_properties(Some(streams)).build().into()
}

fn retry_schema() -> utoipa::openapi::Schema {
    setting_schema::<RunRetry>()
}

/// A connection to be. Gives either `source`, or `plugin` and `config`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Name of a source, whose plugin and configuration it uses.
    #[serde(default)]
    pub source: Option<String>,
    /// Name of an installed plugin.
    #[serde(default)]
    pub plugin: Option<String>,
    /// By the plugin's `config_schema`. A secret is given by its value, or by `{"$secret": true}` to keep
    /// the stored one.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub config: Option<serde_json::Map<String, Value>>,
    /// Empty or absent: all streams.
    #[serde(default)]
    #[schema(schema_with = selections_schema)]
    pub streams: Vec<StreamSelection>,
    /// `{"name": …}`; absent: the installation's default destination.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub destination: Option<serde_json::Map<String, Value>>,
    /// Absent: the caller's own, or `default`. A connection never changes its workspace.
    #[serde(default)]
    pub workspace: Option<String>,
    /// Whether its schedules rest.
    #[serde(default)]
    pub paused: bool,
    /// When it runs by itself. Absent: only when somebody asks.
    #[serde(default)]
    #[schema(schema_with = schedule_schema)]
    pub schedule: Option<Schedule>,
    /// Schedules of single streams, by name. The connection's own leaves these streams out.
    #[serde(default)]
    #[schema(schema_with = schedules_schema)]
    pub stream_schedules: BTreeMap<String, Schedule>,
    /// When a scheduled run that failed is run again. Absent: 3 retries, after 30s, 1m and 2m.
    #[serde(default)]
    #[schema(schema_with = retry_schema)]
    pub retry: Option<RunRetry>,
    /// A run that takes longer is stopped and counts as failed: `30m`. Absent: it may take its time.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub max_duration: Option<Span>,
    /// How old the destination's rows may become before an alert opens: `6h`; at least `1s`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub freshness: Option<Span>,
    /// The same in milliseconds, as earlier versions had it; not beside `freshness`.
    #[serde(default)]
    #[schema(deprecated)]
    pub freshness_ms: Option<i64>,
}

/// A connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    pub id: String,
    pub workspace: String,
    /// The source whose plugin and configuration it uses; null where they are its own.
    pub source: Option<String>,
    pub plugin: String,
    /// `{"$secret": true}` stands where a secret is stored.
    pub config: Value,
    /// Empty: all streams.
    #[schema(schema_with = selections_schema)]
    pub streams: Vec<StreamSelection>,
    /// Null: the installation's default destination.
    pub destination: Option<Value>,
    /// The streams that the source offered when it was last asked; null before that.
    pub catalog: Option<Value>,
    /// Whether its schedules rest.
    pub paused: bool,
    /// Why they rest, where nobody asked for it.
    pub paused_why: Option<String>,
    /// When it runs by itself; null: only when somebody asks.
    #[schema(value_type = Option<Object>)]
    pub schedule: Option<Value>,
    /// Schedules of single streams, by name.
    #[schema(value_type = Object)]
    pub stream_schedules: Value,
    /// When a scheduled run that failed is run again; null: by default.
    #[schema(value_type = Option<Object>)]
    pub retry: Option<Value>,
    /// A run that takes longer is stopped; null: it may take its time.
    #[schema(value_type = Option<String>)]
    pub max_duration: Option<Span>,
    /// How old the destination's rows may become before an alert opens; null where nobody said.
    #[schema(value_type = Option<String>)]
    pub freshness: Option<Span>,
    /// Who is told after each load, by name; changed at `/connections/{id}/hooks`.
    pub hooks: Value,
    /// Counts its changes; also the entity tag.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
}

impl From<ConnectionRow> for Connection {
    fn from(row: ConnectionRow) -> Self {
        Self {
            id: row.id.into(),
            workspace: row.workspace,
            source: row.source,
            plugin: row.plugin,
            config: row.config,
            streams: row.streams,
            destination: row.destination,
            catalog: row.catalog.map(|catalog| json!(catalog)),
            paused: row.paused,
            paused_why: row.paused_why,
            schedule: row.schedule,
            stream_schedules: row.stream_schedules,
            retry: row.retry,
            max_duration: row.max_duration_ms.and_then(span_of),
            freshness: row.freshness_ms.and_then(span_of),
            hooks: if row.hooks.is_object() { row.hooks } else { json!({}) },
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn span_of(millis: i64) -> Option<Span> {
    u64::try_from(millis).ok().map(|millis| Span(Duration::from_millis(millis)))
}

/// The objective in milliseconds, in whichever form it was given.
fn objective(freshness: Option<Span>, freshness_ms: Option<i64>) -> Result<Option<i64>, Problem> {
    let millis = match (freshness, freshness_ms) {
        (Some(_), Some(_)) => return Err(Problem::invalid("give either `freshness` or `freshness_ms`")),
        (Some(span), None) => Some(span.signed_millis()),
        (None, millis) => millis,
    };
    if millis.is_some_and(|millis| millis < 1_000) {
        return Err(Problem::invalid("freshness: give at least 1s"));
    }
    Ok(millis)
}

/// A connection that exists for the caller.
pub(crate) async fn seen(settings: &ControlSettings, caller: &Caller, id: String) -> Result<ConnectionRow, Problem> {
    workspaced::seen(caller, settings.store.connection(&connection_id(id)?).await)
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove))
}

/// The connections, by name.
#[utoipa::path(get, path = "/connections", operation_id = "listConnections",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections", params(PageParams),
    responses((status = 200, body = Page<Connection>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Connection>>, Problem> {
    let size = page_size(params.limit);
    let after = params.cursor.as_deref().unwrap_or("");
    let rows = settings.store.connections_page(caller.workspace.as_deref(), after, size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.id.to_string());
    Ok(Json(Page { items: items.into_iter().map(Connection::from).collect(), next }))
}

/// One connection.
#[utoipa::path(get, path = "/connections/{id}", operation_id = "getConnection",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = Connection, headers(("ETag" = String, description = "The version."))),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<([(HeaderName, String); 1], Json<Connection>), Problem> {
    let row = seen(&settings, &caller, id).await?;
    Ok((etag(row.version), Json(row.into())))
}

/// Creates or replaces a connection.
#[utoipa::path(put, path = "/connections/{id}", operation_id = "putConnection",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "1 to 64 lower-case letters, digits, '-' or '_'."),
        ("If-Match" = Option<String>, Header, description = "The version that is to be replaced."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not exist yet.")),
    request_body = ConnectionSpec,
    responses((status = 200, body = Connection), (status = 201, body = Connection),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    headers: HeaderMap,
    Body(spec): Body<ConnectionSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Connection>), Problem> {
    let id = connection_id(id)?;
    let expected = etag::expected(&headers)?;
    let stored = workspaced::replaced(&caller, settings.store.connection(&id).await)?;
    let now_ms = settings.now_ms();
    let row = row(&settings, &caller, id, spec, stored.as_ref()).await?;
    let created = settings.store.put_connection(&row, expected, now_ms).await?;
    let detail = json!({"plugin": row.plugin, "created": created});
    note(&settings, &caller, "connection.put", &row, &detail).await?;
    settings.signals.wake();
    let row = settings.store.connection(&row.id).await?;
    Ok((put_status(created), etag(row.version), Json(row.into())))
}

/// The row that a specification leads to, secrets sealed.
async fn row(
    settings: &ControlSettings,
    caller: &Caller,
    id: ConnectionId,
    spec: ConnectionSpec,
    stored: Option<&ConnectionRow>,
) -> Result<ConnectionRow, Problem> {
    let ConnectionSpec { source, plugin, config, streams, destination, workspace, paused, .. } = spec;
    let ConnectionSpec { schedule, stream_schedules, retry, max_duration, freshness, freshness_ms, .. } = spec;
    let freshness_ms = objective(freshness, freshness_ms)?;
    let scheduled = ScheduleSettings { schedule, stream_schedules, retry, max_duration };
    let workspace = workspaced::home(caller, stored, workspace)?;
    let row = match (source, plugin, config) {
        (Some(name), None, None) => {
            let unknown = || Problem::invalid(format!("there is no source named {name:?} in workspace {workspace:?}"));
            let source = settings.store.source(&name).await.map_err(|error| match error {
                StoreError::NotFound { .. } => unknown(),
                other => other.into(),
            })?;
            if source.workspace != workspace {
                return Err(unknown());
            }
            ConnectionRow { source: Some(name), ..ConnectionRow::new(id, source.plugin, source.config) }
        }
        (None, Some(plugin), Some(config)) => {
            own(settings, id, &workspace, plugin, Value::Object(config), stored).await?
        }
        _ => return Err(Problem::invalid("give either `source`, or `plugin` and `config`")),
    };
    let same_pause = stored.is_some_and(|stored| stored.paused == paused);
    let mut row = ConnectionRow {
        streams,
        destination: destination.map(Value::Object),
        workspace,
        paused,
        freshness_ms,
        hooks: stored.map_or_else(|| Value::Array(Vec::new()), |stored| stored.hooks.clone()),
        paused_why: stored.filter(|_| same_pause).and_then(|stored| stored.paused_why.clone()),
        ..row
    };
    scheduled.validate(&row).map_err(|reason| Problem::invalid(format!("connection {}: {reason}", row.id)))?;
    scheduled.write(&mut row);
    Ok(row)
}

/// A connection with a plugin and a configuration of its own.
async fn own(
    settings: &ControlSettings,
    id: ConnectionId,
    workspace: &str,
    plugin: String,
    config: Value,
    stored: Option<&ConnectionRow>,
) -> Result<ConnectionRow, Problem> {
    let secrets_of = SecretRow::connection(workspace, id.as_str());
    let installed = settings.store.plugin(&plugin).await.map_err(|error| match error {
        StoreError::NotFound { .. } => Problem::invalid(format!("plugin {plugin:?} is not installed")),
        other => other.into(),
    })?;
    // Another plugin's secrets are none of this plugin's business, and a source's are not the connection's.
    let stored = stored.filter(|stored| stored.plugin == plugin && stored.source.is_none());
    let (config, secrets) = settings
        .sealer
        .seal(&secrets_of, &installed.config_schema, config, stored.map(|stored| &stored.secrets))
        .map_err(|failure| Problem::from_failure(&failure))?;
    let catalog = stored.and_then(|stored| stored.catalog.clone());
    Ok(ConnectionRow { secrets, catalog, ..ConnectionRow::new(id, plugin, config) })
}

/// Deletes a connection with its state. What it loaded stays at the destination.
#[utoipa::path(delete, path = "/connections/{id}", operation_id = "deleteConnection",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    let row = seen(&settings, &caller, id).await?;
    settings.store.delete_connection(&row.id).await?;
    note(&settings, &caller, "connection.delete", &row, &json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}
