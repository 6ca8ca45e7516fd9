//! Tokens and the host key over HTTP.

use serde_json::json;
use thimble_control::{ApiLimits, Role, TOKEN_PREFIX};
use thimble_record::envelope::{SecretRow, open_fields, sealed_under};
use thimble_store::WorkspaceRow;

use crate::{Server, TOKEN, server::wide};

impl Server {
    async fn as_token(&self, token: &str, method: &str, path: &str, body: serde_json::Value) -> crate::Answer {
        self.send(self.request(method, &format!("/api/v1{path}"), Some(token), body.to_string())).await
    }
}

#[tokio::test]
async fn a_token_is_shown_once_used_noted_and_revoked() {
    let server = Server::without_reconciler().await;
    let made = server.post("/tokens", json!({"name": "ci", "role": "operator"})).await.expect(201);
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with(TOKEN_PREFIX) && secret.len() == 53, "{secret}");
    let id = made["token"]["id"].as_str().unwrap().to_owned();
    assert_eq!(made["token"]["last_used_at"], json!(null));
    server.as_token(&secret, "GET", "/connections", json!({})).await.expect(200);
    let shown = server.get(&format!("/tokens/{id}")).await.expect(200);
    assert!(shown["last_used_at"].is_i64(), "{shown}");
    let first = shown["last_used_at"].clone();
    server.as_token(&secret, "GET", "/connections", json!({})).await.expect(200);
    assert_eq!(server.get(&format!("/tokens/{id}")).await.expect(200)["last_used_at"], first, "noted once a minute");
    let listed = server.get("/tokens").await.expect(200).to_string();
    assert!(listed.contains("\"ci\"") && !listed.contains(&secret), "{listed}");
    server.post("/tokens", json!({"name": "ci", "role": "viewer"})).await.problem(409, "conflict");
    server.delete(&format!("/tokens/{id}")).await.expect(204);
    let detail = server.as_token(&secret, "GET", "/connections", json!({})).await.problem(401, "unauthorized");
    assert!(detail.contains("revoked"), "{detail}");
    server.delete(&format!("/tokens/{id}")).await.expect(204);
    // The name is free again, and the old token stays revoked.
    server.post("/tokens", json!({"name": "ci", "role": "viewer"})).await.expect(201);
    server.as_token(&secret, "GET", "/connections", json!({})).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn bad_tokens_to_be_are_refused() {
    let server = Server::without_reconciler().await;
    for (spec, told) in [
        (json!({"name": "", "role": "viewer"}), "1 to 64"),
        (json!({"name": "a b", "role": "viewer"}), "1 to 64"),
        (json!({"name": "x".repeat(65), "role": "viewer"}), "1 to 64"),
        (json!({"name": "a", "role": "viewer", "expires_at": 5}), "expires_at"),
    ] {
        let detail = server.post("/tokens", spec).await.problem(422, "invalid");
        assert!(detail.contains(told), "{detail}");
    }
    server.post("/tokens", json!({"name": "a", "role": "root"})).await.problem(422, "malformed");
    server.post("/tokens", json!({"name": "a", "role": "viewer", "workspace": "no"})).await.problem(404, "not-found");
    server.get("/tokens/none").await.problem(404, "not-found");
}

#[tokio::test]
async fn an_admin_of_a_workspace_makes_tokens_of_it_alone() {
    let server = Server::without_reconciler().await;
    server.post("/workspaces", json!({"id": "sales", "title": "Sales"})).await.expect(201);
    server.post("/workspaces", json!({"id": "sales"})).await.problem(409, "conflict");
    server.post("/workspaces", json!({"id": "Sales!"})).await.problem(422, "invalid");
    let admin = server.token("sales-admin", Role::Admin, Some("sales"), None).await;
    let made = server.as_token(&admin, "POST", "/tokens", json!({"name": "mine", "role": "admin"})).await.expect(201);
    assert_eq!(made["token"]["workspace"], "sales");
    let wide = json!({"name": "wide", "role": "viewer", "workspace": "default"});
    server.as_token(&admin, "POST", "/tokens", wide).await.problem(404, "not-found");
    // The first token is none of theirs.
    let first = server.store.token_named("api").await.unwrap().unwrap();
    for method in ["GET", "DELETE"] {
        let answer = server.as_token(&admin, method, &format!("/tokens/{}", first.id), json!({})).await;
        answer.problem(404, "not-found");
    }
    server.as_token(&admin, "POST", "/workspaces", json!({"id": "x"})).await.problem(403, "forbidden");
    server.as_token(&admin, "POST", "/keys/rotate", json!({})).await.problem(403, "forbidden");
    server.delete("/workspaces/sales").await.problem(409, "in-use");
    server.delete("/workspaces/default").await.problem(409, "conflict");
    server.delete("/workspaces/none").await.problem(404, "not-found");
    for name in ["sales-admin", "mine"] {
        let row = server.store.token_named(name).await.unwrap().unwrap();
        server.delete(&format!("/tokens/{}", row.id)).await.expect(204);
    }
    server.delete("/workspaces/sales").await.expect(204);
}

#[tokio::test]
async fn who_asks_too_often_waits_and_nobody_else_does() {
    let limits = ApiLimits { requests_per_second: 1, request_burst: 5, ..wide() };
    let server = Server::limited(limits).await;
    let other = server.token("other", Role::Viewer, None, None).await;
    for _ in 0..5 {
        server.get("/connections").await.expect(200);
    }
    let answer = server.get("/connections").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.problem(429, "too-many");
    server.as_token(&other, "GET", "/connections", json!({})).await.expect(200);
}

#[tokio::test]
async fn addresses_that_guess_tokens_wait_and_good_tokens_pass() {
    let server = Server::limited(ApiLimits { failed_logins_per_minute: 6, ..wide() }).await;
    let guess = || async { server.as_token("thm_guess", "GET", "/connections", json!({})).await };
    let mut refused = 0;
    for _ in 0..30 {
        let answer = guess().await;
        if answer.status == 429 {
            assert_eq!(answer.headers["retry-after"], "10");
            refused += 1;
        }
    }
    assert_eq!(refused, 10, "twenty at once");
    server.as_token(TOKEN, "GET", "/connections", json!({})).await.expect(200);
}

#[tokio::test]
async fn the_host_key_rotates_over_http_and_old_keys_end_when_nothing_needs_them() {
    let server = Server::without_reconciler().await.plugin().await;
    let id = thimble_record::ConnectionId::new("c").unwrap();
    let spec = json!({"plugin": "files", "config": {"url": "https://example.org", "token": "hunter2"}});
    server.put("/connections/c", spec).await.expect(201);
    let before = server.get("/keys").await.expect(200);
    assert_eq!((&before["older"], &before["needed_because"]), (&json!([]), &json!([])));
    let rotated = server.post("/keys/rotate", json!({})).await.expect(200);
    assert_eq!((&rotated["added"], &rotated["rows"], &rotated["rewrapped"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!(rotated["keys"]["older"][0], before["current"]);
    let row = server.store.connection(&id).await.unwrap();
    assert_eq!(row.version, 1, "no change of the connection");
    let current = server.ring.keys().ring().current().id();
    assert_eq!(sealed_under(&row.secrets.0), Some(current));
    let opened = open_fields(&server.ring.keys(), &SecretRow::connection("default", "c"), &row.secrets.0).unwrap();
    assert_eq!(opened["/token"], "hunter2");
    // The old key is too young to go; tokens live on.
    let detail = server.post("/keys/retire", json!({})).await.problem(409, "conflict");
    assert!(detail.contains("seconds"), "{detail}");
    // An interrupted rotation: the key is there, the rows are not done.
    server.ring.change(|ring| {
        ring.rotated(thimble_record::envelope::HostKey::generate().unwrap(), chrono::DateTime::UNIX_EPOCH).unwrap()
    });
    let detail = server.post("/keys/retire", json!({})).await.problem(409, "conflict");
    assert!(detail.contains("connection c"), "{detail}");
    let resumed = server.post("/keys/rotate", json!({})).await.expect(200);
    assert_eq!((&resumed["added"], &resumed["rewrapped"]), (&json!(false), &json!(1)));
    let retired = server.post("/keys/retire", json!({})).await.expect(200);
    assert_eq!(retired["older"], json!([]));
    let row = server.store.connection(&id).await.unwrap();
    assert!(open_fields(&server.ring.keys(), &SecretRow::connection("default", "c"), &row.secrets.0).is_ok());
}

#[tokio::test]
async fn rotations_beside_changes_of_the_same_rows_lose_nothing() {
    let server = Server::without_reconciler().await.plugin().await;
    server.store.add_workspace(&WorkspaceRow { id: "w".into(), title: "W".into(), created_at: 1 }).await.unwrap();
    let put = |n: usize, value: String| {
        let spec = json!({"plugin": "files", "config": {"url": "https://example.org", "token": value}});
        let server = &server;
        async move { server.put(&format!("/connections/c{n}"), spec).await }
    };
    for n in 0..20 {
        put(n, "first".into()).await.expect(201);
    }
    let rotating = async {
        for _ in 0..4 {
            server.post("/keys/rotate", json!({})).await.expect(200);
        }
    };
    let changing = async {
        for round in 0..5 {
            for n in 0..20 {
                put(n, format!("value-{round}-{n}")).await.expect(200);
            }
        }
    };
    tokio::join!(rotating, changing);
    server.post("/keys/rotate", json!({})).await.expect(200);
    server.ring.change(thimble_record::envelope::KeyRing::retired);
    for n in 0..20 {
        let name = format!("c{n}");
        let row = server.store.connection(&thimble_record::ConnectionId::new(&name).unwrap()).await.unwrap();
        let opened = open_fields(&server.ring.keys(), &row.secret_row(), &row.secrets.0).unwrap();
        assert_eq!(opened["/token"], format!("value-4-{n}"));
    }
}
