//! What several processes do at the same moment: two handles of sixteen tasks each, as often as it takes to meet.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::json;
use thimble_record::{BatchSeq, ConnectionId, Epoch};
use thimble_store::{EventKind, LogLevel, LogLine, NewRun, RunKind, RunOutcome, RunStatus, Store, StoreError, Trigger};
use tokio::{sync::Barrier, task::JoinSet};

use super::{NOW, ON, TTL, World, batch, connection, flights, plugin, position};

const TASKS: usize = 16;

/// Runs sixteen tasks at the same moment on two handles; answers what each came to, in their order.
async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    world: &World,
    work: impl Fn(usize, Store) -> F,
) -> Vec<T> {
    let handles = [world.store.clone(), world.other().await];
    let barrier = Arc::new(Barrier::new(TASKS));
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let (barrier, work) = (barrier.clone(), work(n, handles[n % 2].clone()));
        tasks.spawn(async move {
            barrier.wait().await;
            (n, work.await)
        });
    }
    let mut done = tasks.join_all().await;
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, done)| done).collect()
}

fn sync() -> NewRun {
    NewRun::on(flights(), RunKind::Sync, Trigger::Api)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn epochs_only_grow_and_only_the_last_owner_seals() {
    let world = World::new(ON).await;
    let last = Arc::new(AtomicU64::new(0));
    // Each takes the lease over at once (no time is left on it), and seals what it believes to be next.
    let sealed = together(&world, |n, store| {
        let last = Arc::clone(&last);
        async move {
            let mut sealed = 0;
            for round in 0..8 {
                let epoch = match store.acquire(&flights(), &format!("w{n}-{round}"), 0, NOW).await {
                    Ok(epoch) => epoch,
                    Err(error) => panic!("{error:?}"),
                };
                assert_ne!(last.fetch_max(epoch.0, Ordering::SeqCst), epoch.0, "an epoch was given twice");
                let next = store.last_seq(&flights()).await.unwrap().next();
                match store.seal(&batch(next.0, epoch, &format!("{n}-{round}")), &[], None, NOW).await {
                    Ok(()) => sealed += 1,
                    Err(StoreError::Fenced { .. } | StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            sealed
        }
    })
    .await;
    let batches = world.store.sealed_after(&flights(), BatchSeq(0)).await.unwrap();
    assert_eq!(batches.len(), sealed.iter().sum::<usize>(), "each success is one batch");
    assert!(!batches.is_empty());
    for (at, pair) in batches.windows(2).enumerate() {
        assert_eq!(pair[1].seq, pair[0].seq.next(), "{at}");
        assert!(pair[0].epoch < pair[1].epoch, "a fenced owner sealed after its successor");
    }
    assert_eq!(world.store.lease(&flights()).await.unwrap().unwrap().epoch, Epoch((TASKS * 8) as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_has_one_unfinished_sync_whatever_is_done_to_it() {
    let world = World::new(ON).await;
    together(&world, |n, store| async move {
        for round in 0..10 {
            let now = NOW + round;
            let run = match n % 4 {
                0 => store.start(&sync(), &format!("w{n}"), 0, now).await,
                1 => {
                    store.interrupt_expired(now).await.unwrap();
                    continue;
                }
                _ => store.enqueue(&sync(), now).await,
            };
            match run {
                Ok(run) if run.status == RunStatus::Queued => {
                    // Somebody may have claimed it already.
                    let _ = store.begin(&run.id, &format!("w{n}"), 0, now).await;
                }
                Ok(_) | Err(StoreError::AlreadyRunning { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    })
    .await;
    let unfinished = world.store.unfinished_runs().await.unwrap();
    assert!(unfinished.len() <= 1, "{unfinished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_sync_has_exactly_one_successor() {
    let world = World::new(ON).await;
    let mut lost = world.store.start(&NewRun { request: json!({"x": 1}), ..sync() }, "w", TTL, NOW).await.unwrap();
    for round in 1..=3 {
        let now = NOW + TTL * round;
        let swept = together(&world, |_, store| async move { store.interrupt_expired(now).await.unwrap() }).await;
        assert_eq!(swept.into_iter().flatten().map(|run| run.id).collect::<Vec<_>>(), [lost.id.clone()]);
        let next = world.store.unfinished_runs().await.unwrap();
        assert_eq!(next.len(), 1);
        assert_eq!((next[0].status, next[0].trigger), (RunStatus::Queued, Trigger::Retry));
        assert_eq!((next[0].retry_of.as_ref(), next[0].attempt), (Some(&lost.id), 1));
        assert_eq!(next[0].request, json!({"x": 1}));
        let told = world.store.events(None, Some("flights"), 1, None).await.unwrap();
        assert_eq!((told[0].kind, told[0].run.as_ref()), (EventKind::WorkerLost, Some(&lost.id)));
        lost = world.store.begin(&next[0].id, &format!("w{round}"), TTL, now).await.unwrap();
    }
}

#[tokio::test]
async fn the_successor_need_not_wait_for_the_lease() {
    let world = World::new(ON).await;
    let store = &world.store;
    let lost = store.start(&sync(), "a", TTL, NOW).await.unwrap();
    // Taken later than the run was heard of.
    let epoch = store.acquire(&flights(), "a", TTL, NOW + TTL / 2).await.unwrap();
    store.interrupt_expired(NOW + TTL).await.unwrap();
    let next = crate::claim_next(store, "b", TTL, NOW + TTL).await.unwrap().unwrap();
    assert_eq!(next.retry_of, Some(lost.id));
    let zombie = store.seal(&batch(1, epoch, "late"), &[], None, NOW + TTL).await;
    assert!(matches!(zombie, Err(StoreError::Fenced { .. })), "{zombie:?}");
    assert_eq!(store.acquire(&flights(), "b", TTL, NOW + TTL).await.unwrap(), epoch.next());
}

#[tokio::test]
async fn a_sync_that_ends_each_of_its_processes_is_not_passed_on_for_ever() {
    let world = World::new(ON).await;
    let store = &world.store;
    store.enqueue(&sync(), NOW).await.unwrap();
    let mut claims = 0;
    while let Some(run) = crate::claim_next(store, "w", TTL, NOW + claims * TTL).await.unwrap() {
        assert_eq!(store.interrupt_expired(NOW + (claims + 1) * TTL).await.unwrap()[0].id, run.id);
        claims += 1;
        assert!(claims < 20, "it goes on for ever");
    }
    assert_eq!(claims, 6, "the first, and five takeovers");
}

#[tokio::test]
async fn what_is_given_up_at_a_stop_is_queued_again_unless_somebody_asked_for_its_end() {
    let world = World::new(ON).await;
    let store = &world.store;
    let stopped = store.start(&sync(), "w", TTL, NOW).await.unwrap();
    assert_eq!(store.hand_over(&stopped.id, NOW).await.unwrap(), None, "it is running");
    store.finish(&stopped.id, &RunOutcome::cancelled(json!(null)), NOW).await.unwrap();
    let next = store.hand_over(&stopped.id, NOW).await.unwrap().unwrap();
    assert_eq!(store.hand_over(&stopped.id, NOW).await.unwrap(), None, "another is queued");
    store.request_cancel(&next, NOW).await.unwrap();
    assert_eq!(store.hand_over(&next, NOW).await.unwrap(), None, "somebody asked for its end");
    let by_hand = NewRun { trigger: Trigger::Manual, ..sync() };
    let by_hand = store.start(&by_hand, "cli", TTL, NOW).await.unwrap();
    assert_eq!(store.interrupt_expired(NOW + TTL).await.unwrap()[0].id, by_hand.id);
    assert!(store.unfinished_runs().await.unwrap().is_empty(), "whoever ran it sees that it ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_run_is_claimed_by_exactly_one() {
    let world = World::new(ON).await;
    for n in 0..100 {
        world.store.enqueue(&NewRun::on(flights(), RunKind::Check, Trigger::Api), NOW + n).await.unwrap();
    }
    let claimed = together(&world, |n, store| async move {
        let mut mine = Vec::new();
        while let Some(run) = crate::claim_next(&store, &format!("w{n}"), TTL, NOW + 1000).await.unwrap() {
            assert_eq!(run.holder, Some(format!("w{n}")));
            mine.push(run.id);
        }
        mine
    })
    .await;
    let mut ids: Vec<_> = claimed.into_iter().flatten().collect();
    assert_eq!(ids.len(), 100);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_those_that_create_the_same_connection_one_creates_it() {
    let world = World::new(ON).await;
    let done = together(&world, |_, store| async move { store.put_connection(&connection("new"), Some(0), NOW).await });
    let (created, refused): (Vec<_>, Vec<_>) = done.await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (1, TASKS - 1));
    assert!(refused.iter().all(|refused| matches!(refused, Err(StoreError::Changed { expected: 0, current: 1, .. }))));
    let id = ConnectionId::new("new").unwrap();
    let changed =
        together(&world, |_, store| async move { store.put_connection(&connection("new"), Some(1), NOW).await });
    assert_eq!(changed.await.iter().filter(|changed| changed.is_ok()).count(), 1);
    assert_eq!(world.store.connection(&id).await.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_is_removed_or_used_never_both() {
    let world = World::empty(ON).await;
    for round in 0..8 {
        let name = format!("p{round}");
        world.store.upsert_plugin(&plugin(&name)).await.unwrap();
        let done = together(&world, |n, store| {
            let name = name.clone();
            async move {
                if n == 0 {
                    store.remove_plugin(&name).await.map(drop)
                } else {
                    let row = thimble_store::ConnectionRow { plugin: name, ..connection(&format!("c{round}-{n}")) };
                    store.put_connection(&row, None, NOW).await.map(drop)
                }
            }
        })
        .await;
        for done in &done {
            assert!(
                matches!(done, Ok(()) | Err(StoreError::InUse { .. } | StoreError::NotFound { what: "plugin", .. })),
                "{done:?}"
            );
        }
        let exists = world.store.plugin(&name).await.is_ok();
        let users = world.store.connections().await.unwrap().into_iter().filter(|row| row.plugin == name).count();
        assert_eq!(exists, users > 0, "round {round}: {users} users");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_goes_away_only_without_a_run() {
    let world = World::new(ON).await;
    for _ in 0..8 {
        world.store.put_connection(&connection("flights"), None, NOW).await.unwrap();
        let done = together(&world, |n, store| async move {
            if n == 0 { store.delete_connection(&flights()).await } else { store.enqueue(&sync(), NOW).await.map(drop) }
        })
        .await;
        let unfinished = world.store.unfinished_runs().await.unwrap();
        assert_eq!(done[1..].iter().filter(|done| done.is_ok()).count(), unfinished.len());
        assert_eq!(world.store.connection(&flights()).await.is_ok(), !unfinished.is_empty());
        for run in unfinished {
            world.store.request_cancel(&run.id, NOW).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_grants_are_those_of_one_of_the_callers() {
    let world = World::new(ON).await;
    for _ in 0..8 {
        let done = together(&world, |n, store| async move {
            let wanted = vec![format!("a{n}.example"), format!("b{n}.example")];
            store.set_grants("files", &wanted, NOW).await
        });
        assert!(done.await.iter().all(Result::is_ok));
        let grants = world.store.grants("files").await.unwrap();
        assert_eq!(grants.len(), 2, "{grants:?}");
        assert_eq!(grants[0][1..], grants[1][1..], "{grants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_of_several_writers_are_numbered_without_a_gap() {
    let world = World::new(ON).await;
    let run = world.store.start(&sync(), "w", TTL, NOW).await.unwrap().id;
    let (id, line) = (
        run.clone(),
        LogLine { at: NOW, level: LogLevel::Info, source: "host".into(), message: "zero \0 byte".into() },
    );
    let done = together(&world, |_, store| {
        let (run, lines) = (id.clone(), vec![line.clone(); 3]);
        async move {
            for _ in 0..4 {
                store.append_logs(&run, &lines).await.unwrap();
                assert!(!store.heartbeat(&run, TTL, NOW).await.unwrap());
            }
        }
    });
    done.await;
    let lines = world.store.logs(&run, 0, 1000).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), (1..=(TASKS * 12) as i64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_edit_is_pending_and_none_while_a_sync_holds_the_connection() {
    let world = World::new(ON).await;
    world.store.acquire(&flights(), "earlier", 0, NOW).await.unwrap();
    let done = together(&world, |n, store| async move {
        if n == 0 {
            return store.acquire(&flights(), "w", TTL, NOW).await.map(|_| None);
        }
        store.put_position_edit(&flights(), &position(&n.to_string()), "me", NOW).await.map(|edit| Some(edit.id))
    })
    .await;
    let pending = world.store.position_edit(&flights()).await.unwrap();
    for done in &done {
        assert!(matches!(done, Ok(_) | Err(StoreError::InUse { .. })), "{done:?}");
    }
    let last = done.iter().filter_map(|done| done.as_ref().ok().copied().flatten()).max();
    assert_eq!(pending.map(|edit| edit.id), last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sweeping_releasing_and_renewing_at_once_never_fails() {
    let world = World::new(ON).await;
    let others: Vec<_> = (0..8).map(|n| ConnectionId::new(format!("c{n}")).unwrap()).collect();
    for id in &others {
        world.store.put_connection(&connection(id.as_str()), None, NOW).await.unwrap();
    }
    let done = together(&world, |n, store| {
        let others = others.clone();
        async move {
            for round in 0..6 {
                let now = NOW + round;
                for id in &others {
                    let run = NewRun::on(id.clone(), RunKind::Sync, Trigger::Api);
                    if let Ok(run) = store.start(&run, &format!("w{n}"), 1, now).await {
                        if let Ok(epoch) = store.acquire(id, &format!("w{n}"), 1, now).await {
                            match store.renew(id, epoch, 1, now).await {
                                Ok(()) | Err(StoreError::Fenced { .. }) => {}
                                Err(error) => return Err(error),
                            }
                            store.release(id, epoch).await?;
                        }
                        match store.finish(&run.id, &RunOutcome::succeeded(json!(null)), now).await {
                            Ok(_) | Err(StoreError::Conflict { .. }) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                match n % 3 {
                    0 => drop(store.interrupt_expired(now).await?),
                    1 => drop(store.expire_holder(&format!("w{}", (n + 1) % TASKS), now).await?),
                    _ => drop(crate::claim_next(&store, &format!("w{n}"), 1, now).await?),
                }
            }
            Ok(())
        }
    })
    .await;
    for done in done {
        done.unwrap();
    }
}
