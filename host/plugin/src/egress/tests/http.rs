//! The way of well-behaved requests.

use std::time::{Duration, Instant};

use ::http::{HeaderMap, Method, StatusCode};
use futures::StreamExt;
use http_body_util::{BodyDataStream, StreamBody};
use hyper::body::Frame;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers with the request's first line, its headers and its body.
async fn echo(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut told = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        told.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let body = body.collect().await.unwrap().to_bytes();
    told.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
    text(told)
}

#[tokio::test]
async fn requests_pass_where_granted_and_reuse_one_connection() {
    let (port, accepted) = serve(echo).await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    for _ in 0..5 {
        let answer = egress.send(get(&format!("http://API.test:{port}/a?b=c"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(body_of(answer).await, format!("GET /a?b=c\nhost: api.test:{port}\n\n"));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_told() {
    let (port, accepted) = serve(echo).await;
    let setup = Setup::open(&["other.test"]);
    let log = setup.log.clone();
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let egress = setup.resolver(resolver.clone()).egress();
    let error = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert!(matches!(error, EgressError::NotGranted { .. }), "{error}");
    assert!(egress.connect("api.test", port).await.is_err());
    let lines = log.0.lock().unwrap().clone();
    let expected = format!(
        "warn: egress denied: host api.test:{port} is not granted to plugin files; grant it with: thimble plugin grant \
         files api.test:{port}"
    );
    assert_eq!(lines, [expected.clone(), expected]);
    assert_eq!((accepted.load(Ordering::SeqCst), resolver.asked.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn granted_names_do_not_lead_inside() {
    let (port, accepted) = serve(echo).await;
    // One good address does not help: every address counts.
    for addresses in [&["127.0.0.1"][..], &["93.184.216.34", "127.0.0.1"], &["::ffff:127.0.0.1"], &["::1"]] {
        let setup = Setup::new(&[&format!("api.test:{port}")]).resolver(Scripted::new(&[addresses]));
        let log = setup.log.clone();
        let error = setup.egress().send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
        assert!(matches!(error, EgressError::AddressDenied { range: Range::Loopback, .. }), "{error}");
        assert_eq!(log.0.lock().unwrap().len(), 1);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
    // The address itself, granted by the operator, is reached.
    let egress = Setup::new(&[&format!("127.0.0.1:{port}")]).egress();
    assert!(egress.send(get(&format!("http://127.0.0.1:{port}/"))).await.is_ok());
    assert!(egress.send(get(&format!("http://0x7f.1:{port}/"))).await.is_ok());
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_checked_each_time_it_is_connected_to() {
    let (port, accepted) = serve(echo).await;
    let networks = serde_json::from_str(r#"["127.0.0.1/32"]"#).unwrap();
    let resolver = Scripted::new(&[&["127.0.0.1"], &["169.254.169.254"], &["10.0.0.1"], &["127.0.0.1"]]);
    let mut setup = Setup::new(&[&format!("api.test:{port}")]).resolver(resolver.clone());
    setup.parts.policy.private = networks;
    let egress = setup.egress();
    let url = format!("http://api.test:{port}/");
    let close = |mut request: Request<Empty<Bytes>>| {
        request.headers_mut().insert("x-close", "1".parse().unwrap());
        request
    };
    let answer = egress.send(close(get(&url))).await.unwrap();
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "resolved once a connection");
    body_of(answer).await;
    // A connection that is open was checked when it was opened and is not looked up again.
    body_of(egress.send(get(&url)).await.unwrap()).await;
    assert_eq!((accepted.load(Ordering::SeqCst), resolver.asked.load(Ordering::SeqCst)), (1, 1));
    for expected in [Range::Metadata, Range::Private] {
        let error = egress.connect("api.test", port).await.map(drop).unwrap_err();
        assert!(matches!(error, EgressError::AddressDenied { range, .. } if range == expected), "{error}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    assert!(egress.connect("api.test", port).await.is_ok());
}

#[tokio::test]
async fn redirects_come_back_as_they_are() {
    let (port, accepted) = serve(|request| async move {
        let mut answer = text("moved");
        if request.uri().path() == "/" {
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert("location", "http://169.254.169.254/latest/".parse().unwrap());
        }
        answer
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let answer = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    // What the guest's client does next is refused.
    let error = egress.send(get(&location)).await.unwrap_err();
    assert!(matches!(error, EgressError::NotGranted { .. }), "{error}");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn hosts_and_hops_are_the_hosts_own() {
    let (port, _) = serve(echo).await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let request = Request::post(format!("http://api.test:{port}"))
        .header("Host", "internal.test")
        .header("connection", "x-hop, upgrade, content-length")
        .header("x-hop", "1")
        .header("upgrade", "websocket")
        .header("te", "trailers")
        .header("keep-alive", "1")
        .header("proxy-authorization", "Basic eA==")
        .header("expect", "100-continue")
        .header("transfer-encoding", "chunked, gzip")
        .header("thimble-unknown", "x")
        .header("Thimble-Sign-Later", "x")
        .header("x-kept", "1")
        .header("content-length", "4")
        .body(Full::new(Bytes::from("body")))
        .unwrap();
    let told = body_of(egress.send(request).await.unwrap()).await;
    assert_eq!(told, format!("POST /\nhost: api.test:{port}\nx-kept: 1\ncontent-length: 4\n\nbody"));
}

#[tokio::test]
async fn requests_that_cannot_be_are_refused() {
    let (port, accepted) = serve(echo).await;
    let grants = [format!("api.test:{port}"), format!("127.0.0.1:{port}")];
    let egress = Setup::open(&grants.each_ref().map(String::as_str)).egress();
    for url in [
        format!("ftp://api.test:{port}/"),
        format!("http://user:pass@api.test:{port}/"),
        format!("http://api.test.:{port}/"),
        format!("http://api.test@127.0.0.1:{port}/"),
        "/no-host".to_owned(),
        "http://api.test:0/".to_owned(),
    ] {
        let Ok(request) = Request::get(&url).body(Empty::<Bytes>::new()) else { continue };
        let error = egress.send(request).await.unwrap_err();
        assert!(matches!(error, EgressError::BadHost { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("pass"), "{error}");
    }
    let url = format!("http://api.test:{port}/");
    for method in [Method::CONNECT, Method::TRACE] {
        let request = Request::builder().method(method).uri(&url).body(Empty::<Bytes>::new()).unwrap();
        assert!(matches!(egress.send(request).await, Err(EgressError::BadRequest { .. })));
    }
    for lengths in [&["1", "2"][..], &["-1"], &["+4"], &["4, 4"], &["99999999999999999999999"]] {
        let mut request = Request::post(&url);
        for length in lengths {
            request = request.header("content-length", *length);
        }
        let error = egress.send(request.body(Full::new(Bytes::from("four"))).unwrap()).await.unwrap_err();
        assert!(matches!(error, EgressError::BadRequest { .. }), "{lengths:?}: {error}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn tls_is_verified_for_the_granted_name() {
    let (pem, config) = authority("api.test");
    let acceptor = TlsAcceptor::from(config);
    let (port, _) = serve_raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_stream(stream, echo).await;
            }
        }
    })
    .await;
    let grants = [format!("api.test:{port}"), format!("wrong.test:{port}"), format!("127.0.0.1:{port}")];
    let setup = || Setup::open(&grants.each_ref().map(String::as_str));
    let trusting = || {
        let mut setup = setup();
        setup.parts.roots = TlsRoots::with_pem(pem.as_bytes()).unwrap();
        setup.egress()
    };
    let told = body_of(trusting().send(get(&format!("https://api.test:{port}/x"))).await.unwrap()).await;
    assert_eq!(told, format!("GET /x\nhost: api.test:{port}\n\n"));
    for url in [format!("https://wrong.test:{port}/"), format!("https://127.0.0.1:{port}/")] {
        let error = trusting().send(get(&url)).await.unwrap_err();
        assert!(matches!(error, EgressError::Certificate { .. }), "{error}");
    }
    let error = setup().egress().send(get(&format!("https://api.test:{port}/"))).await.unwrap_err();
    assert!(matches!(error, EgressError::Certificate { .. }), "{error}");
    assert_eq!(error.kind(), thimble_record::ErrorKind::Config);
    for wrong in
        ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n!"]
    {
        assert!(matches!(TlsRoots::with_pem(wrong.as_bytes()), Err(EgressError::BadSetting { .. })), "{wrong}");
    }
}

#[tokio::test]
async fn tls_on_a_plain_port_is_explained() {
    let (port, _) = serve(echo).await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let error = egress.send(get(&format!("https://api.test:{port}/"))).await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let (port, _) = serve(|request| async move {
        let frames = BodyDataStream::new(request.into_body()).map(|data| Ok(Frame::data(data.unwrap())));
        Response::new(StreamBody::new(frames).boxed_unsync())
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        Some((Ok::<_, Infallible>(Frame::data(receiver.recv().await?)), receiver))
    });
    let request = Request::post(format!("http://api.test:{port}/")).body(StreamBody::new(stream)).unwrap();
    let sending = tokio::spawn(async move { egress.send(request).await });
    sender.send(Bytes::from("one")).await.unwrap();
    let mut answer = sending.await.unwrap().unwrap().into_body();
    for word in ["one", "two", "three"] {
        if word != "one" {
            sender.send(Bytes::from(word)).await.unwrap();
        }
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), word);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn idle_connections_make_room_for_other_hosts() {
    let (port, _) = serve(echo).await;
    let grants: Vec<String> = (0..6).map(|index| format!("h{index}.test:{port}")).collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let egress = Setup::open(&grants)
        .limits(|limits| {
            limits.connections = 2;
            limits.requests = 2;
            limits.connect_timeout_ms = 2_000;
        })
        .egress();
    let start = Instant::now();
    for index in 0..6 {
        body_of(egress.send(get(&format!("http://h{index}.test:{port}/"))).await.unwrap()).await;
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    // Whatever the variables say, the connection goes to the address of the name: there is nothing that reads them.
    let (port, accepted) = serve(echo).await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let told = body_of(egress.send(get(&format!("http://api.test:{port}/p"))).await.unwrap()).await;
    assert!(told.starts_with("GET /p\n"), "a proxy would be sent the whole URL: {told}");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn answers_lose_their_hop_headers() {
    let (port, _) = serve_raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\nx-kept: 1\r\n\
                  content-length: 2\r\n\r\nok",
            )
            .await;
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let answer = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap();
    let expected: HeaderMap = [("x-kept", "1"), ("content-length", "2")]
        .iter()
        .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
        .collect();
    assert_eq!(*answer.headers(), expected);
    assert_eq!(body_of(answer).await, "ok");
}

/// Run by hand: `cargo test --release -p thimble-plugin --lib egress::tests::http::streams_fast -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn streams_fast() {
    const TOTAL: u64 = 4 * 1024 * 1024 * 1024;
    const CHUNK: usize = 1024 * 1024;
    let (port, _) = serve(|_| async {
        let chunk = Bytes::from(vec![7; CHUNK]);
        let frames = futures::stream::iter((0..TOTAL / CHUNK as u64).map(move |_| Ok(Frame::data(chunk.clone()))));
        let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
        answer.headers_mut().insert("content-length", TOTAL.into());
        answer
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let start = Instant::now();
    let mut body = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap().into_body();
    let (mut read, mut frames) = (0, 0);
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().into_data().unwrap().len() as u64;
        frames += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{:.2} GB/s in frames of {} KiB", read as f64 / seconds / 1e9, read / frames / 1024);
    assert_eq!(read, TOTAL);
}
