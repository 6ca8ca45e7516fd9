//! Who may use which route: read from the routes' own description (`x-roles`, `x-scope`), and enforced here.
//!
//! What the description does not allow is denied: a route without `x-roles` is for nobody. Tokens of one workspace may not
//! change what all workspaces share, nor use routes marked `x-scope: installation`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::LazyLock,
};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};

use crate::{Caller, Problem, Role, openapi::openapi};

/// Names of the extensions in the OpenAPI document.
const ROLES: &str = "x-roles";
const SCOPE: &str = "x-scope";

/// What all workspaces share: it is seen by all, and changed by tokens of all alone.
const SHARED: [&str; 3] = ["/api/v1/plugins", "/api/v1/workspaces", "/api/v1/keys"];

/// Who may use one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub roles: Vec<Role>,
    /// Whether only tokens of all workspaces may use it.
    pub installation: bool,
}

/// Rules by method and path (`GET`, `/api/v1/runs/{run}`).
pub type Access = BTreeMap<(String, String), Rule>;

static ACCESS: LazyLock<Access> = LazyLock::new(access);
static PATHS: LazyLock<BTreeSet<String>> = LazyLock::new(|| ACCESS.keys().map(|(_, path)| path.clone()).collect());

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
            let roles = serde_json::from_value(operation[ROLES].clone()).unwrap_or_default();
            // A word that is not known closes more, not less.
            let shared = SHARED.iter().any(|shared| path.starts_with(shared));
            let installation = operation.get(SCOPE).is_some() || (shared && method != "get");
            table.insert((method.to_uppercase(), path.clone()), Rule { roles, installation });
        }
    }
    table
}

/// The table as Markdown, for `ROLES.md`.
pub fn roles_markdown() -> String {
    let mut text = String::from(
        "# Who may use which route\n\nGenerated from the routes' own description; a test keeps it equal, and another asks \
         every route over HTTP\nwith every role. What is not in this table is denied to everybody. Tokens of one workspace \
         see what is in it and\nget 404 for the rest; routes marked *installation* change what all workspaces share and \
         need a token of all.\n\n| method | path | viewer | operator | author | admin | scope |\n|---|---|---|---|---|---|---|\n",
    );
    for ((method, path), rule) in access() {
        let marks = [Role::Viewer, Role::Operator, Role::Author, Role::Admin]
            .map(|role| if rule.roles.contains(&role) { "yes" } else { "–" });
        let scope = if rule.installation { "installation" } else { "workspace" };
        let _ = writeln!(text, "| {method} | `{path}` | {} | {scope} |", marks.join(" | "));
    }
    text
}

/// Lets only callers pass whom the route allows.
pub(crate) async fn require_role(request: Request, next: Next) -> Result<Response, Problem> {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(next.run(request).await) };
    let path = path.as_str().to_owned();
    let caller = request.extensions().get::<Caller>().ok_or_else(|| Problem::unauthorized("nobody asks"))?;
    // Answered by the route of GET.
    let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
    let Some(rule) = ACCESS.get(&(method.to_owned(), path.clone())) else {
        // An unknown method of a described path is answered as such; a path that nobody described is for nobody.
        if PATHS.contains(&path) {
            return Ok(next.run(request).await);
        }
        return Err(Problem::forbidden(format!("{path} is not described, and so is for nobody")));
    };
    if !rule.roles.contains(&caller.role) {
        let needed: Vec<_> = rule.roles.iter().map(|role| role.word()).collect();
        let needed = if needed.is_empty() { "a role that does not exist".to_owned() } else { needed.join(" or ") };
        let role = caller.role.word();
        return Err(Problem::forbidden(format!("the token has the role {role}; {method} {path} needs {needed}")));
    }
    if let (true, Some(own)) = (rule.installation, &caller.workspace) {
        return Err(Problem::forbidden(format!(
            "the token sees the workspace {own:?} only; {method} {path} concerns all and needs a token of all"
        )));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_route_says_who_may_use_it() {
        let table = access();
        assert!(table.len() > 15, "{} routes", table.len());
        for ((method, path), rule) in &table {
            assert!(!rule.roles.is_empty(), "{method} {path} has no x-roles");
            assert!(rule.roles.contains(&Role::Admin), "{method} {path} is closed to admins");
            if rule.roles.contains(&Role::Viewer) {
                assert_eq!(method, "GET", "{method} {path} changes something, and viewers may use it");
            }
        }
        let installation = |method: &str, path: &str| table[&(method.into(), format!("/api/v1{path}"))].installation;
        for (method, path) in [
            ("POST", "/plugins"),
            ("DELETE", "/plugins/{name}"),
            ("PUT", "/plugins/{name}/grants"),
            ("POST", "/workspaces"),
            ("POST", "/keys/rotate"),
        ] {
            assert!(installation(method, path), "{method} {path} changes what all workspaces share");
        }
        assert!(!installation("GET", "/plugins"));
    }

    #[test]
    fn the_published_table_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/ROLES.md");
        if std::env::var_os("UPDATE_ROLES").is_some() {
            std::fs::write(file, roles_markdown()).unwrap();
        }
        let published = std::fs::read_to_string(file).unwrap_or_default();
        assert!(published == roles_markdown(), "ROLES.md is out of date: run this test with UPDATE_ROLES=1");
    }
}
