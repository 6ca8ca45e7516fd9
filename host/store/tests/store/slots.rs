//! Slots of schedules: decided upon once, whoever decides.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use thimble_record::{Failure, RunId};
use thimble_store::{
    Claimed, EventKind, NewEvent, NewRun, NewSlot, RunKind, RunOutcome, RunStatus, SlotClaim, SlotMove, Store,
    StoreError, Trigger,
};
use tokio::{sync::Barrier, task::JoinSet};

use super::{NOW, ON, TTL, World, connection, flights};

const HOUR: i64 = 3_600_000;

fn slot(stream: &str, queues: bool) -> NewSlot {
    NewSlot { stream: stream.into(), schedule: json!({"every": "1h"}), queues, next_at: Some(NOW + HOUR) }
}

/// A connection whose slots come in an hour.
async fn scheduled(slots: &[NewSlot]) -> World {
    let world = World::new(ON).await;
    put(&world.store, slots).await;
    world
}

async fn put(store: &Store, slots: &[NewSlot]) {
    let changed = store.unscheduled(10).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert!(store.put_slots(&changed[0], slots, NOW).await.unwrap());
    assert!(store.unscheduled(10).await.unwrap().is_empty());
}

fn run(slot: i64, request: Value) -> NewRun {
    NewRun { slot: Some(slot), request, ..NewRun::on(flights(), RunKind::Sync, Trigger::Schedule) }
}

fn claim(at: i64, run: Option<NewRun>) -> SlotClaim {
    let moved = SlotMove { stream: String::new(), expected_next_at: Some(at), next_at: Some(at + HOUR), last_slot: at };
    let event = NewEvent::of(EventKind::SlotSkipped, "flights", json!({"slot": at - 1}));
    SlotClaim { connection: flights(), moves: vec![moved], run, events: vec![event] }
}

async fn events(store: &Store) -> usize {
    store.events(None, Some("flights"), 100, None).await.unwrap().len()
}

#[tokio::test]
async fn a_slot_is_due_at_its_time_and_claimed_once() {
    let world = scheduled(&[slot("", false)]).await;
    let store = &world.store;
    assert_eq!(store.next_start(NOW).await.unwrap(), Some(NOW + HOUR));
    assert_eq!(store.next_starts().await.unwrap()["flights"], NOW + HOUR);
    assert!(store.due_slots(NOW + HOUR - 1, 10).await.unwrap().is_empty());
    let due = store.due_slots(NOW + HOUR, 10).await.unwrap();
    assert_eq!((due.len(), &due[0].busy, due[0].slot.last_slot), (1, &None, NOW));
    let first = claim(NOW + HOUR, Some(run(NOW + HOUR, Value::Null)));
    let claimed = store.claim_slots(&[first.clone(), first], NOW + HOUR).await.unwrap();
    let [Claimed::Done(Some(queued)), Claimed::Lost] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!((queued.slot, queued.status, queued.trigger), (Some(NOW + HOUR), RunStatus::Queued, Trigger::Schedule));
    assert_eq!(events(store).await, 1, "what was lost left no event");
    assert!(store.due_slots(NOW + HOUR, 10).await.unwrap().is_empty());
    let due = store.due_slots(NOW + 2 * HOUR, 10).await.unwrap();
    assert_eq!(due[0].busy, Some(queued.id.clone()));
    // Beside an unfinished sync nothing starts, and nothing of the claim happens.
    let second = claim(NOW + 2 * HOUR, Some(run(NOW + 2 * HOUR, Value::Null)));
    assert_eq!(store.claim_slots(&[second], NOW + 2 * HOUR).await.unwrap(), [Claimed::Lost]);
    assert_eq!(store.slots(&flights()).await.unwrap()[0].next_at, Some(NOW + 2 * HOUR));
    assert_eq!(events(store).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_claim_a_slot_one_wins() {
    let world = scheduled(&[slot("", false)]).await;
    let handles = [world.store.clone(), world.other().await];
    for round in 1..=5 {
        let at = NOW + round * HOUR;
        let barrier = Arc::new(Barrier::new(16));
        let mut tasks = JoinSet::new();
        for n in 0..16 {
            let (store, barrier) = (handles[n % 2].clone(), barrier.clone());
            tasks.spawn(async move {
                barrier.wait().await;
                store.claim_slots(&[claim(at, Some(run(at, Value::Null)))], at).await.unwrap().remove(0)
            });
        }
        let all = tasks.join_all().await;
        let won: Vec<_> = all
            .iter()
            .filter_map(|one| match one {
                Claimed::Done(run) => run.clone(),
                Claimed::Lost => None,
            })
            .collect();
        assert_eq!(won.len(), 1, "{all:?}");
        world.store.begin(&won[0].id, "me", TTL, at).await.unwrap();
        world.store.finish(&won[0].id, &RunOutcome::succeeded(json!(1)), at).await.unwrap();
    }
    assert_eq!(events(&world.store).await, 5);
}

#[tokio::test]
async fn the_database_itself_refuses_a_second_run_of_a_slot() {
    let world = World::new(ON).await;
    let first = world.store.enqueue(&run(NOW, Value::Null), NOW).await.unwrap();
    world.store.request_cancel(&first.id, NOW).await.unwrap();
    world.store.enqueue(&run(NOW, Value::Null), NOW).await.unwrap_err();
    let other = world.store.enqueue(&run(NOW, json!({"streams": ["a"]})), NOW).await.unwrap();
    world.store.request_cancel(&other.id, NOW).await.unwrap();
    let retry = NewRun { trigger: Trigger::Retry, attempt: 2, ..run(NOW, Value::Null) };
    world.store.enqueue(&retry, NOW).await.unwrap();
}

#[tokio::test]
async fn slots_that_queue_wait_for_the_end_of_what_runs() {
    let world = scheduled(&[slot("", true)]).await;
    let store = &world.store;
    let sync = NewRun::on(flights(), RunKind::Sync, Trigger::Api);
    let running = store.start(&sync, "me", TTL, NOW).await.unwrap();
    assert!(store.due_slots(NOW + HOUR, 10).await.unwrap().is_empty());
    store.finish(&running.id, &RunOutcome::succeeded(json!(1)), NOW + HOUR + 5).await.unwrap();
    let due = store.due_slots(NOW + HOUR, 10).await.unwrap();
    assert_eq!((due.len(), due[0].last_end), (1, Some(NOW + HOUR + 5)));
}

#[tokio::test]
async fn slots_follow_their_connection() {
    let world = scheduled(&[slot("", false), slot("a", true)]).await;
    let store = &world.store;
    let moved = claim(NOW + HOUR, None);
    assert_eq!(store.claim_slots(&[moved], NOW + HOUR).await.unwrap(), [Claimed::Done(None)]);

    // The same schedule goes on where it stood; one that is gone is forgotten, a new one begins.
    store.put_connection(&connection("flights"), None, NOW).await.unwrap();
    assert!(store.due_slots(NOW + 9 * HOUR, 10).await.unwrap().is_empty(), "not before the slots are known again");
    put(store, &[slot("", false), slot("b", true)]).await;
    let slots = store.slots(&flights()).await.unwrap();
    let shown: Vec<_> = slots.iter().map(|slot| (slot.stream.as_str(), slot.next_at, slot.last_slot)).collect();
    assert_eq!(shown, [("", Some(NOW + 2 * HOUR), NOW + HOUR), ("b", Some(NOW + HOUR), NOW)]);

    let stale = store.unscheduled(1).await.unwrap();
    assert!(stale.is_empty());
    store.put_connection(&connection("flights"), None, NOW).await.unwrap();
    let seen = store.unscheduled(1).await.unwrap().remove(0);
    store.put_connection(&connection("flights"), None, NOW).await.unwrap();
    assert!(!store.put_slots(&seen, &[], NOW).await.unwrap(), "it changed meanwhile");
    store.delete_connection(&flights()).await.unwrap();
    assert!(store.slots(&flights()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_paused_connection_starts_nothing_and_remembers_until_when() {
    let world = scheduled(&[slot("", false)]).await;
    let store = &world.store;
    let event = NewEvent::of(EventKind::ConnectionPaused, "flights", json!({}));
    assert!(store.pause(&flights(), true, Some("no"), Some(&event), NOW).await.unwrap());
    assert!(!store.pause(&flights(), true, Some("no"), Some(&event), NOW).await.unwrap(), "it rests already");
    assert_eq!(events(store).await, 1);
    let row = store.connection(&flights()).await.unwrap();
    assert_eq!((row.paused, row.paused_why.as_deref()), (true, Some("no")));
    assert_eq!(store.claim_slots(&[claim(NOW + HOUR, None)], NOW).await.unwrap(), [Claimed::Lost]);
    put(store, &[slot("", false)]).await;
    assert!(store.due_slots(NOW + HOUR, 10).await.unwrap().is_empty());
    assert_eq!(store.next_start(NOW).await.unwrap(), None);
    assert!(store.next_starts().await.unwrap().is_empty());

    // A change of its plugin, of what that may reach, or of its source lets it go on, unless somebody stopped it.
    store.set_grants("files", &["example.org".into()], NOW + 1).await.unwrap();
    let row = store.connection(&flights()).await.unwrap();
    assert_eq!((row.paused, row.paused_why), (false, None));
    let changed = store.unscheduled(1).await.unwrap().remove(0);
    store.put_slots(&changed, &[slot("", false)], NOW + 3 * HOUR).await.unwrap();
    let due = store.due_slots(NOW + 3 * HOUR, 10).await.unwrap();
    assert_eq!((due[0].slot.rested_until, due[0].slot.last_slot), (NOW + 3 * HOUR, NOW));
    store.pause(&flights(), true, None, None, NOW).await.unwrap();
    store.grant("files", "example.com", NOW).await.unwrap();
    assert!(store.connection(&flights()).await.unwrap().paused);
    let missing = thimble_record::ConnectionId::new("nobody").unwrap();
    assert!(matches!(store.pause(&missing, true, None, None, NOW).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn who_asks_ends_a_retry_that_waits_and_nothing_else() {
    let world = World::new(ON).await;
    let store = &world.store;
    let retry = NewRun {
        trigger: Trigger::Retry,
        not_before: Some(NOW + HOUR),
        retry_of: Some(RunId("earlier".into())),
        ..run(NOW, Value::Null)
    };
    let waiting = store.enqueue(&retry, NOW).await.unwrap();
    assert!(crate::claim_next(store, "me", TTL, NOW).await.unwrap().is_none(), "not before its time");
    assert!(store.waiting_runs(NOW, 10).await.unwrap().is_empty());
    let slot = run(NOW + 1, Value::Null);
    assert!(matches!(store.enqueue(&slot, NOW).await, Err(StoreError::AlreadyRunning { .. })), "a slot does not");
    let asked = store.enqueue(&NewRun::on(flights(), RunKind::Sync, Trigger::Api), NOW).await.unwrap();
    assert_eq!(store.run(&waiting.id).await.unwrap().status, RunStatus::Cancelled);
    store.request_cancel(&asked.id, NOW).await.unwrap();
    let waiting = store.enqueue(&retry, NOW).await.unwrap();
    let asked = store.enqueue(&NewRun::on(flights(), RunKind::Sync, Trigger::Api), NOW + HOUR).await;
    assert!(matches!(asked, Err(StoreError::AlreadyRunning { run, .. }) if run == waiting.id), "it is about to start");
}

#[tokio::test]
async fn the_queue_shows_who_asked_first_then_the_oldest_and_many_are_claimed_at_once() {
    let world = World::new(ON).await;
    let store = &world.store;
    let mut wanted = Vec::new();
    for (n, trigger) in [Trigger::Schedule, Trigger::Api, Trigger::Retry, Trigger::Manual].into_iter().enumerate() {
        let check = NewRun::on(flights(), RunKind::Check, trigger);
        wanted.push(store.enqueue(&check, NOW + i64::try_from(n).unwrap()).await.unwrap().id);
    }
    assert_eq!(store.count_asked().await.unwrap(), 2);
    let waiting = store.waiting_runs(NOW + 9, 10).await.unwrap();
    let order: Vec<_> = waiting.iter().map(|run| run.id.clone()).collect();
    assert_eq!(order, [&wanted[1], &wanted[3], &wanted[0], &wanted[2]].map(Clone::clone));
    assert_eq!(waiting[0].since_ms, NOW + 1);
    store.request_cancel(&wanted[1], NOW).await.unwrap();
    let begun = store.begin_all(&order, "me", TTL, NOW).await.unwrap();
    let begun: BTreeSet<_> = begun.into_iter().map(|run| run.id).collect();
    assert_eq!(begun, order[1..].iter().cloned().collect());
    assert!(store.begin_all(&order, "you", TTL, NOW).await.unwrap().is_empty());

    store.request_cancel(&order[1], NOW).await.unwrap();
    assert_eq!(store.cancelled_runs("me").await.unwrap(), [order[1].clone()]);
    assert!(store.cancelled_runs("you").await.unwrap().is_empty());
    store.finish(&order[2], &RunOutcome::succeeded(json!(1)), NOW).await.unwrap();
    let stop = store.heartbeats(&order[1..], TTL, NOW + 5).await.unwrap();
    assert_eq!(stop, [order[1].clone(), order[2].clone()], "asked to stop, and ended");
    assert_eq!(store.run(&order[3]).await.unwrap().expires_at, Some(NOW + 5 + TTL));
}

#[tokio::test]
async fn a_run_that_was_stopped_for_lasting_too_long_has_failed() {
    let world = World::new(ON).await;
    let store = &world.store;
    let sync = NewRun::on(flights(), RunKind::Sync, Trigger::Schedule);
    for (outcome, status) in [
        (RunOutcome::cancelled(json!(1)), RunStatus::Failed),
        (RunOutcome::succeeded(json!(1)), RunStatus::Succeeded),
        (RunOutcome::failed(Failure::system("x"), json!(1)), RunStatus::Failed),
    ] {
        let run = store.start(&sync, "me", TTL, NOW).await.unwrap();
        store.note_overrun(&run.id, 90_000).await.unwrap();
        let ended = store.finish(&run.id, &outcome, NOW).await.unwrap();
        assert_eq!((ended.status, &ended.report), (status, &json!(1)));
        if outcome.status == RunStatus::Cancelled {
            assert!(ended.failure.unwrap().message.contains("longer than the 90 s that `max_duration`"));
        }
    }
}
