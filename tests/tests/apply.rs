//! Settings from files: planned, applied, changed and pruned on a real server; imports that it takes.

use serde_json::{Value, json};
use thimble_fixtures::files::FileServer;

use crate::{
    harness::{Installation, text},
    serve::Server,
};

fn apply(installation: &Installation, server: &Server<'_>, arguments: &[&str]) -> String {
    let url = server.url.clone();
    let mut all = vec!["apply", "-f", "wanted.yaml", "--server", &url];
    all.extend(arguments);
    let output = installation.command(&all).current_dir(installation.folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_planned_applied_and_pruned() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("a.jsonl"), "{\"id\": 1}\n").unwrap();
    let files = FileServer::start(source.path(), 0).await.unwrap();
    let installation = Installation::new(json!({}), json!({}));
    let component = crate::harness::component("files");
    installation.json(&["plugin", "install", component.to_str().unwrap()]);
    let server = Server::start(&installation);
    let wanted = |every: &str| {
        let config = json!({"streams": [{"name": "a", "urls": [files.url("a.jsonl")]}]});
        let document = json!({
            "grants": {"files": [files.url("").trim_start_matches("http://").trim_end_matches('/')]},
            "sources": {"here": {"plugin": "files", "config": config}},
            "connections": {"copied": {"source": "here", "schedule": {"every": every}}},
            "notifiers": {"told": {"kind": "webhook", "config": {"url": "http://127.0.0.1:9/x"}, "events": ["run-failed"]}},
        });
        std::fs::write(installation.folder.path().join("wanted.yaml"), document.to_string()).unwrap();
    };
    wanted("1h");
    let planned = apply(&installation, &server, &["--plan"]);
    assert!(planned.contains("+ source here") && planned.contains("3 to create"), "{planned}");
    assert_eq!(server.json("GET", "/api/v1/sources", &Value::Null).1["items"], json!([]), "a plan changes nothing");
    apply(&installation, &server, &["--yes"]);
    let again = apply(&installation, &server, &["--yes"]);
    assert!(again.contains("0 to create, 0 to change, 0 to delete"), "{again}");
    let (status, run) = server.json("POST", "/api/v1/connections/copied/runs", &json!({"kind": "sync"}));
    assert_eq!(status, 202, "{run}");
    assert_eq!(server.finished(&run)["status"], "succeeded");

    wanted("2h");
    let changed = apply(&installation, &server, &["--yes"]);
    assert!(changed.contains("schedule.every: \"1h\" -> \"2h\""), "{changed}");
    std::fs::write(installation.folder.path().join("wanted.yaml"), "sources: {}\n").unwrap();
    let kept = apply(&installation, &server, &["--yes"]);
    assert!(kept.contains("0 to delete"), "{kept}");
    let pruned = apply(&installation, &server, &["--prune", "--yes"]);
    assert!(pruned.contains("- connection copied") && pruned.contains("3 to delete"), "{pruned}");
    assert_eq!(server.json("GET", "/api/v1/connections", &Value::Null).1["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_a_file_that_can_be_planned() {
    let installation = Installation::new(json!({}), json!({}));
    let project = "plugins:\n  extractors:\n  - name: tap-files\n    config: {api_token: hunter2}\n\
                   schedules:\n- {name: s, extractor: tap-files, loader: target-x, interval: '@daily'}\n";
    std::fs::write(installation.folder.path().join("meltano.yml"), project).unwrap();
    let here = |arguments: &[&str]| {
        let mut command = installation.command(arguments);
        command.current_dir(installation.folder.path());
        command
    };
    let output = here(&["import", "meltano", "meltano.yml"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(!text(&output).contains("hunter2"));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["connections"]["tap-files"]["schedule"], json!({"cron": "0 0 * * *"}));
    std::fs::write(installation.folder.path().join("wanted.yaml"), output.stdout).unwrap();
    let server = Server::start(&installation);
    let url = server.url.clone();
    let arguments = ["apply", "-f", "wanted.yaml", "--plan", "--server", &url];
    let missing = here(&arguments).output().unwrap();
    assert!(text(&missing).contains("TAP_FILES_API_TOKEN"), "{}", text(&missing));
    let planned = here(&arguments).env("TAP_FILES_API_TOKEN", "x").output().unwrap();
    assert!(planned.status.success() && text(&planned).contains("+ source tap-files"), "{}", text(&planned));
}

#[test]
fn a_registry_folder_lists_what_was_checked() {
    let installation = Installation::new(json!({}), json!({}));
    let component = crate::harness::component("files");
    let component = component.to_str().unwrap();
    let registry = installation.folder.path().join("registry");
    let registry = registry.to_str().unwrap();
    let added = ["registry", "add", registry, component, "--publisher", "Example"];
    installation.json(&added);
    installation.json(&added);
    let found = installation.json(&["registry", "search", registry, "files"]);
    assert_eq!((&found[0]["name"], &found[0]["release"]["publisher"]), (&json!("files"), &json!("Example")));
    assert_eq!(found[0]["release"]["verified"], json!(["component", "imports", "spec"]));
    let broken = installation.folder.path().join("no.wasm");
    std::fs::write(&broken, "no").unwrap();
    assert!(
        !installation
            .command(&["registry", "add", registry, broken.to_str().unwrap()])
            .output()
            .unwrap()
            .status
            .success()
    );
}
