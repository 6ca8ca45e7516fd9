//! What the operator chose for a stream is what the destination holds: dispositions, nesting, contracts, hidden columns,
//! thresholds, replays, backfills, rewinds. On a real PostgreSQL, through the real binary.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use thimble_fixtures::files::{FileServer, set_modified};

use crate::{
    crash::bed::Database,
    harness::{Installation, last_json, text},
};

/// One connection `c` that loads the files of a folder into PostgreSQL.
struct World {
    folder: TempDir,
    server: FileServer,
    database: Database,
    thimble: Installation,
    files: u64,
}

impl World {
    /// `selection` are the settings of the stream `s`.
    async fn new(name: &str, selection: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = FileServer::start(folder.path(), 0).await.unwrap();
        let database = Database::shared(name).await;
        let thimble = Installation::new(json!({}), json!({}));
        let world = Self { folder, server, database, thimble, files: 0 };
        world.configure(selection);
        world.thimble.install("files");
        world
    }

    fn configure(&self, mut selection: Value) {
        selection["stream"] = "s".into();
        let connection = json!({
            "plugin": "files",
            "config": {"streams": [{"name": "s", "urls": [self.server.url("*.jsonl")]}]},
            "destination": "warehouse",
            "streams": [selection],
        });
        let destination = self.database.destination(self.database.server.address());
        let settings = json!({"destinations": {"warehouse": destination}, "limits": {"workers": {"partitions": 1}}});
        self.thimble.configure(json!({"c": connection}), settings);
    }

    fn write(&mut self, name: &str, records: &[&str]) {
        write(self.folder.path(), name, records, self.files);
        self.files += 1;
    }

    fn sync(&self) -> Value {
        self.thimble.json(&["sync", "c"])
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.database.server.query(&self.database.name, sql).await.unwrap()
    }

    /// Rows as text, columns joined by `|`, null as `-`.
    async fn lines(&self, sql: &str) -> Vec<String> {
        let cell = |cell: Option<String>| cell.unwrap_or_else(|| "-".into());
        let line = |row: Vec<Option<String>>| row.into_iter().map(cell).collect::<Vec<_>>().join("|");
        self.rows(sql).await.into_iter().map(line).collect()
    }
}

fn write(folder: &Path, name: &str, records: &[&str], at: u64) {
    let path = folder.join(name);
    std::fs::write(&path, records.join("\n") + "\n").unwrap();
    set_modified(&path, 1_700_000_000 + at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_become_columns_and_arrays_subtables_which_follow_their_record() {
    let mut world = World::new("flatten", json!({"mode": "upsert", "key": ["id"], "nested": "flatten"})).await;
    world.write(
        "1.jsonl",
        &[
            r#"{"id":1,"user":{"name":"a","address":{"city":"x"}},"items":[{"sku":"p","parts":[1,2]},{"sku":"q","parts":[]}]}"#,
            r#"{"id":2,"user":{"name":"b"},"items":[{"sku":"r","parts":[3]}]}"#,
        ],
    );
    let summary = world.sync();
    assert_eq!(summary["streams"]["s__items"]["emitted"], 3);
    assert_eq!(summary["streams"]["s__items__parts"]["emitted"], 3);
    let users = "select id, user__name, user__address__city from c.s order by id";
    assert_eq!(world.lines(users).await, ["1|a|x", "2|b|-"]);
    let items = "select _thimble_root_key_id, _thimble_level_0_id, sku from c.s__items order by 1, 2";
    assert_eq!(world.lines(items).await, ["1|0|p", "1|1|q", "2|0|r"]);
    let parts = "select _thimble_root_key_id, _thimble_level_0_id, _thimble_level_1_id, value from c.s__items__parts order by 1, 2, 3";
    assert_eq!(world.lines(parts).await, ["1|0|0|1", "1|0|1|2", "2|0|0|3"]);
    // A newer version of a record takes its rows along, also where its arrays are empty now.
    world.write("2.jsonl", &[r#"{"id":1,"user":{"name":"c"},"items":[]}"#, r#"{"id":3,"items":[{"sku":"t"}]}"#]);
    world.sync();
    assert_eq!(world.lines(users).await, ["1|c|-", "2|b|-", "3|-|-"]);
    assert_eq!(world.lines(items).await, ["2|0|r", "3|0|t"]);
    assert_eq!(world.lines(parts).await, ["2|0|0|3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_columns_never_leave_extraction() {
    const SECRETS: [&str; 4] = ["planted-mail@example.org", "planted-pin-4711", "planted-note", "planted-deep"];
    let selection = json!({
        "columns": ["id", "email", "pin", "user"], "key": ["id"], "mode": "upsert",
        "hash": ["email"], "mask": ["pin", "user__ssn"], "nested": "flatten", "rename": {"email": "mail_digest"},
    });
    let mut world = World::new("hidden", selection).await;
    let record = |id: &str| {
        let [mail, pin, note, deep] = SECRETS;
        format!(r#"{{"id":{id},"email":"{mail}","pin":"{pin}","note":"{note}","user":{{"ssn":"{deep}","name":"n"}}}}"#)
    };
    // The second has no key, so that its raw record is kept among the rejected ones.
    world.write("1.jsonl", &[&record("1"), &record("null")]);
    let summary = world.sync();
    assert_eq!((&summary["records"], &summary["rejected"]), (&json!(1), &json!(1)));
    let rows = world.lines("select id, length(mail_digest), pin, user__ssn, user__name from c.s").await;
    assert_eq!(rows, ["1|64|***|***|n"]);
    let rejected = world.lines("select reason, raw from c._thimble_rejected").await;
    assert!(rejected[0].starts_with("incomplete-key|{\"id\":null,\"email\":\""), "{rejected:?}");
    let mut search = std::process::Command::new("grep");
    let found = search.arg("-rlE").arg(SECRETS.join("|")).arg(world.thimble.data()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", text(&found));
    for secret in SECRETS {
        assert!(!rejected[0].contains(secret), "{secret}");
    }
    // A replay hashes nothing twice.
    let digest = world.lines("select mail_digest from c.s").await;
    world.configure(json!({
        "columns": ["id", "email", "pin", "user"], "key": ["email"], "mode": "upsert",
        "hash": ["email"], "mask": ["pin", "user__ssn"], "nested": "flatten", "rename": {"email": "mail_digest"},
    }));
    let replayed = world.thimble.json(&["replay", "c"]);
    assert_eq!(replayed["replay"], json!({"replayed": 1, "rejected": 0, "skipped": 0}), "{replayed}");
    assert_eq!(world.lines("select mail_digest from c.s").await, digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_holds_from_the_second_run_on() {
    for (contract, rows, filtered) in
        [("evolve", 4, 0), ("discard-row", 2, 2), ("discard-value", 4, 0), ("freeze", 1, 0)]
    {
        let name = format!("contract_{}", contract.replace('-', "_"));
        let mut world = World::new(&name, json!({"contract": contract})).await;
        world.write("1.jsonl", &[r#"{"id":1,"n":1}"#]);
        world.sync();
        world.write("2.jsonl", &[r#"{"id":2,"n":2}"#, r#"{"id":3,"n":3,"extra":"x"}"#, r#"{"id":4,"n":"text"}"#]);
        if contract == "freeze" {
            let told = world.thimble.fails(&["sync", "c"], 2);
            assert!(told.contains("stream s") && told.contains("extra"), "{told}");
        } else {
            let summary = world.sync();
            assert_eq!(summary["streams"]["s"]["filtered"], filtered, "{contract}: {summary}");
        }
        let columns = world.lines("select count(*) from information_schema.columns where table_schema = 'c' and table_name = 's' and column_name in ('extra', 'n__text')").await;
        assert_eq!(columns, [if contract == "evolve" { "2" } else { "0" }], "{contract}");
        assert_eq!(world.lines("select count(*) from c.s").await, [rows.to_string()], "{contract}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejected_records_fail_the_run_before_they_are_loaded() {
    let bad = r#"{"id":null}"#;
    let selection = |max: Value| json!({"mode": "upsert", "key": ["id"], "max_rejected": max});
    let mut world = World::new("thresholds", selection(json!({"records": 2}))).await;
    world.write("1.jsonl", &[r#"{"id":1}"#, bad, bad, bad]);
    let told = world.thimble.fails(&["sync", "c"], 2);
    assert!(told.contains("`max_rejected.records` allows 2") && told.contains("incomplete-key"), "{told}");
    world.configure(selection(json!({"percent": 50.0})));
    let told = world.thimble.fails(&["sync", "c"], 2);
    assert!(told.contains("3 of 4 records were rejected, but `max_rejected.percent` allows 50"), "{told}");
    world.configure(selection(json!({"percent": 75.0})));
    let summary = world.sync();
    assert_eq!((&summary["records"], &summary["rejected"]), (&json!(1), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_are_replayed_in_their_place() {
    let selection = |rename: Value| json!({"mode": "upsert", "key": ["id"], "rename": rename});
    let mut world = World::new("replay", selection(json!({"a": "b"}))).await;
    world.write("1.jsonl", &[r#"{"id":1,"a":"one"}"#]);
    world.sync();
    // `b` is the name of `a` now, so that a field `b` has no place.
    world.write("2.jsonl", &[r#"{"id":2,"b":"old"}"#, r#"{"id":3,"b":"three"}"#]);
    world.sync();
    world.write("3.jsonl", &[r#"{"id":2,"a":"new"}"#]);
    world.sync();
    let listed = last_json(&world.thimble.run(&["rejects", "c", "--output", "json"]));
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[0]["reason"], "name-collision");
    let again = world.thimble.json(&["replay", "c"]);
    assert_eq!(again["replay"], json!({"replayed": 0, "rejected": 2, "skipped": 0}));
    world.configure(selection(json!({"a": "c"})));
    let replayed = world.thimble.json(&["replay", "c"]);
    assert_eq!(replayed["replay"], json!({"replayed": 2, "rejected": 0, "skipped": 0}));
    // The record of 2 that came later stays; that of 3 was not there.
    let rows = world.lines("select id, b from c.s order by id").await;
    assert_eq!(rows, ["1|one", "2|new", "3|three"]);
    assert_eq!(world.thimble.json(&["rejects", "c"]), json!([]));
    let nothing = world.thimble.json(&["replay", "c"]);
    assert_eq!(nothing["replay"], json!({"replayed": 0, "rejected": 0, "skipped": 0}));
    assert_eq!(world.lines("select count(*) from c._thimble_rejected where replayed_at is not null").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_tells_what_is_gone_and_what_came_back() {
    let selection = |deletes: &str| json!({"method": "full-table", "mode": "upsert", "key": ["id"], "infer_deletes": true, "deletes": deletes});
    let mut world = World::new("inferred", selection("soft")).await;
    world.write("1.jsonl", &[r#"{"id":1,"v":"a"}"#, r#"{"id":2,"v":"b"}"#, r#"{"id":3,"v":"c"}"#]);
    world.sync();
    world.write("1.jsonl", &[r#"{"id":1,"v":"a2"}"#, r#"{"id":3,"v":"c"}"#]);
    world.sync();
    let rows = "select id, v, _thimble_deleted_at is not null from c.s order by id";
    assert_eq!(world.lines(rows).await, ["1|a2|f", "2|b|t", "3|c|f"]);
    world.write("1.jsonl", &[r#"{"id":2,"v":"back"}"#, r#"{"id":3,"v":"c"}"#]);
    world.sync();
    assert_eq!(world.lines(rows).await, ["1|a2|t", "2|back|f", "3|c|f"]);
    world.configure(selection("hard"));
    world.write("1.jsonl", &[r#"{"id":3,"v":"c"}"#]);
    world.sync();
    assert_eq!(world.lines("select id, v from c.s order by id").await.last().unwrap(), "3|c");
    assert_eq!(world.lines("select count(*) from c.s where id = 2").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_keeps_every_version() {
    let selection = json!({"method": "full-table", "mode": "history", "key": ["id"], "infer_deletes": true});
    let mut world = World::new("history", selection).await;
    world.write("1.jsonl", &[r#"{"id":1,"v":"a"}"#, r#"{"id":2,"v":"b"}"#]);
    world.sync();
    world.write("1.jsonl", &[r#"{"id":1,"v":"a2"}"#, r#"{"id":2,"v":"b"}"#]);
    world.sync();
    let versions = "select id, v, _thimble_current, _thimble_valid_to is null from c.s order by id, _thimble_sequence";
    assert_eq!(world.lines(versions).await, ["1|a|f|f", "1|a2|t|t", "2|b|t|t"]);
    let gapless = "select count(*) from c.s old join c.s new on old.id = new.id and old._thimble_valid_to = new._thimble_valid_from";
    assert_eq!(world.lines(gapless).await, ["1"]);
    world.write("1.jsonl", &[r#"{"id":2,"v":"b"}"#]);
    world.sync();
    assert_eq!(world.lines(versions).await, ["1|a|f|f", "1|a2|f|f", "2|b|t|t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_leaves_the_live_position_alone() {
    let mut world = World::new("backfill", json!({})).await;
    world.write("1.jsonl", &[r#"{"id":1}"#]);
    world.sync();
    let before = world.thimble.json(&["state", "show", "c"]);
    let older = tempfile::tempdir().unwrap();
    write(older.path(), "0.jsonl", &[r#"{"id":-1}"#, r#"{"id":-2}"#], 0);
    let server = FileServer::start(older.path(), 0).await.unwrap();
    let host = server.url("");
    let host = host.trim_start_matches("http://").trim_end_matches('/');
    let grant = world.thimble.run(&["plugin", "grant", "files", host]);
    assert!(grant.status.success(), "{}", text(&grant));
    let streams = json!([{"name": "s", "urls": [server.url("*.jsonl")]}]);
    let set = format!("streams={streams}");
    let summary = world.thimble.json(&["backfill", "c", "older", "--stream", "s", "--set", &set]);
    assert_eq!(summary["records"], 2, "{summary}");
    assert_eq!(world.lines("select id from c.s order by id").await, ["-2", "-1", "1"]);
    assert_eq!(world.thimble.json(&["state", "show", "c"]), before);
    assert_eq!(world.sync()["records"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_stream_is_read_again_from_there() {
    let mut world = World::new("rewind", json!({"mode": "upsert", "key": ["id"]})).await;
    world.write("1.jsonl", &[r#"{"id":1}"#]);
    world.sync();
    world.write("2.jsonl", &[r#"{"id":2}"#]);
    world.sync();
    let history = world.thimble.json(&["state", "history", "c"]);
    assert_eq!(history.as_array().unwrap().len(), 2, "{history}");
    world.thimble.json(&["state", "rewind", "c", "--batch", "1"]);
    let summary = world.sync();
    assert_eq!((&summary["records"], &summary["streams"]["s"]["merged"]), (&json!(1), &json!(1)));
    assert_eq!(world.lines("select id from c.s order by id").await, ["1", "2"]);
    let told = world.thimble.fails(&["state", "rewind", "c", "--batch", "99"], 4);
    assert!(told.contains("no position of a batch 99"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_the_host_have_stitch_names_where_that_is_asked() {
    let selection = json!({"mode": "upsert", "key": ["id"], "system_columns": "sdc", "nested": "flatten"});
    let mut world = World::new("sdc", selection).await;
    world.write("1.jsonl", &[r#"{"id":1,"tags":["a"]}"#]);
    let summary = world.sync();
    let columns = "select string_agg(column_name, ' ' order by column_name) from information_schema.columns where table_schema = 'c' and table_name = 's'";
    assert_eq!(
        world.lines(columns).await,
        ["_sdc_batch _sdc_batched_at _sdc_extracted_at _sdc_received_at _sdc_sequence id"]
    );
    assert_eq!(world.lines("select _sdc_source_key_id, _sdc_level_0_id, value from c.s__tags").await, ["1|0|a"]);
    // The figures of a run add up, with a checksum that three steps agreed upon.
    let figures = &summary["streams"]["s"];
    assert_eq!((&figures["emitted"], &figures["loaded"]), (&json!(1), &json!(1)));
    assert_ne!(figures["checksum"], "0000000000000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_may_hold_back_checkpoints_for_so_many_bytes_only() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<String> = (0..10_000).map(|id| format!("{{\"id\":{id}}}")).collect();
    std::fs::write(folder.path().join("1.jsonl"), records.join("\n")).unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let streams = json!([{"name": "s", "urls": [server.url("*.jsonl")]}]);
    let connections = json!({"c": {"plugin": "files", "config": {"streams": streams}}});
    let thimble = Installation::new(json!({}), json!({}));
    for (most, exit) in [("10KiB", 1), ("16MiB", 0)] {
        thimble.configure(connections.clone(), json!({"limits": {"batch": {"max_uncheckpointed": most}}}));
        if exit == 1 {
            thimble.install("files");
        }
        let output = thimble.run(&["sync", "c"]);
        assert_eq!(output.status.success(), exit == 0, "{}", text(&output));
        let told = text(&output).contains("without a checkpoint; `limits.batch.max_uncheckpointed` allows 10240");
        assert_eq!(told, exit == 1, "{}", text(&output));
    }
    assert_eq!(thimble.rows("s").len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_that_cannot_work_are_told_before_anything_is_read() {
    let mut world = World::new("choices", json!({"mode": "upsert"})).await;
    world.write("1.jsonl", &[r#"{"id":1,"other":2}"#]);
    let cases = [
        (json!({"mode": "upsert"}), "stream s: its mode needs a key"),
        (json!({"mode": "replace", "method": "incremental"}), "needs the replication method full-table"),
        (json!({"infer_deletes": true}), "`infer_deletes` needs"),
        (json!({"rename": {"a": "x", "b": "x"}}), "is the new name of another field"),
        (json!({"rename": {"other": "id"}}), "would become one column"),
    ];
    for (selection, expected) in cases {
        world.configure(selection);
        let told = world.thimble.fails(&["sync", "c"], 2);
        assert!(told.contains(expected), "{told}");
    }
    assert!(world.lines("select 1 from pg_tables where schemaname = 'c' and tablename = 's'").await.is_empty());
}
