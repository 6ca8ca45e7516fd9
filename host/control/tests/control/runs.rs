use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thimble_control::MAX_UNFINISHED_RUNS;
use thimble_record::{ConnectionId, RunId};
use thimble_store::{NewRun, RunKind, RunOutcome, Trigger};

use crate::Server;

async fn flights() -> Server {
    Server::new().await.plugin().await.connection("flights").await
}

#[tokio::test]
async fn a_run_is_accepted_executed_and_shown() {
    let server = flights().await;
    for kind in ["sync", "check", "discover"] {
        let answer = server.post("/connections/flights/runs", json!({"kind": kind})).await;
        let location = answer.headers["location"].to_str().unwrap().to_owned();
        let run = answer.expect(202);
        assert_eq!(
            (&run["kind"], &run["trigger"], &run["connection"]),
            (&json!(kind), &json!("api"), &json!("flights"))
        );
        let ended = server.get(&format!("{}?wait=20", location.strip_prefix("/api/v1").unwrap())).await.expect(200);
        assert_eq!((&ended["status"], &ended["report"]), (&json!("succeeded"), &json!({"records": 10})));
        assert!(ended["finished_at"].as_i64() >= ended["started_at"].as_i64());
    }
    let kinds: Vec<_> = server.recorder.seen.lock().unwrap().iter().map(|run| run.kind).collect();
    assert_eq!(kinds, [RunKind::Sync, RunKind::Check, RunKind::Discover]);
}

#[tokio::test]
async fn signals_and_not_timers_carry_a_run_through() {
    // The reconciler's timers are ten minutes apart, and the waiting client looks every half second.
    let server = flights().await;
    let begun = Instant::now();
    for _ in 0..20 {
        let run = server.start("flights", "sync", "").await;
        let ended = server.get(&format!("/runs/{run}?wait=20")).await.expect(200);
        assert_eq!(ended["status"], "succeeded");
    }
    let each = begun.elapsed() / 20;
    println!("a run through the API: {each:?}");
    assert!(each < Duration::from_millis(250), "{each:?}");
}

#[tokio::test]
async fn a_second_sync_is_refused_and_names_the_first() {
    let server = flights().await;
    let first = server.start("flights", "sync", "hold").await;
    let answer = server.post("/connections/flights/runs", json!({"kind": "sync"})).await;
    assert_eq!(answer.json["run"], first.as_str());
    let detail = answer.problem(409, "already-running");
    assert!(detail.contains(&first), "{detail}");
    server.start("flights", "check", "").await;
    server.recorder.release.add_permits(1);
    server.until(&first, "succeeded").await;
    server.start("flights", "sync", "").await;
}

#[tokio::test]
async fn waiting_ends_with_the_time_the_run_or_the_server() {
    let server = flights().await;
    let run = server.start("flights", "sync", "hold").await;
    server.until(&run, "running").await;
    let begun = Instant::now();
    let waited = server.get(&format!("/runs/{run}?wait=1")).await.expect(200);
    assert_eq!(waited["status"], "running");
    assert!(begun.elapsed() >= Duration::from_secs(1));

    // A run that another process ends is noticed without a signal.
    let id = ConnectionId::new("flights").unwrap();
    let elsewhere = NewRun::on(id, RunKind::Check, Trigger::Manual);
    let elsewhere = server.store.start(&elsewhere, "elsewhere", 60_000, 1).await.unwrap().id;
    let path = format!("/runs/{elsewhere}?wait=60");
    let (waited, _) = tokio::join!(server.get(&path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.store.finish(&elsewhere, &RunOutcome::succeeded(json!(1)), 2).await.unwrap();
    });
    assert_eq!(waited.expect(200)["status"], "succeeded");

    let path = format!("/runs/{run}?wait=60");
    let (waited, ()) = tokio::join!(server.get(&path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.shutdown.cancel();
    });
    assert_eq!(waited.expect(200)["status"], "running");
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn cancelling_stops_a_running_run_and_ends_a_queued_one() {
    let server = flights().await;
    let run = server.start("flights", "sync", "hold").await;
    server.until(&run, "running").await;
    let asked = server.post(&format!("/runs/{run}/cancel"), json!({})).await.expect(202);
    assert_eq!(asked["cancel_requested"], true);
    let ended = server.get(&format!("/runs/{run}?wait=20")).await.expect(200);
    assert_eq!((&ended["status"], &ended["report"]), (&json!("cancelled"), &json!({"records": 3})));
    server.post(&format!("/runs/{run}/cancel"), json!({})).await.problem(409, "conflict");
    server.post("/runs/none/cancel", json!({})).await.problem(404, "not-found");

    let idle = Server::without_reconciler().await.plugin().await.connection("flights").await;
    let run = idle.start("flights", "sync", "").await;
    let ended = idle.post(&format!("/runs/{run}/cancel"), json!({})).await.expect(202);
    assert_eq!(ended["status"], "cancelled");
}

#[tokio::test]
async fn runs_are_listed_newest_first_page_by_page() {
    let server = Server::without_reconciler().await.plugin().await.connection("flights").await;
    let server = server.connection("other").await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(server.start("flights", "check", "").await);
        // Ids of one millisecond have no order.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.start("other", "check", "").await;
    made.reverse();
    let ids = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.get("/runs?connection=flights&limit=2").await.expect(200);
    assert_eq!((ids(&first), &first["next"]), (made[..2].to_vec(), &json!(made[1])));
    let last = server.get(&format!("/runs?connection=flights&limit=2&cursor={}", made[1])).await.expect(200);
    assert_eq!((ids(&last), &last["next"]), (made[2..].to_vec(), &json!(null)));
    assert_eq!(ids(&server.get("/runs").await.expect(200)).len(), 4);
    server.get("/runs/none").await.problem(404, "not-found");
    server.post("/connections/none/runs", json!({"kind": "sync"})).await.problem(404, "not-found");
}

#[tokio::test]
async fn the_log_of_a_run_is_read_page_by_page() {
    let server = flights().await;
    let run = server.start("flights", "check", "").await;
    server.until(&run, "succeeded").await;
    let line = |message: &str| thimble_store::LogLine {
        at: 5,
        level: thimble_store::LogLevel::Warn,
        source: "files".into(),
        message: message.into(),
    };
    server.store.append_logs(&RunId(run.clone()), &[line("two"), line("three")]).await.unwrap();
    let first = server.get(&format!("/runs/{run}/logs?limit=2")).await.expect(200);
    assert_eq!(first["items"][1], json!({"seq": 2, "at": 5, "level": "warn", "source": "files", "message": "two"}));
    assert_eq!(first["next"], "2");
    let last = server.get(&format!("/runs/{run}/logs?limit=2&cursor=2")).await.expect(200);
    assert_eq!((&last["items"][0]["message"], &last["next"]), (&json!("three"), &json!(null)));
    server.get("/runs/none/logs").await.problem(404, "not-found");
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let server = Server::without_reconciler().await.plugin().await.connection("flights").await;
    let check = NewRun::on(ConnectionId::new("flights").unwrap(), RunKind::Check, Trigger::Api);
    for _ in 0..MAX_UNFINISHED_RUNS - 1 {
        server.store.enqueue(&check, 1).await.unwrap();
    }
    server.start("flights", "check", "").await;
    server.post("/connections/flights/runs", json!({"kind": "check"})).await.problem(429, "busy");
}
