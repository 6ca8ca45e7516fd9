//! Exchanges are watched, recorded and answered again, without their secrets.

use std::{path::Path, sync::atomic::AtomicU64};

use serde_json::json;

use super::*;
use crate::secrets::random_bytes;

/// The session of one run: the same settings, other placeholders.
fn run(url: &str) -> (Secrets, String) {
    let config = json!({ "token": "hunter2-hunter2", "url": url });
    let (config, secrets) = Secrets::conceal(&config, &["token".to_owned()], &[], &mut random_bytes);
    (secrets, config["token"].as_str().unwrap().to_owned())
}

fn ask(url: &str, token: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(format!("{url}/items?key={token}"))
        .header("authorization", format!("Bearer {token}"))
        .header("x-key", token)
        .header("accept-encoding", "gzip")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.replace("TOKEN", token))))
        .unwrap()
}

/// Counts, and tells the request back with all secrets in it.
async fn tell(count: Arc<AtomicU64>, request: Request<Incoming>) -> Answer {
    let n = count.fetch_add(1, Ordering::SeqCst);
    assert!(request.headers().get("accept-encoding").is_none(), "an answer that is recorded must be legible");
    let (parts, body) = request.into_parts();
    let key = parts.headers["x-key"].to_str().unwrap().to_owned();
    assert_eq!(key, "hunter2-hunter2");
    let body = body.collect().await.unwrap().to_bytes();
    let told = format!("{n} {} {}", parts.uri, String::from_utf8_lossy(&body));
    let mut answer = text([told.as_bytes(), if n == 2 { b"\xff\0hunter2-hunter2" } else { b"" }].concat());
    answer.headers_mut().insert("x-echo", key.parse().unwrap());
    answer
}

async fn source() -> String {
    let count = Arc::new(AtomicU64::new(0));
    let (port, _) = serve(move |request| tell(count.clone(), request)).await;
    format!("http://api.test:{port}")
}

fn recording(path: &Path, limits: &EgressLimits) -> Rehearsal {
    let recorder = Recorder::create(path, limits.recording_bytes).unwrap();
    let mut rehearsal = Rehearsal::default();
    rehearsal.watchers.push(Arc::new(recorder));
    rehearsal
}

fn replay(path: &Path) -> Rehearsal {
    let replay = Replay::open(path, &EgressLimits::default()).unwrap();
    let mut rehearsal = Rehearsal::default();
    rehearsal.replay = Some(Arc::new(replay));
    rehearsal
}

/// What becomes of two requests with one body and one with another.
async fn three(url: &str, rehearsal: Rehearsal) -> Vec<Result<String, String>> {
    let (secrets, token) = run(url);
    let mut setup = Setup::open(&[url.trim_start_matches("http://")]).secrets(secrets);
    setup.parts.rehearsal = rehearsal;
    let egress = setup.egress();
    let mut told = Vec::new();
    for body in [r#"{"t":"TOKEN"}"#, r#"{"t":"TOKEN"}"#, "other"] {
        told.push(match egress.send(ask(url, &token, body)).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let bytes = answer.into_body().collect().await.unwrap().to_bytes();
                Ok(format!("{status} {}", String::from_utf8_lossy(&bytes)))
            }
            Err(error) => Err(error.to_string()),
        });
    }
    told
}

#[tokio::test]
async fn what_was_recorded_is_answered_again_in_order_without_a_network_or_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.jsonl");
    let url = source().await;
    let live = three(&url, recording(&file, &EgressLimits::default())).await;
    assert!(live.iter().all(|answer| answer.as_ref().unwrap().contains("hunter2")));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("thimble-secret-"), "{text}");
    assert!(text.contains(r#"["authorization","Bearer ***"]"#), "{text}");
    assert_eq!(text.lines().count(), 4);

    let again = three(&url, replay(&file)).await;
    let masked: Vec<_> =
        live.into_iter().map(|answer| answer.map(|text| text.replace("hunter2-hunter2", "***"))).collect();
    assert_eq!(again, masked);
}

#[tokio::test]
async fn a_request_that_was_not_recorded_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.jsonl");
    let url = source().await;
    three(&url, recording(&file, &EgressLimits::default())).await;
    let rehearsal = replay(&file);
    three(&url, rehearsal.clone()).await;
    // Every answer is given once, whichever instance asks.
    let missed = three(&url, rehearsal.clone()).await;
    let sentence = format!(
        "the recording has no answer to POST {url}/items?key=***: it was not asked so often then; record it again"
    );
    assert_eq!(missed[0], Err(sentence));
    let mut setup = Setup::open(&["other.test"]);
    setup.parts.rehearsal = rehearsal;
    let egress = setup.egress();
    let error = egress.send(get("http://other.test/x")).await.unwrap_err();
    assert!(error.to_string().contains("GET http://other.test/x: it was not asked then"), "{error}");
    assert!(matches!(egress.send(get("http://denied.test/x")).await, Err(EgressError::NotGranted { .. })));
    assert!(matches!(egress.connect("other.test", 443).await, Err(EgressError::NotRecorded { .. })));
}

#[tokio::test]
async fn failures_are_recorded_and_denials_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.jsonl");
    let (port, _) = serve_raw(|stream| async move { drop(stream) }).await;
    let mut setup = Setup::open(&[&format!("api.test:{port}")]);
    setup.parts.rehearsal = recording(&file, &EgressLimits::default());
    let egress = setup.egress();
    let live = egress.send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert!(egress.send(get("http://denied.test/")).await.is_err());
    let mut setup = Setup::open(&[&format!("api.test:{port}")]);
    setup.parts.rehearsal = replay(&file);
    let again = setup.egress().send(get(&format!("http://api.test:{port}/"))).await.unwrap_err();
    assert_eq!((again.to_string(), again.kind()), (live.to_string(), live.kind()));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn recordings_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.jsonl");
    let (port, _) = serve(|_| async { text("x".repeat(1000)) }).await;
    let url = format!("http://api.test:{port}/");
    let attempt = |limits: EgressLimits| {
        let mut setup = Setup::open(&[&format!("api.test:{port}")]);
        setup.parts.rehearsal = recording(&file, &limits);
        setup.parts.limits = limits;
        setup.egress()
    };
    let egress = attempt(EgressLimits { recorded_body_bytes: 999, ..EgressLimits::default() });
    assert_eq!(body_of(egress.send(get(&url)).await.unwrap()).await.len(), 1000, "the guest gets all of it");
    let post = Request::post(&url).body(Full::new(Bytes::from(vec![b'x'; 1000]))).unwrap();
    let error = egress.send(post).await.unwrap_err();
    assert!(matches!(error, EgressError::Limit { limit: "recorded_body_bytes", .. }), "{error}");
    let mut setup = Setup::open(&[&format!("api.test:{port}")]);
    setup.parts.rehearsal = replay(&file);
    let error = setup.egress().send(get(&url)).await.unwrap_err();
    assert!(error.to_string().contains("longer than recorded_body_bytes allows"), "{error}");

    let egress = attempt(EgressLimits { recording_bytes: 3000, ..EgressLimits::default() });
    for _ in 0..10 {
        body_of(egress.send(get(&url)).await.unwrap()).await;
    }
    assert!(std::fs::metadata(&file).unwrap().len() <= 3000);
    let small = EgressLimits { recording_bytes: 1000, ..EgressLimits::default() };
    assert!(matches!(Replay::open(&file, &small), Err(RecordingError::TooLarge { limit: 1000, .. })));
    for (broken, sentence) in [("", "line 1"), ("{\"recording\":2}", "format 2"), ("{\"recording\":1}\n{}", "line 2")] {
        std::fs::write(&file, broken).unwrap();
        let error = Replay::open(&file, &small).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }
}

#[tokio::test]
async fn a_detour_leads_a_granted_origin_elsewhere_and_nothing_else() {
    let (port, accepted) = serve(|request: Request<Incoming>| async move {
        text(format!("{} {}", request.headers()["host"].to_str().unwrap(), request.uri()))
    })
    .await;
    // Neither TLS nor a public address is asked for: the operator named the other end.
    let mut setup = Setup::new(&["api.test", "other.test"]);
    setup.parts.rehearsal.detours = vec![Detour::parse(&format!("https://api.test=http://127.0.0.1:{port}")).unwrap()];
    let egress = setup.egress();
    assert_eq!(body_of(egress.send(get("https://api.test/a?b")).await.unwrap()).await, "api.test /a?b");
    for elsewhere in ["http://api.test/", "https://other.test/", "https://denied.test/"] {
        assert!(egress.send(get(elsewhere)).await.unwrap_err().is_denial());
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    for bad in ["", "https://a.test", "https://a.test/x=http://b.test", "a.test=http://b.test", "https://a.test=b"] {
        assert!(matches!(Detour::parse(bad), Err(EgressError::BadDetour { .. })), "{bad}");
    }
}
