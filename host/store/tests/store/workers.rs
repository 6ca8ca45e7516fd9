use std::collections::BTreeSet;

use thimble_store::{NewRun, RunKind, Trigger, WorkerRow};
use tokio::task::JoinSet;

use super::{NOW, ON, TTL, World, flights};

fn worker(holder: &str, heartbeat_at: i64) -> WorkerRow {
    WorkerRow {
        holder: holder.into(),
        host: "one".into(),
        version: "0.1.0".into(),
        role: "worker".into(),
        capacity: 4,
        started_at: NOW,
        heartbeat_at,
    }
}

#[tokio::test]
async fn workers_are_listed_with_what_they_do_until_they_are_silent() {
    let world = World::new(ON).await;
    let store = &world.store;
    for heard in [NOW, NOW + 5] {
        store.announce(&worker("a", heard)).await.unwrap();
    }
    store.announce(&worker("b", NOW)).await.unwrap();
    store.start(&NewRun::on(flights(), RunKind::Check, Trigger::Api), "a", TTL, NOW).await.unwrap();
    let all = store.workers(NOW).await.unwrap();
    assert_eq!(all.iter().map(|worker| worker.running).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(all[0].worker, worker("a", NOW + 5));
    assert_eq!(store.workers(NOW + 1).await.unwrap().len(), 1);
    assert_eq!(store.prune_workers(NOW + 1).await.unwrap(), 1);
    store.leave("a").await.unwrap();
    assert!(store.workers(0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_agree_with_the_first() {
    let world = World::new(ON).await;
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let store = if n % 2 == 0 { world.store.clone() } else { world.other().await };
        tasks.spawn(async move { store.agree("host-key", &n.to_string()).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().collect::<BTreeSet<_>>().len(), 1);
}
