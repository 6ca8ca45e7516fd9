//! From a failure to whoever is told of it: the real server, real receivers, and a verification of signatures that
//! shares no code with ours.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::{Value, json};
use thimble_fixtures::files::FileServer;

use crate::{
    harness::{Installation, root, text},
    serve::Server,
};

const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// From a failure to its arrival.
const SOON: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Heard {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    answered: u16,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// By Python's own HMAC, as a receiver would write it.
    fn is_genuine(&self) -> bool {
        let program = "import base64, hmac, sys; id, at, given, secret = sys.argv[1:]; \
            key = base64.b64decode(secret.removeprefix('whsec_')); \
            signed = b'.'.join([id.encode(), at.encode(), sys.stdin.buffer.read()]); \
            expected = 'v1,' + base64.b64encode(hmac.new(key, signed, 'sha256').digest()).decode(); \
            sys.exit(0 if hmac.compare_digest(expected, given) else 1)";
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| self.header(name));
        let mut child = Command::new("python3")
            .args(["-c", program])
            .args(headers)
            .arg(SIGNING_KEY)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&self.body).unwrap();
        child.wait().unwrap().success()
    }
}

/// A receiver that remembers everything. Under `/flaky` it is out of order at first.
pub struct Receiver {
    pub url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

const OUT_OF_ORDER: usize = 2;

impl Receiver {
    pub async fn start() -> Self {
        let heard = Arc::new(Mutex::new(Vec::<Heard>::new()));
        let take = |State(heard): State<Arc<Mutex<Vec<Heard>>>>, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let mut heard = heard.lock().unwrap();
            let path = uri.path().to_owned();
            let before = heard.iter().filter(|known| known.path == path).count();
            let answered = if path == "/flaky" && before < OUT_OF_ORDER { 503 } else { 200 };
            heard.push(Heard { path, headers, body, answered });
            StatusCode::from_u16(answered).unwrap()
        };
        let router = Router::new().fallback(take).with_state(heard.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, heard }
    }

    pub fn of(&self, path: &str) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| heard.path == path).cloned().collect()
    }

    /// Waits until so many messages came to a path.
    async fn wait(&self, path: &str, count: usize) -> Vec<Heard> {
        let until = Instant::now() + SOON;
        loop {
            let heard = self.of(path);
            if heard.len() >= count {
                return heard;
            }
            assert!(Instant::now() < until, "{path}: {} of {count} came", heard.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn notifier(server: &Server<'_>, name: &str, spec: &Value) {
    let (status, answer) = server.json("PUT", &format!("/api/v1/notifiers/{name}"), spec);
    assert_eq!(status, 201, "{answer}");
    assert!(!answer.to_string().contains("planted"), "{answer}");
}

fn sync(server: &Server<'_>) -> Value {
    let (status, run) = server.json("POST", "/api/v1/connections/c/runs", &json!({"kind": "sync"}));
    assert_eq!(status, 202, "{run}");
    server.finished(&run)
}

/// A notifier of every kind, one that waits, and one for another connection.
fn notify_everybody(server: &Server<'_>, receiver: &Receiver) {
    let at = |path: &str| format!("{}{path}", receiver.url);
    let webhook = json!({"url": at("/signed"), "secret": SIGNING_KEY, "headers": {"x-key": "planted-header"}});
    notifier(server, "signed", &json!({"kind": "webhook", "config": webhook}));
    notifier(server, "slack", &json!({"kind": "slack", "config": {"url": at("/slack/planted-path")}}));
    let pagerduty = json!({"url": at("/pagerduty"), "routing_key": "planted-key"});
    notifier(server, "pagerduty", &json!({"kind": "pagerduty", "config": pagerduty}));
    notifier(server, "flaky", &json!({"kind": "webhook", "config": {"url": at("/flaky")}, "events": ["run-failed"]}));
    notifier(server, "patient", &json!({"kind": "webhook", "config": {"url": at("/patient")}, "delay_ms": 3_600_000}));
    notifier(server, "other", &json!({"kind": "webhook", "config": {"url": at("/other")}, "connections": ["another"]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_its_end_reach_every_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let source = FileServer::start(folder.path(), 0).await.unwrap();
    let receiver = Receiver::start().await;
    let installation = Installation::files(json!([{"name": "s", "urls": [source.url("a.jsonl")]}]));
    let server = Server::start(&installation);
    notify_everybody(&server, &receiver);

    let run = sync(&server);
    assert_eq!(run["status"], "failed", "{run}");
    let began = Instant::now();
    let opened = receiver.wait("/signed", 1).await.remove(0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(opened.is_genuine());
    assert_eq!(opened.header("x-key"), "planted-header");
    let told = opened.json();
    assert_eq!((&told["type"], &told["data"]["kind"]), (&json!("alert.opened"), &json!("run-failed")));
    assert_eq!((&told["data"]["connection"], &told["data"]["run"]), (&json!("c"), &run["id"]));
    assert_eq!(told["data"]["failure"], run["failure"]);
    let slack = receiver.wait("/slack/planted-path", 1).await.remove(0).json();
    assert!(slack["blocks"][0]["text"]["text"].as_str().unwrap().contains("Run failed"), "{slack}");
    let trigger = receiver.wait("/pagerduty", 1).await.remove(0).json();
    assert_eq!((&trigger["event_action"], &trigger["routing_key"]), (&json!("trigger"), &json!("planted-key")));

    // It fails again: the alert is open already.
    assert_eq!(sync(&server)["status"], "failed");
    let (_, alerts) = server.curl("GET", "/api/v1/alerts?open=true", &[]);
    assert_eq!((alerts["items"].as_array().unwrap().len(), &alerts["items"][0]["times"]), (1, &json!(2)), "{alerts}");
    let id = alerts["items"][0]["id"].as_str().unwrap().to_owned();
    let (status, alert) = server.json("POST", &format!("/api/v1/alerts/{id}/acknowledge"), &json!({}));
    assert!(status == 200 && alert["acknowledged_by"].is_string(), "{alert}");

    std::fs::write(folder.path().join("a.jsonl"), "{\"id\":1}\n{\"id\":2}\n").unwrap();
    let run = sync(&server);
    assert_eq!(run["status"], "succeeded", "{run}");
    let resolved = receiver.wait("/signed", 2).await.remove(1);
    assert!(resolved.is_genuine());
    assert_eq!(resolved.json()["type"], "alert.resolved");
    assert_eq!(resolved.json()["data"]["dedup_key"], told["data"]["dedup_key"]);
    let resolve = receiver.wait("/pagerduty", 2).await.remove(1).json();
    assert_eq!((&resolve["event_action"], &resolve["dedup_key"]), (&json!("resolve"), &trigger["dedup_key"]));

    // The receiver that was out of order gets the beginning in the end, once, under one id, and the end after it.
    let flaky = receiver.wait("/flaky", OUT_OF_ORDER + 2).await;
    let ids: Vec<_> = flaky.iter().map(|heard| heard.header("webhook-id").to_owned()).collect();
    assert!(ids[..=OUT_OF_ORDER].iter().all(|id| *id == ids[0]) && ids[OUT_OF_ORDER + 1] != ids[0], "{ids:?}");
    let taken: Vec<_> =
        flaky.iter().filter(|heard| heard.answered == 200).map(|heard| heard.json()["type"].clone()).collect();
    assert_eq!(taken, [json!("alert.opened"), json!("alert.resolved")]);
    assert_eq!(receiver.of("/signed").len(), 2, "nothing twice");
    assert!(receiver.of("/patient").is_empty(), "it healed within the delay");
    assert!(receiver.of("/other").is_empty(), "another connection's");
    let (_, deliveries) = server.curl("GET", "/api/v1/notifiers/patient/deliveries", &[]);
    assert_eq!(deliveries["items"][0]["status"], "healed", "{deliveries}");
    let (_, events) = server.curl("GET", "/api/v1/events?connection=c", &[]);
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["run-recovered", "run-failed", "run-failed"], "{events}");
    let (_, shown) = server.curl("GET", "/api/v1/notifiers", &[]);
    assert!(!shown.to_string().contains("planted") && !shown.to_string().contains(SIGNING_KEY), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_told_what_was_loaded_in_the_shape_of_stitch() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), "{\"id\":1}\n{\"id\":2}\nno json\n").unwrap();
    let source = FileServer::start(folder.path(), 0).await.unwrap();
    let receiver = Receiver::start().await;
    let installation = Installation::files(json!([{"name": "s", "urls": [source.url("a.jsonl")]}]));
    let server = Server::start(&installation);
    let hook =
        json!({"url": format!("{}/hook", receiver.url), "secret": SIGNING_KEY, "headers": {"x-key": "planted-header"}});
    let (status, hooks) = server.json("PUT", "/api/v1/connections/c/hooks", &json!({"hooks": {"warehouse": hook}}));
    assert_eq!(status, 200, "{hooks}");
    assert_eq!(hooks["hooks"]["warehouse"]["secret"], json!({"$secret": true}));
    // Sent back with its marks, it keeps its secrets.
    let (status, hooks) = server.json("PUT", "/api/v1/connections/c/hooks", &hooks);
    assert_eq!(status, 200, "{hooks}");
    let run = sync(&server);
    assert_eq!(run["status"], "succeeded", "{run}");
    let told = receiver.wait("/hook", 1).await.remove(0);
    assert!(told.is_genuine() && told.header("x-key") == "planted-header");
    assert_eq!(told.header("user-agent"), "ThimbleLoadingWebhook");
    let body = told.json();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let expected = [
        "destination_root_table_name",
        "integration_name",
        "minimum_sdc_batched_at",
        "new_version",
        "source_root_table_name",
        "table_version",
        "tables",
        "version",
    ];
    assert_eq!(names(&body), expected);
    let expected = [
        "bookmark_metadata",
        "destination_table_name",
        "max_time_extracted",
        "num_rows",
        "num_rows_rejected",
        "primary_keys",
        "s3_objects",
        "source_table_name",
    ];
    assert_eq!(names(&body["tables"][0]), expected);
    assert_eq!((&body["integration_name"], &body["source_root_table_name"]), (&json!("c"), &json!("s")));
    let table = &body["tables"][0];
    assert_eq!((&table["num_rows"], &table["num_rows_rejected"]), (&json!(2), &json!(1)), "{table}");
    // A run that loads nothing tells nothing.
    assert_eq!(sync(&server)["status"], "succeeded");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receiver.of("/hook").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_prometheus_reads_and_tell_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), "{\"id\":1}\n{\"id\":2}\nno json\n").unwrap();
    let source = FileServer::start(folder.path(), 0).await.unwrap();
    let installation = Installation::files(json!([{"name": "s", "urls": [source.url("a.jsonl")]}]));
    let scrape = |server: &Server<'_>| {
        let output = Command::new("curl").args(["-sSf", &format!("{}/metrics", server.url)]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let checked = promtool.wait_with_output().unwrap();
        assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stderr));
        text
    };
    let value = |text: &str, series: &str| -> f64 {
        let line =
            text.lines().find(|line| line.starts_with(series) && line.as_bytes().get(series.len()) == Some(&b' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    const STREAM: &str = "{workspace=\"default\",connection=\"c\",stream=\"s\"}";
    const RUNS: &str = "thimble_runs_total{workspace=\"default\",connection=\"c\",status=\"succeeded\"}";
    {
        let server = Server::start(&installation);
        assert_eq!(sync(&server)["status"], "succeeded");
        let text = scrape(&server);
        assert_eq!(value(&text, &format!("thimble_stream_records_total{STREAM}")), 2.0);
        assert_eq!(value(&text, &format!("thimble_stream_rejected_total{STREAM}")), 1.0);
        assert!(value(&text, &format!("thimble_stream_freshness_seconds{STREAM}")) < 60.0);
        assert!(value(&text, "thimble_connection_freshness_seconds{workspace=\"default\",connection=\"c\"}") < 60.0);
        for kind in ["disk", "soon"] {
            assert!(
                value(&text, &format!("thimble_store_write_seconds_count{{durability=\"{kind}\"}}")) > 0.0,
                "{text}"
            );
            assert!(value(&text, &format!("thimble_store_write_wait_seconds_count{{durability=\"{kind}\"}}")) > 0.0);
        }
        assert_eq!(value(&text, RUNS), 1.0);
        assert_eq!(value(&text, "thimble_run_start_delay_seconds_count"), 1.0);
        assert!(value(&text, "thimble_plugin_calls_total{plugin=\"files\"}") >= 2.0);
        assert!(value(&text, "thimble_plugin_memory_peak_bytes{plugin=\"files\"}") > 65_536.0);
        assert!(value(&text, "thimble_plugin_cpu_seconds_total{plugin=\"files\"}") > 0.0);
        assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    }
    // What was moved in all survives the process.
    let server = Server::start(&installation);
    assert_eq!(sync(&server)["status"], "succeeded");
    let text = scrape(&server);
    assert_eq!(value(&text, &format!("thimble_stream_records_total{STREAM}")), 2.0);
    assert_eq!(value(&text, RUNS), 2.0);
    let (_, summary) = server.curl("GET", "/api/v1/connections/c/metrics", &[]);
    assert_eq!(
        (&summary["streams"][0]["records"], &summary["days"][0]["records"]),
        (&json!(2), &json!(2)),
        "{summary}"
    );
}

/// A mail server that insists on STARTTLS and a login, and prints each message that it takes as JSON.
const MAIL_SERVER: &str = r#"
import json, ssl, sys, threading
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
class Handler:
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None,
            "data": envelope.content.decode()}), flush=True)
        return "250 taken"
def login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"thimble" and data.password == b"planted-secret", handled=False)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
controller = Controller(Handler(), hostname="127.0.0.1", port=0, tls_context=context, require_starttls=True,
    auth_required=True, authenticator=login)
import socket
probe = socket.socket(); probe.bind(("127.0.0.1", 0)); controller.port = probe.getsockname()[1]; probe.close()
controller.start()
print(controller.port, flush=True)
threading.Event().wait()
"#;

/// A certificate for `localhost` that is its own authority.
fn certificate(folder: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=CA:FALSE",
        ])
        .args(["-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    (certificate, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_e_mail_is_handed_over_under_tls_to_a_server_that_wants_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let python = root().join(".scratch/readers/bin/python");
    assert!(python.exists(), "{} is missing: run `make readers`", python.display());
    let mut mailing = Command::new(python)
        .args(["-c", MAIL_SERVER, certificate.to_str().unwrap(), key.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(mailing.stdout.take().unwrap()).lines();
    let port: u16 = lines.next().unwrap().unwrap().parse().unwrap();
    let extra = json!({"network": {"allow_private_networks": true, "extra_ca_file": certificate}});
    let installation = Installation::new(json!({}), extra);
    let server = Server::start(&installation);
    let config = json!({
        "host": "localhost", "port": port, "user": "thimble", "password": "planted-secret", "from": "thimble@example.org",
        "to": ["ops@example.org", "data@example.org"],
    });
    notifier(&server, "mail", &json!({"kind": "email", "config": config}));
    let (_, tried) = server.json("POST", "/api/v1/notifiers/mail/test", &json!({}));
    assert_eq!(tried["delivered"], true, "{tried}");
    let taken: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&taken["tls"], &taken["from"]), (&json!(true), &json!("thimble@example.org")));
    assert_eq!(taken["to"], json!(["ops@example.org", "data@example.org"]));
    assert!(taken["data"].as_str().unwrap().contains("Subject: "), "{taken}");
    let wrong = json!({"kind": "email", "config": {
        "host": "localhost", "port": port, "user": "thimble", "password": "planted-wrong", "from": "a@example.org", "to": ["b@example.org"],
    }});
    server.json("PUT", "/api/v1/notifiers/wrong", &wrong);
    let (_, tried) = server.json("POST", "/api/v1/notifiers/wrong/test", &json!({}));
    assert_eq!(tried["delivered"], false);
    let told = tried["error"].as_str().unwrap();
    assert!(told.contains("refused the login") && !told.contains("planted"), "{told}");
    mailing.kill().unwrap();
    mailing.wait().unwrap();
}

#[test]
fn json_logs_name_run_connection_and_batch_on_every_line() {
    let installation = Installation::files(json!([{"name": "s", "urls": ["http://127.0.0.1:1/none"]}]));
    let config = installation.folder.path().join("thimble.yaml");
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    settings["log"] = json!({"level": "info", "format": "json"});
    std::fs::write(&config, settings.to_string()).unwrap();
    let output = installation.run(&["sync", "c"]);
    assert!(!output.status.success());
    let lines: Vec<Value> =
        String::from_utf8(output.stderr).unwrap().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ended = lines.iter().find(|line| line["message"] == "run ended").unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(
        (&ended["connection"], &ended["service"], &ended["span"]),
        (&json!("c"), &json!("thimble"), &json!("run"))
    );
    assert_eq!((&ended["level"], &ended["status"]), (&json!("info"), &json!("Failed")));
    assert_eq!(ended["run_id"].as_str().unwrap().len(), 26);
    for line in &lines {
        assert!(line.as_object().unwrap().values().all(|value| !value.is_object() && !value.is_array()), "{line}");
    }
}
