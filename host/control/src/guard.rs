//! Bounds every request in time and keeps a defect of one handler from ending its connection.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use futures::{FutureExt, StreamExt, stream};

use crate::{Problem, limits::MAX_URI_BYTES};

/// Answers a problem where the handler takes longer than `limit` or panics.
pub(crate) async fn bound(State(limit): State<Duration>, request: Request, next: Next) -> Result<Response, Problem> {
    let (request, arrived) = watched(request);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            Err(Problem::internal())
        }
        Err(_) if arrived.load(Ordering::Relaxed) => Err(Problem::deadline()),
        Err(_) => Err(Problem::slow_body()),
    }
}

/// The request, and whether its body has arrived as a whole: who is slow decides whose fault a missed deadline is.
fn watched(request: Request) -> (Request, Arc<AtomicBool>) {
    let arrived = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    if arrived.load(Ordering::Relaxed) {
        return (request, arrived);
    }
    let ended = Arc::clone(&arrived);
    let request = request.map(|body| {
        let end = stream::once(async move {
            ended.store(true, Ordering::Relaxed);
            Ok(Bytes::new())
        });
        Body::from_stream(body.into_data_stream().chain(end))
    });
    (request, arrived)
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
    use axum::{Router, middleware::from_fn_with_state, routing::get};
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

    #[tokio::test]
    async fn a_body_that_never_ends_is_its_senders_fault() {
        let read = async |body: String| body;
        let router = Router::new()
            .route("/read", axum::routing::post(read))
            .route_layer(from_fn_with_state(Duration::from_millis(50), bound));
        let ask = |body: Body| {
            let request = Request::builder().method("POST").uri("/read").body(body).unwrap();
            router.clone().oneshot(request)
        };
        let half = stream::once(async { Ok::<_, std::io::Error>(Bytes::from("half")) });
        let endless = Body::from_stream(half.chain(stream::pending()));
        assert_eq!(ask(endless).await.unwrap().status(), 408);
        assert_eq!(ask(Body::from("whole")).await.unwrap().status(), 200);
    }
}
