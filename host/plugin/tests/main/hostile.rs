//! Each attack ends in an error of its own, and the host goes on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use thimble_plugin::{Call, Limits, LogLevel, PluginError, RawBatch, RecordSink, log::LogLimits};
use thimble_record::{ErrorKind, Failure, Rejected};

use crate::fixture::{Kept, TestHost, component, plain_session, read, read_error, session};

fn memory_limit(error: &PluginError) -> (&'static str, u64) {
    match error {
        PluginError::Memory { limit, allowed, plugin, .. } => {
            assert_eq!(plugin, "guest");
            (*limit, *allowed)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loops_use_up_their_cpu_time() {
    let host = TestHost::new(Limits { call_cpu_ms: 50, read_cpu_ms: 60, ..Limits::default() });
    let connector = host.connector("endless_loop.wat", &[]).await;
    let error = connector.check(&plain_session()).await.unwrap_err();
    assert!(matches!(error, PluginError::CpuBudget { limit: "call_cpu_ms", milliseconds: 50, .. }), "{error}");
    let error = read_error(&*connector).await;
    assert!(matches!(error, PluginError::CpuBudget { limit: "read_cpu_ms", milliseconds: 60, .. }), "{error}");
    assert_eq!(error.to_string(), "plugin guest computed longer in read than the limit read_cpu_ms = 60 allows");
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loops_meet_their_deadline() {
    let limits = Limits { check_deadline_ms: 50, read_deadline_ms: 60, ..Limits::default() };
    let host = TestHost::new(limits);
    let connector = host.connector("endless_loop.wat", &[]).await;
    let error = connector.check(&plain_session()).await.unwrap_err();
    assert!(matches!(error, PluginError::Deadline { limit: "check_deadline_ms", call: Call::Check, .. }), "{error}");
    let error = read_error(&*connector).await;
    assert!(matches!(error, PluginError::Deadline { limit: "read_deadline_ms", milliseconds: 60, .. }), "{error}");
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_start_is_no_install() {
    let host = TestHost::new(Limits { spec_deadline_ms: 50, ..Limits::default() });
    let error = host.host.install(&component("endless_start.wat", &[])).await.unwrap_err();
    assert!(matches!(error, PluginError::Deadline { limit: "spec_deadline_ms", .. }), "{error}");
    assert_eq!(std::fs::read_dir(host.folder.path()).unwrap().count(), 1, "only the cache folder");
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_has_its_own_deadline() {
    use thimble_record::ReplicationMethod::FullTable;
    let limits = Limits { discover_deadline_ms: 0, plan_deadline_ms: 0, ..Limits::default() };
    let host = TestHost::new(limits);
    // A deadline of nothing lets through what never waits, so the guests compute for longer than a tick.
    let connector = host.connector("slow_answers.wat", &[]).await;
    let session = plain_session();
    let error = connector.discover(&session).await.unwrap_err();
    assert!(matches!(error, PluginError::Deadline { limit: "discover_deadline_ms", .. }), "{error}");
    let error = connector.plan(&session, &crate::fixture::stream(), FullTable, Default::default()).await.unwrap_err();
    assert!(matches!(error, PluginError::Deadline { limit: "plan_deadline_ms", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_guests_leave_the_host_its_turn() {
    let host = TestHost::new(Limits { read_cpu_ms: 1_000, ..Limits::default() });
    let connector = host.connector("endless_loop.wat", &[]).await;
    let spinning: Vec<_> = (0..8)
        .map(|_| {
            let connector = connector.clone();
            tokio::spawn(async move { read_error(&*connector).await })
        })
        .collect();
    let mut waits = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        let asked = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        waits.push(asked.elapsed());
    }
    waits.sort();
    // Eight guests of one tick (5 ms) each on two threads make about 20 ms; a machine that does other things, more.
    let usual = waits[waits.len() * 9 / 10];
    assert!(usual < Duration::from_millis(200), "a task of the host waited {usual:?}");
    for task in spinning {
        assert!(matches!(task.await.unwrap(), PluginError::CpuBudget { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_memories_share_one_limit() {
    // Twenty memories of 2 MiB, of which each is far below the limit.
    let host = TestHost::new(Limits { memory_mib: 16, ..Limits::default() });
    let connector = host.connector("many_memories.wat", &[]).await;
    let error = connector.check(&plain_session()).await.unwrap_err();
    assert_eq!(memory_limit(&error), ("memory_mib", 16));
    assert_eq!(error.to_string(), "plugin guest needs more in check than the limit memory_mib = 16 allows");
    host.works().await;

    let host = TestHost::new(Limits { memory_mib: 64, ..Limits::default() });
    host.connector("many_memories.wat", &[]).await.check(&plain_session()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_memories_and_instances_is_limited() {
    for (limits, name, allowed) in [
        (Limits { memories: 5, ..Limits::default() }, "memories", 5),
        (Limits { tables: 2, ..Limits::default() }, "tables", 2),
        (Limits { core_instances: 1, ..Limits::default() }, "core_instances", 1),
    ] {
        let host = TestHost::new(limits);
        let file = if name == "tables" { "many_tables.wat" } else { "many_memories.wat" };
        let error = host.host.install(&component(file, &[])).await.unwrap_err();
        match error {
            PluginError::Memory { limit, allowed: found, .. } => assert_eq!((limit, found), (name, allowed)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tables_share_one_limit() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("many_tables.wat", &[]).await;
    let error = connector.check(&plain_session()).await.unwrap_err();
    assert_eq!(memory_limit(&error), ("table_elements", 200_000));
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_the_spec_counts() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("modest_spec.wat", &[]).await;
    let error = connector.check(&plain_session()).await.unwrap_err();
    assert_eq!(memory_limit(&error), ("memory_mib", 2));
    let error = host.host.install(&component("greedy_spec.wat", &[])).await.unwrap_err();
    assert!(error.to_string().contains("max_memory_mib = 1024"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_flood_is_cut_off() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("alias_flood.wat", &[]).await;
    let error = read_error(&*connector).await;
    assert_eq!(memory_limit(&error), ("hostcall_bytes", 8 * 1024 * 1024));
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_flood_is_thinned_and_counted() {
    let limits = LogLimits { lines_per_second: 1, burst: 50, line_bytes: 100 };
    let host = TestHost::new(Limits { log: limits, ..Limits::default() });
    let connector = host.connector("log_flood.wat", &[("LINES", "5000")]).await;
    let log = Arc::new(Kept::default());
    connector.check(&session(log.clone(), &[])).await.unwrap();
    let lines = log.lines();
    assert!((50..100).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|(_, line)| line.len() <= 100));
    let (level, last) = lines.last().unwrap();
    assert_eq!(*level, LogLevel::Warn);
    assert!(last.contains("log lines were dropped"), "{last}");

    let connector = host.connector("stdout_flood.wat", &[("LINES", "5000")]).await;
    let log = Arc::new(Kept::default());
    connector.check(&session(log.clone(), &[])).await.unwrap();
    assert!((50..100).contains(&log.lines().len()));
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_handles_headers_and_random_bytes() {
    let host = TestHost::new(Limits { handles: 100, ..Limits::default() });
    let error = host.connector("handle_flood.wat", &[]).await.check(&plain_session()).await.unwrap_err();
    assert_eq!(memory_limit(&error), ("handles", 100));

    let error = host.connector("random_flood.wat", &[]).await.check(&plain_session()).await.unwrap_err();
    assert_eq!(memory_limit(&error), ("random_bytes", 64 * 1024));

    let error = host.connector("header_flood.wat", &[]).await.check(&plain_session()).await.unwrap_err();
    assert_eq!(memory_limit(&error), ("header_bytes", 128 * 1024));
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_are_named() {
    let host = TestHost::new(Limits { stack_kib: 256, ..Limits::default() });
    let error = read_error(&*host.connector("unreachable.wat", &[]).await).await;
    assert!(matches!(error, PluginError::Trap { call: Call::Read, .. }), "{error:?}");
    assert_eq!(error.to_string(), "plugin guest crashed in read: wasm trap: wasm `unreachable` instruction executed");
    assert_eq!(error.failure().kind, ErrorKind::System);

    let error = read_error(&*host.connector("stack_overflow.wat", &[]).await).await;
    assert_eq!(memory_limit(&error), ("stack_kib", 256));

    let error = read_error(&*host.connector("exit.wat", &[]).await).await;
    assert!(matches!(error, PluginError::Exit { code: 0, .. }), "{error:?}");

    let error = read_error(&*host.connector("far_pointer.wat", &[]).await).await;
    assert!(matches!(error, PluginError::Trap { .. }), "{error:?}");
    let error = host.connector("bad_utf8.wat", &[]).await.check(&plain_session()).await.unwrap_err();
    assert!(matches!(error, PluginError::Trap { .. }), "{error:?}");
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_the_sink_is_refused() {
    let host = TestHost::new(Limits::default());
    let refused = |error: PluginError, words: &str| match error {
        PluginError::Connector(Failure { kind: ErrorKind::Refused, message, .. }) => {
            assert!(message.contains(words), "{message}");
        }
        other => panic!("{other:?}"),
    };
    let mib = 1024 * 1024;
    let over = (4 * mib + 1).to_string();
    let connector = host.connector("big_batch.wat", &[("BYTES", &over)]).await;
    refused(read_error(&*connector).await, "batch_bytes = 4194304");

    let exact = (4 * mib).to_string();
    let sink = Arc::new(Kept::default());
    read(&*host.connector("big_batch.wat", &[("BYTES", &exact)]).await, sink.clone()).await.unwrap();
    assert_eq!(sink.batches()[0].len(), 4 * mib);

    let over = (mib + 1).to_string();
    let connector = host.connector("big_checkpoint.wat", &[("BYTES", &over)]).await;
    refused(read_error(&*connector).await, "state_bytes = 1048576");

    let connector = host.connector("many_rejects.wat", &[("RECORDS", "10001")]).await;
    refused(read_error(&*connector).await, "rejected_records = 10000");
    let sink = Arc::new(Kept::default());
    read(&*host.connector("many_rejects.wat", &[("RECORDS", "10000")]).await, sink.clone()).await.unwrap();
    assert_eq!(sink.rejected().len(), 10_000);

    // Beyond what may cross at all.
    let far_over = (9 * mib).to_string();
    let connector = host.connector("big_batch.wat", &[("BYTES", &far_over)]).await;
    assert_eq!(memory_limit(&read_error(&*connector).await), ("hostcall_bytes", 8 * mib as u64));
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_is_for_the_stream_and_for_read() {
    let host = TestHost::new(Limits::default());
    // The guest returns ok over the error, and is not believed.
    let error = read_error(&*host.connector("foreign_stream.wat", &[]).await).await;
    assert!(error.to_string().contains(r#"names stream "salaries", but stream "records" is being read"#), "{error}");

    let error = host.connector("sink_in_check.wat", &[]).await.check(&plain_session()).await.unwrap_err();
    assert_eq!(error.failure().kind, ErrorKind::Refused);
    assert!(error.to_string().contains("in read only, not in check"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_sink_ends_the_read_as_it_is() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("steady.wat", &[("BATCHES", "5")]).await;
    let failure = Failure { kind: ErrorKind::Transient, message: "the disk is full".into(), retry_after_ms: Some(7) };
    let sink = Kept { failure: Some(failure.clone()), ..Kept::default() };
    match read(&*connector, Arc::new(sink)).await.unwrap_err() {
        PluginError::Connector(found) => assert_eq!(found, failure),
        other => panic!("{other:?}"),
    }
}

/// Panics on the first batch.
struct Panicking;

#[async_trait]
impl RecordSink for Panicking {
    async fn emit(&self, _: &str, _: RawBatch) -> Result<(), Failure> {
        panic!("a defect of the sink");
    }

    async fn reject(&self, _: &str, _: Vec<Rejected>) -> Result<(), Failure> {
        Ok(())
    }

    async fn checkpoint(&self, _: &str, _: String) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_host_ends_one_call_only() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("steady.wat", &[("BATCHES", "5")]).await;
    let error = read(&*connector, Arc::new(Panicking)).await.unwrap_err();
    assert!(matches!(error, PluginError::Runtime { .. }), "{error:?}");
    host.works().await;
}
