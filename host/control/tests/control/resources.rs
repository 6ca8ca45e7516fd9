//! Sources, destinations, versions of plugins, repeated requests, and following a run.

use http::Request;
use serde_json::{Value, json};
use thimble_control::{MAX_FOLLOWERS, MAX_KEPT_ANSWER_BYTES, MAX_REJECTS_LOOKED_AT, Role};
use thimble_record::{BatchSeq, ConnectionId, RunId};
use thimble_store::{LogLevel, LogLine, NewRun, PluginRow, RunKind, RunOutcome, Trigger};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Server, TOKEN};

/// Asks with a further header; `path` is below `/api/v1`.
async fn ask(server: &Server, method: &str, path: &str, header: (&str, &str), body: &Value) -> crate::Answer {
    let request = server.request(method, &format!("/api/v1{path}"), Some(TOKEN), body.to_string());
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(http::HeaderName::from_bytes(header.0.as_bytes()).unwrap(), header.1.parse().unwrap());
    server.send(Request::from_parts(parts, body)).await
}

fn version(digest: &str, version: &str, hosts: &[&str], installed_at: i64) -> PluginRow {
    PluginRow {
        name: "files".into(),
        version: version.into(),
        digest: digest.repeat(32),
        api_version: "0.1.0".into(),
        title: "Files".into(),
        docs: String::new(),
        config_schema: json!({"type": "object", "properties": {"token": {"type": "string", "x-secret": true}}}),
        permissions: json!({"hosts": hosts}),
        installed_at,
    }
}

#[tokio::test]
async fn a_source_serves_its_connections_and_is_guarded_by_its_version() {
    let server = Server::without_reconciler().await.plugin().await;
    let body = json!({"plugin": "files", "config": {"url": "a", "token": "planted"}});
    let made = ask(&server, "PUT", "/sources/shop", ("if-none-match", "*"), &body).await;
    assert_eq!(made.headers["etag"], "\"1\"");
    let made = made.expect(201);
    assert_eq!(made["config"]["token"], json!({"$secret": true}));
    ask(&server, "PUT", "/sources/shop", ("if-none-match", "*"), &body).await.problem(412, "changed");
    let kept = json!({"plugin": "files", "config": {"url": "b", "token": {"$secret": true}}});
    ask(&server, "PUT", "/sources/shop", ("if-match", "\"1\""), &kept).await.expect(200);
    ask(&server, "PUT", "/sources/shop", ("if-match", "\"1\""), &kept).await.problem(412, "changed");
    ask(&server, "PUT", "/sources/shop", ("if-match", "nonsense"), &kept).await.problem(422, "invalid");

    let connection = server.put("/connections/c", json!({"source": "shop"})).await.expect(201);
    assert_eq!((&connection["plugin"], &connection["config"]["url"]), (&json!("files"), &json!("b")));
    server.put("/sources/shop", json!({"plugin": "files", "config": {"url": "c"}})).await.expect(200);
    assert_eq!(server.get("/connections/c").await.expect(200)["config"], json!({"url": "c"}));
    let told = server.delete("/sources/shop").await.problem(409, "in-use");
    assert!(told.contains("connection c"), "{told}");
    server.put("/connections/d", json!({"source": "none"})).await.problem(422, "invalid");
    let both = json!({"source": "shop", "plugin": "files", "config": {}});
    server.put("/connections/d", both).await.problem(422, "invalid");
    server.delete("/connections/c").await.expect(204);
    server.delete("/sources/shop").await.expect(204);
    server.get("/sources/shop").await.problem(404, "not-found");
}

#[tokio::test]
async fn destinations_are_of_known_kinds_and_hide_their_secrets() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let kinds = server.get("/destination-kinds").await.expect(200);
    assert_eq!(kinds["items"][0]["kind"], "postgres");
    let body = json!({"kind": "postgres", "config": {"url": "postgres://a/b", "password": "planted"}});
    let made = server.put("/destinations/warehouse", body.clone()).await.expect(201);
    assert!(!made.to_string().contains("planted"), "{made}");
    server.put("/destinations/configured", body).await.problem(422, "invalid");
    server.put("/destinations/x", json!({"kind": "fax", "config": {}})).await.problem(422, "invalid");
    let spec = json!({"plugin": "files", "config": {}, "destination": {"name": "warehouse"}});
    server.put("/connections/c", spec).await.expect(200);
    server.delete("/destinations/warehouse").await.problem(409, "in-use");
    server.put("/connections/c", json!({"plugin": "files", "config": {}})).await.expect(200);
    server.delete("/destinations/warehouse").await.expect(204);
}

#[tokio::test]
async fn what_belongs_to_another_workspace_does_not_exist() {
    let server = Server::without_reconciler().await.plugin().await;
    server.put("/sources/shop", json!({"plugin": "files", "config": {}})).await.expect(201);
    server.post("/workspaces", json!({"id": "sales", "title": "Sales"})).await.expect(201);
    let token = server.token("sales", Role::Operator, Some("sales"), None).await;
    let as_sales = |method: &str, path: &str, body: Value| {
        server.send(server.request(method, &format!("/api/v1{path}"), Some(&token), body.to_string()))
    };
    as_sales("GET", "/sources/shop", Value::Null).await.problem(404, "not-found");
    as_sales("DELETE", "/sources/shop", Value::Null).await.problem(404, "not-found");
    as_sales("PUT", "/sources/shop", json!({"plugin": "files", "config": {}})).await.problem(422, "invalid");
    as_sales("PUT", "/connections/c", json!({"source": "shop"})).await.problem(422, "invalid");
    let own = as_sales("PUT", "/sources/own", json!({"plugin": "files", "config": {}})).await.expect(201);
    assert_eq!(own["workspace"], "sales");
    let listed = as_sales("GET", "/sources", Value::Null).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/sources").await.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_upgrade_that_asks_for_more_waits_for_consent_and_can_be_taken_back() {
    let server = Server::without_reconciler().await;
    server.store.install_version(&version("aa", "1.0.0", &["a"], 1), true).await.unwrap();
    let candidate = version("bb", "1.1.0", &["a", "b"], 2);
    server.store.install_version(&candidate, false).await.unwrap();
    let digest = "bb".repeat(32);
    let detail = server.get(&format!("/plugins/files/versions/{digest}")).await.expect(200);
    assert_eq!(
        (&detail["upgrade"]["asks_for_more"], &detail["upgrade"]["hosts"]["added"]),
        (&json!(true), &json!(["b"]))
    );
    let activate = format!("/plugins/files/versions/{digest}/activate");
    let told = server.post(&activate, json!({})).await.problem(409, "conflict");
    assert!(told.contains("hosts: b"), "{told}");
    server.put("/plugins/files/pin", json!({"pinned": true})).await.expect(200);
    server.post(&activate, json!({"accept_permissions": true})).await.problem(409, "conflict");
    server.put("/plugins/files/pin", json!({"pinned": false})).await.expect(200);
    let active = server.post(&activate, json!({"accept_permissions": true})).await.expect(200);
    assert_eq!(active["version"], "1.1.0");
    assert_eq!(active["grants"], json!([]), "consent to a version grants nothing");
    server.delete(&format!("/plugins/files/versions/{digest}")).await.problem(409, "in-use");
    assert_eq!(server.post("/plugins/files/rollback", json!({})).await.expect(200)["version"], "1.0.0");
    let versions = server.get("/plugins/files/versions").await.expect(200);
    let active: Vec<_> = versions["items"].as_array().unwrap().iter().map(|version| &version["active"]).collect();
    assert_eq!(active, [false, true], "the last installed first");
    server.delete(&format!("/plugins/files/versions/{digest}")).await.expect(204);
    server.post("/plugins/files/rollback", json!({})).await.problem(409, "conflict");
}

#[tokio::test]
async fn a_repeated_post_does_its_work_once() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let key = ("idempotency-key", "one");
    let (path, body) = ("/connections/c/runs", json!({"kind": "sync"}));
    let first = ask(&server, "POST", path, key, &body).await;
    assert!(first.headers.get("idempotent-replayed").is_none());
    let location = first.headers["location"].clone();
    let first = first.expect(202);
    let again = ask(&server, "POST", path, key, &body).await;
    assert_eq!(
        (&again.headers["idempotent-replayed"], &again.headers["location"]),
        (&"true".parse().unwrap(), &location)
    );
    assert_eq!(again.expect(202), first);
    // Without the key it is another request, which the unfinished sync refuses.
    server.post(path, body.clone()).await.problem(409, "already-running");
    let other = json!({"kind": "check"});
    let told = ask(&server, "POST", path, key, &other).await.problem(422, "invalid");
    assert!(told.contains("another request"), "{told}");
    let long = "x".repeat(thimble_control::MAX_IDEMPOTENCY_KEY_BYTES + 1);
    ask(&server, "POST", path, ("idempotency-key", &long), &other).await.problem(422, "invalid");
    // An answer that shows a secret is not kept.
    let token = json!({"name": "t", "role": "viewer"});
    ask(&server, "POST", "/tokens", ("idempotency-key", "two"), &token).await.expect(201);
    assert!(server.store.take_key("api", "two", "other", 0, 1).await.unwrap().is_none());
}

#[tokio::test]
async fn a_run_is_followed_to_its_end_and_tried_again() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let connection = ConnectionId::new("c").unwrap();
    let new = NewRun::on(connection, RunKind::Check, Trigger::Api);
    let run = server.store.start(&new, "here", 60_000, 1).await.unwrap().id;
    server.post(&format!("/runs/{run}/retry"), json!({})).await.problem(409, "conflict");
    let line = |message: &str| LogLine { at: 1, level: LogLevel::Info, source: "host".into(), message: message.into() };
    server.store.append_logs(&run, &[line("one"), line("two\nlines")]).await.unwrap();
    let (store, signals, id) = (server.store.clone(), server.signals.clone(), run.clone());
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        store.append_logs(&id, &[line("three")]).await.unwrap();
        store.finish(&id, &RunOutcome::succeeded(Value::Null), 2).await.unwrap();
        signals.changed();
    });
    let followed = server.get(&format!("/runs/{run}/follow")).await;
    assert_eq!(followed.headers["content-type"], "text/event-stream");
    let text = followed.json.as_str().unwrap().to_owned();
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events, ["log", "log", "log", "end"], "{text}");
    let rest = ask(&server, "GET", &format!("/runs/{run}/follow"), ("last-event-id", "2"), &Value::Null).await;
    let text = rest.json.as_str().unwrap().to_owned();
    assert!(text.contains("three") && !text.contains("\"one\""), "{text}");
    let again = server.post(&format!("/runs/{run}/retry"), json!({})).await.expect(202);
    assert_eq!((&again["retry_of"], &again["attempt"]), (&json!(run.0), &json!(2)));
    server.get("/runs/none/follow").await.problem(404, "not-found");
}

#[tokio::test]
async fn what_is_not_there_is_told_by_every_route_of_state() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    assert_eq!(server.get("/connections/c/checkpoints").await.expect(200)["items"], json!([]));
    server.get("/connections/c/checkpoints/7").await.problem(404, "not-found");
    server.post("/connections/c/rewind", json!({"seq": 7})).await.problem(404, "not-found");
    assert_eq!(server.get("/connections/c/rejects").await.expect(200)["items"], json!([]));
    server.get("/connections/c/rejects?cursor=x").await.problem(422, "invalid");
    assert_eq!(server.get("/connections/c/backfills").await.expect(200)["items"], json!([]));
    server.post("/connections/c/backfills", json!({"name": "Not Good"})).await.problem(422, "invalid");
    let run = server.post("/connections/c/backfills", json!({"name": "y2024"})).await.expect(202);
    let row = server.store.run(&RunId(run["id"].as_str().unwrap().into())).await.unwrap();
    assert_eq!(row.request["backfill"]["name"], "y2024");
    server.post("/connections/c/rejects/replay", json!({})).await.problem(409, "already-running");
    server.get("/registry/packages").await.problem(422, "invalid");
    let entries = server.get("/audit").await.expect(200);
    assert_eq!(
        (&entries["items"][0]["action"], &entries["items"][0]["actor"]),
        (&json!("backfill.create"), &json!("api"))
    );
    assert!(server.store.checkpoint(&ConnectionId::new("c").unwrap(), BatchSeq(1)).await.is_err());
}

#[tokio::test]
async fn only_so_many_clients_follow_runs_at_once() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let connection = ConnectionId::new("c").unwrap();
    let new = NewRun::on(connection, RunKind::Check, Trigger::Api);
    let run = server.store.start(&new, "here", 60_000, 1).await.unwrap().id;
    let path = format!("/api/v1/runs/{run}/follow");
    let mut following = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        following.push(stream);
    }
    let detail = server.get(&format!("/runs/{run}/follow")).await.problem(429, "busy");
    assert!(detail.contains("100 clients follow runs already"), "{detail}");
    // One that hangs up makes room.
    following.pop();
    server.store.finish(&run, &RunOutcome::succeeded(Value::Null), 2).await.unwrap();
    server.signals.changed();
    let mut tries = 0;
    while server.get(&format!("/runs/{run}/follow")).await.status != 200 {
        tries += 1;
        assert!(tries < 100, "no room is made");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_filter_that_nothing_passes_looks_at_so_many_rejected_records() {
    let server = Server::without_reconciler().await.plugin().await.connection("rejecting").await;
    let page = server.get("/connections/rejecting/rejects?reason=another").await.expect(200);
    assert_eq!((&page["items"], &page["next"]), (&json!([]), &json!(format!("{MAX_REJECTS_LOOKED_AT}:s"))));
    let page = server.get("/connections/rejecting/rejects?limit=2&cursor=20000:s").await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (2, &json!("20002:s")));
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_kept_is_given_and_not_repeated() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    // The answer shows the numbers as they are stored, which is longer.
    let numbers = MAX_KEPT_ANSWER_BYTES / 18 + 1;
    let body = format!(r#"{{"kind":"check","request":{{"a":[{}1]}}}}"#, "1e15,".repeat(numbers));
    let path = "/api/v1/connections/c/runs";
    let ask = async || {
        let mut request = server.request("POST", path, Some(TOKEN), body.clone());
        request.headers_mut().insert("idempotency-key", "large".parse().unwrap());
        server.send(request).await
    };
    let (first, second) = (ask().await, ask().await);
    assert!(!second.headers.contains_key("idempotent-replayed"));
    let (first, second) = (first.expect(202), second.expect(202));
    assert!(first.to_string().len() > MAX_KEPT_ANSWER_BYTES, "{}", first.to_string().len());
    assert_ne!(first["id"], second["id"], "it was carried out again");
}

#[tokio::test]
async fn grants_that_every_run_would_fail_with_are_refused() {
    let server = Server::without_reconciler().await.plugin().await;
    let detail = server.put("/plugins/files/grants", json!({"grants": ["a!b"]})).await.problem(422, "invalid");
    assert_eq!(detail, "a!b is no pattern; {{ url }} was asked for");
    server.put("/plugins/none/grants", json!({"grants": ["a!b"]})).await.problem(404, "not-found");
    assert_eq!(server.get("/plugins/files/grants").await.expect(200)["grants"], json!([]));
    server.put("/plugins/files/grants", json!({"grants": ["{{ url }}"]})).await.expect(200);
}

#[tokio::test]
async fn freshness_is_a_span_and_milliseconds_are_still_taken() {
    let server = Server::without_reconciler().await.plugin().await;
    let put = async |setting: Value| {
        let mut body = json!({"plugin": "files", "config": {}});
        body.as_object_mut().unwrap().extend(setting.as_object().unwrap().clone());
        server.put("/connections/c", body).await
    };
    assert_eq!(put(json!({"freshness": "90m"})).await.expect(201)["freshness"], "90m");
    let made = put(json!({"freshness_ms": 7_200_000})).await.expect(200);
    assert_eq!((&made["freshness"], made.get("freshness_ms")), (&json!("2h"), None));
    put(json!({"freshness": "2h", "freshness_ms": 1_000})).await.problem(422, "invalid");
    for short in [json!({"freshness": "999ms"}), json!({"freshness_ms": 999}), json!({"freshness_ms": -1})] {
        assert_eq!(put(short).await.problem(422, "invalid"), "freshness: give at least 1s");
    }
    assert_eq!(put(json!({})).await.expect(200)["freshness"], Value::Null);
}
