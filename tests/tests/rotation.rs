//! The host key changes while the server works: no sync fails, nothing that was hashed changes, and the old keys end
//! when nothing needs them.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use thimble_fixtures::files::{FileServer, set_modified};

use crate::{harness::Installation, served::Served};

const CONNECTIONS: [&str; 3] = ["c", "d", "e"];

/// A file for each connection: one that is touched between another's plan and its read would fail that read.
fn write(folder: &std::path::Path) {
    let rows: String = (0..200).map(|n| format!("{{\"id\":{n},\"mail\":\"u{n}@example.org\"}}\n")).collect();
    for name in CONNECTIONS {
        std::fs::write(folder.join(format!("{name}.jsonl")), &rows).unwrap();
    }
}

/// Lets time pass for the key file: its newest key was added long ago.
fn age(installation: &Installation) {
    let file = installation.data().join("host.key");
    let text = std::fs::read_to_string(&file).unwrap();
    let year = text.find(" added 20").unwrap() + " added ".len();
    let aged = format!("{}2020{}", &text[..year], &text[year + 4..]);
    std::fs::write(&file, aged).unwrap();
}

fn digests(installation: &Installation) -> BTreeSet<String> {
    installation.rows("s").iter().map(|row| row["mail"].as_str().unwrap().to_owned()).collect()
}

/// Old keys stay as long as something may need them.
fn old_keys_retire(installation: &Installation, server: &Served) {
    // Too early; then nothing needs them any more.
    let (status, told) = server.json("POST", "/api/v1/keys/retire", &json!({}));
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("seconds"), "{told}");
    assert!(installation.fails(&["key", "rotate", "--retire"], 5).contains("still needed"));
    age(installation);
    let retired = installation.json(&["key", "rotate", "--retire"]);
    assert_eq!(retired["older"], json!([]));
    for name in CONNECTIONS {
        assert_eq!(server.run(name, "sync")["status"], "succeeded");
    }
    let (status, _) = server.json("GET", "/api/v1/tokens", &Value::Null);
    assert_eq!(status, 200, "the token still opens the API");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_key_rotates_under_load_and_nothing_fails() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let source = FileServer::start(folder.path(), 0).await.unwrap();
    let installation = Installation::new(json!({}), json!({"limits": {"workers": {"runs": 4}}}));
    installation.install("files");
    let server = Served::start(&installation, "info");
    let put = |name: &str, secret: &str| {
        let config = json!({"streams": [{"name": "s", "urls": [source.url(&format!("{name}.jsonl"))]}],
            "s3": {"access_key_id": "k", "secret_access_key": secret}});
        let streams = json!([{"stream": "s", "hash": ["mail"]}]);
        let spec = json!({"plugin": "files", "config": config, "streams": streams});
        server.json("PUT", &format!("/api/v1/connections/{name}"), &spec)
    };
    for name in CONNECTIONS {
        let (status, told) = put(name, "planted-one");
        assert_eq!(status, 201, "{told}");
    }
    let grants = json!({"grants": [source.host()]});
    assert!(server.json("PUT", "/api/v1/plugins/files/grants", &grants).0 < 300);
    assert_eq!(server.run("c", "sync")["status"], "succeeded");
    let before = digests(&installation);
    assert_eq!(before.len(), 200);
    let (done, syncs, failed) = (AtomicBool::new(false), AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for name in CONNECTIONS {
            let (server, done, syncs, failed, folder) = (&server, &done, &syncs, &failed, folder.path());
            scope.spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::SeqCst) {
                    round += 1;
                    // Changed files are read again, so that there is something to stage.
                    let _ = set_modified(&folder.join(format!("{name}.jsonl")), 1_900_000_000 + round);
                    let run = server.run(name, "sync");
                    syncs.fetch_add(1, Ordering::SeqCst);
                    if run["status"] != "succeeded" {
                        failed.lock().unwrap().push(run);
                    }
                }
            });
        }
        for turn in 0..6 {
            if turn % 2 == 0 {
                installation.json(&["key", "rotate"]);
            } else {
                let (status, told) = server.json("POST", "/api/v1/keys/rotate", &json!({}));
                assert_eq!((status, &told["unopenable"]), (200, &json!([])), "{told}");
            }
            let (status, told) = put(CONNECTIONS[turn % 3], &format!("planted-{turn}"));
            assert_eq!(status, 200, "{told}");
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        done.store(true, Ordering::SeqCst);
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {syncs:?} syncs failed: {}", failed.len(), failed[0]);
    assert!(syncs.into_inner() >= 10);
    let (_, keys) = server.json("GET", "/api/v1/keys", &Value::Null);
    assert_eq!(keys["older"].as_array().unwrap().len(), 6, "{keys}");

    old_keys_retire(&installation, &server);
    let log = server.stop();
    assert!(!log.contains("cannot be opened"), "{log}");

    // After a new start as well, and equal values are hashed as before.
    let server = Served::start(&installation, "info");
    assert_eq!(server.run("c", "sync")["status"], "succeeded");
    assert_eq!(digests(&installation), before);
    server.stop();
}
