//! Servers and guests that mean harm: every limit of [`EgressLimits`] is crossed here or beside.

use std::time::{Duration, Instant};

use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A server that reads something and then does `then`.
async fn after_request<F, R>(then: F) -> (u16, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    serve_raw(move |mut stream| {
        let then = then.clone();
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            then(stream).await;
        }
    })
    .await
}

async fn answers(bytes: &'static [u8]) -> u16 {
    after_request(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
    })
    .await
    .0
}

async fn hang() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

fn timed_out(error: &EgressError, named: &str) -> bool {
    matches!(error, EgressError::Timeout { limit, .. } if *limit == named)
}

fn over(error: &EgressError, named: &str) -> bool {
    matches!(error, EgressError::Limit { limit, .. } if *limit == named)
}

fn short(limits: &mut EgressLimits) {
    limits.connect_timeout_ms = 150;
    limits.tls_timeout_ms = 150;
    limits.header_timeout_ms = 150;
    limits.idle_timeout_ms = 150;
    limits.net_idle_timeout_ms = 150;
}

#[tokio::test]
async fn silent_servers_are_given_up() {
    let (port, _) = after_request(|stream| async move {
        hang().await;
        drop(stream);
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).limits(short).egress();
    let start = Instant::now();
    let error = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert!(timed_out(&error, "header_timeout_ms"), "{error}");
    assert_eq!(error.kind(), thimble_record::ErrorKind::Transient);
    let error = egress.send(get(&format!("https://api.test:{port}/"))).await.unwrap_err();
    // The server answers a TLS greeting with silence.
    assert!(timed_out(&error, "tls_timeout_ms") || timed_out(&error, "header_timeout_ms"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn headers_that_trickle_are_given_up() {
    let (port, _) = after_request(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).limits(short).egress();
    let error = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert!(timed_out(&error, "header_timeout_ms"), "{error}");
}

/// Never answers; counts what it is asked.
#[derive(Default)]
struct Hanging(AtomicUsize);

#[async_trait]
impl Resolver for Hanging {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        hang().await;
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_resolver_that_hangs_is_given_up_and_not_asked_without_end() {
    let resolver = Arc::new(Hanging::default());
    let egress = Setup::open(&["api.test"])
        .limits(|limits| {
            limits.connect_timeout_ms = 100;
            limits.lookups = 2;
        })
        .resolver(resolver.clone())
        .egress();
    for _ in 0..4 {
        let error = egress.send(get("http://api.test/")).await.unwrap_err();
        assert!(timed_out(&error, "connect_timeout_ms"), "{error}");
        assert!(error.to_string().contains("api.test:80"), "{error}");
    }
    // A lookup that was given up goes on in the system, and counts until it ends.
    assert_eq!(resolver.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn resolvers_that_answer_oddly() {
    let many = vec!["127.0.0.1"; 65];
    for (answer, expected) in [(&[][..], "no address"), (&many[..], "more than 64")] {
        let egress = Setup::open(&["api.test"]).resolver(Scripted::new(&[answer])).egress();
        let error = egress.send(get("http://api.test/")).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    // The system's own resolver, for a name that cannot be.
    let mut setup = Setup::open(&["nothing.invalid"]);
    setup.parts.resolver = Arc::new(SystemResolver);
    let error = setup.egress().send(get("http://nothing.invalid/")).await.unwrap_err();
    assert!(error.to_string().contains("nothing.invalid"), "{error}");
    assert_eq!(error.kind(), thimble_record::ErrorKind::Transient);
}

#[tokio::test]
async fn closed_ports_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let error = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert!(matches!(error, EgressError::Connect { .. }), "{error}");
    // The second address is tried where the first does not answer.
    let (port, _) = serve(|_| async { text("here") }).await;
    let resolver = Scripted::new(&[&["127.9.9.9", "127.0.0.1"]]);
    let egress = Setup::open(&[&format!("api.test:{port}")]).resolver(resolver).egress();
    assert_eq!(body_of(egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap()).await, "here");
}

#[tokio::test]
async fn huge_headers_are_refused() {
    for (count, size) in [(1, 70_000), (1, 2_000_000), (300, 10), (100, 700)] {
        let (port, _) = after_request(move |mut stream| async move {
            let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_vec();
            for index in 0..count {
                answer.extend_from_slice(format!("x-{index}: {}\r\n", "y".repeat(size)).as_bytes());
            }
            answer.extend_from_slice(b"\r\n");
            let _ = stream.write_all(&answer).await;
            hang().await;
        })
        .await;
        let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
        let error = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
        assert!(
            matches!(&error, EgressError::Limit { limit, .. } if limit.contains("header")),
            "{count} of {size}: {error}"
        );
        assert_eq!(error.kind(), thimble_record::ErrorKind::Refused);
    }
}

#[tokio::test]
async fn huge_requests_are_refused() {
    let (port, accepted) = serve(|_| async { text("ok") }).await;
    let url = format!("http://api.test:{port}/");
    let egress = Setup::open(&[&format!("api.test:{port}")]).limits(|limits| limits.request_bytes = 1_000).egress();
    let mut request = get(&url);
    request.headers_mut().insert("x", "y".repeat(66_000).parse().unwrap());
    assert!(over(&egress.send(request).await.unwrap_err(), "header_bytes"));
    let mut request = get(&format!("{url}{}", "y".repeat(40_000)));
    request.headers_mut().insert("x", "y".repeat(30_000).parse().unwrap());
    assert!(over(&egress.send(request).await.unwrap_err(), "header_bytes"));
    let request = Request::post(&url).body(Full::new(Bytes::from(vec![0; 1_001]))).unwrap();
    assert!(over(&egress.send(request).await.unwrap_err(), "request_bytes"));
    let request = Request::post(&url).header("content-length", "1001").body(Full::new(Bytes::from("x"))).unwrap();
    assert!(over(&egress.send(request).await.unwrap_err(), "request_bytes"));
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
    let endless = futures::stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 100]))));
    let request = Request::post(&url).body(StreamBody::new(endless)).unwrap();
    let error = egress.send(request).await.unwrap_err();
    assert!(over(&error, "request_bytes"), "{error}");
}

#[tokio::test]
async fn a_body_of_the_guest_that_fails_is_told() {
    let (port, _) = serve(|request| async {
        let _ = request.into_body().collect().await;
        text("ok")
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let frames = futures::stream::iter([Ok(Frame::data(Bytes::from("x"))), Err(io::Error::other("the guest gave up"))]);
    let request = Request::post(format!("http://api.test:{port}/")).body(StreamBody::new(frames)).unwrap();
    let error = egress.send(request).await.unwrap_err();
    assert!(matches!(error, EgressError::RequestBody { .. }), "{error}");
}

#[tokio::test]
async fn endless_bodies_end_at_the_limit() {
    let (port, _) = after_request(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let chunk = [7; 65_536];
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let url = format!("http://api.test:{port}/");
    let setup = Setup::open(&[&format!("api.test:{port}")]);
    let egress = setup.limits(|limits| limits.response_bytes = 10_000_000).egress();
    let mut body = egress.send(get(&url)).await.unwrap().into_body();
    let mut read = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => read += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(over(&error, "response_bytes"), "{error}");
    assert!(read <= 10_000_000 && read > 9_000_000, "{read}");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn bodies_that_say_that_they_are_too_long_are_not_begun() {
    let port = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 70000000000\r\n\r\nx").await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let error = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert!(over(&error, "response_bytes"), "{error}");
}

#[tokio::test]
async fn bodies_that_stop_are_given_up_but_slow_readers_are_not() {
    let (port, _) = after_request(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").await;
        hang().await;
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).limits(short).egress();
    let mut body = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap().into_body();
    // The guest takes its time: that is not the server's silence.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    let start = Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(timed_out(&error, "idle_timeout_ms"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(140), "{:?}", start.elapsed());
}

#[tokio::test]
async fn broken_answers_are_told() {
    for (answer, says) in [
        (&b""[..], ""),
        (b"garbage\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", ""),
    ] {
        let port = answers(answer).await;
        let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
        let error = egress.send(get(&format!("http://api.test:{port}/secret-path?q=1"))).await.unwrap_err();
        assert!(matches!(error, EgressError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(says) && !error.to_string().contains("secret-path"), "{error}");
    }
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let port = answers(answer).await;
        let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
        let body = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap().into_body();
        let error = body.collect().await.unwrap_err();
        assert!(matches!(error, EgressError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn unread_answers_hold_their_permits() {
    let (port, _) = serve(|_| async { text("ok") }).await;
    let url = format!("http://api.test:{port}/");
    let egress = Setup::open(&[&format!("api.test:{port}")])
        .limits(|limits| {
            limits.requests = 2;
            limits.connect_timeout_ms = 150;
        })
        .egress();
    let first = egress.send(get(&url)).await.unwrap();
    let second = egress.send(get(&url)).await.unwrap();
    let error = egress.send(get(&url)).await.unwrap_err();
    assert!(over(&error, "requests"), "{error}");
    // Read to its end, or dropped unread: both free the permit.
    body_of(first).await;
    drop(second);
    let (_a, _b) = (egress.send(get(&url)).await.unwrap(), egress.send(get(&url)).await.unwrap());
}

#[tokio::test]
async fn connections_are_counted() {
    // Connections that nobody answers: never more at once than the limits say, and none left at the end.
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counted, highest) = (open.clone(), most.clone());
    let (port, _) = serve_raw(move |mut stream| {
        let (open, most) = (counted.clone(), highest.clone());
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")])
        .limits(|limits| {
            limits.requests = 3;
            limits.connections = 1;
            limits.header_timeout_ms = 200;
        })
        .egress();
    let url = format!("http://api.test:{port}/");
    let all = futures::future::join_all((0..10).map(|_| egress.send(get(&url)))).await;
    assert!(all.iter().all(|sent| sent.as_ref().is_err_and(|error| timed_out(error, "header_timeout_ms"))));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    until(|| egress.inner.http.open_connections() == 0 && open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let (port, accepted) = serve(|_| async { text("ok") }).await;
    let url = format!("http://api.test:{port}/");
    let egress = Setup::open(&[&format!("api.test:{port}")]).limits(|limits| limits.keep_alive_ms = 50).egress();
    body_of(egress.send(get(&url)).await.unwrap()).await;
    assert_eq!(egress.inner.http.open_connections(), 1);
    until(|| egress.inner.http.open_connections() == 0).await;
    body_of(egress.send(get(&url)).await.unwrap()).await;
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_egress_that_is_dropped_closes_its_connections() {
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    let (port, _) = serve_raw(move |stream| {
        let open = counted.clone();
        async move {
            open.fetch_add(1, Ordering::SeqCst);
            serve_stream(stream, |_| async { text("ok") }).await;
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    body_of(egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap()).await;
    assert_eq!(open.load(Ordering::SeqCst), 1);
    drop(egress);
    until(|| open.load(Ordering::SeqCst) == 0).await;
}

/// Waits for a condition, for five seconds at most.
async fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(5), "the condition never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn limits_are_read_strictly() {
    let limits: EgressLimits = serde_json::from_str(r#"{"requests": 3}"#).unwrap();
    assert_eq!(limits, EgressLimits { requests: 3, ..EgressLimits::default() });
    let error = serde_json::from_str::<EgressLimits>(r#"{"request": 3}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `request`"), "{error}");
}
