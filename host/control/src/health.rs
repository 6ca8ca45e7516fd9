//! Whether the process lives, and whether it can work. Both without a token.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::{ControlSettings, Problem};

/// The process answers.
pub(crate) async fn livez() -> &'static str {
    "ok"
}

/// The control database answers, and the process is not about to end.
pub(crate) async fn readyz(State(settings): State<ControlSettings>) -> Response {
    if settings.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    }
    match settings.store.ping().await {
        Ok(()) => "ok".into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}
