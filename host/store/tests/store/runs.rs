use std::sync::Arc;

use serde_json::json;
use thimble_record::{Epoch, Failure, RunId};
use thimble_store::{NewRun, RunKind, RunOutcome, RunPage, RunStatus, StoreError, Trigger};
use tokio::{sync::Barrier, task::JoinSet};

use super::{NOW, ON, TTL, World, flights};

fn sync() -> NewRun {
    NewRun::on(flights(), RunKind::Sync, Trigger::Manual)
}

fn check() -> NewRun {
    NewRun::on(flights(), RunKind::Check, Trigger::Api)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_triggers_exactly_one_sync_is_queued() {
    let world = World::new(ON).await;
    let handles = [world.store.clone(), world.other().await];
    let barrier = Arc::new(Barrier::new(50));
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let (store, barrier) = (handles[n % 2].clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            match n % 3 {
                0 => store.start(&sync(), &format!("worker-{n}"), TTL, NOW).await,
                _ => store.enqueue(&sync(), NOW).await,
            }
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    let won = won[0].as_ref().unwrap().id.clone();
    for lost in lost {
        assert!(matches!(&lost, Err(StoreError::AlreadyRunning { run, .. }) if *run == won), "{lost:?}");
    }
    assert_eq!(world.store.unfinished_runs().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_workers_each_run_is_claimed_by_exactly_one() {
    let world = World::new(ON).await;
    for n in 0..20 {
        world.store.enqueue(&check(), NOW + n).await.unwrap();
    }
    let handles = [world.store.clone(), world.other().await];
    let barrier = Arc::new(Barrier::new(50));
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let (store, barrier) = (handles[n % 2].clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            crate::claim_next(&store, &format!("worker-{n}"), TTL, NOW).await.unwrap()
        });
    }
    let mut claimed: Vec<_> = tasks.join_all().await.into_iter().flatten().map(|run| run.id).collect();
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 20);
}

#[tokio::test]
async fn a_run_goes_from_queued_to_running_to_its_end_and_stays_there() {
    let World { store, .. } = &World::new(ON).await;
    let run = store.enqueue(&NewRun { request: json!({"full": true}), ..sync() }, NOW).await.unwrap();
    assert_eq!((run.status, run.queued_at, run.request.clone()), (RunStatus::Queued, NOW, json!({"full": true})));
    assert!(matches!(store.heartbeat(&run.id, TTL, NOW).await, Err(StoreError::Conflict { .. })));

    let claimed = crate::claim_next(store, "worker", TTL, NOW + 1).await.unwrap().unwrap();
    assert_eq!((&claimed.id, claimed.status, claimed.started_at), (&run.id, RunStatus::Running, Some(NOW + 1)));
    assert!(matches!(store.begin(&run.id, "other", TTL, NOW).await, Err(StoreError::Conflict { .. })));
    store.progress(&run.id, &json!({"records": 7})).await.unwrap();
    store.set_run_epoch(&run.id, Epoch(4)).await.unwrap();
    assert!(!store.heartbeat(&run.id, TTL, NOW + 2).await.unwrap());

    let failure = Failure::system("the source answered nonsense");
    let outcome = RunOutcome::failed(failure.clone(), json!({"records": 8}));
    let ended = store.finish(&run.id, &outcome, NOW + 3).await.unwrap();
    assert_eq!(ended, store.run(&run.id).await.unwrap());
    assert_eq!((ended.status, ended.finished_at, ended.epoch), (RunStatus::Failed, Some(NOW + 3), Some(Epoch(4))));
    assert_eq!((ended.failure, ended.report), (Some(failure), json!({"records": 8})));

    let again = store.finish(&run.id, &RunOutcome::succeeded(json!(null)), NOW + 4).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    assert!(matches!(store.request_cancel(&run.id, NOW).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.run(&run.id).await.unwrap().status, RunStatus::Failed);
    store.enqueue(&sync(), NOW + 5).await.unwrap();
}

#[tokio::test]
async fn a_run_cannot_end_as_running() {
    let World { store, .. } = &World::new(ON).await;
    let run = store.start(&sync(), "worker", TTL, NOW).await.unwrap();
    let outcome = RunOutcome { status: RunStatus::Running, report: json!(null), failure: None };
    assert!(matches!(store.finish(&run.id, &outcome, NOW).await, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn cancelling_ends_a_queued_run_and_tells_a_running_one() {
    let World { store, .. } = &World::new(ON).await;
    let queued = store.enqueue(&check(), NOW).await.unwrap();
    assert_eq!(store.request_cancel(&queued.id, NOW + 1).await.unwrap().status, RunStatus::Cancelled);
    assert!(crate::claim_next(store, "worker", TTL, NOW).await.unwrap().is_none());

    let running = store.start(&sync(), "worker", TTL, NOW).await.unwrap();
    let asked = store.request_cancel(&running.id, NOW + 1).await.unwrap();
    assert_eq!((asked.status, asked.cancel_requested, asked.finished_at), (RunStatus::Running, true, None));
    assert!(store.heartbeat(&running.id, TTL, NOW + 2).await.unwrap());
}

#[tokio::test]
async fn a_run_whose_holder_is_not_heard_of_is_interrupted() {
    let World { store, .. } = &World::new(ON).await;
    let dead = store.start(&sync(), "worker", TTL, NOW).await.unwrap();
    let alive = store.start(&check(), "worker", TTL, NOW).await.unwrap();
    store.heartbeat(&alive.id, TTL, NOW + TTL - 1).await.unwrap();
    assert!(store.interrupt_expired(NOW + TTL - 1).await.unwrap().is_empty());

    let swept = store.interrupt_expired(NOW + TTL).await.unwrap();
    assert_eq!(swept.iter().map(|run| &run.id).collect::<Vec<_>>(), [&dead.id]);
    let run = store.run(&dead.id).await.unwrap();
    assert_eq!((run.status, run.finished_at), (RunStatus::Interrupted, Some(NOW + TTL)));
    assert!(run.failure.is_some());
    // The paused owner comes back too late.
    let late = store.finish(&dead.id, &RunOutcome::succeeded(json!(null)), NOW + TTL + 1).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}

#[tokio::test]
async fn renewing_the_lease_keeps_the_sync_alive() {
    let World { store, .. } = &World::new(ON).await;
    let run = store.start(&sync(), "worker", TTL, NOW).await.unwrap();
    let epoch = store.acquire(&flights(), "worker", TTL, NOW).await.unwrap();
    store.renew(&flights(), epoch, TTL, NOW + 9_000).await.unwrap();
    assert!(store.interrupt_expired(NOW + 18_999).await.unwrap().is_empty());
    assert_eq!(store.interrupt_expired(NOW + 19_000).await.unwrap()[0].id, run.id);
}

#[tokio::test]
async fn a_dead_sync_does_not_stand_in_the_way_of_the_next() {
    let World { store, .. } = &World::new(ON).await;
    let dead = store.start(&sync(), "worker", TTL, NOW).await.unwrap();
    store.enqueue(&sync(), NOW + TTL - 1).await.unwrap_err();
    store.enqueue(&sync(), NOW + TTL).await.unwrap();
    assert_eq!(store.run(&dead.id).await.unwrap().status, RunStatus::Interrupted);
}

#[tokio::test]
async fn a_holder_takes_over_its_own_sync_and_no_other() {
    let World { store, .. } = &World::new(ON).await;
    let first = store.start(&sync(), "cli", TTL, NOW).await.unwrap();
    store.start(&sync(), "server", TTL, NOW + 1).await.unwrap_err();
    let second = store.start(&sync(), "cli", TTL, NOW + 1).await.unwrap();
    assert_eq!(store.run(&first.id).await.unwrap().status, RunStatus::Interrupted);
    assert_eq!(store.run(&second.id).await.unwrap().status, RunStatus::Running);
}

#[tokio::test]
async fn a_holder_known_to_be_dead_frees_its_runs_and_leases_at_once() {
    let World { store, .. } = &World::new(ON).await;
    let run = store.start(&sync(), "dead", TTL, NOW).await.unwrap();
    store.acquire(&flights(), "dead", TTL, NOW).await.unwrap();
    store.start(&check(), "alive", TTL, NOW).await.unwrap();
    assert_eq!(store.holders(NOW).await.unwrap(), ["alive", "dead"]);

    let ended = store.expire_holder("dead", NOW + 1).await.unwrap();
    assert_eq!(ended.iter().map(|run| &run.id).collect::<Vec<_>>(), [&run.id]);
    assert_eq!(store.holders(NOW).await.unwrap(), ["alive"]);
    assert_eq!(store.acquire(&flights(), "next", TTL, NOW + 1).await.unwrap(), Epoch(2));
}

#[tokio::test]
async fn runs_are_listed_newest_first_page_by_page() {
    let World { store, .. } = &World::new(ON).await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(store.enqueue(&check(), NOW + n).await.unwrap().id);
    }
    let other = store.enqueue(&NewRun::install("files.wasm", Trigger::Manual), NOW + 9).await.unwrap();
    made.reverse();

    let page = RunPage { limit: 2, connection: Some(flights()), ..RunPage::default() };
    let ids = async |page: &RunPage| -> Vec<RunId> {
        store.runs(page).await.unwrap().into_iter().map(|run| run.id).collect()
    };
    assert_eq!(ids(&page).await, made[..2]);
    assert_eq!(ids(&RunPage { before: Some(made[1].clone()), ..page.clone() }).await, made[2..4]);
    assert_eq!(ids(&RunPage { before: Some(made[3].clone()), ..page }).await, made[4..]);
    assert_eq!(ids(&RunPage { limit: 1, ..RunPage::default() }).await, [other.id]);
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let World { store, .. } = &World::new(ON).await;
    let missing = thimble_record::ConnectionId::new("missing").unwrap();
    let error = store.enqueue(&NewRun::on(missing, RunKind::Sync, Trigger::Api), NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no connection named \"missing\"");
    let error = store.finish(&RunId("0".into()), &RunOutcome::succeeded(json!(1)), NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no run named \"0\"");
}

#[tokio::test]
async fn pruning_forgets_only_runs_that_ended_before() {
    let World { store, .. } = &World::new(ON).await;
    let old = store.start(&check(), "w", TTL, NOW).await.unwrap();
    let new = store.start(&check(), "w", TTL, NOW).await.unwrap();
    let running = store.start(&check(), "w", TTL, NOW).await.unwrap();
    store.finish(&old.id, &RunOutcome::succeeded(json!(1)), NOW + 1).await.unwrap();
    store.finish(&new.id, &RunOutcome::succeeded(json!(1)), NOW + 2).await.unwrap();
    assert_eq!(store.prune_runs(NOW + 2).await.unwrap(), 1);
    store.run(&old.id).await.unwrap_err();
    store.run(&new.id).await.unwrap();
    store.run(&running.id).await.unwrap();
}
