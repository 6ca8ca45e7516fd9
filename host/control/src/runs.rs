//! Routes of runs: ask for one, look, wait, read its log, cancel.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_record::{Failure, RunId};
use thimble_store::{
    Change, ConnectionRow, LogFilter, LogLine, LogRow, NewRun, RunKind, RunPage, RunRow, RunStatus, Trigger,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, connections,
    extract::{Body, Params, Place, connection_id, run_id},
    limits::{MAX_SEARCH_BYTES, MAX_UNFINISHED_RUNS, MAX_WAIT, WAIT_POLL},
    page::{Page, from_overfull, page_size},
    workspaced,
};

/// What a run failed by.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunFailure {
    /// What can be done: `config`, `transient`, `system` or `refused`.
    #[schema(value_type = String)]
    pub kind: thimble_record::ErrorKind,
    /// One sentence.
    pub message: String,
    /// Milliseconds that the source asked to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub struct Run {
    /// 26 characters, in the order of creation.
    pub id: String,
    /// `sync`, `check`, `discover`, `install` or `canary`.
    #[schema(value_type = String)]
    pub kind: RunKind,
    /// `manual`, `api`, `schedule` or `retry`.
    #[schema(value_type = String)]
    pub trigger: Trigger,
    pub connection: Option<String>,
    /// What is installed.
    pub subject: Option<String>,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled` or `interrupted`.
    #[schema(value_type = String)]
    pub status: thimble_store::RunStatus,
    /// Whether somebody asked for it to stop.
    pub cancel_requested: bool,
    /// The lease's epoch that a sync works under.
    pub epoch: Option<u64>,
    /// Milliseconds since the epoch, as all times.
    pub queued_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    /// Parameters that it was asked for with.
    pub request: Value,
    /// Progress while it runs, the result at its end.
    pub report: Value,
    pub failure: Option<RunFailure>,
    /// Of its connection; null for installations.
    pub workspace: Option<String>,
    /// The time of the schedule's slot.
    pub slot: Option<i64>,
    /// Which try it is, from 1.
    pub attempt: i64,
    /// The run that it tries again.
    pub retry_of: Option<String>,
    /// It does not begin before.
    pub not_before: Option<i64>,
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        let RunRow {
            id,
            kind,
            trigger,
            connection,
            subject,
            request,
            status,
            holder: _,
            expires_at: _,
            epoch,
            cancel_requested,
            queued_at,
            started_at,
            finished_at,
            report,
            failure,
            workspace,
            slot,
            attempt,
            retry_of,
            not_before,
        } = row;
        let failure =
            failure.map(|Failure { kind, message, retry_after_ms }| RunFailure { kind, message, retry_after_ms });
        Self {
            id: id.0,
            kind,
            trigger,
            connection: connection.map(String::from),
            subject,
            status,
            cancel_requested,
            epoch: epoch.map(|epoch| epoch.0),
            queued_at,
            started_at,
            finished_at,
            request,
            report,
            failure,
            workspace,
            slot,
            attempt,
            retry_of: retry_of.map(|run| run.0),
            not_before,
        }
    }
}

/// What a connection can be asked for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionRunKind {
    /// Move what is new.
    Sync,
    /// Prove that the configuration works.
    Check,
    /// Ask the source for its streams and store them as the connection's catalog.
    Discover,
}

/// A run to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    pub kind: ConnectionRunKind,
    /// Parameters of a sync: `streams` (names; empty: all), and at most one of `full_refresh` (true), `backfill`
    /// (`{"name": …, "config": {…}}`) and `replay` (`{"reasons": […]}`, to try rejected records again).
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub request: Option<serde_json::Map<String, Value>>,
}

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RunListParams {
    /// Items of a page, 1 to 1,000; 100 where absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only runs of this connection.
    connection: Option<String>,
    /// Only runs that are `queued`, `running`, `succeeded`, `failed`, `cancelled` or `interrupted`.
    #[param(value_type = Option<String>)]
    status: Option<RunStatus>,
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WaitParams {
    /// Seconds to wait for the run's end, at most 60. The answer comes when it ended or the time is up.
    wait: Option<u64>,
}

/// One log line.
#[derive(Debug, Serialize, ToSchema)]
pub struct Log {
    /// Counts the lines of the run from 1.
    pub seq: i64,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    #[schema(value_type = String)]
    pub level: thimble_store::LogLevel,
    /// `host`, or the plugin's name.
    pub source: String,
    pub message: String,
}

impl From<LogRow> for Log {
    fn from(LogRow { seq, line: LogLine { at, level, source, message } }: LogRow) -> Self {
        Self { seq, at, level, source, message }
    }
}

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LogParams {
    /// Lines of a page, 1 to 1,000; 100 where absent.
    limit: Option<u32>,
    /// Only lines after this one, by `seq`; also `next` of the page before.
    cursor: Option<i64>,
    /// Only lines of this level and above: `trace`, `debug`, `info`, `warn` or `error`.
    #[param(value_type = Option<String>)]
    level: Option<thimble_store::LogLevel>,
    /// Only lines whose message holds this text, whatever the case of its letters; at most 200 bytes.
    q: Option<String>,
    /// Only lines of `host`, or of the plugin by its name.
    source: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(logs))
        .routes(routes!(cancel))
        .routes(routes!(retry))
}

/// Apart from the others, because a client may ask it to wait.
pub(crate) fn waiting_routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Path of a run.
pub(crate) fn location(run: &RunId) -> String {
    format!("/api/v1/runs/{run}")
}

/// Queues a run of a connection. A second sync is refused while one is queued or running.
#[utoipa::path(post, path = "/connections/{id}/runs", operation_id = "createRun",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "runs",
    params(("id" = String, Path, description = "The connection's name.")), request_body = RunSpec,
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the run."))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Body(spec): Body<RunSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let kind = match spec.kind {
        ConnectionRunKind::Sync => RunKind::Sync,
        ConnectionRunKind::Check => RunKind::Check,
        ConnectionRunKind::Discover => RunKind::Discover,
    };
    let request = spec.request.map_or(Value::Null, Value::Object);
    let connection = connections::seen(&settings, &caller, id).await?;
    let new = NewRun { request, ..NewRun::on(connection.id.clone(), kind, Trigger::Api) };
    queue(&settings, &caller, &connection, new, "run.create").await
}

/// Queues a run of a connection and notes who asked for it.
pub(crate) async fn queue(
    settings: &ControlSettings,
    caller: &Caller,
    connection: &ConnectionRow,
    new: NewRun,
    action: &str,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    if settings.store.count_asked().await? >= MAX_UNFINISHED_RUNS {
        return Err(Problem::busy(format!("{MAX_UNFINISHED_RUNS} runs are waiting: try again when some have ended")));
    }
    let row = settings.store.enqueue(&new, settings.now_ms()).await?;
    settings.signals.wake();
    let detail = json!({"run": row.id, "kind": row.kind});
    workspaced::note(settings, caller, action, connection, &detail).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location(&row.id))], Json(row.into())))
}

/// Queues a run that does the same again. Only of a run that has ended.
#[utoipa::path(post, path = "/runs/{run}/retry", operation_id = "retryRun",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "runs",
    params(("run" = String, Path, description = "The run's id.")),
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the new run."))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn retry(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let ended = seen(&settings, &caller, id).await?;
    if !ended.status.finished() {
        return Err(Problem::conflict(format!("run {} has not ended: wait for it or cancel it", ended.id)));
    }
    let Some(connection) = ended.connection else {
        return Err(Problem::conflict(format!("run {} is an installation: upload the component again", ended.id)));
    };
    let connection = connections::seen(&settings, &caller, connection.into()).await?;
    let new = NewRun {
        request: ended.request,
        attempt: ended.attempt.saturating_add(1),
        retry_of: Some(ended.id),
        ..NewRun::on(connection.id.clone(), ended.kind, Trigger::Api)
    };
    queue(&settings, &caller, &connection, new, "run.retry").await
}

/// Runs, newest first.
#[utoipa::path(get, path = "/runs", operation_id = "listRuns",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "runs", params(RunListParams),
    responses((status = 200, body = Page<Run>)))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Params(RunListParams { limit, cursor, connection, status }): Params<RunListParams>,
) -> Result<Json<Page<Run>>, Problem> {
    let size = page_size(limit);
    let connection = connection.map(connection_id).transpose()?;
    let page = RunPage { limit: size + 1, before: cursor.map(RunId), connection, workspace: caller.workspace, status };
    let rows = settings.store.runs(&page).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.id.0.clone());
    Ok(Json(Page { items: items.into_iter().map(Run::from).collect(), next }))
}

/// One run, at once or when it has ended.
#[utoipa::path(get, path = "/runs/{run}", operation_id = "getRun",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "runs",
    params(("run" = String, Path, description = "The run's id."), WaitParams),
    responses((status = 200, body = Run), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Params(WaitParams { wait }): Params<WaitParams>,
) -> Result<Json<Run>, Problem> {
    let wait = Duration::from_secs(wait.unwrap_or(0)).min(MAX_WAIT);
    let id = seen(&settings, &caller, id).await?.id;
    Ok(Json(wait_for(&settings, &id, wait).await?.into()))
}

/// A run that exists for the caller.
pub(crate) async fn seen(settings: &ControlSettings, caller: &Caller, id: String) -> Result<RunRow, Problem> {
    let row = settings.store.run(&run_id(id)).await?;
    // Installations concern everybody.
    let sees = row.workspace.as_deref().is_none_or(|workspace| caller.sees(workspace));
    if sees { Ok(row) } else { Err(Problem::not_found("run", &row.id.0)) }
}

/// The run when it has ended, or as it is when the time is up.
async fn wait_for(settings: &ControlSettings, id: &RunId, wait: Duration) -> Result<RunRow, Problem> {
    let until = tokio::time::Instant::now() + wait;
    let mut changes = settings.signals.watch();
    loop {
        // Before the look, so that a change after it is not missed.
        changes.mark_unchanged();
        let row = settings.store.run(id).await?;
        if row.status.finished() || tokio::time::Instant::now() >= until || settings.shutdown.is_cancelled() {
            return Ok(row);
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(WAIT_POLL) => {}
            () = tokio::time::sleep_until(until) => {}
            () = settings.shutdown.cancelled() => {}
        }
    }
}

/// The log of a run, oldest line first.
#[utoipa::path(get, path = "/runs/{run}/logs", operation_id = "getRunLogs",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "runs",
    params(("run" = String, Path, description = "The run's id."), LogParams),
    responses((status = 200, body = Page<Log>), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn logs(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Params(LogParams { limit, cursor, level, q, source }): Params<LogParams>,
) -> Result<Json<Page<Log>>, Problem> {
    let id = seen(&settings, &caller, id).await?.id;
    let size = page_size(limit);
    if q.as_ref().is_some_and(|text| text.len() > MAX_SEARCH_BYTES) {
        return Err(Problem::invalid(format!("q: look for at most {MAX_SEARCH_BYTES} bytes")));
    }
    let filter = LogFilter { level, contains: q, source };
    let rows = settings.store.find_logs(&id, &filter, cursor.unwrap_or(0), size + 1).await?;
    let Page { items, next } = from_overfull(rows, size, |row| row.seq.to_string());
    Ok(Json(Page { items: items.into_iter().map(Log::from).collect(), next }))
}

/// Asks a run to stop. A queued run ends at once, a running one soon.
#[utoipa::path(post, path = "/runs/{run}/cancel", operation_id = "cancelRun",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "runs",
    params(("run" = String, Path, description = "The run's id.")),
    responses((status = 202, body = Run), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn cancel(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let now_ms = settings.now_ms();
    let id = seen(&settings, &caller, id).await?.id;
    let row = settings.store.request_cancel(&id, now_ms).await?;
    settings.signals.wake();
    settings.signals.changed();
    let (detail, workspace) = (json!({}), row.workspace.as_deref());
    let change = Change { actor: caller.actor(), action: "run.cancel", subject: &row.id.0, detail: &detail, workspace };
    settings.store.note(change, now_ms).await?;
    Ok((StatusCode::ACCEPTED, Json(row.into())))
}
