//! A connector's author: the template builds and syncs as it is.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::harness::{Installation, text, thimble};
use serde_json::json;

#[test]
fn the_template_builds_and_syncs_unedited() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(thimble()).args(["new", "my-api"]).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let crate_folder = folder.path().join("my-api");
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("authors");
    let built = Command::new(thimble())
        .args(["build", crate_folder.to_str().unwrap()])
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built));

    let mut api = Command::new(thimble()).args(["demo-api", "--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(api.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .trim_end_matches(['/', '.', ','])
        .to_owned();
    let connections = json!({"c": {"plugin": "my-api", "config": {"url": url.trim_end_matches("/items")}}});
    let installation = Installation::new(connections, json!({}));
    let component = find_component(&crate_folder);
    let installed = installation.run(&["plugin", "install", component.to_str().unwrap(), "--grant"]);
    assert!(installed.status.success(), "{}", text(&installed));
    installation.json(&["sync", "c"]);
    assert_eq!(installation.rows("items").len(), 1_000);
    installation.json(&["sync", "c"]);
    assert_eq!(installation.rows("items").len(), 1_000, "the cursor was kept");
    api.kill().unwrap();
    api.wait().unwrap();
}

/// The one component below the crate's folder.
fn find_component(folder: &std::path::Path) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wasm") {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
