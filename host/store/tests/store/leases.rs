use std::sync::Arc;

use thimble_record::{BatchSeq, Epoch};
use thimble_store::StoreError;
use tokio::{sync::Barrier, task::JoinSet};

use super::{NOW, ON, TTL, World, flights, position};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_holders_exactly_one_gets_the_lease() {
    let world = World::new(ON).await;
    let handles = [world.store.clone(), world.other().await];
    let barrier = Arc::new(Barrier::new(50));
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let (store, barrier) = (handles[n % 2].clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            store.acquire(&flights(), &format!("worker-{n}"), TTL, NOW).await
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert_eq!(*won[0].as_ref().unwrap(), Epoch(1));
    for lost in lost {
        assert!(matches!(lost, Err(StoreError::InUse { what: "connection", .. })), "{lost:?}");
    }
}

#[tokio::test]
async fn the_epoch_goes_up_when_the_lease_is_free_expired_or_taken_over_by_its_holder() {
    let World { store, .. } = &World::new(ON).await;
    assert_eq!(store.acquire(&flights(), "a", TTL, NOW).await.unwrap(), Epoch(1));
    assert_eq!(store.acquire(&flights(), "a", TTL, NOW + 1).await.unwrap(), Epoch(2));
    let error = store.acquire(&flights(), "b", TTL, NOW + TTL).await.unwrap_err();
    assert!(matches!(&error, StoreError::InUse { by, .. } if by == "a"), "{error:?}");
    assert_eq!(store.acquire(&flights(), "b", TTL, NOW + 1 + TTL).await.unwrap(), Epoch(3));
    store.release(&flights(), Epoch(3)).await.unwrap();
    assert!(!store.lease(&flights()).await.unwrap().unwrap().held(NOW));
    assert_eq!(store.acquire(&flights(), "c", TTL, NOW).await.unwrap(), Epoch(4));
}

#[tokio::test]
async fn renewing_keeps_the_lease_and_a_lost_lease_is_fenced() {
    let World { store, .. } = &World::new(ON).await;
    let old = store.acquire(&flights(), "a", TTL, NOW).await.unwrap();
    store.renew(&flights(), old, TTL, NOW + 9_000).await.unwrap();
    store.acquire(&flights(), "b", TTL, NOW + 12_000).await.unwrap_err();
    let new = store.acquire(&flights(), "b", TTL, NOW + 19_000).await.unwrap();
    let error = store.renew(&flights(), old, TTL, NOW + 19_001).await.unwrap_err();
    assert!(matches!(error, StoreError::Fenced { epoch, current, .. } if epoch == old && current == new), "{error:?}");
    // The old owner cannot give away what is no longer its own.
    store.release(&flights(), old).await.unwrap();
    assert!(store.lease(&flights()).await.unwrap().unwrap().held(NOW + 19_001));
}

#[tokio::test]
async fn a_released_lease_cannot_be_used() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = store.acquire(&flights(), "a", TTL, NOW).await.unwrap();
    store.release(&flights(), epoch).await.unwrap();
    assert!(matches!(store.renew(&flights(), epoch, TTL, NOW).await, Err(StoreError::Fenced { .. })));
    assert!(matches!(
        store.mirror(&flights(), epoch, BatchSeq(1), &position("x"), NOW).await,
        Err(StoreError::Fenced { .. })
    ));
}

#[tokio::test]
async fn the_epoch_survives_the_connection_and_rises_above_the_destinations() {
    let World { store, .. } = &World::new(ON).await;
    let epoch = store.acquire(&flights(), "a", TTL, NOW).await.unwrap();
    let raised = store.raise_epoch(&flights(), epoch, Epoch(41)).await.unwrap();
    assert_eq!(raised, Epoch(42));
    assert!(matches!(store.raise_epoch(&flights(), epoch, Epoch(0)).await, Err(StoreError::Fenced { .. })));
    store.delete_connection(&flights()).await.unwrap();
    store.put_connection(&super::connection("flights"), None, NOW).await.unwrap();
    assert_eq!(store.acquire(&flights(), "a", TTL, NOW).await.unwrap(), Epoch(43));
}
