//! Another version of a plugin is tried on a recorded sync: told what it would do differently, with nothing loaded.
//!
//! The versions are the bench's connector with words exchanged in its data, which is a component as good as the first.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thimble_fixtures::pages::PageServer;

use crate::{
    harness::{Installation, component, text},
    served::Served,
};

const RECORDS: u64 = 300;

/// The component with some words exchanged by others of the same length.
fn version(folder: &Path, name: &str, words: &[(&str, &str)]) -> PathBuf {
    let mut wasm = std::fs::read(component("bench")).unwrap();
    for (from, to) in words {
        assert_eq!(from.len(), to.len());
        let mut met = 0;
        for at in 0..wasm.len() - from.len() {
            if wasm[at..].starts_with(from.as_bytes()) {
                wasm[at..at + to.len()].copy_from_slice(to.as_bytes());
                met += 1;
            }
        }
        assert!(met > 0, "the component does not hold {from:?}");
    }
    let file = folder.join(name);
    std::fs::write(&file, wasm).unwrap();
    file
}

/// An installation that has synced twice: the first sync found all, the second none of the issues.
async fn synced(limits: Value) -> (Installation, PageServer, String) {
    let server = PageServer::start(RECORDS, 100, 0).await.unwrap();
    let streams = json!([{"stream": "issues"}, {"stream": "rows_json"}]);
    let config = json!({"url": server.url(), "rows": 500});
    let connections = json!({"c": {"plugin": "bench", "config": config, "streams": streams}});
    let thimble = Installation::new(connections, json!({"limits": {"canary": limits}}));
    thimble.install("bench");
    let first = thimble.json(&["sync", "c"])["run"].as_str().unwrap().to_owned();
    thimble.json(&["sync", "c"]);
    (thimble, server, first)
}

fn keep(thimble: &Installation, file: &Path) -> String {
    let kept = thimble.json(&["plugin", "install", file.to_str().unwrap(), "--candidate"]);
    assert_eq!(kept["activated"], "candidate", "{kept}");
    kept["plugin"]["digest"].as_str().unwrap().to_owned()
}

/// (exit code, report)
fn canary(thimble: &Installation, digest: &str, more: &[&str]) -> (Option<i32>, Value) {
    let args = ["plugin", "canary", "bench", &digest[..12], "--connection", "c", "--output", "json"];
    let output = thimble.run(&[&args, more].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code(), report)
}

fn sentences(report: &Value) -> Vec<&str> {
    report["sentences"].as_array().unwrap().iter().map(|sentence| sentence.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_compared_with_what_a_sync_read_and_nothing_moves() {
    let (thimble, _server, first) = synced(json!({})).await;
    let before = (thimble.json(&["state", "show", "c"]), thimble.rows("issues").len());

    let alike = version(thimble.folder.path(), "alike.wasm", &[("Generates rows", "Generates ROWS")]);
    let alike = keep(&thimble, &alike);
    let (code, report) = canary(&thimble, &alike, &["--run", &first]);
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("same")), "{report}");
    assert_eq!(sentences(&report), ["the same as was recorded: 2 streams, 800 records"]);
    assert_eq!(report["streams"]["issues"]["now"]["records"], RECORDS, "read from before the first sync");
    let (_, report) = canary(&thimble, &alike, &[]);
    assert_eq!(report["streams"]["issues"]["now"]["records"], 0, "the last sync found nothing new");

    let words = [("closed_at", "cancel_at"), ("\"note\":\"a note-", "\"memo\":\"a note-")];
    let other = keep(&thimble, &version(thimble.folder.path(), "other.wasm", &words));
    let (code, report) = canary(&thimble, &other, &["--run", &first]);
    assert_eq!((code, &report["verdict"]), (Some(1), &json!("differs")), "{report}");
    let told = [
        "stream issues: field `closed_at` is gone",
        "stream issues: field `cancel_at` is new",
        "stream rows_json: field `memo` is new",
        "stream rows_json: no record held a value in `note`, which the stream does not declare",
    ];
    assert_eq!(sentences(&report), told);

    let broken = keep(&thimble, &version(thimble.folder.path(), "broken.wasm", &[("/issues", "/nobody")]));
    let (code, report) = canary(&thimble, &broken, &["--run", &first]);
    assert_eq!((code, &report["verdict"]), (Some(1), &json!("failed")), "{report}");
    assert!(sentences(&report)[0].starts_with("stream issues cannot be read: "), "{report}");
    assert_eq!(report["streams"]["rows_json"]["now"]["records"], 500, "the other stream was read");

    assert_eq!((thimble.json(&["state", "show", "c"]), thimble.rows("issues").len()), before);
    let inspected = thimble.json(&["plugin", "inspect", "bench"]);
    assert!(![alike, other, broken].iter().any(|digest| inspected["plugin"]["digest"] == **digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_ends_at_its_limits() {
    for (limits, told) in [
        (json!({"max_records": 150}), "stream issues was read up to 150 records; its records are not compared"),
        (json!({"max_bytes": "100KiB"}), "stream issues was read up to 102400 bytes; its records are not compared"),
    ] {
        let (thimble, _server, first) = synced(limits).await;
        let alike = version(thimble.folder.path(), "alike.wasm", &[("Generates rows", "Generates ROWS")]);
        let (code, report) = canary(&thimble, &keep(&thimble, &alike), &["--run", &first]);
        assert_eq!((code, &report["verdict"]), (Some(0), &json!("same")), "{report}");
        assert_eq!(sentences(&report)[0], told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_answers_is_left_when_the_time_is_up() {
    let (thimble, _server, first) = synced(json!({})).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = json!({"url": format!("http://{}", silent.local_addr().unwrap()), "rows": 500});
    let streams = json!([{"stream": "issues"}, {"stream": "rows_json"}]);
    let connections = json!({"c": {"plugin": "bench", "config": config, "streams": streams}});
    thimble.configure(connections, json!({"limits": {"canary": {"max_time": "4s"}}}));
    let alike = version(thimble.folder.path(), "alike.wasm", &[("Generates rows", "Generates ROWS")]);
    let alike = keep(&thimble, &alike);
    let started = std::time::Instant::now();
    let (_, report) = canary(&thimble, &alike, &["--run", &first]);
    assert!(started.elapsed() < std::time::Duration::from_secs(30), "{report}");
    let told = "stream issues was read up to its share of 4 seconds; its records are not compared";
    assert_eq!(sentences(&report)[0], told, "{report}");
    assert_eq!(report["streams"]["rows_json"]["now"]["records"], 500, "the other stream was read");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_queues_a_canary_and_refuses_what_cannot_be_compared() {
    let (thimble, _server, first) = synced(json!({})).await;
    let alike = version(thimble.folder.path(), "alike.wasm", &[("Generates rows", "Generates ROWS")]);
    let served = Served::start(&thimble, "warn");
    let wasm = std::fs::read(alike).unwrap();
    let (status, run) = served.ask("POST", "/api/v1/plugins?activate=never", &served.token, "application/wasm", &wasm);
    assert_eq!(status, 202, "{run}");
    let run = served.finished(&serde_json::from_str(&run).unwrap());
    let digest = run["report"]["answer"]["digest"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned();
    let path = format!("/api/v1/plugins/bench/versions/{digest}/canary");

    let (status, run) = served.json("POST", &path, &json!({"connection": "c", "run": first}));
    assert_eq!(status, 202, "{run}");
    let run = served.finished(&run);
    assert_eq!((&run["kind"], &run["status"]), (&json!("canary"), &json!("succeeded")), "{run}");
    assert_eq!(run["report"]["answer"]["verdict"], "same", "{run}");
    assert_eq!(run["report"]["answer"]["recorded"], *first);

    let (status, told) = served.json("POST", &path, &json!({"connection": "c", "run": run["id"]}));
    assert_eq!(status, 409, "{told}");
    assert!(told["detail"].as_str().unwrap().contains("name a sync of connection c"), "{told}");
    let other = path.replace(&digest, &"0".repeat(64));
    assert_eq!(served.json("POST", &other, &json!({"connection": "c"})).0, 404);
    assert_eq!(served.json("POST", &path, &json!({"connection": "nobody"})).0, 404);
}
