//! Routes of rejected records: look at them, and try them again after what was wrong was put right.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thimble_record::RejectedRow;
use thimble_store::{NewRun, RunKind, Trigger};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem, connections,
    extract::{Body, Params, Place},
    limits::{MAX_REJECTS_LOOKED_AT, REJECTS_READ_AT_ONCE},
    page::{Page, page_size},
    runs::{self, Run},
};

/// A record that could not become a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reject {
    pub stream: String,
    /// The sequence that it would have had as a row; with the stream, its key.
    pub record_sequence: i64,
    /// A short code in kebab-case.
    pub reason: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// As much of the record as is kept.
    pub raw: String,
    /// Whether `raw` is not the whole record, so that it cannot be tried again.
    pub truncated: bool,
    /// Digest of the connector that sent it.
    pub plugin_digest: String,
}

impl From<RejectedRow> for Reject {
    fn from(row: RejectedRow) -> Self {
        let RejectedRow { rejected, sequence, plugin_digest, replayed_at: _ } = row;
        Self {
            stream: rejected.stream,
            record_sequence: sequence,
            reason: rejected.reason,
            message: rejected.message,
            raw: rejected.raw,
            truncated: rejected.truncated,
            plugin_digest,
        }
    }
}

/// Which rejected records.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RejectParams {
    /// Items of a page, 1 to 1,000; 100 where absent.
    limit: Option<u32>,
    /// `next` of the page before. A page may hold fewer items than asked for and still have a next one.
    cursor: Option<String>,
    /// Only of this stream.
    stream: Option<String>,
    /// Only with this reason.
    reason: Option<String>,
}

/// Which records are tried again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaySpec {
    /// Only of these streams; absent or empty: all.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Only with these reasons; absent or empty: all.
    #[serde(default)]
    pub reasons: Vec<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(replay))
}

/// The rejected records that wait for a replay, by stream and sequence, as the destination holds them.
#[utoipa::path(get, path = "/connections/{id}/rejects", operation_id = "listRejects",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name."), RejectParams),
    responses((status = 200, body = Page<Reject>), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 502, body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Params(params): Params<RejectParams>,
) -> Result<Json<Page<Reject>>, Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let RejectParams { limit, cursor, stream, reason } = params;
    let size = page_size(limit) as usize;
    let mut after = cursor.as_deref().map(parse_cursor).transpose()?;
    let fits = |found: &RejectedRow| {
        stream.as_ref().is_none_or(|only| found.rejected.stream == *only)
            && reason.as_ref().is_none_or(|only| found.rejected.reason == *only)
    };
    let (mut items, mut looked_at) = (Vec::new(), 0);
    loop {
        let asked = REJECTS_READ_AT_ONCE.min(MAX_REJECTS_LOOKED_AT - looked_at);
        let found = settings
            .rejects
            .rejected(&row.id, after.clone(), asked)
            .await
            .map_err(|failure| Problem::destination(&failure))?;
        let last_page = found.len() < asked;
        for rejected in found {
            looked_at += 1;
            after = Some((rejected.rejected.stream.clone(), rejected.sequence));
            if fits(&rejected) {
                items.push(Reject::from(rejected));
            }
            if items.len() == size {
                return Ok(Json(Page { items, next: after.map(cursor_of) }));
            }
        }
        if last_page {
            return Ok(Json(Page { items, next: None }));
        }
        if looked_at >= MAX_REJECTS_LOOKED_AT {
            return Ok(Json(Page { items, next: after.map(cursor_of) }));
        }
    }
}

fn cursor_of((stream, sequence): (String, i64)) -> String {
    format!("{sequence}:{stream}")
}

fn parse_cursor(cursor: &str) -> Result<(String, i64), Problem> {
    let parts = cursor.split_once(':').and_then(|(sequence, stream)| Some((stream.to_owned(), sequence.parse().ok()?)));
    parts.ok_or_else(|| Problem::invalid("`cursor` is not one that a page answered as `next`"))
}

/// Queues a run that makes rows of rejected records, without asking the source.
#[utoipa::path(post, path = "/connections/{id}/rejects/replay", operation_id = "replayRejects",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "connections",
    params(("id" = String, Path, description = "The connection's name.")), request_body = ReplaySpec,
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the run."))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn replay(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(id): Place<String>,
    Body(ReplaySpec { streams, reasons }): Body<ReplaySpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let row = connections::seen(&settings, &caller, id).await?;
    let request = json!({"streams": streams, "replay": {"reasons": reasons}});
    let new = NewRun { request, ..NewRun::on(row.id.clone(), RunKind::Sync, Trigger::Api) };
    runs::queue(&settings, &caller, &row, new, "rejects.replay").await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cursors_come_back() {
        let place = ("a:b".to_owned(), -7);
        assert_eq!(parse_cursor(&cursor_of(place.clone())).unwrap(), place);
        assert!(parse_cursor("x:y").is_err());
        assert!(parse_cursor("").is_err());
    }
}
