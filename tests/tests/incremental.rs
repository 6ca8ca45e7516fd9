//! A second run moves only what is new; a full refresh swaps; columns grow across runs.

use serde_json::{Value, json};
use thimble_fixtures::files::{FileServer, set_modified};

use crate::harness::Installation;

fn ids(thimble: &Installation, stream: &str) -> Vec<i64> {
    let mut ids: Vec<_> = thimble.rows(stream).iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_files_are_read_and_equal_times_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, seconds: u64| {
        std::fs::write(folder.path().join(name), text).unwrap();
        set_modified(&folder.path().join(name), seconds).unwrap();
    };
    put("a.csv", "id\n1\n", 1_700_000_000);
    put("b.csv", "id\n2\n", 1_700_000_100);
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "s", "urls": [server.url("*.csv")]}]));
    thimble.json(&["sync", "c"]);
    assert_eq!(ids(&thimble, "s"), [1, 2]);

    thimble.json(&["sync", "c"]);
    assert_eq!(ids(&thimble, "s"), [1, 2], "nothing new");

    // The same second as the newest file that was read: a plain comparison of times would lose it.
    put("c.csv", "id\n3\n", 1_700_000_100);
    put("d.csv", "id\n4\n", 1_700_000_200);
    thimble.json(&["sync", "c"]);
    assert_eq!(ids(&thimble, "s"), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_refresh_replaces_and_columns_grow() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jsonl");
    std::fs::write(&file, "{\"id\":1,\"v\":1}\n{\"id\":2,\"v\":2}\n").unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "s", "urls": [server.url("a.jsonl")]}]));
    thimble.json(&["sync", "c"]);

    std::fs::write(&file, "{\"id\":3,\"v\":0.5,\"new\":\"x\"}\n").unwrap();
    set_modified(&file, 1_900_000_000).unwrap();
    thimble.json(&["sync", "c"]);
    let mut rows = thimble.rows("s");
    rows.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(rows.iter().map(|row| row["v"].as_f64().unwrap()).collect::<Vec<_>>(), [1.0, 2.0, 0.5]);
    assert!(rows[0].get("new").is_none_or(Value::is_null));
    assert_eq!(rows[2]["new"], "x");

    thimble.json(&["sync", "c", "--full-refresh"]);
    assert_eq!(ids(&thimble, "s"), [3], "the old generation is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_breaks_in_the_middle_goes_on_from_its_checkpoint() {
    use thimble_fixtures::files::Fault;
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..120_000).map(|i| format!("{{\"id\":{i},\"pad\":\"{}\"}}\n", "x".repeat(100))).collect();
    std::fs::write(folder.path().join("big.jsonl"), lines).unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "s", "urls": [server.url("big.jsonl")]}]));
    thimble.json(&["discover", "c"]);
    server.fault("/big.jsonl", Fault::CutAfter { bytes: 9_000_000, times: 1 });
    thimble.json(&["sync", "c"]);
    assert_eq!(ids(&thimble, "s"), (0..120_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_can_be_shown_and_set_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "id\n1\n").unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "s", "urls": [server.url("a.csv")]}]));
    thimble.json(&["sync", "c"]);
    let state = thimble.json(&["state", "show", "c"]);
    assert!(state.to_string().contains("completed"), "{state}");
    let file = thimble.folder.path().join("state.json");
    std::fs::write(&file, r#"{"streams":{}}"#).unwrap();
    thimble.json(&["state", "set", "c", file.to_str().unwrap()]);
    thimble.json(&["sync", "c"]);
    assert_eq!(ids(&thimble, "s"), [1, 1], "the file was read again");
}
