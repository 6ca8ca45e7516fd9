//! Every route with every kind of token, over HTTP, compared with the table that the description gives.

use serde_json::{Value, json};
use thimble_control::{Role, Rule, access};
use thimble_store::{NewRun, RunKind, Trigger, WorkspaceRow};

use crate::{Server, TOKEN};

/// Stands in everything that belongs to the workspace `default`, so that an answer that shows it is recognised.
const MARK: &str = "only-of-default";

/// A path with the names of things that exist in the workspace `default`.
fn filled(path: &str, run: &str) -> String {
    let part = |part: &str| match part {
        "{run}" => run.to_owned(),
        "{seq}" => "1".to_owned(),
        part if part.starts_with('{') => MARK.to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A server with things in the workspace `default`, and a workspace `other` without any.
async fn furnished() -> (Server, String) {
    let server = Server::without_reconciler().await.plugin().await;
    let other = WorkspaceRow { id: "other".into(), title: "Other".into(), created_at: 1 };
    server.store.add_workspace(&other).await.unwrap();
    restore(&server).await;
    let id = thimble_record::ConnectionId::new(MARK).unwrap();
    let run = server.store.enqueue(&NewRun::on(id, RunKind::Check, Trigger::Api), 1).await.unwrap();
    // Ended, so that following it ends.
    server.store.request_cancel(&run.id, 2).await.unwrap();
    (server, run.id.0)
}

/// What a route may have removed, again.
async fn restore(server: &Server) {
    let spec = json!({"plugin": "files", "config": {"url": format!("https://{MARK}.example")}});
    for kind in ["connections", "sources"] {
        let put = server.put(&format!("/{kind}/{MARK}"), spec.clone()).await;
        assert!(put.status.is_success() || put.status == 409, "{}", put.json);
    }
}

fn may(rule: &Rule, role: Role, workspace: Option<&str>) -> bool {
    rule.roles.contains(&role) && !(rule.installation && workspace.is_some())
}

#[tokio::test]
async fn every_route_lets_in_exactly_whom_its_description_names() {
    let (server, run) = furnished().await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        for workspace in [None, Some("default")] {
            let name = format!("{}-{}", role.word(), workspace.unwrap_or("all"));
            tokens.push((role, workspace, server.token(&name, role, workspace, None).await));
        }
    }
    let expired = server.token("expired", Role::Admin, None, Some(2)).await;
    let revoked = server.token("revoked", Role::Admin, None, None).await;
    let row = server.store.token_named("revoked").await.unwrap().unwrap();
    server.store.revoke_token(&row.id, 3).await.unwrap();
    let unknown = thimble_control::SecretToken::generate().unwrap().expose().to_owned();
    let table = access();
    assert!(table.len() >= 40, "{} routes", table.len());
    let mut asked = 0;
    for ((method, path), rule) in &table {
        let at = filled(path, &run);
        let none = [None, Some("thm_mistyped"), Some(unknown.as_str()), Some(expired.as_str()), Some(revoked.as_str())];
        for token in none {
            let answer = server.send(server.request(method, &at, token, "{}")).await;
            assert!(!answer.json.to_string().contains(MARK), "{method} {path}: {}", answer.json);
            answer.problem(401, "unauthorized");
        }
        for (role, workspace, token) in &tokens {
            let answer = server.send(server.request(method, &at, Some(token), "{}")).await;
            let (status, told) = (answer.status.as_u16(), answer.json.to_string());
            let who = format!("{method} {path} as {} of {}: {status} {told}", role.word(), workspace.unwrap_or("all"));
            assert!(status < 500, "{who}");
            if may(rule, *role, *workspace) {
                assert!(status != 401 && status != 403 && status != 405, "{who}");
            } else {
                assert!(status == 403, "{who}");
                let needed = if rule.roles.contains(role) { "a token of all" } else { rule.roles[0].word() };
                assert!(told.contains(needed), "{who}");
            }
            asked += 1;
        }
        restore(&server).await;
    }
    assert_eq!(asked, table.len() * 8);
}

#[tokio::test]
async fn nothing_of_another_workspace_exists_for_a_token() {
    let (server, run) = furnished().await;
    let strangers = [
        server.token("stranger-admin", Role::Admin, Some("other"), None).await,
        server.token("stranger-operator", Role::Operator, Some("other"), None).await,
    ];
    let mut seen = 0;
    for ((method, path), rule) in access() {
        // What all share is no secret of one; its changes are refused, as the other test shows.
        if rule.installation
            || path.starts_with("/api/v1/plugins")
            || path.starts_with("/api/v1/registry")
            || !path.contains('{')
        {
            continue;
        }
        for (token, role) in strangers.iter().zip([Role::Admin, Role::Operator]) {
            if !rule.roles.contains(&role) {
                continue;
            }
            let at = filled(&path, &run);
            let answer = server.send(server.request(&method, &at, Some(token), "{}")).await;
            let (status, told) = (answer.status.as_u16(), answer.json.to_string());
            // PUT may say that a name is taken; bodies are read before anything is looked up, and this one is wrong.
            // Numbers are no names: 400.
            let hidden = matches!(status, 400 | 404) || (matches!(status, 409 | 415 | 422) && method != "GET");
            assert!(hidden, "{method} {path}: {status} {told}");
            assert!(!told.contains(&format!("{MARK}.example")), "{method} {path}: {told}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen}");
    // Lists show nothing of it either; the same lists show it to whom it belongs.
    let own = server.token("own", Role::Admin, Some("default"), None).await;
    let mut shown = 0;
    for path in ["/connections", "/runs", "/audit", "/tokens", "/workspaces"] {
        for (token, owner) in [(&strangers[0], false), (&own, true)] {
            let request = server.request("GET", &format!("/api/v1{path}"), Some(token), "");
            let told = server.send(request).await.expect(200).to_string();
            let holds = told.contains(MARK) || told.contains(&run) || told.contains("\"workspace\":\"default\"");
            assert!(owner || !holds, "{path}: {told}");
            shown += usize::from(owner && holds);
        }
    }
    assert!(shown >= 3, "{shown} lists show it to its owner");
    let connections = server.get("/connections").await.expect(200);
    assert_eq!(connections["items"][0]["id"], MARK, "the admin of all still sees it");
}

#[tokio::test]
async fn what_nobody_described_is_for_nobody() {
    let (server, _) = furnished().await;
    for path in
        ["/api/v1/nothing", "/api/v1", "/api/v1/", "/api/v1/connections/a/b/c", "/api/v1/../livez", "/api/v2/runs"]
    {
        let answer = server.send(server.request("GET", path, Some(TOKEN), "")).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.json);
    }
    for method in ["PATCH", "TRACE", "OPTIONS", "PROPFIND"] {
        let answer = server.send(server.request(method, "/api/v1/connections", Some(TOKEN), "")).await;
        assert_eq!(answer.status, 405, "{method}: {}", answer.json);
    }
    let viewer = server.token("viewer", Role::Viewer, None, None).await;
    let head = server.send(server.request("HEAD", "/api/v1/connections", Some(&viewer), "")).await;
    assert_eq!(head.status, 200);
    let head = server.send(server.request("HEAD", "/api/v1/tokens", Some(&viewer), "")).await;
    assert_eq!(head.status, 403);
}

/// Changes that succeed, one of each kind: each leaves exactly one row in the audit log, with the token's name.
#[tokio::test]
async fn every_change_leaves_one_row_in_the_audit_log() {
    let server = Server::without_reconciler().await.plugin().await;
    let token = server.token("somebody", Role::Admin, None, None).await;
    let config = json!({"plugin": "files", "config": {"url": "https://example.org"}});
    let mut changes: Vec<(&str, String, Value)> = vec![
        ("PUT", "/plugins/files/grants".into(), json!({"grants": ["example.org"]})),
        ("DELETE", "/plugins/files/grants?pattern=example.org".into(), json!({})),
        ("PUT", "/connections/c".into(), config),
        ("PUT", "/connections/c/state".into(), json!({"position": {}})),
        ("POST", "/connections/c/runs".into(), json!({"kind": "check"})),
        ("POST", "/workspaces".into(), json!({"id": "w"})),
        ("DELETE", "/workspaces/w".into(), json!({})),
        ("POST", "/tokens".into(), json!({"name": "t", "role": "viewer"})),
        ("POST", "/keys/rotate".into(), json!({})),
    ];
    let mut last = newest(&server).await;
    while !changes.is_empty() {
        let (method, path, body) = changes.remove(0);
        let request = server.request(method, &format!("/api/v1{path}"), Some(&token), body.to_string());
        let answer = server.send(request).await;
        assert!(answer.status.is_success(), "{method} {path}: {} {}", answer.status, answer.json);
        let rows = server.store.audit(1_000, None).await.unwrap();
        let new: Vec<_> = rows.iter().filter(|row| row.id > last).collect();
        assert_eq!(new.len(), 1, "{method} {path}: {new:?}");
        assert_eq!(new[0].actor, "somebody", "{method} {path}");
        last = new[0].id;
        if path == "/tokens" {
            let id = answer.json["token"]["id"].as_str().unwrap();
            changes.push(("DELETE", format!("/tokens/{id}"), json!({})));
        }
        if path == "/connections/c/runs" {
            let run = answer.json["id"].as_str().unwrap();
            changes.push(("POST", format!("/runs/{run}/cancel"), json!({})));
            changes.push(("DELETE", "/connections/c".into(), json!({})));
            changes.push(("DELETE", "/plugins/files".into(), json!({})));
        }
    }
}

async fn newest(server: &Server) -> i64 {
    server.store.audit(1, None).await.unwrap().first().map_or(0, |row| row.id)
}
