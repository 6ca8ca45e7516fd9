//! The command line of the real binary: help, output forms, exit codes.
#![allow(clippy::unwrap_used)]

mod binary;

use binary::Place;

#[test]
fn help_groups_commands_and_documents_exit_codes() {
    let help = Place::new().run(&["--help"]).expect(0).stdout;
    for part in
        ["Move data:", "Read data:", "Set up:", "Write connectors:", "Examples:", "Exit codes:", "  130  interrupted"]
    {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
    for command in ["sync", "check", "discover", "runs", "state", "tables", "read", "serve", "plugin", "connection"] {
        let line = help.lines().find(|line| line.starts_with(&format!("  {command} "))).unwrap();
        assert!(line.trim().len() > command.len() + 10, "{line}");
    }
    assert!(!help.contains("compile-plugin"));
}

#[test]
fn usage_errors_end_with_2() {
    let place = Place::new();
    assert!(place.run(&["frob"]).expect(2).stderr.contains("unrecognized subcommand"));
    assert!(place.run(&["snc"]).expect(2).stderr.contains("'sync'"));
    place.run(&["sync"]).expect(2);
    place.run(&["sync", "a", "--bogus"]).expect(2);
    place.run(&["runs", "--limit", "0"]).expect(2);
    place.run(&["version", "--output", "xml"]).expect(2);
    place.run(&["sync", "Not A Name"]).expect(2);
    place.run(&["version", "--log-level", "x"]).expect(0);
    assert!(place.run(&["serve", "--log-level", "a=b=c"]).expect(2).stderr.contains("log level"));
}

#[test]
fn completion_works_for_each_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&["completion", shell]).expect(0).stdout;
        assert!(script.contains("full-refresh"), "{shell}");
    }
    place.run(&["completion", "tcsh"]).expect(2);
}

#[test]
fn bash_accepts_its_completion() {
    let place = Place::new();
    let script = place.run(&["completion", "bash"]).expect(0).stdout;
    place.write("completion.bash", &script);
    let status = std::process::Command::new("bash").args(["-n", "completion.bash"]).current_dir(place.path()).status();
    assert!(status.unwrap().success());
}

#[test]
fn schema_is_printed_and_names_every_section() {
    let schema = Place::new().run(&["config", "schema", "--output", "json"]).expect(0).json();
    for key in ["data", "listen", "log", "api", "staging", "destination", "limits", "network", "connections"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Limits"]["properties"]["plugin"]["properties"]["memory_mib"]["default"], 256);
}

#[test]
fn version_is_one_document() {
    let place = Place::new();
    assert_eq!(place.run(&["version", "--output", "json"]).expect(0).json()["thimble"], env!("CARGO_PKG_VERSION"));
    assert!(place.run(&["version"]).expect(0).stdout.starts_with("thimble "));
}

#[test]
fn looking_makes_no_data_folder() {
    let place = Place::new();
    for arguments in
        [&["runs"][..], &["plugin", "list"], &["connection", "list"], &["tables", "c"], &["state", "show", "c"]]
    {
        let ended = place.run(arguments).expect(4);
        assert!(ended.stderr.contains("there is no data folder thimble-data"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint:"), "{}", ended.stderr);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn errors_are_a_document_for_programs() {
    let place = Place::new();
    let ended = place.run(&["runs", "--output", "json"]).expect(4);
    let error = &ended.json()["error"];
    assert_eq!(error["exit_code"], 4);
    assert_eq!(error["kind"], "not-found");
    assert!(error["message"].as_str().unwrap().contains("no data folder"));
}

#[test]
fn what_is_not_there_ends_with_4() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("thimble-data")).unwrap();
    for arguments in [
        &["plugin", "inspect", "nothing"][..],
        &["plugin", "remove", "nothing"],
        &["plugin", "grant", "nothing", "example.com"],
        &["connection", "show", "nothing"],
        &["connection", "delete", "nothing"],
        &["runs", "show", "nothing"],
        &["runs", "logs", "nothing"],
        &["state", "show", "nothing"],
        &["tables", "nothing"],
        &["read", "nothing", "stream"],
        &["sync", "nothing"],
        &["check", "nothing"],
        &["discover", "nothing"],
        &["plugin", "install", "absent.wasm"],
        &["build", "absent"],
    ] {
        let ended = place.run(arguments).expect(4);
        assert!(ended.stderr.starts_with("error: "), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn lists_are_empty_at_first() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("thimble-data")).unwrap();
    assert_eq!(place.run(&["runs", "-o", "json"]).expect(0).json()["runs"], serde_json::json!([]));
    assert_eq!(place.run(&["plugin", "list", "-o", "json"]).expect(0).json()["plugins"], serde_json::json!([]));
    assert_eq!(place.run(&["connection", "list", "-o", "json"]).expect(0).json()["connections"], serde_json::json!([]));
}

#[test]
fn what_is_no_component_is_refused() {
    let place = Place::new();
    place.write("text.wasm", "hello");
    let ended = place.run(&["plugin", "install", "text.wasm", "--grant"]);
    assert!(matches!(ended.code, 2 | 3), "{} {}", ended.code, ended.stderr);
    assert!(ended.stderr.contains("not a WebAssembly component"), "{}", ended.stderr);
    place.run(&["plugin", "list"]).expect(0);
}

#[test]
fn a_plugin_that_is_not_installed_is_named_with_the_remedy() {
    let place = Place::new();
    place.write("thimble.yaml", "connections:\n  c:\n    plugin: absent\n");
    let ended = place.run(&["sync", "c"]).expect(4);
    assert!(ended.stderr.contains("absent") && ended.stderr.contains("thimble plugin install"), "{}", ended.stderr);
}

#[test]
fn the_position_to_set_must_be_one() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("thimble-data")).unwrap();
    let ended = place.run_with_input(&["state", "set", "c", "-"], "[1, 2").expect(2);
    assert!(ended.stderr.contains("that is not a position"), "{}", ended.stderr);
    let misspelt = place.run_with_input(&["state", "set", "c", "--stream", "s", "-"], r#"{"complete": "7"}"#).expect(2);
    assert!(misspelt.stderr.contains("unknown key `complete`"), "{}", misspelt.stderr);
    place.run_with_input(&["state", "set", "c", "-"], "{}").expect(4);
}

#[test]
fn new_writes_a_crate_once() {
    let place = Place::new();
    let made = place.run(&["new", "my-api", "-o", "json"]).expect(0).json();
    assert!(made["files"].as_array().unwrap().iter().any(|file| file == "Cargo.toml"));
    let manifest = std::fs::read_to_string(place.path().join("my-api/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"my-api\""));
    assert!(place.run(&["new", "my-api"]).expect(5).stderr.contains("already there"));
    place.run(&["new", "my-api", "--dir", "elsewhere/deep"]).expect(0);
    assert!(place.path().join("elsewhere/deep/src/lib.rs").is_file());
    let long = "x".repeat(65);
    for name in ["Upper", "-x", "x-", "a_b", "", "1x", long.as_str()] {
        place.run(&["new", "--", name]).expect(2);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let place = Place::new();
    let mut child = place.command(&["config", "schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
