//! Routes of destinations: where records go, under a name, beside those of the configuration file.
//!
//! What a kind's configuration may hold is said by whoever opens it ([`DestinationKinds`]).

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_record::envelope::SecretRow;
use thimble_store::DestinationRow;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    etag::{self, etag},
    extract::{Body, Params, Place, connection_id},
    page::{Page, PageParams, from_overfull, page_size},
    workspaced::{self, note, put_status},
};

/// A destination to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// `postgres` or `lake`.
    pub kind: String,
    /// By the kind's schema, as `GET /destination-kinds` answers it. A secret is given by its value, or by
    /// `{"$secret": true}` to keep the stored one.
    #[schema(value_type = Object)]
    pub config: serde_json::Map<String, Value>,
    /// Absent: the caller's own, or `default`. A destination never changes its workspace.
    #[serde(default)]
    pub workspace: Option<String>,
}

/// A destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct Destination {
    pub name: String,
    pub workspace: String,
    /// `postgres` or `lake`.
    pub kind: String,
    /// `{"$secret": true}` stands where a secret is stored.
    pub config: Value,
    /// Counts its changes; also the entity tag.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
}

impl From<DestinationRow> for Destination {
    fn from(row: DestinationRow) -> Self {
        let DestinationRow { name, workspace, kind, config, secrets: _, created_at, updated_at, version } = row;
        Self { name, workspace, kind, config, version, created_at, updated_at }
    }
}

/// A kind of destinations.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationKind {
    pub kind: String,
    /// JSON Schema of the configuration; secret fields carry `"x-secret": true`.
    pub config_schema: Value,
}

/// The kinds of destinations.
#[derive(Debug, Serialize, ToSchema)]
pub struct Kinds {
    pub items: Vec<DestinationKind>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove)).routes(routes!(kinds))
}

/// The kinds of destinations, with what each wants to know.
#[utoipa::path(get, path = "/destination-kinds", operation_id = "listDestinationKinds",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "destinations",
    responses((status = 200, body = Kinds)))]
async fn kinds(State(settings): State<ControlSettings>) -> Json<Kinds> {
    let kinds = settings.destination_kinds.schemas().into_iter();
    Json(Kinds { items: kinds.map(|(kind, config_schema)| DestinationKind { kind, config_schema }).collect() })
}

/// The destinations, by name. Those of the configuration file are not among them.
#[utoipa::path(get, path = "/destinations", operation_id = "listDestinations",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "destinations", params(PageParams),
    responses((status = 200, body = Page<Destination>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Destination>>, Problem> {
    let size = page_size(params.limit);
    let after = params.cursor.as_deref().unwrap_or("");
    let rows = settings.store.destinations(caller.workspace.as_deref(), after, size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.name.clone());
    Ok(Json(Page { items: items.into_iter().map(Destination::from).collect(), next }))
}

/// One destination.
#[utoipa::path(get, path = "/destinations/{name}", operation_id = "getDestination",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "destinations",
    params(("name" = String, Path, description = "The destination's name.")),
    responses((status = 200, body = Destination, headers(("ETag" = String, description = "The version."))),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<([(HeaderName, String); 1], Json<Destination>), Problem> {
    let row = seen(&settings, &caller, &name).await?;
    Ok((etag(row.version), Json(row.into())))
}

async fn seen(settings: &ControlSettings, caller: &Caller, name: &str) -> Result<DestinationRow, Problem> {
    workspaced::seen(caller, settings.store.destination(name).await)
}

/// Creates or replaces a destination. Its connections load into it from their next run on; what they loaded stays where it
/// is, and a place that knows nothing of a connection is loaded from the start.
#[utoipa::path(put, path = "/destinations/{name}", operation_id = "putDestination",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "destinations",
    params(("name" = String, Path, description = "1 to 64 lower-case letters, digits, '-' or '_'."),
        ("If-Match" = Option<String>, Header, description = "The version that is to be replaced."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not exist yet.")),
    request_body = DestinationSpec,
    responses((status = 200, body = Destination), (status = 201, body = Destination),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    headers: HeaderMap,
    Body(DestinationSpec { kind, config, workspace }): Body<DestinationSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Destination>), Problem> {
    // The same letters as a connection's name.
    let name = String::from(connection_id(name)?);
    let expected = etag::expected(&headers)?;
    let stored = workspaced::replaced(&caller, settings.store.destination(&name).await)?;
    let workspace = workspaced::home(&caller, stored.as_ref(), workspace)?;
    let kinds = settings.destination_kinds.schemas();
    let schema = kinds.get(&kind).ok_or_else(|| {
        let known: Vec<_> = kinds.keys().map(String::as_str).collect();
        Problem::invalid(format!("there is no kind of destinations {kind:?}; there are {}", known.join(", ")))
    })?;
    if settings.destination_kinds.configured(&name) {
        return Err(Problem::invalid(format!(
            "the configuration file has a destination named {name}: take another name"
        )));
    }
    // Another kind's secrets are none of this kind's business.
    let kept = stored.filter(|stored| stored.kind == kind);
    let (config, secrets) = settings
        .sealer
        .seal(
            &SecretRow::new(&workspace, "destination", &name),
            schema,
            Value::Object(config),
            kept.as_ref().map(|stored| &stored.secrets),
        )
        .map_err(|failure| Problem::from_failure(&failure))?;
    let row = DestinationRow { name, workspace, kind, config, secrets, created_at: 0, updated_at: 0, version: 0 };
    let created = settings.store.put_destination(&row, expected, settings.now_ms()).await?;
    let detail = json!({"kind": row.kind, "created": created});
    note(&settings, &caller, "destination.put", &row, &detail).await?;
    settings.signals.wake();
    let row = settings.store.destination(&row.name).await?;
    Ok((put_status(created), etag(row.version), Json(row.into())))
}

/// Deletes a destination. Refused while a connection loads into it.
#[utoipa::path(delete, path = "/destinations/{name}", operation_id = "deleteDestination",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "destinations",
    params(("name" = String, Path, description = "The destination's name.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<StatusCode, Problem> {
    let row = seen(&settings, &caller, &name).await?;
    settings.store.delete_destination(&name).await?;
    note(&settings, &caller, "destination.delete", &row, &json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}
