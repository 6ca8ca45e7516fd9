//! Routes of tokens. A token's text is answered once, when it is made.

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thimble_store::{Change, TokenRow};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, Role, SecretToken,
    extract::{Body, Params, Place},
    idempotency::NotKept,
    page::{Page, PageParams, from_overfull, page_size},
    secret_token::{check_token_name, token_digest, token_id},
};

/// A token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    pub id: String,
    /// The actor of the audit log.
    pub name: String,
    pub role: Role,
    /// Null: all workspaces.
    pub workspace: Option<String>,
    /// Milliseconds since the epoch, as all times.
    pub created_at: i64,
    /// The actor that made it.
    pub created_by: String,
    /// Refused from then on; null: never.
    pub expires_at: Option<i64>,
    /// To the minute; null: never used.
    pub last_used_at: Option<i64>,
    /// Refused since then; null: not revoked.
    pub revoked_at: Option<i64>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            // A role of a later version is no role here, and looking is the least.
            role: Role::of_word(&row.role).unwrap_or(Role::Viewer),
            workspace: row.workspace,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// A token to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// 1 to 64 letters, digits, `-`, `_`, `.` or `@`; no other live token may have it.
    pub name: String,
    pub role: Role,
    /// Absent: the caller's own, or all where the caller has all.
    #[serde(default)]
    pub workspace: Option<String>,
    /// Milliseconds since the epoch; absent: it never expires.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

/// A new token. Its text is shown this once.
#[derive(Serialize, ToSchema)]
pub struct NewToken {
    pub token: Token,
    /// The text to send as `Authorization: Bearer …`.
    pub secret: String,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, revoke))
}

/// The tokens, by id, revoked ones too.
#[utoipa::path(get, path = "/tokens", operation_id = "listTokens", tag = "tokens", params(PageParams),
    extensions(("x-roles" = json!(["admin"]))), responses((status = 200, body = Page<Token>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Token>>, Problem> {
    let size = page_size(params.limit);
    let after = params.cursor.as_deref().unwrap_or("");
    let rows = settings.store.tokens(caller.workspace.as_deref(), after, size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.id.clone());
    Ok(Json(Page { items: items.into_iter().map(Token::from).collect(), next }))
}

/// Makes a token.
#[utoipa::path(post, path = "/tokens", operation_id = "createToken", tag = "tokens", request_body = TokenSpec,
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 201, body = NewToken),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Body(spec): Body<TokenSpec>,
) -> Result<Response, Problem> {
    let now_ms = settings.now_ms();
    check_token_name(&spec.name).map_err(Problem::invalid)?;
    let workspace = match spec.workspace {
        Some(wanted) if caller.sees(&wanted) => Some(wanted),
        Some(wanted) => return Err(Problem::not_found("workspace", &wanted)),
        None => caller.workspace.clone(),
    };
    if spec.expires_at.is_some_and(|at| at <= now_ms) {
        return Err(Problem::invalid("`expires_at` has passed already; give a time to come, in milliseconds"));
    }
    let secret = SecretToken::generate().map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        Problem::internal()
    })?;
    let row = TokenRow {
        id: token_id(&settings.keys, secret.expose()),
        name: spec.name,
        workspace,
        role: spec.role.word().into(),
        created_at: now_ms,
        created_by: caller.actor().into(),
        expires_at: spec.expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    settings.store.add_token(&row, &token_digest(&settings.keys, secret.expose())).await?;
    note(&settings, &caller, "token.create", &row).await?;
    let answer = NewToken { token: row.into(), secret: secret.expose().to_owned() };
    Ok((StatusCode::CREATED, Extension(NotKept), [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// One token, without its text.
#[utoipa::path(get, path = "/tokens/{id}", operation_id = "getToken", tag = "tokens",
    extensions(("x-roles" = json!(["admin"]))),
    params(("id" = String, Path, description = "The token's id.")),
    responses((status = 200, body = Token), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Token>, Problem> {
    Ok(Json(seen(&settings, &caller, &id).await?.into()))
}

/// Revokes a token: it is refused from now on, for ever.
#[utoipa::path(delete, path = "/tokens/{id}", operation_id = "revokeToken", tag = "tokens",
    extensions(("x-roles" = json!(["admin"]))),
    params(("id" = String, Path, description = "The token's id.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn revoke(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    let row = seen(&settings, &caller, &id).await?;
    let revoked = settings.store.revoke_token(&row.id, settings.now_ms()).await?;
    note(&settings, &caller, "token.revoke", &revoked).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A token that exists for the caller.
async fn seen(settings: &ControlSettings, caller: &Caller, id: &str) -> Result<TokenRow, Problem> {
    let row = settings.store.token(id).await?;
    if caller.sees_some(row.workspace.as_deref()) { Ok(row) } else { Err(Problem::not_found("token", id)) }
}

async fn note(settings: &ControlSettings, caller: &Caller, action: &str, row: &TokenRow) -> Result<(), Problem> {
    let detail = json!({"name": row.name, "role": row.role, "expires_at": row.expires_at});
    let workspace = row.workspace.as_deref();
    let change = Change { actor: caller.actor(), action, subject: &row.id, detail: &detail, workspace };
    Ok(settings.store.note(change, settings.now_ms()).await?)
}
