//! Reads requests; what cannot be read becomes a problem that says why.

use axum::{
    extract::{
        FromRequest, FromRequestParts,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use thimble_record::{ConnectionId, RunId};

use crate::{Problem, limits::MAX_BODY_BYTES};

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(crate) struct Body<T>(pub T);

/// The variable parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(crate) struct Place<T>(pub T);

/// The query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Params<T>(pub T);

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(MAX_BODY_BYTES as u64),
            status => Self::malformed(status, rejection.body_text()),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.status(), rejection.body_text())
    }
}

/// A connection's name from the path.
pub(crate) fn connection_id(name: String) -> Result<ConnectionId, Problem> {
    ConnectionId::new(name).map_err(|error| Problem::invalid(error.to_string()))
}

/// A run's id from the path.
pub(crate) fn run_id(id: String) -> RunId {
    RunId(id)
}
