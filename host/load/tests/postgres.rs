//! PostgreSQL, a real server: each batch is there once and whole, or not at all, and says what was sent.
#![allow(clippy::unwrap_used)]

mod base;
#[path = "../../stage/tests/faulty/mod.rs"]
mod faulty;
mod postgres_server;
#[allow(dead_code)]
mod world;

use std::sync::Arc;

use base::Base;
use futures::{FutureExt, future::BoxFuture};
use thimble_load::{
    Destination, LoadError,
    postgres::{Password, Postgres},
};
use thimble_record::{BatchSeq, Counts, Epoch, ErrorKind, SealedBatch};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
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

/// What is done when a COMMIT comes by.
type AtCommit = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A way to the server that loses the answer to the first COMMIT. `before` it is handed on.
async fn lossy(base: &Base, before: AtCommit) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), base.server.port);
    tokio::spawn(async move {
        let mut lost = false;
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut target = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            if lost {
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut target).await });
                continue;
            }
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                tokio::select! {
                    read = client.read(&mut up) => {
                        let read = read.unwrap_or(0);
                        if read == 0 { break }
                        let commit = up[..read].windows(12).any(|bytes| bytes == b"Q\0\0\0\x0bcommit\0");
                        if commit && COMMITS.with(|c| c.replace(c.get() + 1)) == 1 {
                            before().await;
                            target.write_all(&up[..read]).await.ok();
                            // The server has answered, so it has decided.
                            let _answer = target.read(&mut down).await;
                            lost = true;
                            break;
                        }
                        target.write_all(&up[..read]).await.unwrap();
                    }
                    read = target.read(&mut down) => {
                        let read = read.unwrap_or(0);
                        if read == 0 { break }
                        client.write_all(&down[..read]).await.unwrap();
                    }
                }
            }
        }
    });
    port
}

thread_local! {
    /// COMMITs that came by; the first is that of the tables of commits.
    static COMMITS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn through(base: &Base, port: u16) -> Postgres {
    let mut settings = base.settings();
    settings.port = port;
    settings.tls = thimble_load::postgres::TlsMode::Disable;
    Postgres::new(settings)
}

#[tokio::test]
async fn a_lost_answer_of_the_commit_is_asked_about() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let port = lossy(&base, Box::new(|| async {}.boxed())).await;
    let owner = through(&base, port);
    let one = orders(&mut chain, &staging, 0..3);
    let error = owner.load(&one, &staging).await.unwrap_err();
    assert!(matches!(error, LoadError::Unknown { .. }), "{error}");
    assert_eq!(error.failure().kind, ErrorKind::Transient);
    assert_eq!(owner.committed(&connection()).await.unwrap().seq, BatchSeq(1));
    let again = owner.load(&one, &staging).await.unwrap();
    assert!(again.already_committed);
    assert_eq!(again.streams[0].loaded, 3);
    assert_eq!(base.ids("orders"), [0, 1, 2]);
}

#[tokio::test]
async fn a_zombie_that_sleeps_just_before_its_commit_is_ended() {
    let (base, staging, mut chain) = (Arc::new(Base::new()), Arc::new(Staging::default()), Chain::new());
    let one = orders(&mut chain, &staging, 0..3);
    let two = orders(&mut chain, &staging, 3..5);
    let taken_over = {
        let (base, one, two, staging) = (Arc::clone(&base), one.clone(), two.clone(), Arc::clone(&staging));
        move || {
            let (owner, one, two, staging) = (base.owner(), one.clone(), two.clone(), Arc::clone(&staging));
            async move {
                assert_eq!(owner.fence(&connection(), Epoch(2)).await.unwrap().seq, BatchSeq(0));
                assert!(!owner.load(&one, &*staging).await.unwrap().already_committed);
                owner.load(&two, &*staging).await.unwrap();
            }
            .boxed()
        }
    };
    let port = lossy(&base, Box::new(taken_over)).await;
    let zombie = through(&base, port);
    let error = zombie.load(&one, &*staging).await.unwrap_err();
    assert!(matches!(error, LoadError::Unknown { .. }), "{error}");
    assert_eq!(base.ids("orders"), [0, 1, 2, 3, 4]);
    let committed = zombie.committed(&connection()).await.unwrap();
    assert_eq!((committed.fence, committed.seq), (Epoch(2), BatchSeq(2)));
    assert!(matches!(zombie.load(&one, &*staging).await, Err(LoadError::Fenced { .. })));
}

#[tokio::test]
async fn a_killed_session_leaves_nothing_and_the_batch_is_loaded_again() {
    let (base, staging, mut chain) = (Arc::new(Base::new()), Staging::default(), Chain::new());
    let owner = base.owner();
    owner.load(&orders(&mut chain, &staging, 0..1), &staging).await.unwrap();
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
                where application_name = 'thimble' and datname = current_database()";
    // In the middle of a load.
    let one = orders(&mut chain, &staging, 1..3);
    let killing = Arc::clone(&base);
    *staging.hook.lock().unwrap() = Some(Box::new(move || {
        killing.sql(kill);
        async {}.boxed()
    }));
    let error = owner.load(&one, &staging).await.unwrap_err();
    assert!(matches!(error, LoadError::Transient { .. }), "{error}");
    assert_eq!(base.ids("orders"), [0]);
    owner.load(&one, &staging).await.unwrap();
    // Between two loads.
    base.sql(kill);
    owner.load(&orders(&mut chain, &staging, 3..4), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_load_that_is_given_up_leaves_nothing() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    owner.load(&orders(&mut chain, &staging, 0..1), &staging).await.unwrap();
    let one = orders(&mut chain, &staging, 1..3);
    *staging.hook.lock().unwrap() = Some(Box::new(|| std::future::pending().boxed()));
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(500), owner.load(&one, &staging)).await;
    assert!(given_up.is_err());
    owner.load(&one, &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 2]);
}

#[tokio::test]
async fn a_segment_that_is_not_what_was_sealed_is_never_committed() {
    let (base, staging) = (Base::new(), Staging::default());
    let owner = base.owner();
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
        let error = owner.load(&Chain::new().seal(vec![append("orders", vec![segment])]), &staging).await.unwrap_err();
        assert!(matches!(&error, LoadError::CorruptSegment { reason, .. } if reason.contains(says)), "{error}");
    }
    let mut segment = staging.stage(0, &schema(), &rows(0..3));
    segment.rows = 4;
    let text = staging.stage_bytes(0, &schema(), "no Parquet at all".into(), 1);
    let mut misled = staging.stage(0, &schema(), &rows(0..3));
    misled.schema.fields[0].name = "number".into();
    for (segment, says) in [(segment, "holds 3 rows instead of 4"), (text, "footer"), (misled, "\"number\"")] {
        let error = owner.load(&Chain::new().seal(vec![append("orders", vec![segment])]), &staging).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let gone = staging.stage(0, &schema(), &rows(0..3));
    staging.lose(&gone);
    let error = owner.load(&Chain::new().seal(vec![append("orders", vec![gone])]), &staging).await.unwrap_err();
    assert!(matches!(error, LoadError::Segment(_)), "{error}");
    let mut changed = orders(&mut Chain::new(), &staging, 0..3);
    changed.streams[0].checksum.0 ^= 0x55;
    let error = owner.load(&changed, &staging).await.unwrap_err();
    assert!(matches!(&error, LoadError::ChecksumMismatch { stream, .. } if stream == "orders"), "{error}");
    let mut short = orders(&mut Chain::new(), &staging, 0..3);
    short.streams[0].counts = Counts { emitted: 9, rejected: 2, filtered: 3, ..Counts::default() };
    let error = owner.load(&short, &staging).await.unwrap_err();
    assert!(matches!(&error, LoadError::NotConserved { stream, .. } if stream == "orders"), "{error}");
    assert!(!base.exists("orders"), "nothing may be left");
    assert_eq!(owner.committed(&connection()).await.unwrap().seq, BatchSeq(0));
    short.streams[0].counts.emitted = 8;
    assert_eq!(owner.load(&short, &staging).await.unwrap().streams[0].loaded, 3);
}

#[tokio::test]
async fn a_swap_keeps_what_hangs_on_the_table() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let stage = |ids| vec![staging.stage(0, &schema(), &rows(ids))];
    owner.load(&chain.seal(vec![replace("orders", 1, true, stage(0..2))]), &staging).await.unwrap();
    let oid = || base.sql("select 'shop.orders'::regclass::oid");
    let first = oid();
    let role = format!("reader_{}", base.name);
    base.sql(&format!(
        "create role \"{role}\"; create role \"{role} two\"; grant select on shop.orders to \"{role}\" with grant option; \
         grant insert, delete on shop.orders to \"{role} two\"; grant select on shop.orders to public"
    ));
    let grants = || {
        base.sql(
            "select string_agg(a.grantee::regrole || ' ' || a.privilege_type || ' ' || a.is_grantable, ',' order by 1) \
             from pg_class c, aclexplode(c.relacl) a where c.oid = 'shop.orders'::regclass",
        )
    };
    let granted = grants();
    owner.load(&chain.seal(vec![replace("orders", 2, true, stage(10..12))]), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [10, 11]);
    assert_ne!(oid(), first, "nothing hangs on the table, so another one takes its place");
    let sorted = |text: String| {
        let mut parts: Vec<_> = text.split(',').map(str::to_owned).collect();
        parts.sort();
        parts
    };
    assert_eq!(sorted(grants()), sorted(granted));
    // A view, an index and a column of somebody else stay.
    let second = oid();
    for (number, hang) in [
        (3, "create view shop.v as select id from shop.orders"),
        (4, "drop view shop.v; create index mine on shop.orders (note)"),
        (5, "drop index shop.mine; alter table shop.orders add column mine int"),
        (6, "alter table shop.orders drop column mine; create function shop.f(shop.orders) returns int return 1"),
        (7, "drop function shop.f; comment on table shop.orders is 'mine'"),
    ] {
        base.sql(hang);
        owner.load(&chain.seal(vec![replace("orders", number, false, stage(20..21))]), &staging).await.unwrap();
        let last = stage(number as i64 * 100..number as i64 * 100 + 2);
        owner.load(&chain.seal(vec![replace("orders", number, true, last)]), &staging).await.unwrap();
        assert_eq!(base.ids("orders"), [20, number as i64 * 100, number as i64 * 100 + 1]);
        assert_eq!(oid(), second, "{hang}");
    }
    base.sql("comment on table shop.orders is null");
    owner.load(&chain.seal(vec![replace("orders", 8, true, stage(1..2))]), &staging).await.unwrap();
    assert_ne!(oid(), second);
}

#[tokio::test]
async fn a_table_that_was_appended_to_can_be_merged_by_key() {
    use thimble_record::{DataType, StreamBatch, StreamSchema, WriteMode};
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let mut fields = schema().fields;
    fields.push(world::field("_thimble_sequence", DataType::Int64));
    let schema = StreamSchema::new(fields);
    let mut next = 0;
    let mut stage = |ids| {
        let rows = rows(ids);
        let mut columns = rows.columns().to_vec();
        next += 100;
        let sequences = (0..rows.num_rows() as i64).map(|at| next + at);
        columns.push(Arc::new(arrow_array::Int64Array::from_iter_values(sequences)));
        staging.stage(0, &schema, &arrow_array::RecordBatch::try_new(schema.to_arrow(), columns).unwrap())
    };
    owner.load(&chain.seal(vec![append("orders", vec![stage(0..3)])]), &staging).await.unwrap();
    owner.load(&chain.seal(vec![append("orders", vec![stage(1..4)])]), &staging).await.unwrap();
    assert_eq!(base.ids("orders"), [0, 1, 1, 2, 2, 3]);
    let part = StreamBatch { mode: WriteMode::Upsert, key: vec!["id".into()], ..append("orders", vec![stage(3..5)]) };
    let counts = owner.load(&chain.seal(vec![part]), &staging).await.unwrap().streams[0];
    assert_eq!((counts.loaded, counts.merged), (1, 1));
    assert_eq!(
        base.sql("select string_agg(id || ':' || _thimble_sequence, ' ' order by id) from shop.orders"),
        "0:100 1:200 2:201 3:300 4:301"
    );
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_told_without_the_password() {
    let base = Base::new();
    let mut settings = base.settings();
    settings.password = Some(Password::new("hunter2"));
    let error = Postgres::new(settings).fence(&connection(), Epoch(1)).await.unwrap_err();
    assert!(matches!(error, LoadError::Denied { .. }), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("password authentication failed") && !source.contains("hunter2"), "{source}");
    let mut settings = base.settings();
    settings.database = "nowhere".into();
    let error = Postgres::new(settings).fence(&connection(), Epoch(1)).await.unwrap_err();
    assert!(matches!(&error, LoadError::Config(says) if says.contains("\"nowhere\" does not exist")), "{error}");
    // Somebody answers who says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = base.settings();
    settings.port = silent.local_addr().unwrap().port();
    settings.connect_timeout = std::time::Duration::from_millis(300);
    let error = Postgres::new(settings).fence(&connection(), Epoch(1)).await.unwrap_err();
    assert!(matches!(error, LoadError::Transient { .. }), "{error}");
    // A role that may not make a schema.
    let role = format!("poor_{}", base.name);
    base.sql(&format!("create role {role} login password 'sesame'"));
    let mut settings = base.settings();
    settings.user = role;
    let error = Postgres::new(settings).fence(&connection(), Epoch(1)).await.unwrap_err();
    assert!(matches!(error, LoadError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn many_owners_that_begin_at_once_agree_on_the_greatest() {
    let base = Base::new();
    let owners: Vec<_> = (1..=8).map(|epoch| (base.owner(), epoch)).collect();
    let fences = owners.iter().map(|(owner, epoch)| async move { owner.fence(&connection(), Epoch(*epoch)).await });
    let fenced = futures::future::join_all(fences).await;
    assert!(fenced[7].is_ok(), "{:?}", fenced[7]);
    assert!(fenced.iter().all(|result| matches!(result, Ok(_) | Err(LoadError::Fenced { .. }))), "{fenced:?}");
    assert_eq!(owners[0].0.committed(&connection()).await.unwrap().fence, Epoch(8));
}

#[tokio::test]
async fn the_server_proves_its_name_where_that_is_asked_for() {
    use thimble_load::postgres::TlsMode;
    let base = Base::new();
    let Some(certificate) = base.server.certificate() else { return };
    let try_with = |tls, host: &str, ca: Option<&str>| {
        let mut settings = base.settings();
        settings.tls = tls;
        settings.host = host.into();
        settings.ca_pem = ca.map(str::to_owned);
        settings.application_name = "proof".into();
        async move { Postgres::new(settings).committed(&connection()).await }
    };
    for (tls, host, ca, accepted) in [
        (TlsMode::Disable, "127.0.0.1", None, true),
        (TlsMode::Prefer, "127.0.0.1", None, true),
        (TlsMode::Require, "127.0.0.1", None, true),
        (TlsMode::VerifyFull, "localhost", Some(certificate.as_str()), true),
        (TlsMode::VerifyFull, "localhost", None, false),
        (TlsMode::VerifyFull, "127.0.0.1", Some(certificate.as_str()), false),
        (TlsMode::Require, "127.0.0.1", Some(certificate.as_str()), false),
        (TlsMode::VerifyFull, "localhost", Some("no certificate"), false),
    ] {
        let result = try_with(tls, host, ca).await;
        assert_eq!(result.is_ok(), accepted, "{tls:?} {host}: {result:?}");
        if let Err(error) = result {
            assert_eq!(error.failure().kind, ErrorKind::Config, "{error}");
        }
    }
    let owner = base.owner();
    owner.fence(&connection(), Epoch(1)).await.unwrap();
    let sql = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'thimble' \
               and datname = current_database()";
    assert_eq!(base.sql(sql), "t");
}

#[tokio::test]
async fn a_table_that_was_appended_to_can_become_a_history() {
    use thimble_record::{DataType, StreamBatch, StreamSchema, WriteMode};
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let schema = StreamSchema::new(vec![
        world::field("id", DataType::Int64),
        world::field("note", DataType::Text),
        world::field("_thimble_extracted_at", DataType::TimestampTz),
        world::field("_thimble_batch", DataType::Int64),
        world::field("_thimble_sequence", DataType::Int64),
    ]);
    let stage = |id: i64, note: &str, sequence: i64| {
        let instant = arrow_array::TimestampMicrosecondArray::from(vec![sequence * 1_000_000]).with_timezone("UTC");
        let int = |value| -> arrow_array::ArrayRef { Arc::new(arrow_array::Int64Array::from(vec![value])) };
        let note = Arc::new(arrow_array::StringArray::from(vec![note]));
        let columns = vec![int(id), note, Arc::new(instant), int(sequence), int(sequence)];
        staging.stage(sequence as u32, &schema, &arrow_array::RecordBatch::try_new(schema.to_arrow(), columns).unwrap())
    };
    let segments = vec![stage(1, "a", 1), stage(2, "x", 2), stage(1, "b", 3)];
    owner.load(&chain.seal(vec![append("orders", segments)]), &staging).await.unwrap();
    let segments = vec![stage(1, "c", 4), stage(2, "x", 5)];
    let part = StreamBatch { mode: WriteMode::History, key: vec!["id".into()], ..append("orders", segments) };
    let counts = owner.load(&chain.seal(vec![part]), &staging).await.unwrap().streams[0];
    assert_eq!((counts.loaded, counts.merged), (1, 1));
    let sql = "select string_agg(concat(id, note, ' ', extract(epoch from _thimble_valid_from)::int, '-', \
               extract(epoch from _thimble_valid_to)::int, ' ', _thimble_current, ' ', _thimble_batch), ', ' order by id, note) \
               from shop.orders";
    assert_eq!(base.sql(sql), "1a 1-3 f 1, 1b 3-4 f 3, 1c 4- t 4, 2x 2- t 5");
}

#[tokio::test]
async fn keys_up_to_the_limit_are_indexed_and_larger_ones_refused() {
    use thimble_record::{DataType, StreamBatch, StreamSchema, WriteMode};
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let fields = ["a", "b"].map(|name| world::field(name, DataType::Text));
    let mut schema = StreamSchema::new(fields.to_vec());
    schema.fields.push(world::field("_thimble_sequence", DataType::Int64));
    let mut state = 1u64;
    // Text that does not compress.
    let mut noise = |length: usize| -> String {
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 33) as u8 % 95)
        };
        (0..length).map(letter).collect()
    };
    let pairs = [(noise(1_300), noise(1_300)), (noise(1_300), noise(1_301)), (noise(10), noise(10))];
    let text = |f: fn(&(String, String)) -> &str| -> arrow_array::ArrayRef {
        Arc::new(arrow_array::StringArray::from_iter_values(pairs.iter().map(f)))
    };
    let columns = vec![text(|p| &p.0), text(|p| &p.1), Arc::new(arrow_array::Int64Array::from(vec![1, 2, 3])) as _];
    let rows = arrow_array::RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
    let key = vec!["a".to_owned(), "b".to_owned()];
    let refused = owner.refuse_keys(&key, &rows);
    assert_eq!(refused.iter().map(|r| (r.row, r.reason)).collect::<Vec<_>>(), [(1, "key-too-large")]);
    let good = vec![staging.stage(0, &schema, &rows.slice(0, 1)), staging.stage(1, &schema, &rows.slice(2, 1))];
    let part = StreamBatch { mode: WriteMode::Upsert, key, ..append("orders", good) };
    assert_eq!(owner.load(&chain.seal(vec![part]), &staging).await.unwrap().streams[0].loaded, 2);
}
