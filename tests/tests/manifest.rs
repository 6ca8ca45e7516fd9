//! Manifests become plugins, and what a source said can be replayed.
//!
//! The component that runs manifests stands in for itself where its presence matters; elsewhere any connector does, as
//! the host never reads a manifest.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thimble_fixtures::files::FileServer;

use crate::{
    harness::{Installation, component, text},
    served::Served,
};

const MANIFEST: &str = "version: 6.48.0\ntype: DeclarativeSource\nstreams: []\n";

/// An installation whose manifests are run by the files connector, which does not know what they are.
fn installation(connections: Value) -> (Installation, PathBuf) {
    let installation = Installation::new(connections, json!({ "rest_component": component("files") }));
    let manifest = installation.folder.path().join("manifest.yaml");
    std::fs::write(&manifest, MANIFEST).unwrap();
    (installation, manifest)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The section is the file's end, so that what stands before it is the component as it was.
fn assert_packed(wasm: &[u8], preset: &str) {
    let plain = std::fs::read(component("files")).unwrap();
    assert!(wasm.starts_with(&plain) && wasm.ends_with(preset.as_bytes()));
    assert!(wasm.len() - plain.len() < preset.len() + 32);
}

#[test]
fn a_manifest_is_installed_as_a_component_of_its_own() {
    let (installation, manifest) = installation(json!({}));
    let installed = installation.json(&["plugin", "install", path(&manifest), "--grant"]);
    let digest = installed["plugin"]["digest"].as_str().unwrap();
    let wasm = std::fs::read(installation.data().join(format!("plugins/{digest}.wasm"))).unwrap();
    assert_packed(&wasm, MANIFEST);

    // Another manifest needs no compilation.
    std::fs::write(&manifest, format!("{MANIFEST}# changed\n")).unwrap();
    let again = installation.json(&["plugin", "install", path(&manifest)]);
    assert_ne!(again["plugin"]["digest"], installed["plugin"]["digest"]);
    assert_eq!(std::fs::read_dir(installation.data().join("plugins/cache")).unwrap().count(), 1);

    let out = installation.folder.path().join("packed.wasm");
    let packed = installation.json(&["manifest", "pack", path(&manifest), "--out", path(&out)]);
    assert_eq!(packed["digest"], again["plugin"]["digest"]);
    std::fs::write(&manifest, "just: text\n").unwrap();
    let refused = installation.fails(&["manifest", "pack", path(&manifest), "--out", path(&out)], 2);
    assert!(refused.contains("is no declarative manifest"), "{refused}");
}

#[test]
fn without_the_component_that_runs_it_a_manifest_is_refused_with_a_sentence() {
    let installation = Installation::new(json!({}), json!({ "rest_component": "/nonexistent/rest.wasm" }));
    let manifest = installation.folder.path().join("manifest.yaml");
    std::fs::write(&manifest, MANIFEST).unwrap();
    let refused = installation.fails(&["plugin", "install", path(&manifest)], 2);
    assert!(refused.contains("the component that runs manifests, /nonexistent/rest.wasm, cannot be read"), "{refused}");
}

#[test]
fn an_uploaded_manifest_is_packed_by_whoever_installs_it() {
    let (installation, _) = installation(json!({}));
    let server = Served::start(&installation, "warn");
    let upload = |body: &str| server.ask("POST", "/api/v1/plugins", &server.token, "application/yaml", body.as_bytes());
    let (status, run) = upload(MANIFEST);
    assert_eq!(status, 202, "{run}");
    let run = server.finished(&serde_json::from_str(&run).unwrap());
    assert_eq!(run["status"], "succeeded", "{run}");
    let digest = run["report"]["answer"]["digest"].as_str().unwrap();
    assert_packed(&std::fs::read(installation.data().join(format!("plugins/{digest}.wasm"))).unwrap(), MANIFEST);
    for other in ["hello, world", "{\"version\": 1}", ""] {
        let (status, problem) = upload(other);
        assert_eq!(status, 422, "{problem}");
    }
    let (status, problem) = upload(&format!("{MANIFEST}#{}", "x".repeat(4 << 20)));
    assert_eq!(status, 422, "{problem}");
}

#[test]
fn a_recorded_sync_comes_out_the_same_when_its_source_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..500).map(|n| format!("{{\"id\":{n},\"text\":\"row {n}\"}}\n")).collect();
    std::fs::write(folder.path().join("rows.jsonl"), lines).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = runtime.block_on(FileServer::start(folder.path(), 0)).unwrap();
    // The value of a secret setting stands in a URL, where no header hides it.
    let url = source.url("rows.jsonl?key=planted-secret-value");
    let config = |secret: &str| {
        json!({
            "streams": [{ "name": "rows", "urls": [url.replace("planted-secret-value", secret)] }],
            "s3": { "access_key_id": "k", "secret_access_key": secret },
        })
    };
    let make = |secret: &str| {
        let installation =
            Installation::new(json!({ "c": { "plugin": "files", "config": config(secret) } }), json!({}));
        installation.install("files");
        installation
    };
    let file = folder.path().join("recording.jsonl");
    let live = make("planted-secret-value");
    let output = live.run(&["sync", "c", "--record", path(&file)]);
    assert!(output.status.success(), "{}", text(&output));
    drop(runtime);
    let sorted = |installation: &Installation| {
        let mut rows: Vec<i64> = installation.rows("rows").iter().map(|row| row["id"].as_i64().unwrap()).collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(&live).len(), 500);
    let recording = std::fs::read_to_string(&file).unwrap();
    assert!(recording.contains("rows.jsonl?key=***") && !recording.contains("planted"), "{recording}");

    // Another value of the secret does as well: what was asked is compared without it.
    let replayed = make("another-secret-value");
    replayed.fails(&["sync", "c"], 6);
    let output = replayed.run(&["sync", "c", "--replay", path(&file)]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(sorted(&replayed), sorted(&live));
}
