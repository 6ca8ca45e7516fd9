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
            status => Self::malformed(status, masked(rejection.body_text())),
        }
    }
}

/// The parser's sentence without the value that it quotes: whoever put a secret into the wrong place of a body must not
/// find it in an answer, which may be kept.
fn masked(mut told: String) -> String {
    for (before, after) in [("string \"", "\", expected"), ("unknown variant `", "`, expected")] {
        let start = told.find(before).map(|at| at + before.len());
        // The last one, as the value may hold the same words.
        if let (Some(start), Some(end)) = (start, told.rfind(after))
            && start <= end
        {
            told.replace_range(start..end, "…");
        }
    }
    told
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_not_said_back() {
        let told = |json: &str| {
            let error = serde_json::from_str::<std::collections::BTreeMap<String, Vec<u8>>>(json).unwrap_err();
            masked(error.to_string())
        };
        let plain = told(r#"{"config": "hunter2"}"#);
        assert!(plain.starts_with("invalid type: string \"…\", expected a sequence"), "{plain}");
        let sly = told(r#"{"config": "hunter2\", expected hunter2"}"#);
        assert!(!sly.contains("hunter2") && sly.contains("expected a sequence"), "{sly}");
        let role = serde_json::from_str::<crate::Role>("\"hunter2\"").unwrap_err().to_string();
        assert!(role.contains("hunter2") && !masked(role).contains("hunter2"));
        assert_eq!(masked("EOF while parsing".into()), "EOF while parsing");
    }
}
