//! What connectors may do works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use thimble_plugin::{Limits, PluginError, RawBatch, RecordSink, StreamState, egress::EgressError};
use thimble_record::{ErrorKind, Failure, Rejected, ReplicationMethod};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

use crate::fixture::{Kept, TestHost, plain_session, read, request, session, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_run() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("steady.wat", &[("BATCHES", "5")]).await;
    let spec = connector.spec().await.unwrap();
    assert_eq!((spec.name.as_str(), spec.version.as_str(), spec.title.as_str()), ("guest", "1.0.0", "guest"));
    assert_eq!(spec.config_schema, serde_json::json!({"type": "object"}));

    let session = plain_session();
    assert_eq!(connector.check(&session).await.unwrap(), "reached");
    let catalog = connector.discover(&session).await.unwrap();
    assert_eq!(catalog.streams, [stream()]);
    let state = StreamState { completed: None, partitions: vec![("old".into(), Some("state".into()), true)] };
    let plan = connector.plan(&session, &stream(), ReplicationMethod::FullTable, state).await.unwrap();
    assert_eq!(plan.partitions, [request().partition]);
    assert_eq!(plan.next_state, None);

    let sink = Arc::new(Kept::default());
    connector.read(&session, request(), sink.clone()).await.unwrap();
    assert_eq!(sink.batches(), vec![RawBatch::Json(br#"{"id":1}"#.as_slice().into()); 5]);
    assert_eq!(sink.states(), vec!["state"; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_becomes_log_lines() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("stdout_flood.wat", &[("LINES", "2")]).await;
    let log = Arc::new(Kept::default());
    connector.check(&session(log.clone(), &[])).await.unwrap();
    let lines: Vec<String> = log.lines().into_iter().map(|(level, line)| format!("{level} {line}")).collect();
    assert_eq!(lines, ["info one line", "info and moreone line", "info and more"]);
}

/// An HTTP server that answers each connection once.
async fn http_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let _ = tcp.read(&mut head).await;
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_reaches_granted_hosts_only() {
    let host = TestHost::new(Limits::default());
    let authority = format!("127.0.0.1:{}", http_server().await);
    let length = authority.len().to_string();
    let connector = host.connector("http_get.wat", &[("AUTHORITY", &authority), ("AUTHORITY_BYTES", &length)]).await;
    let granted = session(Arc::new(Kept::default()), &[&authority]);
    assert_eq!(connector.check(&granted).await.unwrap(), "reached");

    let log = Arc::new(Kept::default());
    let error = connector.check(&session(log.clone(), &["example.com"])).await.unwrap_err();
    assert!(
        matches!(&error, PluginError::NotGranted { plugin, host } if plugin == "guest" && *host == authority),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("thimble plugin grant guest {authority}")), "{error}");
    assert_eq!(error.failure().kind, ErrorKind::Refused);
    assert!(log.lines()[0].1.contains("egress denied"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_address_behind_a_granted_name_is_refused() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("http_get.wat", &[("AUTHORITY", "localtest:1"), ("AUTHORITY_BYTES", "11")]).await;
    let error = connector.check(&session(Arc::new(Kept::default()), &["other:1"])).await.unwrap_err();
    assert!(matches!(&error, PluginError::NotGranted { host, .. } if host == "localtest:1"), "{error}");
    let metadata = "169.254.169.254:80";
    let with = [("AUTHORITY", metadata), ("AUTHORITY_BYTES", "18")];
    let connector = host.connector("http_get.wat", &with).await;
    let error = connector.check(&session(Arc::new(Kept::default()), &["10.0.0.1"])).await.unwrap_err();
    assert!(matches!(&error, PluginError::NotGranted { .. } | PluginError::Denied(EgressError::AddressDenied { .. })));
}

async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tcp.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_connections_carry_bytes_up_to_their_limit() {
    let host = TestHost::new(Limits { net_bytes: 1000, ..Limits::default() });
    let port = echo_server().await.to_string();
    let with = |bytes| [("HOST", "127.0.0.1"), ("HOST_BYTES", "9"), ("PORT", port.as_str()), ("BYTES", bytes)];
    let granted = session(Arc::new(Kept::default()), &[&format!("127.0.0.1:{port}")]);

    let connector = host.connector("net_echo.wat", &with("9")).await;
    assert_eq!(connector.check(&granted).await.unwrap(), "127.0.0.1");
    let error = connector.check(&plain_session()).await.unwrap_err();
    assert!(matches!(error, PluginError::NotGranted { .. }), "{error}");

    let connector = host.connector("net_echo.wat", &with("1001")).await;
    let error = connector.check(&granted).await.unwrap_err();
    assert!(error.to_string().contains("net_bytes = 1000"), "{error}");
}

/// Holds every batch until it is told to go on.
#[derive(Default)]
struct Slow {
    go: Notify,
    emitted: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RecordSink for Slow {
    async fn emit(&self, _: &str, _: RawBatch) -> Result<(), Failure> {
        let _held = CountDrop(self.dropped.clone());
        self.emitted.fetch_add(1, Ordering::SeqCst);
        self.go.notified().await;
        Ok(())
    }

    async fn reject(&self, _: &str, _: Vec<Rejected>) -> Result<(), Failure> {
        Ok(())
    }

    async fn checkpoint(&self, _: &str, _: String) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_sink_makes_the_guest_wait_without_cpu_time() {
    // The guest waits three times as long as it may compute.
    let host = TestHost::new(Limits { read_cpu_ms: 100, ..Limits::default() });
    let connector = host.connector("steady.wat", &[("BATCHES", "3")]).await;
    let sink = Arc::new(Slow::default());
    let reading = tokio::spawn({
        let sink = sink.clone();
        async move { read(&*connector, sink).await }
    });
    for batch in 1..=3 {
        wait_until(|| sink.emitted.load(Ordering::SeqCst) == batch).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sink.emitted.load(Ordering::SeqCst), batch);
        sink.go.notify_one();
    }
    reading.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_read_ends_its_guest() {
    let host = TestHost::new(Limits::default());
    // One that waits for the sink.
    let connector = host.connector("steady.wat", &[("BATCHES", "3")]).await;
    let sink = Arc::new(Slow::default());
    let reading = tokio::spawn({
        let sink = sink.clone();
        async move { read(&*connector, sink).await }
    });
    wait_until(|| sink.emitted.load(Ordering::SeqCst) == 1).await;
    reading.abort();
    wait_until(|| sink.dropped.load(Ordering::SeqCst) == 1).await;
    wait_until(|| Arc::strong_count(&sink) == 1).await;

    // And one that computes.
    let connector = host.connector("emit_then_loop.wat", &[]).await;
    let sink = Arc::new(Kept::default());
    let reading = tokio::spawn({
        let (connector, sink) = (connector.clone(), sink.clone());
        async move { read(&*connector, sink).await }
    });
    wait_until(|| sink.batches().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(Arc::strong_count(&sink), 2, "the guest holds the sink");
    reading.abort();
    wait_until(|| Arc::strong_count(&sink) == 1).await;
    host.works().await;
}

async fn wait_until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Prints what a call and a batch cost: `cargo test --release -p thimble-plugin -- --ignored --nocapture costs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn costs_of_calls_and_batches() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("steady.wat", &[("BATCHES", "1")]).await;
    let session = plain_session();
    for _ in 0..3 {
        let began = Instant::now();
        for _ in 0..1_000 {
            connector.check(&session).await.unwrap();
        }
        println!("one check: {:?}", began.elapsed() / 1_000);
    }
    let connector = host.connector("steady.wat", &[("BATCHES", "100000")]).await;
    let began = Instant::now();
    read(&*connector, Arc::new(Kept::default())).await.unwrap();
    println!("one emit with a checkpoint: {:?}", began.elapsed() / 100_000);
    let connector = host.connector("big_batch.wat", &[("BYTES", "4194304")]).await;
    let began = Instant::now();
    for _ in 0..100 {
        read(&*connector, Arc::new(Kept::default())).await.unwrap();
    }
    println!("one read with one batch of 4 MiB: {:?}", began.elapsed() / 100);
}
