//! Access tokens that the host gets: one request for all, refreshed when they end, refresh tokens kept before use.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use thimble_record::{ErrorKind, Failure};

use super::{
    jwt::{credentials, order},
    *,
};
use crate::secrets::{PLACEHOLDER_PREFIX, random_bytes};

/// A source that gives tokens `access-1`, `access-2`…, and takes only the last one it gave.
#[derive(Default)]
struct Source {
    /// Bodies of the requests for a token.
    asked: Mutex<Vec<String>>,
    /// What it answers them with, instead.
    answers: Mutex<Vec<(u16, String)>>,
    /// Whether tokens are taken whatever they are.
    lenient: bool,
}

async fn answer(source: Arc<Source>, request: Request<Incoming>) -> Answer {
    if request.uri().path() != "/token" {
        let last = format!("Bearer access-{}", source.asked.lock().unwrap().len());
        let given = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let taken = source.lenient || given.as_deref() == Some(&last);
        let mut answer = credentials(request).await;
        if !taken {
            *answer.status_mut() = ::http::StatusCode::UNAUTHORIZED;
        }
        return answer;
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let number = {
        let mut asked = source.asked.lock().unwrap();
        asked.push(String::from_utf8(body.to_vec()).unwrap());
        asked.len()
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let scripted = source.answers.lock().unwrap().pop();
    let usual = json!({ "access_token": format!("access-{number}"), "expires_in": 600, "refresh_token": format!("refresh-{number}") });
    let (status, body) = scripted.unwrap_or((200, usual.to_string()));
    let mut answer = text(body);
    *answer.status_mut() = ::http::StatusCode::from_u16(status).unwrap();
    answer
}

/// One process and its runs.
struct Process {
    port: u16,
    source: Arc<Source>,
    shared: Arc<Shared>,
    seconds: Arc<Mutex<u64>>,
    config: Value,
}

impl Process {
    async fn new(source: Source, config: Value) -> Self {
        let source = Arc::new(source);
        let served = source.clone();
        let (port, _) = serve(move |request| answer(served.clone(), request)).await;
        let seconds = Arc::new(Mutex::new(1_700_000_000));
        Self { port, source, shared: Arc::default(), seconds, config }
    }

    /// A run with the configuration as it was when the process began.
    fn run(&self, keeper: Option<Arc<dyn TokenKeeper>>, change: impl FnOnce(&mut EgressParts)) -> Run {
        let fields: Vec<String> = ["client", "credentials"].map(str::to_owned).into();
        let (config, secrets) = Secrets::conceal(&self.config, &fields, &[], &mut random_bytes);
        let mut setup = Setup::open(&[&format!("api.test:{}", self.port)]).secrets(secrets.clone());
        setup.parts.shared = self.shared.clone();
        setup.parts.run = RunServices::new("owner", keeper);
        let seconds = self.seconds.clone();
        setup.parts.clock = Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds.lock().unwrap()));
        change(&mut setup.parts);
        Run { port: self.port, egress: setup.egress(), config, secrets }
    }

    fn asked(&self) -> usize {
        self.source.asked.lock().unwrap().len()
    }
}

struct Run {
    port: u16,
    egress: Egress,
    config: Value,
    secrets: Secrets,
}

impl Run {
    fn order(&self, more: &Value) -> Value {
        let mut order = json!({
            "request": {
                "method": "POST",
                "url": format!("http://api.test:{}/token", self.port),
                "body": format!("secret={}&refresh={}", self.config["client"]["secret"].as_str().unwrap_or_default(),
                    self.config["credentials"]["refresh_token"].as_str().unwrap_or_default()),
                "content_type": "application/x-www-form-urlencoded",
            },
            "token_path": ["access_token"], "expires_path": ["expires_in"],
            "placement": { "header": "Authorization", "prefix": "Bearer " },
        });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    }

    async fn send(&self, more: &Value) -> Result<(u16, String), EgressError> {
        let request = Request::post(format!("http://api.test:{}/data", self.port))
            .header("thimble-token", order(&self.order(more)))
            .body(Full::new(Bytes::from("asked")))
            .unwrap();
        let answer = self.egress.send(request).await?;
        Ok((answer.status().as_u16(), body_of(answer).await))
    }
}

/// What the source was told: the header that arrived.
fn bearer(sent: Result<(u16, String), EgressError>) -> String {
    let (status, told) = sent.unwrap();
    let (told, body) = told.split_once('\n').unwrap();
    assert_eq!(body, "asked");
    let told: Value = serde_json::from_str(told).unwrap();
    format!("{status} {}", told[0].as_str().unwrap())
}

fn client() -> Value {
    json!({ "client": { "secret": "s3cr&t" } })
}

#[tokio::test]
async fn a_token_is_asked_for_once_by_all_instances_and_runs_until_it_ends() {
    let process = Process::new(Source::default(), client()).await;
    let (first, second) = (process.run(None, |_| {}), process.run(None, |_| {}));
    let more = json!({});
    let both = futures::join!(first.send(&more), second.send(&more));
    assert_eq!((bearer(both.0), bearer(both.1)), ("200 Bearer access-1".into(), "200 Bearer access-1".into()));
    assert_eq!(*process.source.asked.lock().unwrap(), ["secret=s3cr%26t&refresh="]);
    assert_eq!(second.secrets.scrub("access-1"), "***");
    *process.seconds.lock().unwrap() += 601;
    assert_eq!(bearer(second.send(&more).await), "200 Bearer access-2");
    // Another connection has tokens of its own.
    let other = process.run(None, |parts| parts.run = RunServices::new("another", None));
    assert_eq!(bearer(other.send(&more).await), "200 Bearer access-3");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let process = Process::new(Source::default(), client()).await;
    let run = process.run(None, |_| {});
    let initial = json!({ "initial": { "token": "stale", "expires_at": null } });
    // The configuration's token, then a new one.
    assert_eq!(bearer(run.send(&initial).await), "200 Bearer access-1");
    // Somebody else made the source forget it.
    process.source.asked.lock().unwrap().push("elsewhere".into());
    assert_eq!(bearer(run.send(&initial).await), "200 Bearer access-3");
    // A source that takes no token at all is asked for two.
    process.source.answers.lock().unwrap().extend((0..2).map(|n| (200, json!({ "access_token": n }).to_string())));
    process.source.asked.lock().unwrap().push("elsewhere".into());
    let before = process.asked();
    assert_eq!(bearer(run.send(&initial).await), "401 Bearer 1");
    assert_eq!(process.asked(), before + 1);
}

#[tokio::test]
async fn refusals_are_told_by_what_can_be_done() {
    let process = Process::new(Source::default(), client()).await;
    let run = process.run(None, |_| {});
    let host = format!("there is no access token from api.test:{}: ", process.port);
    for (status, body, kind, expected) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"s3cr&t"}"#,
            ErrorKind::Config,
            "the source refused the credentials (400 invalid_grant): authorize the connection again",
        ),
        (503, "s3cr&t", ErrorKind::Transient, "it answered 503 for now"),
        (302, "", ErrorKind::System, "it answered 302, which is no token"),
        (200, "s3cr&t", ErrorKind::System, "its answer is not JSON"),
        (200, r#"{"token":1}"#, ErrorKind::System, "its answer has no token at access_token"),
    ] {
        process.source.answers.lock().unwrap().push((status, body.to_owned()));
        let error = run.send(&json!({})).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (kind, format!("{host}{expected}")));
    }
    // The policy is asked for where tokens come from too.
    let mut order = run.order(&json!({}));
    order["request"]["url"] = "http://elsewhere.test/token".into();
    let error = run.send(&order).await.unwrap_err();
    assert!(matches!(error, EgressError::NotGranted { .. }), "{error}");
    // Those who waited for the same request share its failure.
    process.source.answers.lock().unwrap().push((503, String::new()));
    let before = process.asked();
    let more = json!({});
    let all = futures::join!(run.send(&more), run.send(&more));
    assert!(all.0.is_err() && all.1.is_err());
    assert_eq!(process.asked(), before + 1);
}

#[tokio::test]
async fn answers_and_tokens_are_limited_in_size_and_time() {
    let process = Process::new(Source { lenient: true, ..Source::default() }, client()).await;
    let run = process.run(None, |parts| {
        parts.limits.token_answer_bytes = 100;
        parts.limits.token_bytes = 20;
        parts.limits.kept_tokens = 1;
    });
    for (length, crossed) in [(21, "token_bytes"), (100, "token_answer_bytes")] {
        let token = json!({ "access_token": "x".repeat(length) }).to_string();
        process.source.answers.lock().unwrap().push((200, token));
        let error = run.send(&json!({})).await.unwrap_err();
        assert!(matches!(error, EgressError::Limit { limit, .. } if limit == crossed), "{error}");
    }
    let slow = process.run(None, |parts| parts.limits.token_timeout_ms = 20);
    let error = slow.send(&json!({})).await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout { limit: "token_timeout_ms", .. }), "{error}");
    // With room for one, two that take turns are asked for each time.
    let before = process.asked();
    for path in ["access_token", "refresh_token", "access_token", "access_token"] {
        process.source.answers.lock().unwrap().push((200, r#"{"access_token":"a","refresh_token":"b"}"#.into()));
        run.send(&json!({ "token_path": [path] })).await.unwrap();
        process.source.answers.lock().unwrap().clear();
    }
    assert_eq!(process.asked(), before + 3);
}

#[tokio::test]
async fn a_service_account_signs_the_assertion_that_it_gets_its_token_for() {
    let process = Process::new(Source::default(), client()).await;
    let run = process.run(None, |_| {});
    let own = format!("{PLACEHOLDER_PREFIX}{}", "0".repeat(32));
    let mut more = run.order(&json!({}));
    more["request"]["body"] = format!("grant_type=jwt&assertion={own}").into();
    more["request"]["jwt"] = json!({
        "algorithm": "HS256", "key": run.config["client"]["secret"], "payload": { "iss": "me" }, "iat_now": true,
        "placement": { "placeholder": own },
    });
    assert_eq!(bearer(run.send(&more).await), "200 Bearer access-1");
    let asked = process.source.asked.lock().unwrap()[0].clone();
    let assertion = asked.strip_prefix("grant_type=jwt&assertion=").unwrap();
    assert_eq!(assertion.split('.').count(), 3);
    // The same account in another run, with other placeholders.
    let other = process.run(None, |_| {});
    more["request"]["jwt"]["key"] = other.config["client"]["secret"].clone();
    assert_eq!(bearer(other.send(&more).await), "200 Bearer access-1");
}

/// Keeps settings as a database would, and every step that it was asked for.
#[derive(Default)]
struct Kept {
    stored: Mutex<BTreeMap<String, String>>,
    steps: Mutex<Vec<String>>,
    failures: AtomicUsize,
}

const SETTING: &str = "credentials.refresh_token";

impl Kept {
    fn with(value: &str) -> Arc<Self> {
        let stored = BTreeMap::from([(SETTING.to_owned(), value.to_owned())]);
        Arc::new(Self { stored: Mutex::new(stored), ..Self::default() })
    }

    fn steps(&self) -> Vec<String> {
        std::mem::take(&mut self.steps.lock().unwrap())
    }
}

#[async_trait]
impl TokenKeeper for Kept {
    async fn claim(&self, settings: &[&str], _: Duration) -> Result<BTreeMap<String, SecretString>, Failure> {
        self.steps.lock().unwrap().push(format!("claim {}", settings.len()));
        Ok(self.stored.lock().unwrap().iter().map(|(name, value)| (name.clone(), value.clone().into())).collect())
    }

    async fn keep(
        &self,
        setting: &str,
        spent: &SecretString,
        renewed: &BTreeMap<String, SecretString>,
    ) -> Result<(), Failure> {
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(Failure::new(ErrorKind::Transient, "the database is away"));
        }
        assert_eq!(setting, SETTING);
        let renewed: BTreeMap<String, String> =
            renewed.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
        self.steps.lock().unwrap().push(format!("keep {renewed:?} for {}", spent.expose_secret()));
        self.stored.lock().unwrap().extend(renewed);
        Ok(())
    }

    async fn release(&self, _: &str) {
        self.steps.lock().unwrap().push("release".into());
    }
}

fn single_use() -> Value {
    json!({ "refresh": { "path": ["refresh_token"], "setting": SETTING,
        "access_setting": "credentials.access_token", "expiry_setting": "credentials.expires_at" } })
}

fn with_refresh() -> Value {
    json!({ "client": { "secret": "s3cr&t" }, "credentials": { "refresh_token": "refresh-0" } })
}

#[tokio::test]
async fn a_refresh_token_that_was_spent_is_replaced_before_the_access_token_is_used() {
    let process = Process::new(Source::default(), with_refresh()).await;
    let kept = Kept::with("refresh-0");
    let (first, second) = (process.run(Some(kept.clone()), |_| {}), process.run(Some(kept.clone()), |_| {}));
    let more = single_use();
    assert_eq!(bearer(first.send(&more).await), "200 Bearer access-1");
    let changed = r#"{"credentials.access_token": "access-1", "credentials.expires_at": "2023-11-14T22:23:20Z", "credentials.refresh_token": "refresh-1"}"#;
    assert_eq!(kept.steps(), ["claim 3".to_owned(), format!("keep {changed} for refresh-0")]);
    // The other run began before, and has the spent one still.
    assert_eq!(bearer(second.send(&more).await), "200 Bearer access-1");
    *process.seconds.lock().unwrap() += 601;
    assert_eq!(bearer(second.send(&more).await), "200 Bearer access-2");
    assert_eq!(
        *process.source.asked.lock().unwrap(),
        ["secret=s3cr%26t&refresh=refresh-0", "secret=s3cr%26t&refresh=refresh-1"]
    );
    assert_eq!(first.secrets.scrub("refresh-1"), "***");
    assert_eq!(bearer(first.send(&more).await), "200 Bearer access-2");
}

#[tokio::test]
async fn a_refresh_token_that_another_process_spent_is_not_spent_again() {
    let process = Process::new(Source { lenient: true, ..Source::default() }, with_refresh()).await;
    let kept = Kept::with("refresh-0");
    let run = process.run(Some(kept.clone()), |_| {});
    // The other process stored what it got.
    kept.stored.lock().unwrap().extend([
        (SETTING.to_owned(), "refresh-7".to_owned()),
        ("credentials.access_token".to_owned(), "access-7".to_owned()),
        ("credentials.expires_at".to_owned(), "2023-11-14T22:20:00Z".to_owned()),
    ]);
    assert_eq!(bearer(run.send(&single_use()).await), "200 Bearer access-7");
    assert_eq!((process.asked(), kept.steps()), (0, vec!["claim 3".to_owned(), "release".to_owned()]));
    *process.seconds.lock().unwrap() += 601;
    assert_eq!(bearer(run.send(&single_use()).await), "200 Bearer access-1");
    assert_eq!(*process.source.asked.lock().unwrap(), ["secret=s3cr%26t&refresh=refresh-7"]);
    // A token that the operator gave anew begins anew.
    let mut process = process;
    process.config["credentials"]["refresh_token"] = "by-hand".into();
    let kept = Kept::with("by-hand");
    let run = process.run(Some(kept), |_| {});
    assert_eq!(bearer(run.send(&single_use()).await), "200 Bearer access-2");
    assert_eq!(process.source.asked.lock().unwrap()[1], "secret=s3cr%26t&refresh=by-hand");
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_used_and_not_lost() {
    let process = Process::new(Source { lenient: true, ..Source::default() }, with_refresh()).await;
    let kept = Kept::with("refresh-0");
    kept.failures.store(6, Ordering::SeqCst);
    let run = process.run(Some(kept.clone()), |_| {});
    let error = run.send(&single_use()).await.unwrap_err();
    let expected =
        "there is no access token from api.test: its renewed refresh token cannot be stored: the database is away";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Transient, expected));
    // The next request stores it first, and spends nothing.
    assert_eq!(bearer(run.send(&single_use()).await), "200 Bearer access-1");
    assert_eq!(process.asked(), 1);
    assert!(kept.steps().last().unwrap().ends_with("for refresh-0"));
    let error = process.run(None, |parts| parts.run = RunServices::new("x", None)).send(&single_use()).await;
    assert!(
        error.unwrap_err().to_string().contains("which only a stored connection can keep (credentials.refresh_token)")
    );
}

#[tokio::test]
async fn a_guest_that_ends_does_not_lose_a_spent_refresh_token() {
    let process = Process::new(Source::default(), with_refresh()).await;
    let kept = Kept::with("refresh-0");
    let run = process.run(Some(kept.clone()), |_| {});
    let ended = tokio::time::timeout(Duration::from_millis(30), run.send(&single_use())).await;
    assert!(ended.is_err() && process.asked() == 1);
    drop(run);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(kept.stored.lock().unwrap()[SETTING], "refresh-1");
    // Another run of the process goes on from there.
    let run = process.run(Some(kept.clone()), |_| {});
    assert_eq!(bearer(run.send(&single_use()).await), "200 Bearer access-1");
}
