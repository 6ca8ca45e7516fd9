//! SIGKILL at any moment of a sync, then start again: the lake holds each record exactly once.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use thimble_fixtures::files::{FileServer, set_modified};

use crate::harness::{Installation, text};

const ROWS_PER_FILE: u64 = 4_000;
const FILES: u64 = 3;

/// The steps at which the host can be killed, in the order of the protocol; the host has the same list.
const FAILPOINTS: [&str; 12] = [
    "after-lease",
    "after-fence",
    "before-stage",
    "after-stage",
    "before-seal",
    "after-seal",
    "before-load",
    "after-load",
    "before-mirror",
    "after-mirror",
    "after-collect",
    "before-finish",
];

/// Small batches, so that a sync has many.
fn installation(server: &FileServer) -> Installation {
    let connections =
        json!({"c": {"plugin": "files", "config": {"streams": [{"name": "s", "urls": [server.url("*.jsonl")]}]}}});
    let thimble = Installation::new(connections, json!({"limits": {"batch": {"max_rows": 1_500}}}));
    thimble.install("files");
    thimble
}

fn write_files(folder: &Path, round: u64) {
    for file in 0..FILES {
        let number = round * FILES + file;
        let first = number * ROWS_PER_FILE;
        // Long lines: a checkpoint falls into the middle of each file.
        let pad = "x".repeat(1_500);
        let lines: String =
            (first..first + ROWS_PER_FILE).map(|id| format!("{{\"id\":{id},\"pad\":\"{pad}\"}}\n")).collect();
        let path = folder.join(format!("{number:06}.jsonl"));
        std::fs::write(&path, lines).unwrap();
        set_modified(&path, 1_700_000_000 + number).unwrap();
    }
}

fn assert_each_once(thimble: &Installation, rounds: u64, after: &str) {
    let mut seen = BTreeMap::new();
    for row in thimble.rows("s") {
        *seen.entry(row["id"].as_u64().unwrap()).or_insert(0_u32) += 1;
    }
    let expected = rounds * FILES * ROWS_PER_FILE;
    let lost = (0..expected).filter(|id| !seen.contains_key(id)).count();
    let doubled = seen.values().filter(|count| **count > 1).count();
    assert_eq!((lost, doubled, seen.len() as u64), (0, 0, expected), "after {after}: (lost, duplicated, distinct)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = installation(&server);
    let mut rounds = 0;
    for name in FAILPOINTS {
        for hit in [1, 3] {
            write_files(folder.path(), rounds);
            rounds += 1;
            let point = format!("{name}:{hit}");
            let killed = thimble.command(&["sync", "c", "--quiet"]).env("THIMBLE_FAILPOINT", &point).output().unwrap();
            let reached = !killed.status.success();
            assert!(reached || hit > 1, "{point} was never reached: {}", text(&killed));
            thimble.json(&["sync", "c"]);
            assert_each_once(&thimble, rounds, &point);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_and_double_nothing() {
    let kills: u32 = std::env::var("TORTURE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(50);
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = installation(&server);
    write_files(folder.path(), 0);
    let started = Instant::now();
    thimble.json(&["sync", "c"]);
    let whole = started.elapsed();
    let mut rounds = 1;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for kill in 0..kills {
        // Mostly new work; at times the rest of an interrupted run.
        if kill % 3 != 2 {
            write_files(folder.path(), rounds);
            rounds += 1;
        }
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let moment = whole.mul_f64((seed % 1_000) as f64 / 1_000.0);
        let mut child = thimble.spawn(&["sync", "c", "--quiet"]);
        std::thread::sleep(moment.max(Duration::from_millis(1)));
        child.kill().unwrap();
        child.wait().unwrap();
        if kill % 10 == 9 || kill + 1 == kills {
            thimble.json(&["sync", "c"]);
            assert_each_once(&thimble, rounds, &format!("kill {kill}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_full_refresh_shows_the_old_rows_until_the_new_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = installation(&server);
    write_files(folder.path(), 0);
    thimble.json(&["sync", "c"]);
    for name in ["after-stage", "after-seal", "after-load", "after-mirror"] {
        let point = format!("{name}:2");
        let killed = thimble
            .command(&["sync", "c", "--full-refresh", "--quiet"])
            .env("THIMBLE_FAILPOINT", &point)
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{point} was never reached: {}", text(&killed));
        assert_each_once(&thimble, 1, &format!("{point}, before the refresh ended"));
        // A plain sync ends an interrupted refresh too.
        if name == "after-seal" {
            thimble.json(&["sync", "c"]);
            assert_each_once(&thimble, 1, &format!("{point}, after a plain sync"));
            continue;
        }
        thimble.json(&["sync", "c", "--full-refresh"]);
        assert_each_once(&thimble, 1, &format!("{point}, after the refresh ended"));
    }
}
