//! Requests that cannot be read.

use std::time::Duration;

use thimble_control::{MAX_BODY_BYTES, MAX_COMPONENT_BYTES};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{Server, TOKEN};

#[tokio::test]
async fn bodies_that_cannot_be_read_say_why() {
    let server = Server::without_reconciler().await.plugin().await;
    let detail = server.ask("PUT", "/connections/a", "{\"plugin\": ").await.problem(400, "malformed");
    assert!(detail.contains("EOF"), "{detail}");
    let detail = server.ask("PUT", "/connections/a", "{\"plugn\": \"files\"}").await.problem(422, "malformed");
    assert!(detail.contains("plugn"), "{detail}");
    server.ask("PUT", "/connections/a", r#"{"plugin": "files", "config": []}"#).await.problem(422, "malformed");
    server.ask("POST", "/connections/a/runs", r#"{"kind": "install"}"#).await.problem(422, "malformed");

    let mut request = server.request("PUT", "/api/v1/connections/a", Some(TOKEN), "{}");
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    server.send(request).await.problem(415, "malformed");
}

#[tokio::test]
async fn queries_that_cannot_be_read_say_why() {
    let server = Server::without_reconciler().await;
    for query in ["/runs?limit=many", "/runs?limt=1", "/plugins?limit=-1", "/runs/x?wait=soon", "/runs/x/logs?cursor=a"]
    {
        server.get(query).await.problem(400, "malformed");
    }
    server.get("/connections/Not%20Allowed").await.problem(422, "invalid");
    server.get("/connections/%ff").await.problem(400, "malformed");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = Server::without_reconciler().await.plugin().await;
    let filled = |length: usize| {
        let (start, end) = (r#"{"plugin": "files", "config": {"x": ""#, r#""}}"#);
        format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
    };
    server.ask("PUT", "/connections/a", filled(MAX_BODY_BYTES)).await.expect(201);
    server.ask("PUT", "/connections/a", filled(MAX_BODY_BYTES + 1)).await.problem(413, "too-large");
}

#[tokio::test]
async fn a_component_over_the_limit_is_refused_and_leaves_nothing() {
    let server = Server::without_reconciler().await;
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.resize(usize::try_from(MAX_COMPONENT_BYTES).unwrap() + 1, 0);
    server.ask("POST", "/plugins", component.clone()).await.problem(413, "too-large");
    assert!(server.blobs().is_empty());
    component.pop();
    server.ask("POST", "/plugins", component).await.expect(202);
    assert_eq!(server.blobs().len(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = Server::without_reconciler().await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /api/v1/plugins HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 1000\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(b"\0asm\x0d\0\x01\0 the beginning").await.unwrap();
    while server.blobs().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    while !server.blobs().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(server.store.unfinished_runs().await.unwrap().is_empty());
}
