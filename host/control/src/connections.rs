//! Routes of connections. Secrets go in and never come out.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_record::{StreamSelection, envelope::SecretRow};
use thimble_store::{ConnectionRow, StoreError};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ControlSettings, Problem,
    extract::{Body, Params, Place, connection_id},
    page::{Page, PageParams, cut},
};

/// One selected stream, for the OpenAPI document: its JSON Schema as the configuration file's.
fn selection_schema() -> utoipa::openapi::Schema {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<StreamSelection>();
    schema.remove("$schema");
    serde_json::from_value(schema.to_value()).expect("OpenAPI 3.1 takes JSON Schema as it is")
}

fn selections_schema() -> utoipa::openapi::Schema {
    utoipa::openapi::ArrayBuilder::new().items(utoipa::openapi::RefOr::T(selection_schema())).build().into()
}

/// A connection to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Name of an installed plugin.
    pub plugin: String,
    /// By the plugin's `config_schema`. A secret is given by its value, or by `{"$secret": true}` to keep
    /// the stored one.
    #[schema(value_type = Object)]
    pub config: serde_json::Map<String, Value>,
    /// Empty or absent: all streams.
    #[serde(default)]
    #[schema(schema_with = selections_schema)]
    pub streams: Vec<StreamSelection>,
    /// Absent: the installation's default destination.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub destination: Option<serde_json::Map<String, Value>>,
}

/// A connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    pub id: String,
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
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
}

impl From<ConnectionRow> for Connection {
    fn from(row: ConnectionRow) -> Self {
        let ConnectionRow { id, plugin, config, secrets: _, streams, destination, catalog, created_at, updated_at } =
            row;
        Self {
            id: id.into(),
            plugin,
            config,
            streams,
            destination,
            catalog: catalog.map(|catalog| json!(catalog)),
            created_at,
            updated_at,
        }
    }
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove))
}

/// The connections, by name.
#[utoipa::path(get, path = "/connections", operation_id = "listConnections", tag = "connections", params(PageParams),
    responses((status = 200, body = Page<Connection>)))]
async fn list(
    State(settings): State<ControlSettings>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Connection>>, Problem> {
    let Page { items, next } = cut(settings.store.connections().await?, &params, |row| row.id.as_str());
    Ok(Json(Page { items: items.into_iter().map(Connection::from).collect(), next }))
}

/// One connection.
#[utoipa::path(get, path = "/connections/{id}", operation_id = "getConnection", tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = Connection), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(State(settings): State<ControlSettings>, Place(id): Place<String>) -> Result<Json<Connection>, Problem> {
    Ok(Json(settings.store.connection(&connection_id(id)?).await?.into()))
}

/// Creates or replaces a connection.
#[utoipa::path(put, path = "/connections/{id}", operation_id = "putConnection", tag = "connections",
    params(("id" = String, Path, description = "1 to 64 lower-case letters, digits, '-' or '_'.")),
    request_body = ConnectionSpec,
    responses((status = 200, body = Connection), (status = 201, body = Connection),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    Place(id): Place<String>,
    Body(spec): Body<ConnectionSpec>,
) -> Result<(StatusCode, Json<Connection>), Problem> {
    let id = connection_id(id)?;
    let plugin = settings.store.plugin(&spec.plugin).await.map_err(|error| match error {
        StoreError::NotFound { .. } => Problem::invalid(format!("plugin {:?} is not installed", spec.plugin)),
        other => other.into(),
    })?;
    let stored = match settings.store.connection(&id).await {
        // Another plugin's secrets are none of this plugin's business.
        Ok(stored) => Some(stored).filter(|stored| stored.plugin == spec.plugin),
        Err(StoreError::NotFound { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let old_secrets = stored.as_ref().map(|stored| &stored.secrets);
    let (config, secrets) = settings
        .sealer
        .seal(
            &SecretRow::connection("default", id.as_str()),
            &plugin.config_schema,
            Value::Object(spec.config),
            old_secrets,
        )
        .map_err(|failure| Problem::from_failure(&failure))?;
    let now_ms = settings.now_ms();
    let row = ConnectionRow {
        id,
        plugin: spec.plugin,
        config,
        secrets,
        streams: spec.streams,
        destination: spec.destination.map(Value::Object),
        catalog: stored.and_then(|stored| stored.catalog),
        created_at: now_ms,
        updated_at: now_ms,
    };
    let created = settings.store.put_connection(&row, now_ms).await?;
    let detail = json!({"plugin": row.plugin, "created": created});
    settings.store.append_audit("api", "connection.put", row.id.as_str(), &detail, now_ms).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(settings.store.connection(&row.id).await?.into())))
}

/// Deletes a connection with its state. What it loaded stays at the destination.
#[utoipa::path(delete, path = "/connections/{id}", operation_id = "deleteConnection", tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(State(settings): State<ControlSettings>, Place(id): Place<String>) -> Result<StatusCode, Problem> {
    let id = connection_id(id)?;
    settings.store.delete_connection(&id).await?;
    settings.store.append_audit("api", "connection.delete", id.as_str(), &json!({}), settings.now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}
