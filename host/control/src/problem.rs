//! The one place that turns an error into an answer: `application/problem+json` (RFC 9457).
//!
//! Causes are logged and never shown.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use thimble_record::{ErrorKind, Failure};
use thimble_store::StoreError;
use utoipa::ToSchema;

/// Media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem, for programs: `urn:thimble:problem:` and a code in kebab-case.
    #[serde(rename = "type")]
    #[schema(example = "urn:thimble:problem:already-running")]
    pub type_uri: String,
    /// The kind of problem in words; the same for each of its kind.
    pub title: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// One sentence on this problem.
    pub detail: String,
    /// The run that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Becomes the header `Retry-After`.
    #[serde(skip)]
    pub(crate) retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, code: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:thimble:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            run: None,
            retry_after: None,
        }
    }

    /// `reason` says what is wrong with the token, in a clause.
    pub(crate) fn unauthorized(reason: &str) -> Self {
        let detail = format!("{reason}; send a token of the API as 'Authorization: Bearer TOKEN'");
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The token is missing or wrong", detail)
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED.as_u16()
    }

    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        let detail = "the token asks more often than the settings under limits.api allow; ask again later";
        Self {
            retry_after: Some(wait),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail)
        }
    }

    pub(crate) fn too_many_failures(wait: Duration) -> Self {
        let detail = "too many requests from this address came without a good token; ask again later";
        Self {
            retry_after: Some(wait),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail)
        }
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The token may not do that", detail)
    }

    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let detail = format!("there is no {what} named {name:?}");
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing of that name", detail)
    }

    pub(crate) fn no_route(method: &str, path: &str) -> Self {
        let detail = format!("there is no {method} {path}; see /api/v1/openapi.json");
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "There is no such route", detail)
    }

    pub(crate) fn method(method: &str, path: &str) -> Self {
        let detail = format!("{path} cannot be asked by {method}; see /api/v1/openapi.json");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here", detail)
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let detail = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request cannot be carried out", detail)
    }

    pub(crate) fn malformed(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "malformed", "The request cannot be read", detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "It does not fit what is stored", detail)
    }

    /// What a destination says that was asked while the client waits.
    pub(crate) fn destination(failure: &Failure) -> Self {
        match failure.kind {
            ErrorKind::Config | ErrorKind::Refused => Self::invalid(&failure.message),
            ErrorKind::Transient | ErrorKind::System => {
                tracing::warn!(error = %failure, "the destination did not answer");
                let detail = "the destination did not answer; the server's log says more";
                Self::new(StatusCode::BAD_GATEWAY, "destination", "The destination does not answer", detail)
            }
        }
    }

    /// What the registry says that was asked while the client waits.
    pub(crate) fn registry(failure: &Failure) -> Self {
        tracing::warn!(error = %failure, "the registry cannot be read");
        let detail = "the registry cannot be read; the server's log says more";
        Self::new(StatusCode::BAD_GATEWAY, "registry", "The registry does not answer", detail)
    }

    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", "Too much is waiting already", detail)
    }

    pub(crate) fn deadline() -> Self {
        let detail = "the request was not carried out in time; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "deadline", "The request took too long", detail)
    }

    pub(crate) fn slow_body() -> Self {
        let detail = "the body did not arrive in time; send it again";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body took too long", detail)
    }

    pub(crate) fn internal() -> Self {
        let detail = "the server met a defect; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed", detail)
    }

    fn unavailable() -> Self {
        let detail = "the control database does not answer; the server's log says more";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The control database is unavailable", detail)
    }

    /// What the sealing of a configuration's secrets says to the client.
    pub(crate) fn from_failure(failure: &Failure) -> Self {
        match failure.kind {
            ErrorKind::Config | ErrorKind::Refused => Self::invalid(&failure.message),
            ErrorKind::Transient | ErrorKind::System => {
                tracing::error!(error = %failure, "secrets cannot be sealed");
                Self::internal()
            }
        }
    }

    /// A file of ours that cannot be written.
    pub(crate) fn from_io(error: &std::io::Error, doing: &str) -> Self {
        tracing::error!(%error, "{doing} failed");
        Self::internal()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing of that name", detail)
            }
            StoreError::AlreadyRunning { run, .. } => Self {
                run: Some(run.0),
                ..Self::new(StatusCode::CONFLICT, "already-running", "A sync is under way", detail)
            },
            StoreError::InUse { .. } => Self::new(StatusCode::CONFLICT, "in-use", "It is in use", detail),
            StoreError::Changed { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "changed", "It was changed meanwhile", detail)
            }
            StoreError::Conflict { .. } | StoreError::Fenced { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", "It does not fit what is stored", detail)
            }
            StoreError::Corrupt { .. } | StoreError::Layout { .. } => {
                tracing::error!(error = %error.failure(), "the control database cannot be read");
                Self::internal()
            }
            StoreError::Unavailable(_) => {
                tracing::error!(error = %error.failure(), "the control database does not answer");
                Self::unavailable()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::{ConnectionId, Epoch, RunId};

    use super::*;

    #[test]
    fn every_error_of_the_store_has_its_status() {
        let connection = ConnectionId::new("a").unwrap();
        let run = RunId("r".into());
        let cases = [
            (StoreError::NotFound { what: "run", name: "x".into() }, 404, "not-found"),
            (StoreError::Conflict { message: "no".into() }, 409, "conflict"),
            (StoreError::Changed { what: "source", name: "x".into(), expected: 1, current: 2 }, 412, "changed"),
            (StoreError::AlreadyRunning { connection: "a".into(), run }, 409, "already-running"),
            (StoreError::Fenced { connection, epoch: Epoch(1), current: Epoch(2) }, 409, "conflict"),
            (StoreError::InUse { what: "plugin", name: "x".into(), by: "y".into() }, 409, "in-use"),
            (StoreError::Corrupt { what: "row", source: "s3cret cause".into() }, 500, "internal"),
        ];
        for (error, status, code) in cases {
            let problem = Problem::from(error);
            assert_eq!((problem.status, problem.type_uri.rsplit(':').next()), (status, Some(code)));
            assert!(!problem.detail.contains("s3cret"), "{problem:?}");
            assert_eq!(problem.run.is_some(), code == "already-running");
        }
    }
}
