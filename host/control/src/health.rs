//! Whether the process lives, and whether it can work. Both without a token.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use thimble_store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{ApiLimits, ControlSettings, Problem, limits::HEALTH_DEADLINE, listener::listen};

/// The process answers.
pub(crate) async fn livez() -> &'static str {
    "ok"
}

/// The control database answers, and the process is not about to end.
pub(crate) async fn readyz(State(settings): State<ControlSettings>) -> Response {
    ready(&settings.store, &settings.shutdown).await
}

async fn ready(store: &Store, shutdown: &CancellationToken) -> Response {
    if shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    }
    let answered = tokio::time::timeout(HEALTH_DEADLINE, store.ping()).await;
    match answered.unwrap_or_else(|_| Err(StoreError::no_answer())) {
        Ok(()) => "ok".into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Serves `/livez` and `/readyz` alone, for a process without the API, until `shutdown` fires.
pub async fn serve_health(listener: TcpListener, store: Store, shutdown: CancellationToken) -> std::io::Result<()> {
    let state = (store, shutdown.clone());
    let readyz = async |State((store, shutdown)): State<(Store, CancellationToken)>| ready(&store, &shutdown).await;
    let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(state);
    listen(listener, router, ApiLimits::default(), shutdown).await
}
