//! PostgreSQL, a real server: each batch is there once and whole, or not at all, and says what was sent.
#![allow(clippy::unwrap_used)]

mod base;
#[allow(dead_code)]
#[path = "../../stage/tests/faulty/mod.rs"]
mod faulty;
mod postgres_server;
#[allow(dead_code)]
mod world;

use std::sync::Arc;

use base::Base;
use futures::FutureExt;
use thimble_load::{Destination, LoadError};
use thimble_record::{BatchSeq, Counts, Epoch, ErrorKind, SealedBatch};
use world::{Chain, Staging, append, connection, replace, rows, schema};

/// A batch of one stream with these ids.
fn orders(chain: &mut Chain, staging: &Staging, ids: std::ops::Range<i64>) -> SealedBatch {
    chain.seal(vec![append("orders", vec![staging.stage(0, &schema(), &rows(ids))])])
}

#[tokio::test]
async fn batches_are_committed_in_order_and_read_back() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    assert_eq!(owner.committed(&connection()).await.unwrap(), Default::default());
    let none = owner.fence(&connection(), Epoch(1)).await.unwrap();
    assert_eq!((none.fence, none.seq, none.manifest_sha.clone()), (Epoch(1), BatchSeq(0), None));
    assert!(owner.tables(&connection()).await.unwrap().is_empty());
    let one = orders(&mut chain, &staging, 0..3);
    let outcome = owner.load(&one, &staging).await.unwrap();
    assert_eq!(outcome.streams, [Counts { emitted: 3, loaded: 3, ..Counts::default() }]);
    assert!(!outcome.already_committed && outcome.bytes > 0);
    let two = orders(&mut chain, &staging, 3..5);
    owner.load(&two, &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 2, 3, 4]);
    for reader in [&owner, &base.owner()] {
        let committed = reader.committed(&connection()).await.unwrap();
        assert_eq!((committed.fence, committed.seq), (Epoch(1), BatchSeq(2)));
        assert_eq!(committed.position, chain.position);
        assert_eq!(committed.manifest_sha, Some(two.manifest_sha()));
        let tables = reader.tables(&connection()).await.unwrap();
        assert_eq!((tables[0].stream.as_str(), tables[0].rows), ("orders", 5));
        assert_eq!(tables[0].location, "\"shop\".\"orders\"");
    }
    assert_eq!(base.sql("select count(*) from shop.orders where _thimble_loaded_at > now() - interval '1 hour'"), "5");
    let parts = vec![staging.stage(0, &schema(), &rows(5..7)), staging.stage(1, &schema(), &rows(7..9))];
    owner.load(&chain.seal(vec![append("orders", parts), append("empty", vec![])]), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), (0..9).collect::<Vec<_>>());
    assert!(base.ids("empty").is_empty());
}

#[tokio::test]
async fn loading_a_committed_batch_again_changes_nothing() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let one = orders(&mut chain, &staging, 0..3);
    let two = orders(&mut chain, &staging, 3..4);
    let first = owner.load(&one, &staging).await.unwrap();
    assert_eq!(owner.load(&one, &staging).await.unwrap().streams, first.streams);
    owner.load(&two, &staging).await.unwrap();
    for owner in [&owner, &base.owner()] {
        for batch in [&one, &two] {
            let again = owner.load(batch, &staging).await.unwrap();
            assert!(again.already_committed);
            assert_eq!((again.bytes, again.streams.len()), (0, 1));
        }
    }
    assert_eq!(base.ids("orders"), [0, 1, 2, 3]);
    let other = SealedBatch { epoch: Epoch(7), ..two };
    let error = base.owner().load(&other, &staging).await.unwrap_err();
    assert!(matches!(&error, LoadError::Conflict(message) if message.contains("another batch 2")), "{error}");
}

#[tokio::test]
async fn a_batch_that_does_not_follow_is_refused() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    owner.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap();
    let next = orders(&mut chain, &staging, 3..4);
    let gap = SealedBatch { seq: BatchSeq(3), ..next.clone() };
    let elsewhere = SealedBatch { from: "0".repeat(64), ..next.clone() };
    for (batch, says) in [(gap, "without gaps"), (elsewhere, "does not continue")] {
        let error = owner.load(&batch, &staging).await.unwrap_err();
        assert!(matches!(&error, LoadError::Conflict(message) if message.contains(says)), "{error}");
    }
    assert_eq!(base.ids("orders"), [0, 1, 2]);
    owner.load(&next, &staging).await.unwrap();
}

#[tokio::test]
async fn a_zombie_is_shut_out() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let (zombie, owner) = (base.owner(), base.owner());
    zombie.fence(&connection(), Epoch(1)).await.unwrap();
    let one = orders(&mut chain, &staging, 0..3);
    owner.fence(&connection(), Epoch(2)).await.unwrap();
    let error = zombie.load(&one, &staging).await.unwrap_err();
    assert!(matches!(error, LoadError::Fenced { epoch: Epoch(1), held: Epoch(2), .. }), "{error}");
    assert_eq!(error.failure().kind, ErrorKind::Refused);
    assert!(matches!(zombie.fence(&connection(), Epoch(1)).await, Err(LoadError::Fenced { .. })));
    assert!(!base.exists("orders"));
    // What the zombie sealed is replayed by the owner.
    owner.load(&one, &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 2]);
    assert_eq!(owner.fence(&connection(), Epoch(2)).await.unwrap().seq, BatchSeq(1));
    assert_eq!(owner.committed(&connection()).await.unwrap().fence, Epoch(2));
}

#[tokio::test]
async fn a_zombie_that_sleeps_in_the_middle_of_a_load_is_ended() {
    let (base, staging, mut chain) = (Arc::new(Base::new()), Arc::new(Staging::default()), Chain::new());
    let zombie = base.owner();
    zombie.fence(&connection(), Epoch(1)).await.unwrap();
    let zero = orders(&mut chain, &staging, 100..101);
    zombie.load(&zero, &*staging).await.unwrap();
    let one = orders(&mut chain, &staging, 0..3);
    let two = orders(&mut chain, &staging, 3..5);
    let taken_over = {
        let (base, one, two, staging) = (Arc::clone(&base), one.clone(), two.clone(), Arc::clone(&staging));
        move || {
            let (owner, one, two, staging) = (base.owner(), one.clone(), two.clone(), Arc::clone(&staging));
            async move {
                owner.fence(&connection(), Epoch(2)).await.unwrap();
                owner.load(&one, &*staging).await.unwrap();
                owner.load(&two, &*staging).await.unwrap();
            }
            .boxed()
        }
    };
    *staging.hook.lock().unwrap() = Some(Box::new(taken_over));
    let error = zombie.load(&one, &*staging).await.unwrap_err();
    assert_eq!(error.failure().kind, ErrorKind::Transient, "{error}");
    assert_eq!(base.ids("orders"), [0, 1, 2, 3, 4, 100]);
    assert!(matches!(zombie.load(&one, &*staging).await, Err(LoadError::Fenced { .. })));
}

#[tokio::test]
async fn a_full_refresh_is_invisible_until_its_swap() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let stage = |ids| vec![staging.stage(0, &schema(), &rows(ids))];
    owner.load(&chain.seal(vec![replace("orders", 1, false, stage(0..2))]), &staging).await.unwrap();
    assert!(!base.exists("orders"), "the first refresh goes on");
    assert!(owner.tables(&connection()).await.unwrap().is_empty());
    owner.load(&chain.seal(vec![replace("orders", 1, true, stage(2..3))]), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 2]);
    owner.load(&chain.seal(vec![replace("orders", 2, false, stage(10..12))]), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 2], "the old table stays readable");
    // That refresh is abandoned; the next one ends.
    owner.load(&chain.seal(vec![replace("orders", 3, false, stage(20..22))]), &staging).await.unwrap();
    owner.load(&chain.seal(vec![replace("orders", 3, true, vec![])]), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [20, 21]);
    assert_eq!(base.sql("select count(*) from pg_tables where tablename ~ '^_thimble_g'"), "0", "none is left");
    let appended = chain.seal(vec![append("orders", stage(30..31))]);
    let error = owner.load(&appended, &staging).await.unwrap_err();
    assert!(error.to_string().contains("generation 0 is appended to, but readers see 3"), "{error}");
}
