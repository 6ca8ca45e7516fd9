//! The worst input of each kind gets one clear sentence; good records are kept and nothing is lost silently.

use std::io::Write;

use serde_json::json;
use thimble_fixtures::files::FileServer;

use crate::harness::{Installation, component};

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// Rows that must arrive.
    rows: usize,
    /// Reason codes of rejected records, with a part of the message.
    rejected: &'static [(&'static str, &'static str)],
    /// What a failing run must say; `None`: it succeeds.
    error: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let mut cut = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    cut.write_all(&b"id,v\n1,a\n2,b\n3,c\n".repeat(20_000)).unwrap();
    let mut cut = cut.finish().unwrap();
    cut.truncate(cut.len() / 2);
    let long = format!("id,v\n1,a\n2,{}\n3,c\n", "x".repeat(30 * 1024 * 1024)).into_bytes();
    let changes: String =
        (0..20_000).map(|i| if i == 15_000 { format!("{i},oops\n") } else { format!("{i},{i}\n") }).collect();
    vec![
        Case {
            name: "fields.csv",
            bytes: b"id,v\n1,a\n2,b,c\n3,d\n".to_vec(),
            rows: 2,
            rejected: &[("too-many-fields", "fields.csv:3")],
            error: None,
        },
        Case {
            name: "utf8.csv",
            bytes: b"id,v\n1,a\n2,\xff\xfe\n3,c\n".to_vec(),
            rows: 2,
            rejected: &[("invalid-utf8", "utf8.csv:3")],
            error: None,
        },
        Case { name: "long.csv", bytes: long, rows: 2, rejected: &[("record-too-large", "long.csv:3")], error: None },
        Case {
            name: "changes.csv",
            bytes: format!("id,v\n{changes}").into_bytes(),
            rows: 20_000,
            rejected: &[],
            error: None,
        },
        Case { name: "empty.csv", bytes: Vec::new(), rows: 0, rejected: &[], error: None },
        Case {
            name: "lines.jsonl",
            bytes: b"{\"id\":1}\n{\"id\":\nnot json\n{\"id\":2}\n".to_vec(),
            rows: 2,
            rejected: &[("invalid-json", "lines.jsonl:2"), ("invalid-json", "lines.jsonl:3")],
            error: None,
        },
        Case { name: "cut.csv.gz", bytes: cut, rows: 1, rejected: &[], error: Some("cut.csv.gz") },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_rejected_by_file_and_line_and_the_rest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    for Case { name, bytes, rows, rejected, error } in cases() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let thimble = Installation::files(json!([{"name": "s", "urls": [server.url(name)]}]));
        let output = thimble.run(&["sync", "c"]);
        let said = crate::harness::text(&output);
        match error {
            None => assert!(output.status.success(), "{name}: {said}"),
            Some(part) => {
                assert!(!output.status.success(), "{name}: it must fail");
                assert!(said.contains(part), "{name}: {said}");
            }
        }
        let arrived = thimble.rows("s").len();
        if error.is_none() {
            assert_eq!(arrived, rows, "{name}: {said}");
        } else {
            assert!(arrived >= rows, "{name}: what was whole must be kept: {said}");
        }
        let found = if rejected.is_empty() { Vec::new() } else { thimble.rejected() };
        assert_eq!(found.len(), rejected.len(), "{name}: {found:?}");
        for (reason, part) in rejected {
            let hit =
                found.iter().any(|row| row["reason"] == *reason && row["message"].as_str().unwrap().contains(part));
            assert!(hit, "{name}: {reason} {part} is not among {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_type_keeps_its_text_beside_the_column() {
    // The odd value lies behind what discovery samples.
    let folder = tempfile::tempdir().unwrap();
    let text: String =
        (0..200_000).map(|i| if i == 150_000 { format!("{i},oops\n") } else { format!("{i},{i}\n") }).collect();
    std::fs::write(folder.path().join("a.csv"), format!("id,v\n{text}")).unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "s", "urls": [server.url("a.csv")]}]));
    thimble.json(&["sync", "c"]);
    let rows = thimble.rows("s");
    let odd = rows.iter().find(|row| row["id"] == 150_000).unwrap();
    assert_eq!(odd["v__text"], "oops");
    assert_eq!(rows.iter().filter(|row| row["v"].as_i64() == row["id"].as_i64()).count(), 199_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_names_the_host_and_the_command() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "id\n1\n").unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let connections =
        json!({"c": {"plugin": "files", "config": {"streams": [{"name": "s", "urls": [server.url("a.csv")]}]}}});
    let thimble = Installation::new(connections, json!({}));
    let installed = thimble.run(&["plugin", "install", component("files").to_str().unwrap()]);
    assert!(installed.status.success(), "{}", crate::harness::text(&installed));
    let said = thimble.fails(&["sync", "c"], 3);
    assert!(said.contains(&server.host()), "{said}");
    assert!(said.contains(&format!("thimble plugin grant files {}", server.host())), "{said}");
    assert_eq!(server.requests(), Vec::<String>::new(), "nothing reached the server");
    thimble.json(&["plugin", "grant", "files", &server.host()]);
    thimble.json(&["sync", "c"]);
    assert_eq!(thimble.rows("s").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_urls_and_names_are_said_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let absent = Installation::files(json!([{"name": "s", "urls": [server.url("absent.csv")]}]));
    let said = absent.fails(&["sync", "c"], 2);
    assert!(said.contains("absent.csv") && said.contains("404"), "{said}");
    let closed = Installation::files(json!([{"name": "s", "urls": ["http://127.0.0.1:1/a.csv"]}]));
    let said = closed.fails(&["check", "c"], 6);
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(closed.fails(&["sync", "nowhere"], 4).contains("nowhere"));

    closed.configure(json!({}), json!({"lisen": "127.0.0.1:1"}));
    let said = closed.fails(&["runs", "list"], 2);
    assert!(said.contains("lisen") && said.contains("listen"), "{said}");
    closed.configure(json!({"c": {"plugin": "files", "config": {"streems": []}}}), json!({}));
    let said = closed.fails(&["check", "c"], 2);
    assert!(said.contains("streems"), "{said}");
}
