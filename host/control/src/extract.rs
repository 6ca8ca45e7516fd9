//! Reads requests; what cannot be read becomes a problem that says why.

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use thimble_record::{ConnectionId, RunId};

use crate::{
    Problem, json_depth,
    limits::{MAX_BODY_BYTES, MAX_JSON_DEPTH},
};

/// A JSON body, not too deep, of a type that refuses unknown fields.
pub(crate) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        // Who is told to send JSON is told so before anything is read.
        let empty = Request::from_parts(parts.clone(), axum::body::Body::from("null"));
        if let Err(rejection @ JsonRejection::MissingJsonContentType(_)) =
            axum::Json::<serde_json::Value>::from_request(empty, state).await
        {
            return Err(rejection.into());
        }
        let bytes = Bytes::from_request(Request::from_parts(parts, body), state).await?;
        json_depth::check(&bytes, MAX_JSON_DEPTH)?;
        Ok(Self(axum::Json::from_bytes(&bytes)?.0))
    }
}

impl From<json_depth::Refused> for Problem {
    fn from(refused: json_depth::Refused) -> Self {
        match refused {
            json_depth::Refused::TooDeep => {
                let detail = format!("arrays and objects of the body stand more than {MAX_JSON_DEPTH} deep");
                Self::malformed(StatusCode::BAD_REQUEST, detail)
            }
            json_depth::Refused::Nul => {
                Self::malformed(StatusCode::UNPROCESSABLE_ENTITY, "a text of the body holds the character U+0000")
            }
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(MAX_BODY_BYTES as u64),
            status => Self::malformed(status, rejection.body_text()),
        }
    }
}

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
