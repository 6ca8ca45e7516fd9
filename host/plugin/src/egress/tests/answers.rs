//! The cache of a run: who asks the same gets the same, and the source is asked once.

use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

/// Answers with the path and the body, `?fail` with 500 at first. Keeps what it was asked.
async fn counting() -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = asked.clone();
    let (port, _) = serve(move |request| {
        let kept = kept.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let mut told = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
            let known = kept.lock().unwrap().contains(&told);
            kept.lock().unwrap().push(told.clone());
            // Those who ask at once are to meet.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if told.contains("large") {
                told.push_str(&"x".repeat(200));
            }
            let mut answer = text(told);
            answer.headers_mut().insert("x-kept", "1".parse().unwrap());
            if !known && parts.uri.query() == Some("fail") {
                *answer.status_mut() = ::http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            answer
        }
    })
    .await;
    (port, asked)
}

fn cached(method: &str, url: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(url).header("thimble-cache", "run");
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// Instances of one run.
fn instances(port: u16, change: impl Fn(&mut EgressLimits)) -> (Egress, Egress) {
    let run = RunServices::new("owner", None);
    let instance = || {
        let mut setup = Setup::open(&[&format!("api.test:{port}")]).limits(&change);
        setup.parts.run = run.clone();
        setup.egress()
    };
    (instance(), instance())
}

#[tokio::test]
async fn an_answer_is_fetched_once_for_all_instances_of_a_run() {
    let (port, asked) = counting().await;
    let (first, second) = instances(port, |_| {});
    let url = format!("http://api.test:{port}/parents?page=1");
    let both = futures::join!(first.send(cached("GET", &url, "")), second.send(cached("GET", &url, "")));
    for answer in [both.0.unwrap(), both.1.unwrap(), second.send(cached("GET", &url, "")).await.unwrap()] {
        assert_eq!(answer.headers()["x-kept"], "1");
        assert_eq!(body_of(answer).await, "GET /parents?page=1 ");
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
    // Another body, another method, and who did not ask for the cache.
    for (method, body) in [("POST", "a"), ("POST", "b"), ("POST", "a"), ("PUT", "a"), ("PUT", "a")] {
        body_of(first.send(cached(method, &url, body)).await.unwrap()).await;
    }
    body_of(first.send(get(&url)).await.unwrap()).await;
    assert_eq!(asked.lock().unwrap().len(), 6);
    // Another run asks anew.
    let (other, _) = instances(port, |_| {});
    body_of(other.send(cached("GET", &url, "")).await.unwrap()).await;
    assert_eq!(asked.lock().unwrap().len(), 7);
    let wrong = Request::get(&url).header("thimble-cache", "for ever").body(Empty::<Bytes>::new()).unwrap();
    assert!(matches!(first.send(wrong).await, Err(EgressError::Order { header: "thimble-cache", .. })));
}

#[tokio::test]
async fn failures_and_other_credentials_are_not_answered_from_the_cache() {
    let (port, asked) = counting().await;
    let (first, second) = instances(port, |_| {});
    let url = format!("http://api.test:{port}/?fail");
    assert_eq!(first.send(cached("GET", &url, "")).await.unwrap().status(), 500);
    assert_eq!(second.send(cached("GET", &url, "")).await.unwrap().status(), 200);
    assert_eq!(first.send(cached("GET", &url, "")).await.unwrap().status(), 200);
    assert_eq!(asked.lock().unwrap().len(), 2);
    let mut other = cached("GET", &url, "");
    other.headers_mut().insert("authorization", "another".parse().unwrap());
    first.send(other).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn the_cache_is_no_larger_than_its_limits() {
    let (port, asked) = counting().await;
    let (egress, _) = instances(port, |limits| {
        limits.cached_request_bytes = 10;
        limits.cached_answer_bytes = 100;
        limits.cached_bytes = 50;
        limits.cached_answers = 4;
    });
    let times = async |method: &str, path: &str, body: &str| {
        let before = asked.lock().unwrap().len();
        for _ in 0..2 {
            let url = format!("http://api.test:{port}{path}");
            let told = body_of(egress.send(cached(method, &url, body)).await.unwrap()).await;
            assert!(told.starts_with(&format!("{method} {path} {body}")), "{told}");
        }
        asked.lock().unwrap().len() - before
    };
    assert_eq!(times("GET", "/fits/more/or/less/well", "").await, 1);
    assert_eq!(times("GET", "/large", "").await, 2, "cached_answer_bytes");
    assert_eq!(times("GET", "/it/is/full/with/this/one", "").await, 2, "cached_bytes");
    assert_eq!(times("POST", "/body", "longer than ten").await, 2, "cached_request_bytes");
    assert_eq!(times("GET", "/small", "").await, 1);
    assert_eq!(times("GET", "/one", "").await, 2, "cached_answers");
}

#[tokio::test]
async fn long_answers_come_in_pieces_and_whole() {
    let (port, _) = serve(|_| async {
        let frames = (0..40).map(|n| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'a' + n % 26; 10_000]))));
        Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
    })
    .await;
    let (egress, _) = instances(port, |_| {});
    let url = format!("http://api.test:{port}/");
    let fresh = body_of(egress.send(get(&url)).await.unwrap()).await;
    let filled = body_of(egress.send(cached("GET", &url, "")).await.unwrap()).await;
    let kept = body_of(egress.send(cached("GET", &url, "")).await.unwrap()).await;
    assert!(fresh.len() == 400_000 && fresh == filled && fresh == kept);
}
