//! What a client may send at most, on real sockets.

use std::time::{Duration, Instant};

use serde_json::json;
use thimble_control::{ApiLimits, MAX_JSON_DEPTH, MAX_URI_BYTES};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Server, TOKEN, server::wide};

/// What the server says to these bytes until it closes the connection.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // It may hang up before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut told = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut told)).await;
    String::from_utf8_lossy(&told).into_owned()
}

#[tokio::test]
async fn bodies_are_not_too_deep_and_hold_no_nul() {
    let server = Server::without_reconciler().await.plugin().await;
    let nested = |levels: usize| {
        // The body and its `config` are two levels.
        let inner = format!("{}1{}", "[".repeat(levels - 2), "]".repeat(levels - 2));
        format!(r#"{{"plugin": "files", "config": {{"url": {inner}}}}}"#)
    };
    let answer = server.ask("PUT", "/connections/deep", nested(MAX_JSON_DEPTH)).await;
    assert_eq!(answer.status, 201, "{}", answer.json);
    let detail = server.ask("PUT", "/connections/deep", nested(MAX_JSON_DEPTH + 1)).await.problem(400, "malformed");
    assert!(detail.contains("64 deep"), "{detail}");
    let endless = "[".repeat(1_000_000);
    server.ask("PUT", "/connections/deep", endless).await.problem(400, "malformed");
    let nul = json!({"plugin": "files", "config": {"url": "a\u{0}b"}});
    let detail = server.put("/connections/deep", nul).await.problem(422, "malformed");
    assert!(detail.contains("U+0000"), "{detail}");
    server.get("/connections/a%00b").await.problem(400, "malformed");
    server.get("/connections?cursor=a%00b").await.problem(400, "malformed");
    let mut request = server.request("PUT", "/api/v1/connections/deep", Some(TOKEN), "{}");
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    server.send(request).await.problem(415, "malformed");
}

#[tokio::test]
async fn compressed_bodies_and_endless_urls_are_not_taken() {
    let server = Server::without_reconciler().await;
    for (encoding, status) in [("gzip", 415), ("br, identity", 415), ("identity", 422)] {
        let mut request = server.request("POST", "/api/v1/tokens", Some(TOKEN), "{}");
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        server.send(request).await.problem(status, "malformed");
    }
    let long = format!("/connections?cursor={}", "x".repeat(MAX_URI_BYTES));
    server.get(&long).await.problem(414, "malformed");
}

#[tokio::test]
async fn heads_are_neither_slow_nor_large_and_connections_are_counted() {
    let limits =
        ApiLimits { header_timeout: Duration::from_millis(300), header_bytes: 8 * 1024, connections: 4, ..wide() };
    let server = Server::limited(limits).await;
    let start = Instant::now();
    let told = raw(&server, b"GET /livez HTTP/1.1\r\nhost: x\r\n").await;
    assert!(!told.contains("200"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Before a first byte, too.
    let start = Instant::now();
    raw(&server, b"").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let large = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    let told = raw(&server, large.as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
    let many = format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(500));
    let told = raw(&server, many.as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
    // Four that say nothing hold up a fifth, until their time is over.
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    let told = raw(&server, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(start.elapsed() >= Duration::from_millis(100), "it did not wait: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_ends_finishes_what_is_asked_and_takes_no_more() {
    let server = Server::without_reconciler().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    stream.write_all(b"\r\n").await.unwrap();
    let mut told = String::new();
    let _ = stream.read_to_string(&mut told).await;
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 200"), "{told}");
    tokio::time::timeout(Duration::from_secs(5), server.serving).await.unwrap().unwrap().unwrap();
}
