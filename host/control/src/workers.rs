//! Routes of workers: which processes execute runs.

use axum::{Json, extract::State};
use serde::Serialize;
use thimble_store::{WorkerRow, WorkerStanding};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ControlSettings, Problem, limits::WORKER_SILENCE};

/// A process that executes runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerInfo {
    /// Name under which it holds runs.
    pub holder: String,
    /// Name of its machine.
    pub host: String,
    /// Version of the program.
    pub version: String,
    /// `serve` or `worker`.
    pub role: String,
    /// Most runs at once.
    pub capacity: i64,
    /// Runs that it executes now.
    pub running: i64,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// When it was heard of last; milliseconds since the epoch.
    pub heartbeat_at: i64,
}

impl From<WorkerStanding> for WorkerInfo {
    fn from(standing: WorkerStanding) -> Self {
        let WorkerStanding { worker, running } = standing;
        let WorkerRow { holder, host, version, role, capacity, started_at, heartbeat_at } = worker;
        Self { holder, host, version, role, capacity, running, started_at, heartbeat_at }
    }
}

/// The workers.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerList {
    /// The oldest first.
    pub items: Vec<WorkerInfo>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The processes that execute runs and were heard of in the last minute.
#[utoipa::path(get, path = "/workers", operation_id = "listWorkers",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "workers",
    responses((status = 200, body = WorkerList)))]
async fn list(State(settings): State<ControlSettings>) -> Result<Json<WorkerList>, Problem> {
    let silence = i64::try_from(WORKER_SILENCE.as_millis()).unwrap_or(i64::MAX);
    let workers = settings.store.workers(settings.now_ms().saturating_sub(silence)).await?;
    Ok(Json(WorkerList { items: workers.into_iter().map(WorkerInfo::from).collect() }))
}
