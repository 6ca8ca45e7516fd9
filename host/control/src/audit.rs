//! Routes of the audit log: who changed what. Read only.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use thimble_store::AuditRow;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    extract::Params,
    page::{NumberedParams, Page, from_overfull, page_size},
};

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Counts up; gaps may occur.
    pub id: i64,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Name of the token, or `cli`, `config`.
    pub actor: String,
    /// What was done, for instance `plugin.grant`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Null where it concerns the whole installation.
    pub workspace: Option<String>,
    /// Free of secrets.
    pub detail: Value,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        let AuditRow { id, at, actor, action, subject, detail, workspace } = row;
        Self { id, at, actor, action, subject, workspace, detail }
    }
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The changes, newest first.
#[utoipa::path(get, path = "/audit", operation_id = "listAudit", extensions(("x-roles" = json!(["admin"]))),
    tag = "audit", params(NumberedParams), responses((status = 200, body = Page<AuditEntry>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(params): Params<NumberedParams>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let size = page_size(params.limit);
    let rows = settings.store.audit_of(caller.workspace.as_deref(), size + 1, params.cursor).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.id.to_string());
    Ok(Json(Page { items: items.into_iter().map(AuditEntry::from).collect(), next }))
}
