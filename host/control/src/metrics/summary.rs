//! Figures of one connection, for people and the console.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use thimble_store::{ConnectionTotals, StreamDay, StreamTotals};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    connections::seen,
    extract::{Params, Place},
    limits::MAX_SUMMARY_DAYS,
};

const DAY_MS: i64 = 86_400_000;
const DEFAULT_DAYS: i64 = 30;

/// Figures of a connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionMetrics {
    /// Milliseconds since the extraction of the last complete load began; null before the first.
    pub freshness_ms: Option<i64>,
    /// What it should be at most; null where nobody said.
    pub objective_ms: Option<i64>,
    /// Syncs that ended so, since the connection was made.
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub interrupted: u64,
    pub streams: Vec<StreamMetrics>,
    /// Newest first.
    pub days: Vec<DayMetrics>,
}

/// Figures of a stream, since it was first loaded.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamMetrics {
    pub stream: String,
    /// Rows loaded or merged.
    pub records: u64,
    /// Bytes of staged Parquet.
    pub bytes: u64,
    pub rejected: u64,
    /// Milliseconds since the extraction of its last complete load began; null before the first.
    pub freshness_ms: Option<i64>,
    /// When rows of it were loaded last, milliseconds since the epoch.
    pub loaded_at: i64,
}

/// What was loaded into a stream on one day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DayMetrics {
    pub stream: String,
    /// Of UTC, as `2026-11-23`.
    pub day: String,
    pub records: u64,
    pub bytes: u64,
    pub rejected: u64,
}

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SummaryParams {
    /// Days to look back, 1 to 400; 30 where absent.
    days: Option<i64>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Figures of a connection: rows by stream and day, and how fresh they are.
#[utoipa::path(get, path = "/connections/{id}/metrics", operation_id = "getConnectionMetrics",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name."), SummaryParams),
    responses((status = 200, body = ConnectionMetrics),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Params(SummaryParams { days }): Params<SummaryParams>,
) -> Result<Json<ConnectionMetrics>, Problem> {
    let row = seen(&settings, &caller, id).await?;
    let now_ms = settings.now_ms();
    let back = days.unwrap_or(DEFAULT_DAYS).clamp(1, MAX_SUMMARY_DAYS);
    let since = now_ms.div_euclid(DAY_MS) - back + 1;
    let (totals, streams, days) = settings.store.totals_of(&row.id, since).await?;
    let ConnectionTotals { freshness_ms, complete_at, succeeded, failed, cancelled, interrupted, .. } = totals;
    let stream = |totals: StreamTotals| StreamMetrics {
        freshness_ms: totals.complete_at.map(|at| now_ms - at),
        stream: totals.stream,
        records: totals.records,
        bytes: totals.bytes,
        rejected: totals.rejected,
        loaded_at: totals.loaded_at,
    };
    Ok(Json(ConnectionMetrics {
        freshness_ms: complete_at.map(|at| now_ms - at),
        objective_ms: freshness_ms,
        succeeded,
        failed,
        cancelled,
        interrupted,
        streams: streams.into_iter().map(stream).collect(),
        days: days.into_iter().map(day).collect(),
    }))
}

fn day(StreamDay { stream, day, records, bytes, rejected }: StreamDay) -> DayMetrics {
    let date = chrono::DateTime::from_timestamp_millis(day.saturating_mul(DAY_MS)).unwrap_or_default();
    DayMetrics { stream, day: date.format("%Y-%m-%d").to_string(), records, bytes, rejected }
}
