//! Turns: what a source said of its limits, and what guests name, over several instances.

use std::time::Duration;

use serde_json::json;
use thimble_record::ErrorKind;

use super::{jwt::order, *};

/// An instance of a process; they share `shared`.
fn instance(port: u16, shared: &Arc<Shared>, change: impl FnOnce(&mut EgressParts)) -> Egress {
    let mut setup = Setup::open(&[&format!("api.test:{port}")]);
    setup.parts.shared = shared.clone();
    change(&mut setup.parts);
    setup.egress()
}

/// Answers the first request with 429 and what to wait, all others with 200. Counts them.
async fn limited(retry_after: &'static str) -> (u16, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let (port, _) = serve(move |_| {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let mut answer = text("told");
            if first {
                *answer.status_mut() = ::http::StatusCode::TOO_MANY_REQUESTS;
                answer.headers_mut().insert("retry-after", retry_after.parse().unwrap());
            }
            answer
        }
    })
    .await;
    (port, asked)
}

fn with_key(port: u16, key: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://api.test:{port}/")).header("authorization", key).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn all_instances_wait_for_as_long_as_a_source_said() {
    let (port, asked) = limited("1").await;
    let shared = Arc::new(Shared::default());
    let (first, second) = (instance(port, &shared, |_| {}), instance(port, &shared, |_| {}));
    assert_eq!(first.send(with_key(port, "a")).await.unwrap().status(), 429);
    // Others are not concerned.
    let began = Instant::now();
    assert_eq!(second.send(with_key(port, "b")).await.unwrap().status(), 200);
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    // A guest's own patience does not run while it waits for its turn.
    let sent = second.send_within(with_key(port, "a"), Some(Duration::from_millis(500))).await.unwrap();
    assert_eq!(sent.status(), 200);
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn who_would_wait_too_long_fails_at_once_and_says_for_how_long() {
    let (port, asked) = limited("Thu, 01 Jan 2099 00:00:00 GMT").await;
    let shared = Arc::new(Shared::default());
    let egress = instance(port, &shared, |parts| {
        parts.deadline = Some(Instant::now() + Duration::from_secs(60));
        parts.limits.pace_wait_ms = 600_000;
    });
    assert_eq!(egress.send(with_key(port, "a")).await.unwrap().status(), 429);
    let error = egress.send(with_key(port, "a")).await.unwrap_err();
    let failure = error.failure();
    assert_eq!(failure.kind, ErrorKind::Transient);
    // The source's word counts up to the limit.
    let wait = failure.retry_after_ms.unwrap();
    assert!(wait > 590_000 && wait <= 600_000, "{wait}");
    let expected = format!("api.test:{port} must not be asked for another 600 s because of its rate limits");
    assert!(failure.message.starts_with(&expected), "{failure}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn instances_share_the_rates_that_guests_name() {
    let (port, accepted) = serve(|_| async { text("ok") }).await;
    let shared = Arc::new(Shared::default());
    let policy = json!({ "policies": [{ "key": "search", "limit": 2, "window_ms": 500 }] });
    let paced = || {
        let request = Request::get(format!("http://api.test:{port}/")).header("thimble-pace", order(&policy));
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let began = Instant::now();
    for round in 0..6 {
        let egress = instance(port, &shared, |_| {});
        assert_eq!(egress.send(paced()).await.unwrap().status(), 200);
        let least = Duration::from_millis(500) * (round / 2);
        assert!(began.elapsed() >= least, "{round}: {:?}", began.elapsed());
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 6);
    // The same key of another connection is another one.
    let other = instance(port, &shared, |parts| parts.run = RunServices::new("another", None));
    let began = Instant::now();
    other.send(paced()).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(400));
}

#[tokio::test]
async fn policies_and_what_is_remembered_of_them_are_limited() {
    let (port, _) = limited("0").await;
    let shared = Arc::new(Shared::default());
    let egress = instance(port, &shared, |parts| {
        parts.limits.pace_policies = 2;
        parts.limits.paces = 3;
        parts.limits.pace_wait_ms = 50;
    });
    let send = async |policies: serde_json::Value| {
        let asked = order(&json!({ "policies": policies }));
        let request = Request::get(format!("http://api.test:{port}/")).header("thimble-pace", asked);
        egress.send(request.body(Empty::<Bytes>::new()).unwrap()).await
    };
    let policy = |key: &str| json!({ "key": key, "limit": 1, "window_ms": 3_600_000 });
    let error = send(json!([policy("a"), policy("b"), policy("c")])).await.unwrap_err();
    assert!(matches!(error, EgressError::Limit { limit: "pace_policies", allowed: 2, .. }), "{error}");
    for wrong in [
        json!([{ "key": "", "limit": 1, "window_ms": 1 }]),
        json!([{ "key": "a", "limit": 0, "window_ms": 1 }]),
        json!([{ "key": "a", "limit": 1, "window_ms": 86_400_001 }]),
    ] {
        assert!(matches!(send(wrong).await, Err(EgressError::Order { .. })));
    }
    for key in ["a", "b", "c", "d", "e"] {
        send(json!([policy(key)])).await.unwrap();
        let _ = egress.send(with_key(port, key)).await.unwrap();
    }
    assert_eq!(shared.pace.kept().1, 3);
    let error = send(json!([policy("e")])).await.unwrap_err();
    assert!(matches!(error, EgressError::Paced { .. }), "{error}");
}
