//! Raw connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;

#[tokio::test]
async fn bytes_go_both_ways_and_end() {
    let (port, _) = serve_raw(|mut stream| async move {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    })
    .await;
    let egress = Setup::open(&[&format!("db.test:{port}")]).egress();
    let mut stream = egress.connect("DB.test", port).await.unwrap();
    assert_eq!(stream.target().to_string(), format!("db.test:{port}"));
    stream.write(b"").await.unwrap();
    stream.write(b"hello").await.unwrap();
    assert_eq!(stream.read(0).await.unwrap(), "");
    let mut got = Vec::new();
    loop {
        let bytes = stream.read(2).await.unwrap();
        assert!(bytes.len() <= 2);
        if bytes.is_empty() {
            break;
        }
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, b"hello");
    assert!(stream.read(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn tls_starts_in_the_middle() {
    let (pem, config) = authority("db.test");
    let acceptor = TlsAcceptor::from(config);
    let (port, _) = serve_raw(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut bytes = [0; 100_000];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let setup = |host: &str| {
        let mut setup = Setup::open(&[&format!("{host}:{port}")]);
        setup.parts.roots = TlsRoots::with_pem(pem.as_bytes()).unwrap();
        setup.egress()
    };
    let mut stream = setup("db.test").connect("db.test", port).await.unwrap();
    stream.write(b"sslplea?").await.unwrap();
    assert_eq!(stream.read(1).await.unwrap(), "S");
    stream.start_tls().await.unwrap();
    assert!(matches!(stream.start_tls().await, Err(EgressError::BadRequest { .. })));
    stream.write(&vec![1; 100_000]).await.unwrap();
    assert_eq!(stream.read(100).await.unwrap(), "bye");
    assert!(stream.read(100).await.unwrap().is_empty());
    // Another name than the certificate's: refused, and closed.
    let mut stream = setup("wrong.test").connect("wrong.test", port).await.unwrap();
    stream.write(b"sslplea?").await.unwrap();
    assert_eq!(stream.read(1).await.unwrap(), "S");
    assert!(matches!(stream.start_tls().await, Err(EgressError::Certificate { .. })));
    assert!(matches!(stream.write(b"x").await, Err(EgressError::Broken { .. })));
    assert!(matches!(stream.read(1).await, Err(EgressError::Broken { .. })));
}

#[tokio::test]
async fn policy_and_limits_hold() {
    let (port, accepted) = serve_raw(|mut stream| async move {
        let chunk = [1; 4096];
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let grant = format!("db.test:{port}");
    assert!(matches!(Setup::open(&[]).egress().connect("db.test", port).await, Err(EgressError::NotGranted { .. })));
    assert!(matches!(
        Setup::new(&[&grant]).egress().connect("db.test", port).await,
        Err(EgressError::AddressDenied { .. })
    ));
    assert!(matches!(
        Setup::open(&[&grant]).egress().connect("db.test.", port).await,
        Err(EgressError::BadHost { .. })
    ));
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
    let egress = Setup::open(&[&grant])
        .limits(|limits| {
            limits.net_connections = 2;
            limits.net_read_bytes = 10_000;
            limits.net_write_bytes = 10;
        })
        .egress();
    let mut first = egress.connect("db.test", port).await.unwrap();
    let second = egress.connect("db.test", port).await.unwrap();
    let limited = |error: EgressError, named: &str| matches!(error, EgressError::Limit { limit, .. } if limit == named);
    assert!(limited(egress.connect("db.test", port).await.map(drop).unwrap_err(), "net_connections"));
    drop(second);
    assert!(egress.connect("db.test", port).await.is_ok());
    let mut read = 0;
    let error = loop {
        match first.read(3000).await {
            Ok(bytes) => read += bytes.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(read, 10_000);
    assert!(limited(error, "net_read_bytes"));
    first.write(&[0; 10]).await.unwrap();
    assert!(limited(first.write(&[0]).await.unwrap_err(), "net_write_bytes"));
}

#[tokio::test]
async fn silence_is_given_up() {
    let (port, _) = serve_raw(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let egress = Setup::open(&[&format!("db.test:{port}")])
        .limits(|limits| {
            limits.net_idle_timeout_ms = 100;
            limits.tls_timeout_ms = 100;
        })
        .egress();
    let late = |error: EgressError, named: &str| matches!(error, EgressError::Timeout { limit, .. } if limit == named);
    let mut stream = egress.connect("db.test", port).await.unwrap();
    assert!(late(stream.read(1).await.unwrap_err(), "net_idle_timeout_ms"));
    // Nobody reads: the buffers of both sides fill up.
    assert!(late(stream.write(&vec![0; 50_000_000]).await.unwrap_err(), "net_idle_timeout_ms"));
    let mut stream = egress.connect("db.test", port).await.unwrap();
    assert!(late(stream.start_tls().await.unwrap_err(), "tls_timeout_ms"));
}
