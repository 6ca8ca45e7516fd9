//! The lake on real stores, disturbed: each batch is there once and whole, or not at all.
#![allow(clippy::unwrap_used)]

#[path = "../../stage/tests/faulty/mod.rs"]
mod faulty;
mod upsert;
mod world;

use std::{fs, sync::Arc, time::Duration};

use arrow_array::{Array, ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use faulty::{Fault, Request};
use futures::FutureExt;
use thimble_load::{Destination, LoadError, SINGLE_PUT_BYTES};
use thimble_record::{BatchSeq, Counts, DataType, Epoch, ErrorKind, Generation, SealedBatch, StreamSchema};
use world::{Chain, Staging, World, append, connection, field, ids, replace, rows, schema};

const PUT_ATTEMPTS: usize = 4;

fn commits_left(world: &World, fault: Fault) {
    world.faults.inject(Request::Put, "_thimble/commits", fault);
}

/// A batch of one stream with these ids.
fn orders(chain: &mut Chain, staging: &Staging, ids: std::ops::Range<i64>) -> SealedBatch {
    chain.seal(vec![append("orders", vec![staging.stage(0, &schema(), &rows(ids))])])
}

#[tokio::test]
async fn batches_are_committed_in_order_and_read_back() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let none = lake.fence(&connection(), Epoch(1)).await.unwrap();
        assert_eq!((none.fence, none.seq, none.manifest_sha.clone()), (Epoch(1), BatchSeq(0), None));
        let one = orders(&mut chain, &staging, 0..3);
        let outcome = lake.load(&one, &staging).await.unwrap();
        assert_eq!(outcome.streams, [Counts { emitted: 3, loaded: 3, ..Counts::default() }]);
        assert!(!outcome.already_committed && outcome.bytes > 0);
        let two = orders(&mut chain, &staging, 3..5);
        lake.load(&two, &staging).await.unwrap();
        for lake in [&lake, &world.lake()] {
            assert_eq!(ids(lake, "orders").await.unwrap(), [0, 1, 2, 3, 4]);
            assert_eq!(lake.count(&connection(), "orders").await.unwrap(), 5);
            let committed = lake.committed(&connection()).await.unwrap();
            assert_eq!((committed.fence, committed.seq), (Epoch(1), BatchSeq(2)));
            assert_eq!(committed.position, chain.position);
            assert_eq!(committed.manifest_sha, Some(two.manifest_sha()));
        }
        let tables = world.lake().tables(&connection()).await.unwrap();
        assert_eq!((tables[0].stream.as_str(), tables[0].rows, tables[0].files), ("orders", 5, 2));
        let paths: Vec<_> = lake.files(&connection(), "orders").await.unwrap().into_iter().map(|f| f.path).collect();
        assert_eq!(paths[1], "shop/orders/g0/00000000000000000002-0.parquet");
    }
}

#[tokio::test]
async fn loading_a_committed_batch_again_changes_nothing() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let one = orders(&mut chain, &staging, 0..3);
        let two = orders(&mut chain, &staging, 3..4);
        let first = lake.load(&one, &staging).await.unwrap();
        lake.load(&two, &staging).await.unwrap();
        for lake in [&lake, &world.lake()] {
            for batch in [&one, &two] {
                let again = lake.load(batch, &staging).await.unwrap();
                assert!(again.already_committed);
                assert_eq!(again.bytes, 0);
            }
            assert_eq!(lake.load(&one, &staging).await.unwrap().streams, first.streams);
            assert_eq!(ids(lake, "orders").await.unwrap(), [0, 1, 2, 3]);
        }
        let other = SealedBatch { epoch: Epoch(7), ..one };
        let error = lake.load(&other, &staging).await.unwrap_err();
        assert!(matches!(&error, LoadError::Conflict(message) if message.contains("another batch 1")), "{error}");
    }
}

#[tokio::test]
async fn a_batch_that_does_not_follow_is_refused_before_anything_is_written() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        lake.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap();
        let next = orders(&mut chain, &staging, 3..4);
        let gap = SealedBatch { seq: BatchSeq(3), ..next.clone() };
        let elsewhere = SealedBatch { from: "0".repeat(64), ..next.clone() };
        for (batch, says) in [(gap, "without gaps"), (elsewhere, "does not continue")] {
            let error = lake.load(&batch, &staging).await.unwrap_err();
            assert!(matches!(&error, LoadError::Conflict(message) if message.contains(says)), "{error}");
        }
        if world.is_folder() {
            assert_eq!(fs::read_dir(world.path().join("shop/orders/g0")).unwrap().count(), 1);
        }
        lake.load(&next, &staging).await.unwrap();
    }
}

#[tokio::test]
async fn a_zombie_is_shut_out() {
    for world in World::all() {
        let (zombie, owner) = (world.lake(), world.lake());
        let (staging, mut chain) = (Staging::default(), Chain::new());
        zombie.fence(&connection(), Epoch(1)).await.unwrap();
        let one = orders(&mut chain, &staging, 0..3);
        owner.fence(&connection(), Epoch(2)).await.unwrap();
        let error = zombie.load(&one, &staging).await.unwrap_err();
        assert!(matches!(error, LoadError::Fenced { epoch: Epoch(1), held: Epoch(2), .. }), "{error}");
        assert_eq!(error.failure().kind, ErrorKind::Refused);
        assert!(matches!(zombie.fence(&connection(), Epoch(1)).await, Err(LoadError::Fenced { .. })));
        // What the zombie sealed is replayed by the owner.
        owner.load(&one, &staging).await.unwrap();
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2]);
        assert_eq!(owner.fence(&connection(), Epoch(2)).await.unwrap().seq, BatchSeq(1));
        assert_eq!(owner.committed(&connection()).await.unwrap().fence, Epoch(2));
    }
}

#[tokio::test]
async fn a_zombie_that_wakes_up_in_the_middle_of_a_load_is_shut_out() {
    for world in World::all() {
        let (zombie, owner) = (world.lake(), world.lake());
        let (staging, mut chain) = (Arc::new(Staging::default()), Chain::new());
        zombie.fence(&connection(), Epoch(1)).await.unwrap();
        let one = orders(&mut chain, &staging, 0..3);
        let two = orders(&mut chain, &staging, 3..5);
        let taken_over = {
            let (owner, one, two, staging) = (owner.clone(), one.clone(), two.clone(), Arc::clone(&staging));
            move || {
                let (owner, one, two, staging) = (owner.clone(), one.clone(), two.clone(), Arc::clone(&staging));
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
        assert!(matches!(error, LoadError::Fenced { .. }), "{error}");
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn of_two_owners_past_the_fence_one_commits_and_both_mean_the_same() {
    for world in World::all() {
        let (slow, fast) = (world.lake(), world.lake().with_clock(|| 2_000_000));
        let (staging, mut chain) = (Arc::new(Staging::default()), Chain::new());
        let one = orders(&mut chain, &staging, 0..3);
        let load_first = {
            let (fast, one, staging) = (fast.clone(), one.clone(), Arc::clone(&staging));
            move || {
                let (fast, one, staging) = (fast.clone(), one.clone(), Arc::clone(&staging));
                async move { drop(fast.load(&one, &*staging).await.unwrap()) }.boxed()
            }
        };
        *staging.hook.lock().unwrap() = Some(Box::new(load_first));
        let outcome = slow.load(&one, &*staging).await.unwrap();
        assert!(outcome.already_committed);
        for lake in [&slow, &fast, &world.lake()] {
            assert_eq!(ids(lake, "orders").await.unwrap(), [0, 1, 2]);
        }
        slow.load(&orders(&mut chain, &staging, 3..4), &*staging).await.unwrap();
        assert_eq!(ids(&fast, "orders").await.unwrap(), [0, 1, 2, 3]);
    }
}

#[tokio::test]
async fn a_crash_before_the_record_shows_nothing_and_is_replayed() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let one = orders(&mut chain, &staging, 0..3);
        for _ in 0..PUT_ATTEMPTS {
            commits_left(&world, Fault::Reject);
        }
        let error = lake.load(&one, &staging).await.unwrap_err();
        assert_eq!(error.failure().kind, ErrorKind::Transient);
        world.faults.assert_all_met();
        for reader in [&lake, &world.lake()] {
            assert!(matches!(ids(reader, "orders").await, Err(LoadError::Config(_))), "nothing is committed");
            assert_eq!(reader.committed(&connection()).await.unwrap().seq, BatchSeq(0));
        }
        let owner = world.lake();
        owner.fence(&connection(), Epoch(2)).await.unwrap();
        assert!(!owner.load(&one, &staging).await.unwrap().already_committed);
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2]);
    }
}

#[tokio::test]
async fn a_lost_answer_of_the_commit_is_asked_about() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        commits_left(&world, Fault::LoseAnswer);
        let outcome = lake.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap();
        assert!(!outcome.already_committed);
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2]);

        // The store cannot even be asked: the outcome is unknown, and the next load finds out.
        let two = orders(&mut chain, &staging, 3..4);
        let blind = world.lake();
        ids(&blind, "orders").await.unwrap();
        commits_left(&world, Fault::LoseAnswer);
        // The first look for batch 2 succeeds, the one after the put does not.
        blind.committed(&connection()).await.unwrap();
        let staging = Arc::new(staging);
        let faults = world.faults.clone();
        *staging.hook.lock().unwrap() = Some(Box::new(move || {
            let faults = faults.clone();
            async move { faults.inject(Request::Get, "_thimble/commits/00000000000000000002", Fault::Reject) }.boxed()
        }));
        let error = blind.load(&two, &*staging).await.unwrap_err();
        assert!(matches!(error, LoadError::Unknown { .. }), "{error}");
        assert_eq!(error.failure().kind, ErrorKind::Transient);
        world.faults.assert_all_met();
        assert!(blind.load(&two, &*staging).await.unwrap().already_committed);
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2, 3]);
    }
}

#[tokio::test]
async fn a_record_that_is_cut_on_its_way_is_no_answer() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let one = orders(&mut chain, &staging, 0..3);
        lake.load(&one, &staging).await.unwrap();
        for cut in [0, 10, 200] {
            world.faults.inject(Request::Get, "_thimble/commits/00000000000000000001", Fault::Cut(cut));
            let error = world.lake().committed(&connection()).await.unwrap_err();
            assert_eq!(error.failure().kind, ErrorKind::Transient, "{cut}: {error}");
            world.faults.assert_all_met();
            assert_eq!(world.lake().committed(&connection()).await.unwrap().position, one.to);
        }
    }
}

#[tokio::test]
async fn disturbed_writes_of_data_files() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let step = if world.is_folder() { Request::Copy } else { Request::Put };
        world.faults.inject(step, ".parquet", Fault::LoseAnswer);
        lake.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap();

        world.faults.inject(step, ".parquet", Fault::Forbid);
        let two = orders(&mut chain, &staging, 3..4);
        let error = lake.load(&two, &staging).await.unwrap_err();
        assert_eq!(error.failure().kind, ErrorKind::Config);

        let attempts = if world.is_folder() { 1 } else { PUT_ATTEMPTS };
        for _ in 0..attempts {
            world.faults.inject(step, ".parquet", Fault::Reject);
        }
        let error = lake.load(&two, &staging).await.unwrap_err();
        assert!(matches!(error, LoadError::Transient { .. }), "{error}");

        world.faults.inject(step, ".parquet", Fault::LoseAnswer);
        world.faults.inject(Request::Get, ".parquet", Fault::Reject);
        let error = lake.load(&two, &staging).await.unwrap_err();
        assert!(matches!(error, LoadError::Unknown { .. }), "{error}");

        lake.load(&two, &staging).await.unwrap();
        world.faults.assert_all_met();
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2, 3]);
        if world.is_folder() {
            assert_eq!(fs::read_dir(world.path().join("shop/_thimble/incoming")).map_or(0, Iterator::count), 0);
        }
    }
}

#[tokio::test]
async fn another_file_under_the_name_is_a_conflict_and_stays() {
    for world in World::all().into_iter().take(2) {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        world.put("shop/orders/g0/00000000000000000001-0.parquet", "another file").await;
        let error = lake.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap_err();
        assert!(matches!(&error, LoadError::Conflict(message) if message.contains("-0.parquet")), "{error}");
        assert_eq!(lake.committed(&connection()).await.unwrap().seq, BatchSeq(0));
    }
}

#[tokio::test]
async fn a_segment_that_is_not_what_was_sealed_is_never_committed() {
    for world in World::all() {
        let (lake, staging) = (world.lake(), Staging::default());
        type Change = fn(&mut Vec<u8>);
        let changes: [(&str, Change); 4] = [
            ("digest", |bytes| bytes[40] ^= 1),
            ("ends after", |bytes| bytes.truncate(100)),
            ("ends after 0", |bytes| bytes.clear()),
            ("goes on after", |bytes| bytes.push(0)),
        ];
        for (says, change) in changes {
            let segment = staging.stage(0, &schema(), &rows(0..3));
            staging.change(&segment, change);
            let batch = Chain::new().seal(vec![append("orders", vec![segment])]);
            let error = lake.load(&batch, &staging).await.unwrap_err();
            assert!(matches!(&error, LoadError::CorruptSegment { reason, .. } if reason.contains(says)), "{error}");
        }
        let mut segment = staging.stage(0, &schema(), &rows(0..3));
        segment.rows = 4;
        let error = lake.load(&Chain::new().seal(vec![append("orders", vec![segment])]), &staging).await.unwrap_err();
        assert!(error.to_string().contains("holds 3 rows instead of 4"), "{error}");
        let text = staging.stage_bytes(0, &schema(), "no Parquet at all".into(), 1);
        let error = lake.load(&Chain::new().seal(vec![append("orders", vec![text])]), &staging).await.unwrap_err();
        assert!(error.to_string().contains("footer"), "{error}");
        let gone = staging.stage(0, &schema(), &rows(0..3));
        staging.lose(&gone);
        let error = lake.load(&Chain::new().seal(vec![append("orders", vec![gone])]), &staging).await.unwrap_err();
        assert!(matches!(error, LoadError::Segment(_)), "{error}");
        if world.is_folder() {
            assert!(!world.path().join("shop/orders").exists(), "nothing may be left under the table's name");
        }
        // The number is still free.
        lake.load(&orders(&mut Chain::new(), &staging, 0..3), &staging).await.unwrap();
    }
}

#[tokio::test]
async fn records_that_do_not_add_up_are_never_committed() {
    let (world, staging) = (World::folder(), Staging::default());
    let mut batch = orders(&mut Chain::new(), &staging, 0..3);
    batch.streams[0].counts = Counts { emitted: 9, rejected: 2, filtered: 3, ..Counts::default() };
    let error = world.lake().load(&batch, &staging).await.unwrap_err();
    assert!(matches!(&error, LoadError::NotConserved { stream, .. } if stream == "orders"));
    assert!(error.to_string().contains("9 emitted, but 3 loaded + 0 merged + 2 rejected + 3 filtered"), "{error}");
    assert!(!world.path().join("shop").exists());
    batch.streams[0].counts.emitted = 8;
    let outcome = world.lake().load(&batch, &staging).await.unwrap();
    assert_eq!(outcome.streams[0].loaded, 3);
}

#[tokio::test]
async fn a_full_refresh_is_invisible_until_its_swap() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let stage = |ids| vec![staging.stage(0, &schema(), &rows(ids))];
        lake.load(&chain.seal(vec![replace("orders", 1, false, stage(0..2))]), &staging).await.unwrap();
        assert!(matches!(ids(&world.lake(), "orders").await, Err(LoadError::Config(_))), "the first refresh goes on");
        lake.load(&chain.seal(vec![replace("orders", 1, true, stage(2..3))]), &staging).await.unwrap();
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2]);
        lake.load(&chain.seal(vec![replace("orders", 2, false, stage(10..12))]), &staging).await.unwrap();
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [0, 1, 2], "the old table stays readable");
        // That refresh is abandoned; the next one ends.
        lake.load(&chain.seal(vec![replace("orders", 3, false, stage(20..22))]), &staging).await.unwrap();
        lake.load(&chain.seal(vec![replace("orders", 3, true, vec![])]), &staging).await.unwrap();
        for reader in [&lake, &world.lake()] {
            assert_eq!(ids(reader, "orders").await.unwrap(), [20, 21]);
            assert_eq!(reader.tables(&connection()).await.unwrap()[0].generation, Generation(3));
        }
        let (grace, later) = (Duration::from_secs(60), 1_000_000 + 61_000);
        assert_eq!(lake.collect(&connection(), grace, later - 2_000).await.unwrap(), 0, "readers may still use it");
        assert_eq!(lake.collect(&connection(), grace, later).await.unwrap(), 3);
        assert_eq!(lake.collect(&connection(), grace, later).await.unwrap(), 0);
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), [20, 21]);
        let appended = chain.seal(vec![append("orders", stage(30..31))]);
        let error = lake.load(&appended, &staging).await.unwrap_err();
        assert!(error.to_string().contains("generation 0 is appended to, but readers see 3"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_refresh_empties_the_table() {
    let (world, staging, mut chain) = (World::folder(), Staging::default(), Chain::new());
    let lake = world.lake();
    lake.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap();
    lake.load(&chain.seal(vec![replace("orders", 1, true, vec![])]), &staging).await.unwrap();
    assert_eq!(lake.count(&connection(), "orders").await.unwrap(), 0);
    assert!(ids(&world.lake(), "orders").await.unwrap().is_empty());
    assert_eq!(fs::read_dir(world.path().join("shop/orders/current")).unwrap().count(), 0);
    let views = fs::read_to_string(world.path().join("shop/views.sql")).unwrap();
    assert!(views.contains("NULL::BIGINT AS \"id\", NULL::VARCHAR AS \"note\" WHERE false"), "{views}");
}

fn batch_of(schema: &StreamSchema, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
}

#[tokio::test]
async fn added_and_widened_columns_are_reconciled() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let old = StreamSchema::new(vec![
            field("id", DataType::Int64),
            field("price", DataType::Int64),
            field("tax", DataType::Decimal(10, 2)),
            field("day", DataType::Date),
            field("doc", DataType::Json),
        ]);
        let new = StreamSchema::new(vec![
            field("id", DataType::Int64),
            field("price", DataType::Float64),
            field("tax", DataType::Decimal(21, 4)),
            field("day", DataType::Timestamp),
            field("doc", DataType::Text),
            field("extra", DataType::Boolean),
        ]);
        let int = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
        let decimal = |value: i128, p, s| -> ArrayRef {
            Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(p, s).unwrap())
        };
        let text: ArrayRef = Arc::new(StringArray::from(vec!["{}"]));
        let before = batch_of(
            &old,
            vec![int(1), int(5), decimal(1234, 10, 2), Arc::new(Date32Array::from(vec![1])), Arc::clone(&text)],
        );
        let after = batch_of(
            &new,
            vec![
                int(2),
                Arc::new(Float64Array::from(vec![0.5])),
                decimal(7, 21, 4),
                Arc::new(arrow_array::TimestampMicrosecondArray::from(vec![5])),
                text,
                Arc::new(arrow_array::BooleanArray::from(vec![true])),
            ],
        );
        // Both schemas in one batch, too: the schema changed while it was extracted.
        let parts = vec![staging.stage(0, &old, &before), staging.stage(1, &new, &after)];
        lake.load(&chain.seal(vec![append("orders", vec![staging.stage(0, &old, &before)])]), &staging).await.unwrap();
        lake.load(&chain.seal(vec![append("orders", parts)]), &staging).await.unwrap();
        let scan = world.lake().scan(&connection(), "orders", None).await.unwrap();
        assert_eq!(scan.schema, new.to_arrow());
        let batches = scan.collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(batches.iter().all(|batch| batch.schema() == new.to_arrow()));
        let price = |n: usize| batches[n].column(1).as_any().downcast_ref::<Float64Array>().unwrap().value(0);
        assert_eq!((price(0), price(1), price(2)), (5.0, 5.0, 0.5));
        let tax = |n: usize| batches[n].column(2).as_any().downcast_ref::<Decimal128Array>().unwrap().value(0);
        assert_eq!((tax(0), tax(2)), (123_400, 7));
        let day = |n: usize| {
            let column = batches[n].column(3).as_any();
            column.downcast_ref::<arrow_array::TimestampMicrosecondArray>().unwrap().value(0)
        };
        assert_eq!((day(0), day(2)), (86_400_000_000, 5));
        assert!(batches[0].column(5).is_null(0) && batches[2].column(5).is_valid(0));
    }
}

#[tokio::test]
async fn scans_stop_at_their_limit() {
    let (world, staging, mut chain) = (World::folder(), Staging::default(), Chain::new());
    let lake = world.lake();
    lake.load(&orders(&mut chain, &staging, 0..20_000), &staging).await.unwrap();
    lake.load(&orders(&mut chain, &staging, 20_000..20_010), &staging).await.unwrap();
    for limit in [0, 1, 8192, 8193, 20_005, 99_999] {
        let batches = lake.scan(&connection(), "orders", Some(limit)).await.unwrap().collect().await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows as u64, limit.min(20_010));
    }
    let error = lake.scan(&connection(), "order", None).await.err().unwrap();
    assert!(error.to_string().contains("its streams are \"orders\""), "{error}");
}

#[tokio::test]
async fn many_commits_are_folded_and_found_with_few_requests() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        const COMMITS: i64 = 135;
        for n in 0..COMMITS {
            lake.load(&orders(&mut chain, &staging, n..n + 1), &staging).await.unwrap();
        }
        let reader = world.lake();
        world.faults.reset_count();
        let committed = reader.committed(&connection()).await.unwrap();
        assert!(world.faults.count() <= 40, "{} requests", world.faults.count());
        assert_eq!((committed.seq, &committed.position), (BatchSeq(COMMITS as u64), &chain.position));
        world.faults.reset_count();
        assert_eq!(reader.committed(&connection()).await.unwrap(), committed);
        assert!(world.faults.count() <= 1, "{} requests to learn that nothing is new", world.faults.count());
        assert_eq!(ids(&reader, "orders").await.unwrap(), (0..COMMITS).collect::<Vec<_>>());
        assert_eq!(
            reader.files(&connection(), "orders").await.unwrap(),
            lake.files(&connection(), "orders").await.unwrap()
        );
        if world.is_folder() {
            let snapshot = |seq: u64| {
                let path = world.path().join(format!("shop/_thimble/commits/{seq:020}.json"));
                fs::read_to_string(path).unwrap().contains("\"snapshot\"")
            };
            let with: Vec<_> = (1..=COMMITS as u64).filter(|&seq| snapshot(seq)).collect();
            assert_eq!(with, [64, 128]);
        }
    }
}

#[tokio::test]
async fn a_large_file_goes_in_parts() {
    for world in World::all() {
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        let mut state = 1u64;
        let mut noise = |length: usize| -> String {
            let letter = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(b' ' + (state % 95) as u8)
            };
            (0..length).map(letter).collect()
        };
        let count = SINGLE_PUT_BYTES as i64 / 400_000 + 2;
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(|_| noise(400_000))));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        let segment = staging.stage(0, &schema(), &batch_of(&schema(), vec![numbers, texts]));
        assert!(segment.plain_bytes > SINGLE_PUT_BYTES);
        let batch = chain.seal(vec![append("orders", vec![segment.clone()])]);
        staging.change(&segment, |bytes| bytes[SINGLE_PUT_BYTES as usize] ^= 1);
        let error = lake.load(&batch, &staging).await.unwrap_err();
        assert!(matches!(error, LoadError::CorruptSegment { .. }), "{error}");
        if world.is_folder() {
            assert!(!world.path().join("shop/orders").exists(), "nothing may be left of it");
        }
        staging.change(&segment, |bytes| bytes[SINGLE_PUT_BYTES as usize] ^= 1);
        for _ in 0..PUT_ATTEMPTS {
            commits_left(&world, Fault::Reject);
        }
        assert!(lake.load(&batch, &staging).await.is_err());
        lake.load(&batch, &staging).await.unwrap();
        assert_eq!(ids(&world.lake(), "orders").await.unwrap(), (0..count).collect::<Vec<_>>());
    }
}

/// Names of the entries below a folder, but not behind links.
fn names_below(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(&entry.path()));
        } else {
            names.push(entry.path().to_string_lossy().into_owned());
        }
    }
    names
}

#[tokio::test]
async fn plain_readers_never_find_a_part_of_a_file() {
    let (world, staging, mut chain) = (World::folder(), Arc::new(Staging::default()), Chain::new());
    let lake = world.lake();
    let root = world.path().to_owned();
    *staging.hook.lock().unwrap() = Some(Box::new(move || {
        assert!(!names_below(&root).iter().any(|name| name.ends_with(".parquet")), "a file before its content");
        async {}.boxed()
    }));
    // The machine dies between the write and the name.
    world.faults.inject(Request::Copy, ".parquet", Fault::Reject);
    let one = orders(&mut chain, &staging, 0..3);
    assert!(lake.load(&one, &*staging).await.is_err());
    assert_eq!(names_below(&world.path().join("shop/orders")), Vec::<String>::new());
    lake.load(&one, &*staging).await.unwrap();
    let left = world.path().join("shop/_thimble/incoming/dead.tmp#1");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "half").unwrap();
    fs::write(left.with_file_name("dead.tmp"), "half").unwrap();
    let folder = world.path().join("shop/orders/current");
    assert_eq!(fs::read_link(&folder).unwrap().to_str(), Some("g0"));
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["00000000000000000001-0.parquet"]);
    let year = 365 * 86_400_000 + 2_000_000_000_000;
    assert_eq!(lake.collect(&connection(), Duration::from_secs(60), year).await.unwrap(), 1);
}

#[tokio::test]
async fn derived_files_name_what_is_committed_and_are_repaired() {
    let (world, staging, mut chain) = (World::folder(), Staging::default(), Chain::new());
    let lake = world.lake();
    let part = |stream: &str, number, ids| append(stream, vec![staging.stage(number, &schema(), &rows(ids))]);
    lake.load(&chain.seal(vec![part("orders", 0, 0..3), part("Users \"x\"", 1, 0..1)]), &staging).await.unwrap();
    let views = world.path().join("shop/views.sql");
    let manifest = world.path().join("shop/orders/manifest.json");
    let good = (fs::read_to_string(&views).unwrap(), fs::read_to_string(&manifest).unwrap());
    assert!(good.0.contains("CREATE OR REPLACE VIEW \"Users \"\"x\"\"\""), "{}", good.0);
    let told: serde_json::Value = serde_json::from_str(&good.1).unwrap();
    assert_eq!(told["rows"], 3);
    let file = told["files"][0]["location"].as_str().unwrap();
    assert!(good.0.contains(file) && fs::metadata(file).unwrap().len() == told["files"][0]["bytes"]);
    for path in [&views, &manifest] {
        fs::remove_file(path).unwrap();
    }
    fs::remove_file(world.path().join("shop/orders/current")).unwrap();
    world.lake().fence(&connection(), Epoch(5)).await.unwrap();
    assert_eq!((fs::read_to_string(&views).unwrap(), fs::read_to_string(&manifest).unwrap()), good);
    assert!(world.path().join("shop/orders/current").exists());
    // A failure to write them does not undo a commit.
    let lake = world.lake();
    lake.fence(&connection(), Epoch(6)).await.unwrap();
    world.faults.inject(Request::Put, "manifest.json", Fault::Reject);
    lake.load(&chain.seal(vec![part("orders", 0, 3..4)]), &staging).await.unwrap();
    world.faults.assert_all_met();
    assert_eq!(fs::read_to_string(&manifest).unwrap(), good.1);
    world.lake().fence(&connection(), Epoch(7)).await.unwrap();
    assert!(fs::read_to_string(&manifest).unwrap().contains("\"rows\": 4"));
}

#[tokio::test]
async fn a_record_of_a_newer_version_or_a_broken_one_stops_everything() {
    for content in ["{\"format\": 2}", "{\"format\": 1}", "not json", ""] {
        let world = World::folder();
        let (lake, staging, mut chain) = (world.lake(), Staging::default(), Chain::new());
        world.put("shop/_thimble/commits/00000000000000000001.json", content).await;
        let error = lake.load(&orders(&mut chain, &staging, 0..3), &staging).await.unwrap_err();
        assert!(matches!(&error, LoadError::Corrupt { object, .. } if object.ends_with("01.json")), "{error}");
        assert!(lake.fence(&connection(), Epoch(1)).await.is_err());
    }
}

#[tokio::test]
async fn old_fences_are_forgotten_but_the_greatest_stays() {
    for world in World::all() {
        for epoch in 1..=5 {
            world.lake().fence(&connection(), Epoch(epoch)).await.unwrap();
        }
        assert_eq!(world.lake().committed(&connection()).await.unwrap().fence, Epoch(5));
        assert!(matches!(world.lake().fence(&connection(), Epoch(4)).await, Err(LoadError::Fenced { .. })));
        if world.is_folder() {
            assert_eq!(fs::read_dir(world.path().join("shop/_thimble/fences")).unwrap().count(), 1);
        }
    }
}
