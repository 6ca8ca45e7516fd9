//! Routes of a connection's hooks: who is told after each load. Secrets go in and never come out.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    connections::seen,
    etag::{self, etag},
    extract::{Body, Place},
    limits::{MAX_HOOKS, MAX_NAME_BYTES},
    notify::{WebhookSettings, hook_secrets, hooks_schema},
    workspaced::note,
};

/// The hooks of a connection, by name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// `url`, `headers`, and `secret` (`whsec_…`) to sign with, of each. A secret is given by its value, or by
    /// `{"$secret": true}` to keep the stored one. At most 10.
    #[schema(value_type = Object, example = json!({"warehouse": {"url": "https://hooks.example.org/loaded"}}))]
    pub hooks: serde_json::Map<String, Value>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get, put))
}

fn shown(stored: &Value) -> Hooks {
    Hooks { hooks: stored.as_object().cloned().unwrap_or_default() }
}

/// The hooks of a connection.
#[utoipa::path(get, path = "/connections/{id}/hooks", operation_id = "getHooks",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")),
    responses((status = 200, body = Hooks, headers(("ETag" = String, description = "The connection's version."))),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<([(HeaderName, String); 1], Json<Hooks>), Problem> {
    let row = seen(&settings, &caller, id).await?;
    Ok((etag(row.version), Json(shown(&row.hooks))))
}

/// Replaces the hooks of a connection. After each run, every hook gets one POST for each root table into which rows were
/// loaded or rejected.
#[utoipa::path(put, path = "/connections/{id}/hooks", operation_id = "putHooks",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name."),
        ("If-Match" = Option<String>, Header, description = "The connection's version that is to be replaced.")),
    request_body = Hooks,
    responses((status = 200, body = Hooks), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    headers: HeaderMap,
    Body(Hooks { hooks }): Body<Hooks>,
) -> Result<([(HeaderName, String); 1], Json<Hooks>), Problem> {
    let expected = etag::expected(&headers)?;
    let row = seen(&settings, &caller, id).await?;
    if hooks.len() > MAX_HOOKS {
        return Err(Problem::invalid(format!("hooks: {} of them; the limit is {MAX_HOOKS}", hooks.len())));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let bad = hooks.keys().find(|name| name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits));
    if let Some(name) = bad {
        return Err(Problem::invalid(format!(
            "hooks: the name {name:?} is not 1 to {MAX_NAME_BYTES} lower-case letters, digits, '-' or '_'"
        )));
    }
    let failed = |failure| Problem::from_failure(&failure);
    let (secret_row, old) = (hook_secrets(&row), settings.store.hook_secrets(&row.id).await?);
    let sealed = settings.sealer.seal(&secret_row, &hooks_schema(), Value::Object(hooks), Some(&old));
    let (public, secrets) = sealed.map_err(failed)?;
    let opened = settings.sealer.open(&secret_row, public.clone(), &secrets).map_err(failed)?;
    for (name, hook) in opened.as_object().into_iter().flatten() {
        WebhookSettings::parse(hook)
            .map_err(|failure| Problem::invalid(format!("hook {name}: {}", failure.message)))?;
    }
    let version = settings.store.put_hooks(&row.id, &public, &secrets, expected, settings.now_ms()).await?;
    let names: Vec<_> = public.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    note(&settings, &caller, "connection.hooks", &row, &json!({ "hooks": names })).await?;
    Ok((etag(version), Json(shown(&public))))
}
