//! Routes of workspaces: who sees what.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thimble_record::ConnectionId;
use thimble_store::WorkspaceRow;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    extract::{Body, Params, Place},
    limits::{MAX_TITLE_BYTES, MAX_WORKSPACES},
    page::{Page, PageParams, cut},
};

/// A workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct Workspace {
    pub id: String,
    /// For people.
    pub title: String,
    /// Milliseconds since the epoch.
    pub created_at: i64,
}

impl From<WorkspaceRow> for Workspace {
    fn from(row: WorkspaceRow) -> Self {
        let WorkspaceRow { id, title, created_at } = row;
        Self { id, title, created_at }
    }
}

/// A workspace to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceSpec {
    /// 1 to 64 lower-case letters, digits, '-' or '_'.
    pub id: String,
    /// Absent: the id.
    #[serde(default)]
    pub title: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, remove))
}

/// The workspaces that the caller sees, by id.
#[utoipa::path(get, path = "/workspaces", operation_id = "listWorkspaces", tag = "workspaces", params(PageParams),
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))),
    responses((status = 200, body = Page<Workspace>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Workspace>>, Problem> {
    let mut rows = settings.store.workspaces().await?;
    rows.retain(|row| caller.sees(&row.id));
    let Page { items, next } = cut(rows, &params, |row| row.id.as_str());
    Ok(Json(Page { items: items.into_iter().map(Workspace::from).collect(), next }))
}

/// Makes a workspace.
#[utoipa::path(post, path = "/workspaces", operation_id = "createWorkspace", tag = "workspaces",
    request_body = WorkspaceSpec, extensions(("x-roles" = json!(["admin"]))),
    responses((status = 201, body = Workspace),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Body(spec): Body<WorkspaceSpec>,
) -> Result<(StatusCode, Json<Workspace>), Problem> {
    // The same letters as of connections, for the same reasons.
    let id = ConnectionId::new(spec.id).map_err(|_| {
        Problem::invalid(
            "`id` must have 1 to 64 lower-case letters, digits, '-' or '_', and begin with a letter or digit",
        )
    })?;
    let title = spec.title.unwrap_or_else(|| id.to_string());
    if title.is_empty() || title.len() > MAX_TITLE_BYTES || title.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("`title` must be one line of 1 to {MAX_TITLE_BYTES} bytes")));
    }
    if settings.store.workspaces().await?.len() >= MAX_WORKSPACES {
        return Err(Problem::invalid(format!("there are {MAX_WORKSPACES} workspaces already, which is the most")));
    }
    let now_ms = settings.now_ms();
    let row = WorkspaceRow { id: id.into(), title, created_at: now_ms };
    settings.store.add_workspace(&row).await?;
    settings.store.append_audit(caller.actor(), "workspace.create", &row.id, &json!({}), now_ms).await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// One workspace.
#[utoipa::path(get, path = "/workspaces/{id}", operation_id = "getWorkspace", tag = "workspaces",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))),
    params(("id" = String, Path, description = "The workspace's id.")),
    responses((status = 200, body = Workspace),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Workspace>, Problem> {
    let found = settings.store.workspaces().await?.into_iter().find(|row| row.id == id && caller.sees(&row.id));
    Ok(Json(found.ok_or_else(|| Problem::not_found("workspace", &id))?.into()))
}

/// Removes an empty workspace.
#[utoipa::path(delete, path = "/workspaces/{id}", operation_id = "deleteWorkspace", tag = "workspaces",
    extensions(("x-roles" = json!(["admin"]))),
    params(("id" = String, Path, description = "The workspace's id.")),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    settings.store.remove_workspace(&id).await?;
    settings.store.append_audit(caller.actor(), "workspace.delete", &id, &json!({}), settings.now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}
