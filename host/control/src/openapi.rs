//! The API's description, made from the handlers.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ControlSettings, Problem, routes::api};

#[derive(OpenApi)]
#[openapi(
    info(title = "Thimble", description = "Moves data by sandboxed connectors.", license(name = "Apache-2.0")),
    security(("token" = [])),
    components(schemas(Problem)),
    modifiers(&Token),
    tags(
        (name = "plugins", description = "Connectors and what they may reach."),
        (name = "registry", description = "Packages of connectors to choose from."),
        (name = "sources", description = "Plugins with their configuration, for any number of connections."),
        (name = "destinations", description = "Where records go."),
        (name = "connections", description = "Sources that are synced."),
        (name = "alerts", description = "What is wrong, and what happened."),
        (name = "notifiers", description = "Who is told of it."),
        (name = "audit", description = "Who changed what."),
        (name = "workers", description = "Processes that execute runs."),
        (name = "runs", description = "What was asked for and what became of it."),
    )
)]
struct Description;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The API's description (OpenAPI 3.1).
pub fn openapi() -> Document {
    let (_, routes) = api().split_for_parts();
    Description::openapi().nest(crate::routes::PREFIX, routes)
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "description",
    responses((status = 200, body = Object)))]
async fn get() -> Json<Document> {
    Json(openapi())
}
