//! Manifests through the whole host: killed syncs lose and double nothing, and what is wrong with a manifest is a sentence.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thimble_fixtures::pages::PageServer;

use crate::harness::{Installation, component, root};

const RECORDS: u64 = 20_000;

fn installation(url: &str) -> Installation {
    let manifest = std::fs::read_to_string(root().join("tests/bench/peers/issues.yaml")).unwrap();
    let config = json!({"manifest": manifest, "config": {"url": url}, "hosts": [url]});
    let streams = json!([{"stream": "issues", "mode": "append"}]);
    let connection = json!({"plugin": "rest", "config": config, "streams": streams});
    let installation = Installation::new(json!({"c": connection}), json!({"limits": {"batch": {"max_rows": 3_000}}}));
    installation.install("rest");
    installation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sync_of_a_manifest_goes_on_at_its_page_and_doubles_nothing() {
    let server = PageServer::start(RECORDS, 1_000, 0).await.unwrap();
    let thimble = installation(&server.url());
    let mut killed = 0;
    for failpoint in ["before-seal:1", "after-seal:2", "after-load:1", "before-mirror:2", "after-stage:1"] {
        let sync = thimble.command(&["sync", "c"]).env("THIMBLE_FAILPOINT", failpoint).output().unwrap();
        killed += usize::from(!sync.status.success());
    }
    assert_eq!(killed, 5);
    thimble.json(&["sync", "c"]);
    let rows = thimble.rows("issues");
    let ids: BTreeSet<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!((rows.len() as u64, ids.len() as u64), (RECORDS, RECORDS));
}

#[test]
fn what_is_wrong_with_a_manifest_is_a_sentence_with_its_path() {
    let thimble = Installation::new(json!({}), json!({"rest_component": component("rest")}));
    let sound: Value = serde_json::from_str(
        r#"{"version": "6.0.0", "type": "DeclarativeSource", "check": {"type": "CheckStream", "stream_names": ["s"]},
            "streams": [{"type": "DeclarativeStream", "name": "s", "retriever": {"type": "SimpleRetriever",
                "requester": {"type": "HttpRequester", "url_base": "https://api.example.com", "path": "/s"},
                "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": []}}}}]}"#,
    )
    .unwrap();
    let bombed = (1..30).fold("version: 6.0.0\ntype: DeclarativeSource\na0: &a0 [x, x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)
    });
    let with = |pointer: &str, value: Value| {
        let mut manifest = sound.clone();
        *manifest.pointer_mut(pointer).unwrap() = value;
        manifest.to_string()
    };
    let requester = "/streams/0/retriever/requester";
    let custom = json!({"type": "CustomRequester", "class_name": "source_x.components.Signed"});
    let cases = [
        (with(&format!("{requester}/type"), json!("TelnetRequester")), "TelnetRequester"),
        (with(requester, custom), "source_x.components.Signed"),
        (with(&format!("{requester}/path"), json!("/{{ config['a' }}")), "streams[0].retriever.requester.path"),
        (with(requester, json!({"$ref": "#/streams/0/retriever"})), "$ref"),
        (bombed, "alias"),
        ("[1, 2]".to_owned(), "mapping"),
    ];
    let file = thimble.folder.path().join("manifest.yaml");
    for (manifest, said) in cases {
        std::fs::write(&file, manifest).unwrap();
        let output = thimble.run(&["manifest", "lint", file.to_str().unwrap()]);
        let told = crate::harness::text(&output);
        assert!(!output.status.success(), "{said}: {told}");
        assert!(told.contains(said), "{said}: {told}");
    }
    std::fs::write(&file, sound.to_string()).unwrap();
    assert!(thimble.run(&["manifest", "lint", file.to_str().unwrap()]).status.success());
}
