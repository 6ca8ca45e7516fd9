//! The reconciler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use thimble_control::{ReconcileSettings, Retention, system_clock};
use thimble_record::ConnectionId;
use thimble_store::{NewRun, RunKind, RunOutcome, RunStatus, Trigger};

use crate::{Server, server::only_by_signal};

async fn with(settings: ReconcileSettings) -> Server {
    Server::with(settings).await.plugin().await.connection("flights").await
}

fn check() -> NewRun {
    NewRun::on(ConnectionId::new("flights").unwrap(), RunKind::Check, Trigger::Schedule)
}

fn quick() -> ReconcileSettings {
    ReconcileSettings { tick: Duration::from_millis(20), ..ReconcileSettings::new("here") }
}

#[tokio::test]
async fn no_more_runs_at_once_than_allowed() {
    let server = with(ReconcileSettings { concurrency: 2, ..only_by_signal() }).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(server.start("flights", "check", "hold").await);
    }
    while server.recorder.at_once.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.recorder.release.add_permits(5);
    for run in runs {
        server.until(&run, "succeeded").await;
    }
    assert_eq!(server.recorder.most_at_once.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_another_process_queued_is_found_by_the_timer() {
    let server = with(quick()).await;
    let run = server.store.enqueue(&check(), system_clock()()).await.unwrap();
    server.until(&run.id.0, "succeeded").await;
}

#[tokio::test]
async fn a_run_without_an_outcome_is_failed() {
    let server = with(only_by_signal()).await;
    for (verb, reason) in [("panic", "defect"), ("forget", "without an outcome")] {
        let run = server.start("flights", "check", verb).await;
        let ended = server.get(&format!("/runs/{run}?wait=20")).await.expect(200);
        assert_eq!((&ended["status"], &ended["failure"]["kind"]), (&json!("failed"), &json!("system")));
        assert!(ended["failure"]["message"].as_str().unwrap().contains(reason), "{ended}");
    }
    let run = server.start("flights", "check", "").await;
    server.until(&run, "succeeded").await;
}

#[tokio::test]
async fn the_run_of_a_dead_process_is_interrupted_and_a_living_one_is_kept() {
    let time = Arc::new(AtomicI64::new(1_000_000));
    let clock = {
        let time = time.clone();
        Arc::new(move || time.load(Ordering::SeqCst))
    };
    let (heartbeat, ttl) = (Duration::from_millis(10), Duration::from_secs(10));
    let settings = ReconcileSettings { heartbeat, ttl, clock, ..quick() };
    let server = with(settings).await;
    let dead = server.store.start(&check(), "elsewhere", 10_000, 1_000_000).await.unwrap();
    let alive = server.start("flights", "check", "hold").await;
    server.until(&alive, "running").await;

    // In steps shorter than the time to live, so that the living one is heard of in between.
    for _ in 0..4 {
        let before = time.fetch_add(5_000, Ordering::SeqCst) + 5_000 + 10_000;
        loop {
            let row = server.store.run(&thimble_record::RunId(alive.clone())).await.unwrap();
            if row.expires_at == Some(before) {
                break;
            }
            assert_eq!(row.status, RunStatus::Running);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let ended = server.until(&dead.id.0, "interrupted").await;
    assert_eq!(ended["failure"]["kind"], "transient");
    server.recorder.release.add_permits(1);
    server.until(&alive, "succeeded").await;
}

#[tokio::test]
async fn stopping_asks_runs_to_end_and_interrupts_those_that_do_not() {
    let settings = ReconcileSettings { grace: Duration::from_millis(200), ..only_by_signal() };
    let mut server = with(settings).await;
    let polite = server.start("flights", "check", "hold").await;
    let stubborn = server.start("flights", "check", "ignore").await;
    let queued_later = {
        server.until(&polite, "running").await;
        server.until(&stubborn, "running").await;
        server.stop_reconciler.cancel();
        server.reconciling.take().unwrap().await.unwrap();
        server.start("flights", "check", "").await
    };
    server.until(&polite, "cancelled").await;
    let ended = server.until(&stubborn, "interrupted").await;
    assert!(ended["failure"]["message"].as_str().unwrap().contains("stopped"), "{ended}");
    server.until(&queued_later, "queued").await;
}

#[tokio::test]
async fn old_history_is_forgotten() {
    let retention =
        Retention { logs: Duration::from_secs(10), runs: Duration::from_secs(100), every: Duration::from_millis(1) };
    let server = with(ReconcileSettings { retention, ..quick() }).await;
    let now = system_clock()();
    let mut runs = Vec::new();
    for age in [200_000, 50_000, 0] {
        let run = server.store.start(&check(), "elsewhere", 60_000, now).await.unwrap().id;
        let line = thimble_store::LogLine {
            at: now,
            level: thimble_store::LogLevel::Info,
            source: "host".into(),
            message: "x".into(),
        };
        server.store.append_logs(&run, &[line]).await.unwrap();
        server.store.finish(&run, &RunOutcome::succeeded(json!(1)), now - age).await.unwrap();
        runs.push(run);
    }
    while server.store.run(&runs[0]).await.is_ok() || !server.store.logs(&runs[1], 0, 1).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.store.run(&runs[1]).await.unwrap();
    assert_eq!(server.store.logs(&runs[2], 0, 9).await.unwrap().len(), 1);
}
