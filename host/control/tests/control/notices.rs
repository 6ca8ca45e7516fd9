//! Notifiers, hooks, alerts, events and metrics over HTTP.

use serde_json::json;
use thimble_record::{ConnectionId, Failure};
use thimble_store::{NewRun, RunKind, RunOutcome, Trigger};

use crate::server::{Server, TOKEN};

#[tokio::test]
async fn a_notifier_is_kept_without_showing_its_secrets() {
    let server = Server::without_reconciler().await;
    let spec = json!({
        "kind": "slack", "config": {"url": "https://hooks.example.org/planted-secret"}, "events": ["run-failed", "run-failed"],
        "delay_ms": 1_000,
    });
    let made = server.put("/notifiers/team", spec.clone()).await.expect(201);
    assert_eq!(made["config"], json!({"url": {"$secret": true}}));
    assert_eq!((&made["events"], &made["version"]), (&json!(["run-failed"]), &json!(1)));
    // With the mark it keeps its secret; without a stored one the mark is nothing.
    let kept = json!({"kind": "slack", "config": {"url": {"$secret": true}}});
    assert_eq!(server.put("/notifiers/team", kept.clone()).await.expect(200)["version"], 2);
    server.put("/notifiers/other", kept).await.problem(422, "invalid");
    let shown = server.get("/notifiers").await.expect(200).to_string();
    assert!(!shown.contains("planted"), "{shown}");
    let mut stale = server.request("PUT", "/api/v1/notifiers/team", Some(TOKEN), spec.to_string());
    stale.headers_mut().insert("if-match", "\"1\"".parse().unwrap());
    assert_eq!(server.send(stale).await.status, 412);
    let tried = server.post("/notifiers/team/test", json!({})).await.expect(200);
    assert_eq!((&tried["delivered"], &tried["error"]), (&json!(false), &json!("nowhere to send it")));
    let audit: Vec<_> = server.store.audit(10, None).await.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(audit, ["notifier.test", "notifier.put", "notifier.put"]);
    server.delete("/notifiers/team").await.expect(204);
    server.get("/notifiers/team").await.problem(404, "not-found");
    server.get("/notifiers/team/deliveries").await.problem(404, "not-found");
}

#[tokio::test]
async fn what_cannot_be_a_notifier_is_refused_by_name_of_the_setting() {
    let server = Server::without_reconciler().await;
    let with = |key: &str, value: serde_json::Value| {
        let mut spec = json!({"kind": "slack", "config": {"url": "https://hooks.example.org/x"}});
        spec[key] = value;
        spec
    };
    for (spec, named) in [
        (with("events", json!(["run-exploded"])), "run-exploded"),
        (with("delay_ms", json!(-1)), "delay_ms"),
        (with("delay_ms", json!(7 * 86_400_000 + 1)), "delay_ms"),
        (with("connections", json!(vec!["c"; 1_001])), "connections"),
        (with("config", json!({"url": "ftp://x"})), "config.url"),
    ] {
        let told = server.put("/notifiers/n", spec).await.problem(422, "invalid");
        assert!(told.contains(named), "{told}");
    }
    for name in ["N", "a%20b", &"n".repeat(65)] {
        server.put(&format!("/notifiers/{name}"), with("paused", json!(true))).await.problem(422, "invalid");
    }
    server.put(&format!("/notifiers/{}", "n".repeat(64)), with("paused", json!(true))).await.expect(201);
}

#[tokio::test]
async fn hooks_have_names_and_a_number() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let many: serde_json::Map<_, _> = (0..11).map(|n| (format!("h{n}"), json!({"url": "https://a"}))).collect();
    let told = server.put("/connections/c/hooks", json!({"hooks": many})).await.problem(422, "invalid");
    assert!(told.contains("the limit is 10"), "{told}");
    let told = server.put("/connections/c/hooks", json!({"hooks": {"No": {}}})).await.problem(422, "invalid");
    assert!(told.contains("\"No\""), "{told}");
    server.put("/connections/absent/hooks", json!({"hooks": {}})).await.problem(404, "not-found");
    assert_eq!(server.get("/connections/c/hooks").await.expect(200), json!({"hooks": {}}));
}

#[tokio::test]
async fn alerts_events_and_figures_tell_of_a_failure() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let id = ConnectionId::new("c").unwrap();
    let run = server.store.start(&NewRun::on(id, RunKind::Sync, Trigger::Manual), "me", 1_000, 1).await.unwrap();
    server.store.finish(&run.id, &RunOutcome::failed(Failure::system("it broke"), json!(null)), 2).await.unwrap();
    let alerts = server.get("/alerts?open=true&connection=c").await.expect(200);
    let alert = &alerts["items"][0];
    assert_eq!((&alert["kind"], &alert["run"]), (&json!("run-failed"), &json!(run.id.0)));
    let path = format!("/alerts/{}", alert["id"].as_str().unwrap());
    assert_eq!(server.post(&format!("{path}/acknowledge"), json!({})).await.expect(200)["acknowledged_by"], "api");
    assert_eq!(server.get(&path).await.expect(200)["acknowledged_by"], "api");
    for absent in ["/alerts/0", "/alerts/x", "/alerts/99999999999999999999"] {
        server.get(absent).await.problem(404, "not-found");
    }
    let events = server.get("/events?kind=run-failed&since=1&limit=1").await.expect(200);
    assert_eq!((&events["items"][0]["connection"], &events["next"]), (&json!("c"), &json!(null)));
    server.get("/events?kind=run-exploded").await.problem(422, "invalid");
    assert_eq!(server.get("/events?since=3").await.expect(200)["items"], json!([]));
    assert_eq!(server.get("/connections/c/metrics?days=1").await.expect(200)["failed"], 1);
    let long = "x".repeat(201);
    server.get(&format!("/runs/{}/logs?q={long}", run.id)).await.problem(422, "invalid");
    server.get(&format!("/runs/{}/logs?q=x&level=warn&source=host", run.id)).await.expect(200);
}

#[tokio::test]
async fn metrics_take_a_token_and_escape_names() {
    let server = Server::without_reconciler().await.plugin().await.connection("c").await;
    let ask = async |token| server.send(server.request("GET", "/metrics", token, "")).await;
    assert_eq!(ask(None).await.status, 401, "this server listens for others as well, by its settings");
    assert_eq!(ask(Some("wrong")).await.status, 401);
    let answer = ask(Some(TOKEN)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.json.as_str().unwrap();
    assert!(text.contains("\nthimble_connection_freshness_seconds{workspace=\"default\",connection=\"c\"} "), "{text}");
    assert!(text.contains("\nthimble_runs{status=\"queued\"} 0\n"), "{text}");
}

/// The scrape of a large installation, in one process with everything else.
#[tokio::test]
async fn a_thousand_connections_are_scraped_in_a_moment() {
    let server = Server::without_reconciler().await.plugin().await;
    for n in 0..1_000 {
        let id = ConnectionId::new(format!("c{n}")).unwrap();
        let row = thimble_store::ConnectionRow::new(id.clone(), "files", json!({}));
        server.store.put_connection(&row, None, 1).await.unwrap();
        if n % 10 == 0 {
            let run =
                server.store.start(&NewRun::on(id, RunKind::Sync, Trigger::Manual), "me", 1_000, 1).await.unwrap();
            let streams: serde_json::Map<_, _> = (0..5).map(|s| (format!("s{s}"), json!({"loaded": 1}))).collect();
            let outcome = RunOutcome::succeeded(json!({ "streams": streams }));
            server.store.finish(&run.id, &outcome, 2).await.unwrap();
        }
    }
    let mut times = Vec::new();
    for _ in 0..10 {
        let began = std::time::Instant::now();
        let answer = server.send(server.request("GET", "/metrics", Some(TOKEN), "")).await;
        times.push(began.elapsed().as_millis());
        assert!(answer.json.as_str().unwrap().lines().count() > 6_000);
    }
    times.sort_unstable();
    assert!(times[times.len() / 2] < 100, "{times:?} ms");
}
