//! Puts the routes together: description, deadlines, body limits, token, health.

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state, map_response},
    response::Response,
    routing::get,
};
use tokio::net::TcpListener;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    ControlSettings, access, alerts, audit,
    auth::{self, Gate},
    backfills, canary, checkpoints, connections, destinations, follow, grants, guard, health, hooks, idempotency, keys,
    limits::{DELIVERY_DEADLINE, MAX_BODY_BYTES, MAX_WAIT, REQUEST_DEADLINE, UPLOAD_DEADLINE},
    listener::listen,
    metrics, notifiers, openapi, plugins, registry, rejects, runs, schedule, sources, state, tokens, versions, workers,
    workspaces,
};

/// Where the API stands.
pub(crate) const PREFIX: &str = "/api/v1";

/// All routes of the API, with their description, without its prefix.
pub(crate) fn api() -> OpenApiRouter<ControlSettings> {
    let usual = OpenApiRouter::new()
        .merge(plugins::routes())
        .merge(versions::routes())
        .merge(canary::routes())
        .merge(registry::routes())
        .merge(grants::routes())
        .merge(connections::routes())
        .merge(sources::routes())
        .merge(destinations::routes())
        .merge(hooks::routes())
        .merge(alerts::routes())
        .merge(notifiers::routes())
        .merge(metrics::routes())
        .merge(state::routes())
        .merge(schedule::routes())
        .merge(checkpoints::routes())
        .merge(backfills::routes())
        .merge(rejects::routes())
        .merge(audit::routes())
        .merge(follow::routes())
        .merge(runs::routes())
        .merge(tokens::routes())
        .merge(workspaces::routes())
        .merge(workers::routes())
        .merge(keys::routes())
        .merge(openapi::routes());
    OpenApiRouter::new()
        .merge(bounded(usual, REQUEST_DEADLINE))
        .merge(bounded(runs::waiting_routes(), REQUEST_DEADLINE + MAX_WAIT))
        .merge(bounded(notifiers::waiting_routes(), REQUEST_DEADLINE + DELIVERY_DEADLINE))
        .merge(bounded(plugins::upload_routes(), UPLOAD_DEADLINE))
}

fn bounded(routes: OpenApiRouter<ControlSettings>, limit: Duration) -> OpenApiRouter<ControlSettings> {
    routes.route_layer(from_fn_with_state(limit, guard::bound))
}

/// The control plane's HTTP surface. Everything under `/api/v1` needs a token, unknown paths included.
pub fn router(settings: ControlSettings) -> Router {
    let (routes, _) = api().split_for_parts();
    let gate = Gate::new(settings.clone());
    let api = routes
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(settings.clone(), idempotency::once))
        .layer(from_fn(access::require_role))
        .layer(from_fn(guard::plain))
        .layer(from_fn_with_state(gate.clone(), auth::require_token));
    let scrape = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(from_fn_with_state(REQUEST_DEADLINE, guard::bound))
        .route_layer(from_fn_with_state(gate, metrics::guard));
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .merge(scrape)
        .nest(PREFIX, api)
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::method_not_allowed)
        .layer(map_response(mark))
        .with_state(settings)
}

/// Serves the API until `settings.shutdown` fires and the open requests have ended.
pub async fn serve(listener: TcpListener, settings: ControlSettings) -> std::io::Result<()> {
    let shutdown = settings.shutdown.clone();
    let limits = settings.limits.clone();
    listen(listener, router(settings), limits, shutdown).await
}

/// Answers are data for programs: never guessed to be something else, never kept by a cache.
async fn mark(mut response: Response) -> Response {
    use axum::http::{HeaderValue, header};
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
