//! Routes of notifiers: who is told of what happens. Secrets go in and never come out.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_store::{DeliveryRow, NotifierRow};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    alerts::event_kind,
    etag::{self, etag},
    extract::{Body, Params, Place},
    limits::{MAX_FILTERED_CONNECTIONS, MAX_NAME_BYTES, MAX_NOTIFIER_DELAY_MS},
    notify::{Action, Channel, ChannelKind, Notice, Severity, notifier_secrets, try_out, word},
    page::{Page, PageParams, from_overfull, page_size},
    workspaced::{self, note, put_status},
};

/// A notifier to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifierSpec {
    pub kind: ChannelKind,
    /// Of `slack`: `url`. Of `pagerduty`: `routing_key`, `url`. Of `webhook`: `url`, `headers`, `secret` (`whsec_…`). Of
    /// `email`: `host`, `port`, `tls` (`starttls`, `implicit`, `none`), `user`, `password`, `from`, `to`. A secret is
    /// given by its value, or by `{"$secret": true}` to keep the stored one.
    #[schema(value_type = Object)]
    pub config: serde_json::Map<String, Value>,
    /// What it is told of, such as `run-failed`; empty or absent: everything. The end of a condition follows its beginning.
    #[serde(default)]
    pub events: Vec<String>,
    /// Of which connections; empty or absent: all of its workspace.
    #[serde(default)]
    pub connections: Vec<String>,
    /// A condition that ends within these milliseconds is not told; 0 where absent, at most a week.
    #[serde(default)]
    pub delay_ms: i64,
    /// Whether it rests.
    #[serde(default)]
    pub paused: bool,
    /// Absent: the caller's own, or `default`. A notifier never changes its workspace.
    #[serde(default)]
    pub workspace: Option<String>,
}

/// A notifier.
#[derive(Debug, Serialize, ToSchema)]
pub struct Notifier {
    pub name: String,
    pub workspace: String,
    /// `slack`, `pagerduty`, `email` or `webhook`.
    pub kind: String,
    /// `{"$secret": true}` stands where a secret is stored.
    pub config: Value,
    /// Empty: everything.
    pub events: Vec<String>,
    /// Empty: all of its workspace.
    pub connections: Vec<String>,
    pub delay_ms: i64,
    pub paused: bool,
    /// Counts its changes; also the entity tag.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
}

impl From<NotifierRow> for Notifier {
    fn from(row: NotifierRow) -> Self {
        Self {
            name: row.name,
            workspace: row.workspace,
            kind: row.kind,
            config: row.config,
            events: row.events.into_iter().map(word).collect(),
            connections: row.connections,
            delay_ms: row.delay_ms,
            paused: row.paused,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// What a notifier was told, or is to be told.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    pub id: String,
    /// The kind of event.
    pub kind: String,
    /// `open`, `resolve` or `tell`.
    #[schema(value_type = String)]
    pub phase: thimble_store::Phase,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub alert: Option<String>,
    /// `pending`, `delivered`, `dead` (given up) or `healed` (its condition ended before it was told).
    #[schema(value_type = String)]
    pub status: thimble_store::DeliveryStatus,
    pub attempts: u32,
    /// Of a pending one: when it is tried, milliseconds since the epoch.
    pub next_at: i64,
    pub last_error: Option<String>,
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            phase: row.phase,
            connection: row.connection,
            stream: row.stream,
            alert: row.alert.map(|alert| alert.to_string()),
            status: row.status,
            attempts: row.attempts,
            next_at: row.next_at,
            last_error: row.last_error,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tried {
    /// Whether the receiver took the message.
    pub delivered: bool,
    /// Why not.
    pub error: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove)).routes(routes!(deliveries))
}

/// Apart from the others, because the receiver may be slow.
pub(crate) fn waiting_routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(test))
}

async fn seen(settings: &ControlSettings, caller: &Caller, name: &str) -> Result<NotifierRow, Problem> {
    workspaced::seen(caller, settings.store.notifier(name).await)
}

/// The notifiers, by name.
#[utoipa::path(get, path = "/notifiers", operation_id = "listNotifiers",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "notifiers", params(PageParams),
    responses((status = 200, body = Page<Notifier>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Notifier>>, Problem> {
    let size = page_size(params.limit);
    let after = params.cursor.as_deref().unwrap_or("");
    let rows = settings.store.notifiers(caller.workspace.as_deref(), after, size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.name.clone());
    Ok(Json(Page { items: items.into_iter().map(Notifier::from).collect(), next }))
}

/// One notifier.
#[utoipa::path(get, path = "/notifiers/{name}", operation_id = "getNotifier",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "notifiers",
    params(("name" = String, Path, description = "The notifier's name.")),
    responses((status = 200, body = Notifier, headers(("ETag" = String, description = "The version."))),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<([(HeaderName, String); 1], Json<Notifier>), Problem> {
    let row = seen(&settings, &caller, &name).await?;
    Ok((etag(row.version), Json(row.into())))
}

/// Creates or replaces a notifier.
#[utoipa::path(put, path = "/notifiers/{name}", operation_id = "putNotifier",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "notifiers",
    params(("name" = String, Path, description = "1 to 64 lower-case letters, digits, '-' or '_'."),
        ("If-Match" = Option<String>, Header, description = "The version that is to be replaced."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not exist yet.")),
    request_body = NotifierSpec,
    responses((status = 200, body = Notifier), (status = 201, body = Notifier),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    headers: HeaderMap,
    Body(spec): Body<NotifierSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Notifier>), Problem> {
    check_name(&name)?;
    let expected = etag::expected(&headers)?;
    let stored = workspaced::replaced(&caller, settings.store.notifier(&name).await)?;
    let now_ms = settings.now_ms();
    let row = row(&settings, &caller, name, spec, stored.as_ref())?;
    let created = settings.store.put_notifier(&row, expected, now_ms).await?;
    note(&settings, &caller, "notifier.put", &row, &json!({"kind": row.kind, "created": created})).await?;
    let row = settings.store.notifier(&row.name).await?;
    Ok((put_status(created), etag(row.version), Json(row.into())))
}

/// The row that a specification leads to, secrets sealed.
fn row(
    settings: &ControlSettings,
    caller: &Caller,
    name: String,
    spec: NotifierSpec,
    stored: Option<&NotifierRow>,
) -> Result<NotifierRow, Problem> {
    let NotifierSpec { kind, config, events, connections, delay_ms, paused, workspace } = spec;
    let workspace = workspaced::home(caller, stored, workspace)?;
    if !(0..=MAX_NOTIFIER_DELAY_MS).contains(&delay_ms) {
        return Err(Problem::invalid(format!("delay_ms: give 0 to {MAX_NOTIFIER_DELAY_MS}")));
    }
    if connections.len() > MAX_FILTERED_CONNECTIONS {
        return Err(Problem::invalid(format!("connections: name at most {MAX_FILTERED_CONNECTIONS}, or none for all")));
    }
    let mut kinds = Vec::new();
    for event in &events {
        let kind = event_kind(event)?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let word = serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    let mut row = NotifierRow {
        name,
        workspace,
        kind: word,
        config: Value::Null,
        secrets: thimble_store::SealedSecrets::default(),
        events: kinds,
        connections,
        delay_ms,
        paused,
        created_at: 0,
        updated_at: 0,
        version: 0,
    };
    // Another kind's secrets are none of this kind's business.
    let old = stored.filter(|stored| stored.kind == row.kind).map(|stored| &stored.secrets);
    let secret_row = notifier_secrets(&row);
    let failed = |failure| Problem::from_failure(&failure);
    let sealed = settings.sealer.seal(&secret_row, &kind.config_schema(), Value::Object(config), old);
    (row.config, row.secrets) = sealed.map_err(failed)?;
    // With the kept secrets in their places, since only then the whole can be judged.
    let opened = settings.sealer.open(&secret_row, row.config.clone(), &row.secrets).map_err(failed)?;
    Channel::parse(kind, &opened).map_err(failed)?;
    Ok(row)
}

fn check_name(name: &str) -> Result<(), Problem> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Problem::invalid(format!("a notifier's name is 1 to {MAX_NAME_BYTES} lower-case letters, digits, '-' or '_'")))
}

/// Deletes a notifier with what it was still to be told.
#[utoipa::path(delete, path = "/notifiers/{name}", operation_id = "deleteNotifier",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "notifiers",
    params(("name" = String, Path, description = "The notifier's name.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<StatusCode, Problem> {
    let row = seen(&settings, &caller, &name).await?;
    settings.store.delete_notifier(&row.name).await?;
    note(&settings, &caller, "notifier.delete", &row, &json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a notifier was told, or is to be told, newest first.
#[utoipa::path(get, path = "/notifiers/{name}/deliveries", operation_id = "listDeliveries",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "notifiers",
    params(("name" = String, Path, description = "The notifier's name."), PageParams),
    responses((status = 200, body = Page<Delivery>),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn deliveries(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Delivery>>, Problem> {
    let row = seen(&settings, &caller, &name).await?;
    let size = page_size(params.limit);
    let rows = settings.store.deliveries(&row.name, size + 1, params.cursor.as_deref()).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.id.clone());
    Ok(Json(Page { items: items.into_iter().map(Delivery::from).collect(), next }))
}

/// Sends a message to a notifier at once, and says what came of it.
#[utoipa::path(post, path = "/notifiers/{name}/test", operation_id = "testNotifier",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "notifiers",
    params(("name" = String, Path, description = "The notifier's name.")),
    responses((status = 200, body = Tried), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn test(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<Json<Tried>, Problem> {
    let row = seen(&settings, &caller, &name).await?;
    let now_ms = settings.now_ms();
    let failed = |failure| Problem::from_failure(&failure);
    let opened = settings.sealer.open(&notifier_secrets(&row), row.config.clone(), &row.secrets).map_err(failed)?;
    let kind = serde_json::from_value(Value::String(row.kind.clone())).map_err(|_| Problem::internal())?;
    let channel = Channel::parse(kind, &opened).map_err(failed)?;
    let notice = Notice {
        id: format!("test-{}-{now_ms}", row.name),
        kind: "test".into(),
        action: Action::Tell,
        severity: Severity::Info,
        workspace: row.workspace.clone(),
        connection: None,
        stream: None,
        run: None,
        summary: format!("the notifier {} works; {} asked for this test", row.name, caller.actor()),
        failure: None,
        detail: Value::Null,
        links: Vec::new(),
        dedup_key: Notice::key(&row.workspace, None, None, "test"),
        at: now_ms,
        opened_at: None,
    };
    let sent = try_out(&*settings.observe.outbound, &channel, &notice, now_ms).await;
    note(&settings, &caller, "notifier.test", &row, &json!({"delivered": sent.is_ok()})).await?;
    Ok(Json(Tried { delivered: sent.is_ok(), error: sent.err().map(|error| error.to_string()) }))
}
