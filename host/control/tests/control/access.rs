use std::collections::BTreeSet;

use serde_json::Value;
use thimble_control::openapi;

use crate::{Server, TOKEN};

/// (method, path) of every route, as the description says.
fn described() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut routes = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            routes.insert((method.to_uppercase(), path.clone()));
        }
    }
    routes
}

fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_refuses_who_has_no_token_and_knows_who_has() {
    let server = Server::without_reconciler().await;
    let routes = described();
    assert!(routes.len() > 10);
    for (method, path) in &routes {
        let path = filled(path);
        for token in [None, Some("wrong"), Some("")] {
            let answer = server.send(server.request(method, &path, token, "{}")).await;
            assert_eq!(answer.headers.get("www-authenticate").unwrap(), "Bearer", "{method} {path}");
            answer.problem(401, "unauthorized");
        }
        let answer = server.send(server.request(method, &path, Some(TOKEN), "{}")).await;
        assert_ne!(answer.status, 401, "{method} {path}");
        assert_ne!(answer.status, 405, "{method} {path}");
        assert_ne!(answer.json["type"], "urn:thimble:problem:no-such-route", "{method} {path}");
        assert!(answer.status.as_u16() < 500, "{method} {path}: {}", answer.json);
    }
}

#[tokio::test]
async fn health_needs_no_token() {
    let server = Server::without_reconciler().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.send(server.request("GET", path, None, "")).await.expect(200), "ok");
    }
    server.store.close().await;
    server.send(server.request("GET", "/livez", None, "")).await.expect(200);
    server.send(server.request("GET", "/readyz", None, "")).await.problem(503, "unavailable");
    server.get("/plugins").await.problem(503, "unavailable");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_and_tell_nothing_without_a_token() {
    let server = Server::without_reconciler().await;
    server.send(server.request("GET", "/api/v1/nothing", None, "")).await.problem(401, "unauthorized");
    let detail = server.get("/nothing").await.problem(404, "no-such-route");
    assert!(detail.contains("GET /api/v1/nothing") || detail.contains("/nothing"), "{detail}");
    server.send(server.request("GET", "/elsewhere", None, "")).await.problem(404, "no-such-route");
    let answer = server.ask("PATCH", "/plugins", "").await;
    assert_eq!(answer.headers["allow"], "GET,HEAD,POST");
    answer.problem(405, "method-not-allowed");
    server.send(server.request("POST", "/livez", None, "")).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn the_description_is_whole() {
    let server = Server::without_reconciler().await;
    let document = server.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["security"][0]["token"], serde_json::json!([]));
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 5);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.insert(reference.clone());
            }
            object.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}
