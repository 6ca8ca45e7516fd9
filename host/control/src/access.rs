//! Which role may use which route: read from the routes' own description (`x-roles`), and enforced here.
//!
//! What the description does not allow is denied: a route without `x-roles` is for nobody.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};

use crate::{Caller, Problem, Role, openapi::openapi};

/// Name of the extension in the OpenAPI document.
const EXTENSION: &str = "x-roles";

/// Roles by method and path (`GET`, `/api/v1/runs/{run}`).
pub type Access = BTreeMap<(String, String), Vec<Role>>;

static ACCESS: LazyLock<Access> = LazyLock::new(access);

/// The whole table.
pub fn access() -> Access {
    let document = serde_json::to_value(openapi()).expect("a description is JSON");
    let mut table = Access::new();
    let paths = document["paths"].as_object().into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if !operation.is_object() {
                continue;
            }
            let roles = serde_json::from_value(operation[EXTENSION].clone()).unwrap_or_default();
            table.insert((method.to_uppercase(), path.clone()), roles);
        }
    }
    table
}

/// Lets only callers pass whose role the route allows.
pub(crate) async fn require_role(request: Request, next: Next) -> Result<Response, Problem> {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(next.run(request).await) };
    let caller = request.extensions().get::<Caller>().ok_or_else(Problem::unauthorized)?;
    // Answered by the route of GET.
    let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
    // An unknown method of a known path is answered as such.
    let Some(roles) = ACCESS.get(&(method.to_owned(), path.as_str().to_owned())) else {
        return Ok(next.run(request).await);
    };
    if roles.contains(&caller.role) {
        return Ok(next.run(request).await);
    }
    let needed: Vec<_> = roles.iter().map(|role| role.word()).collect();
    Err(Problem::forbidden(format!(
        "the token has the role {}; {method} {} needs {}",
        caller.role.word(),
        path.as_str(),
        needed.join(" or ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_says_who_may_use_it() {
        let table = access();
        assert!(table.len() > 15, "{} routes", table.len());
        for ((method, path), roles) in &table {
            assert!(!roles.is_empty(), "{method} {path} has no x-roles");
            assert!(roles.contains(&Role::Admin), "{method} {path} is closed to admins");
            if roles.contains(&Role::Viewer) {
                assert_eq!(method, "GET", "{method} {path} changes something, and viewers may use it");
            }
        }
    }
}
