//! Bounds every request in time and keeps a defect of one handler from ending its connection.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use futures::FutureExt;

use crate::{Problem, limits::MAX_URI_BYTES};

/// Answers a problem where the handler takes longer than `limit` or panics.
pub(crate) async fn bound(State(limit): State<Duration>, request: Request, next: Next) -> Result<Response, Problem> {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            Err(Problem::internal())
        }
        Err(_) => Err(Problem::deadline()),
    }
}

/// Refuses what no handler should have to think of: endless URLs, U+0000 in them, compressed bodies.
pub(crate) async fn plain(request: Request, next: Next) -> Result<Response, Problem> {
    let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
    if asked.len() > MAX_URI_BYTES {
        let detail = format!("path and query are longer than {MAX_URI_BYTES} bytes");
        return Err(Problem::malformed(StatusCode::URI_TOO_LONG, detail));
    }
    if asked.contains("%00") {
        return Err(Problem::malformed(StatusCode::BAD_REQUEST, "path and query hold the character U+0000"));
    }
    let compressed = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if request.headers().get_all(header::CONTENT_ENCODING).iter().any(compressed) {
        let detail = "send the body as it is: compressed bodies are not taken";
        return Err(Problem::malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(next.run(request).await)
}

/// Answers unknown routes.
pub(crate) async fn no_route(method: Method, uri: Uri) -> Problem {
    Problem::no_route(method.as_str(), uri.path())
}

/// Answers known routes asked by an unknown method.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::method(method.as_str(), uri.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt;

    use super::*;

    async fn panicking() {
        panic!("a defect");
    }

    #[tokio::test]
    async fn slow_and_panicking_handlers_become_problems() {
        let router = Router::new()
            .route("/slow", get(std::future::pending::<()>))
            .route("/panic", get(panicking))
            .route("/fast", get(async || "done"))
            .route_layer(from_fn_with_state(Duration::from_millis(50), bound));
        for (path, status) in [("/slow", 503), ("/panic", 500), ("/fast", 200)] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{path}");
        }
    }
}
