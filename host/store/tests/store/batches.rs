use std::sync::Arc;

use thimble_record::{BatchSeq, Counts, Epoch, LoadOutcome};
use thimble_store::{Store, StoreError};
use tokio::{sync::Barrier, task::JoinSet};

use super::{NOW, ON, TTL, World, batch, flights, position, schema};

fn outcome() -> LoadOutcome {
    let counts = Counts { emitted: 3, loaded: 3, ..Counts::default() };
    LoadOutcome { streams: vec![counts], checksums: vec![], already_committed: false, bytes: 10 }
}

async fn lease(store: &Store) -> Epoch {
    store.acquire(&flights(), "worker", TTL, NOW).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_manifests_for_one_number_exactly_one_is_sealed() {
    let world = World::new(ON).await;
    let epoch = lease(&world.store).await;
    let handles = [world.store.clone(), world.other().await];
    let barrier = Arc::new(Barrier::new(50));
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let (store, barrier) = (handles[n % 2].clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            let state = format!("state-{n}");
            store.seal(&batch(1, epoch, &state), &[], None, NOW).await.map(|()| state)
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for lost in lost {
        assert!(matches!(lost, Err(StoreError::Conflict { .. })), "{lost:?}");
    }
    let sealed = world.store.sealed_after(&flights(), BatchSeq(0)).await.unwrap();
    assert_eq!(sealed, [batch(1, epoch, won[0].as_ref().unwrap())]);
}

#[tokio::test]
async fn sealing_is_gap_free_idempotent_and_keeps_the_manifest() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    let first = batch(1, epoch, "one");
    store.seal(&first, &[("flights".into(), schema())], None, NOW).await.unwrap();
    store.seal(&first, &[], None, NOW + 1).await.unwrap();
    assert_eq!(store.schema(&flights(), "flights").await.unwrap(), Some(schema()));
    assert_eq!(store.schemas(&flights()).await.unwrap().len(), 1);
    assert_eq!(store.schema(&flights(), "other").await.unwrap(), None);

    let gap = store.seal(&batch(3, epoch, "three"), &[], None, NOW).await.unwrap_err();
    assert!(gap.to_string().contains("the last one is 1"), "{gap}");
    let other = store.seal(&batch(1, epoch, "other"), &[], None, NOW).await.unwrap_err();
    assert!(matches!(other, StoreError::Conflict { .. }), "{other:?}");

    store.seal(&batch(2, epoch, "two"), &[], None, NOW).await.unwrap();
    let sealed = store.sealed_after(&flights(), BatchSeq(0)).await.unwrap();
    assert_eq!(sealed, [first, batch(2, epoch, "two")]);
    assert_eq!(store.sealed_after(&flights(), BatchSeq(1)).await.unwrap().len(), 1);
    assert_eq!(store.last_seq(&flights()).await.unwrap(), BatchSeq(2));
}

#[tokio::test]
async fn a_paused_owner_cannot_seal_after_another_took_over() {
    let world = World::new(ON).await;
    let old = lease(&world.store).await;
    let other = world.other().await;
    let new = other.acquire(&flights(), "other", TTL, NOW + TTL).await.unwrap();
    let error = world.store.seal(&batch(1, old, "zombie"), &[], None, NOW + TTL).await.unwrap_err();
    assert!(matches!(error, StoreError::Fenced { epoch, current, .. } if epoch == old && current == new), "{error:?}");
    assert!(world.store.sealed_after(&flights(), BatchSeq(0)).await.unwrap().is_empty());
    other.seal(&batch(1, new, "owner"), &[], None, NOW + TTL).await.unwrap();
    other.release(&flights(), new).await.unwrap();
    assert!(matches!(other.seal(&batch(2, new, "late"), &[], None, NOW).await, Err(StoreError::Fenced { .. })));
}

#[tokio::test]
async fn a_refused_seal_leaves_nothing_behind() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    let schemas = [("flights".to_owned(), schema())];
    let error = store.seal(&batch(1, epoch, "one"), &schemas, Some(77), NOW).await.unwrap_err();
    assert!(error.to_string().contains("no longer pending"), "{error}");
    assert!(store.sealed_after(&flights(), BatchSeq(0)).await.unwrap().is_empty());
    assert_eq!(store.schema(&flights(), "flights").await.unwrap(), None);
}

#[tokio::test]
async fn the_mirror_moves_forward_only() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    assert_eq!(store.position(&flights()).await.unwrap(), None);
    for (seq, state) in [(1, "one"), (2, "two")] {
        store.seal(&batch(seq, epoch, state), &[], None, NOW).await.unwrap();
    }
    store.mark_committed(&flights(), epoch, BatchSeq(2), &outcome(), NOW).await.unwrap();
    assert_eq!(store.position(&flights()).await.unwrap(), Some((BatchSeq(2), position("two"))));
    store.mark_committed(&flights(), epoch, BatchSeq(1), &outcome(), NOW).await.unwrap();
    store
        .mark_committed(&flights(), epoch, BatchSeq(2), &LoadOutcome { already_committed: true, ..outcome() }, NOW)
        .await
        .unwrap();
    store.mirror(&flights(), epoch, BatchSeq(1), &position("one"), NOW).await.unwrap();
    assert_eq!(store.position(&flights()).await.unwrap(), Some((BatchSeq(2), position("two"))));
    assert_eq!(store.outcome(&flights(), BatchSeq(2)).await.unwrap(), Some(outcome()));
    let error = store.mark_committed(&flights(), epoch, BatchSeq(3), &outcome(), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_lost_database_continues_after_what_the_destination_committed() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    store.mirror(&flights(), epoch, BatchSeq(57), &position("fifty-seven"), NOW).await.unwrap();
    store.seal(&batch(57, epoch, "again"), &[], None, NOW).await.unwrap_err();
    store.seal(&batch(58, epoch, "next"), &[], None, NOW).await.unwrap();
}

#[tokio::test]
async fn another_destination_starts_over() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    store.seal(&batch(1, epoch, "one"), &[], None, NOW).await.unwrap();
    store.mark_committed(&flights(), epoch, BatchSeq(1), &outcome(), NOW).await.unwrap();
    store.rebase(&flights(), epoch, BatchSeq(0), &position("none"), NOW).await.unwrap();
    assert_eq!(store.position(&flights()).await.unwrap(), Some((BatchSeq(0), position("none"))));
    store.seal(&batch(1, epoch, "first there"), &[], None, NOW).await.unwrap();
}

#[tokio::test]
async fn pruning_keeps_what_is_not_committed_and_the_numbering() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    for seq in 1..=3 {
        store.seal(&batch(seq, epoch, &seq.to_string()), &[], None, NOW).await.unwrap();
    }
    store.mark_committed(&flights(), epoch, BatchSeq(1), &outcome(), NOW).await.unwrap();
    store.mark_committed(&flights(), epoch, BatchSeq(2), &outcome(), NOW).await.unwrap();
    assert_eq!(store.prune_batches(&flights(), BatchSeq(9)).await.unwrap(), 2);
    assert_eq!(store.sealed_after(&flights(), BatchSeq(0)).await.unwrap().len(), 1);
    store.mark_committed(&flights(), epoch, BatchSeq(3), &outcome(), NOW).await.unwrap();
    assert_eq!(store.prune_batches(&flights(), BatchSeq(9)).await.unwrap(), 1);
    store.seal(&batch(4, epoch, "4"), &[], None, NOW).await.unwrap();
}

#[tokio::test]
async fn an_edit_waits_for_the_batch_that_applies_it() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = lease(store).await;
    let error = store.put_position_edit(&flights(), &position("mine"), "cli", NOW).await.unwrap_err();
    assert!(matches!(&error, StoreError::InUse { by, .. } if by == "worker"), "{error:?}");
    store.release(&flights(), epoch).await.unwrap();
    let first = store.put_position_edit(&flights(), &position("mine"), "cli", NOW).await.unwrap();
    let second = store.put_position_edit(&flights(), &position("better"), "cli", NOW + 1).await.unwrap();
    assert_eq!(store.position_edit(&flights()).await.unwrap().as_ref(), Some(&second));
    assert_eq!(store.position(&flights()).await.unwrap(), None, "the edit is not the mirror's to apply");

    let epoch = lease(store).await;
    store.seal(&batch(1, epoch, "better"), &[], Some(first.id), NOW).await.unwrap_err();
    store.seal(&batch(1, epoch, "better"), &[], Some(second.id), NOW).await.unwrap();
    assert_eq!(store.position_edit(&flights()).await.unwrap(), None);
    store.seal(&batch(1, epoch, "better"), &[], Some(second.id), NOW).await.unwrap();
}

#[tokio::test]
async fn what_nothing_can_load_any_more_is_forgotten_by_the_lease_holder() {
    let world = World::new(ON).await;
    let store = &world.store;
    let epoch = lease(store).await;
    store.seal(&batch(1, epoch, "one"), &[], None, NOW).await.unwrap();
    store.mark_committed(&flights(), epoch, BatchSeq(1), &outcome(), NOW).await.unwrap();
    store.seal(&batch(2, epoch, "two"), &[], None, NOW).await.unwrap();
    let overtaken = store.forget_sealed(&flights(), Epoch(epoch.0 + 1), BatchSeq(1)).await.unwrap_err();
    assert!(matches!(overtaken, StoreError::Fenced { .. }), "{overtaken:?}");
    store.forget_sealed(&flights(), epoch, BatchSeq(1)).await.unwrap();
    assert_eq!(store.last_seq(&flights()).await.unwrap(), BatchSeq(1));
    store.seal(&batch(2, epoch, "again"), &[], None, NOW).await.unwrap();
    // The positions that were committed can be gone back to.
    assert_eq!(store.checkpoints(&flights(), 10).await.unwrap().len(), 1);
    assert_eq!(store.checkpoint(&flights(), BatchSeq(1)).await.unwrap(), position("one"));
    let unknown = store.checkpoint(&flights(), BatchSeq(2)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { .. }), "{unknown:?}");
}
