//! The configuration file as the binary reads it: each mistake gives one sentence with file, line and key.
#![allow(clippy::unwrap_used)]

mod binary;

use binary::Place;

/// The one line that `config check` says about `text`.
fn complaint(name: &str, text: &str) -> String {
    let place = Place::new();
    place.write(name, text);
    let ended = place.run(&["config", "check", "--config", name]).expect(2);
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    ended.stderr.trim_end().trim_start_matches("error: ").to_owned()
}

#[test]
fn mistakes_name_file_line_and_key() {
    let cases = [
        ("t.yaml", "# c\ndata: d\nlisen: 1\n", "unknown key `lisen` in t.yaml line 3; did you mean `listen`?"),
        ("t.toml", "[log]\nlevl = 'x'\n", "unknown key `levl` in t.toml line 2 (under `log`); did you mean `level`?"),
        (
            "t.yaml",
            "limits:\n  plugin:\n    memory_mb: 3\n",
            "unknown key `memory_mb` in t.yaml line 3 (under `limits.plugin`); did you mean `memory_mib`?",
        ),
        (
            "t.yaml",
            "connections:\n  a:\n    plugin: p\n    streams:\n      - name: s\n        methd: x\n",
            "unknown key `methd` in t.yaml line 6 (under `connections.a.streams.0`); did you mean `method`?",
        ),
        (
            "t.yaml",
            "connections:\n  a:\n    config: {}\n",
            "t.yaml line 3: `connections.a`: the key `plugin` is missing",
        ),
        (
            "t.yaml",
            "limits:\n  batch:\n    max_bytes: 64 parsecs\n",
            "t.yaml line 3: `limits.batch.max_bytes`: expected a size such as 64MiB, or a number of bytes, found string \"64 parsecs\"",
        ),
        (
            "t.yaml",
            "limits:\n  workers:\n    runs: 0\n",
            "t.yaml line 3: `limits.workers.runs`: must be between 1 and 1024",
        ),
        (
            "t.yaml",
            "limits:\n  workers:\n    runs: -1\n",
            "t.yaml line 3: `limits.workers.runs`: expected a whole number, 0 or more, found integer `-1`",
        ),
        (
            "t.yaml",
            "log:\n  format: jsn\n",
            "t.yaml line 2: `log.format`: expected one of text, json, found string \"jsn\"",
        ),
        (
            "t.yaml",
            "listen: nowhere\n",
            "t.yaml line 1: `listen`: expected an address and a port such as 127.0.0.1:8642 or [::1]:8642",
        ),
        ("t.yaml", "data: a\ndata: b\n", "t.yaml line 2: it is not valid YAML: duplicate mapping key: data"),
        (
            "t.yaml",
            "network:\n  allow_private_networks: [10.0.0.0/99]\n",
            "t.yaml line 2: `network.allow_private_networks`: the network setting `allow_private_networks` is wrong: the prefix of `10.0.0.0/99` is not a number from 0 to 32",
        ),
        ("t.yaml", "- a\n- b\n", "t.yaml line 1: expected a map of settings, found sequence"),
        (
            "t.yaml",
            "connections:\n  a:\n    plugin: p\n    config: [1]\n",
            "t.yaml line 4: `connections.a.config`: expected a map of settings",
        ),
        (
            "t.yaml",
            "qqqqqqqqqqqq: 1\n",
            "unknown key `qqqqqqqqqqqq` in t.yaml line 1; the keys known there are data, host_key_file, listen, log, telemetry, api, store, staging, destination, destinations, registry, rest_component, limits, network, connections",
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(complaint(name, text), expected, "for {text:?}");
    }
}

#[test]
fn syntax_errors_name_the_line() {
    assert!(complaint("t.yaml", "data: a\nlisten: [\n").starts_with("t.yaml line 2: it is not valid YAML: "));
    assert!(complaint("t.toml", "data = 'a'\nlisten = x\n").starts_with("t.toml line 2: it is not valid TOML: "));
    assert!(complaint("t.json", "{}").contains("must end in .yaml, .yml or .toml"));
}

#[test]
fn connection_names_and_streams_are_checked() {
    let named = complaint("t.yaml", "connections:\n  Bad Name:\n    plugin: p\n");
    assert!(
        named.starts_with("t.yaml line 2: `connections.Bad Name`: connection name \"Bad Name\" is not allowed"),
        "{named}"
    );
    let twice = "connections:\n  a:\n    plugin: p\n    streams:\n      - name: s\n      - name: s\n";
    assert!(complaint("t.yaml", twice).contains("the stream `s` is listed twice"));
}

#[test]
fn variables_are_expanded_in_text_only_and_missing_ones_are_named() {
    let place = Place::new();
    place.write(
        "thimble.yaml",
        "data: ${DIR:-fallback}/x\nlimits:\n  workers:\n    runs: ${RUNS}\nconnections:\n  a:\n    plugin: p\n    config:\n      price: $$5 and $6\n",
    );
    let missing = place.run(&["config", "check"]).expect(2);
    assert!(
        missing
            .stderr
            .contains("thimble.yaml line 4: `limits.workers.runs`: the environment variable `RUNS` is not set")
    );
    let set = place.run_with_env(&["config", "check", "-o", "json"], &[("RUNS", "7")]).expect(0);
    assert_eq!(set.json()["data"], "fallback/x");
    let empty = [("RUNS", "7"), ("DIR", "")];
    assert_eq!(place.run_with_env(&["config", "check", "-o", "json"], &empty).expect(0).json()["data"], "fallback/x");
    let given = [("RUNS", "7"), ("DIR", "given")];
    assert_eq!(place.run_with_env(&["config", "check", "-o", "json"], &given).expect(0).json()["data"], "given/x");
}

#[test]
fn values_from_the_environment_are_never_shown() {
    let place = Place::new();
    place.write("thimble.yaml", "limits:\n  workers:\n    runs: ${RUNS}\n");
    let ended = place.run_with_env(&["config", "check"], &[("RUNS", "hunter2")]).expect(2);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    assert!(ended.stderr.contains("found the value of an environment variable"), "{}", ended.stderr);
    place.write("thimble.yaml", "log:\n  format: ${FORMAT}\n");
    let ended = place.run_with_env(&["config", "check"], &[("FORMAT", "hunter2")]).expect(2);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    place.write("thimble.yaml", "listen: ${LISTEN}\n");
    let ended = place.run_with_env(&["config", "check"], &[("LISTEN", "hunter2")]).expect(2);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[test]
fn malformed_expressions_are_told() {
    assert!(complaint("t.yaml", "data: ${X\n").contains("a `${` is not closed"));
    assert!(complaint("t.yaml", "data: ${1X}\n").contains("`${1X}` is not a variable name"));
}

#[test]
fn both_languages_say_the_same() {
    let place = Place::new();
    place.write(
        "a.yaml",
        "data: d\nlimits:\n  batch:\n    max_bytes: 1MiB\n    max_age: 5s\nconnections:\n  c:\n    plugin: p\n",
    );
    place.write(
        "a.toml",
        "data = 'd'\n[limits.batch]\nmax_bytes = '1MiB'\nmax_age = '5s'\n[connections.c]\nplugin = 'p'\n",
    );
    let read = |file| {
        let mut document = place.run(&["config", "check", "-o", "json", "--config", file]).expect(0).json();
        document["file"] = serde_json::Value::Null;
        document
    };
    assert_eq!(read("a.yaml"), read("a.toml"));
}

#[test]
fn paths_count_from_the_file_and_options_outrank_it() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("etc")).unwrap();
    place.write("etc/t.yaml", "data: d\n");
    let data = |arguments: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&["config", "check", "-o", "json"], arguments].concat();
        place.run_with_env(&arguments, environment).expect(0).json()["data"].clone()
    };
    assert_eq!(data(&["--config", "etc/t.yaml"], &[]), "etc/d");
    assert_eq!(data(&[], &[("THIMBLE_CONFIG", "etc/t.yaml")]), "etc/d");
    assert_eq!(data(&["--config", "etc/t.yaml", "--data", "other"], &[]), "other");
    assert_eq!(data(&[], &[("THIMBLE_DATA", "env")]), "env");
    assert_eq!(data(&[], &[]), "thimble-data");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let place = Place::new();
    let absent = place.run(&["config", "check", "--config", "absent.yaml"]).expect(2);
    assert!(absent.stderr.contains("cannot read the configuration file absent.yaml"));
    place.write("big.yaml", &"# comment\n".repeat(500_000));
    let big = place.run(&["config", "check", "--config", "big.yaml"]).expect(2);
    assert!(big.stderr.contains("big.yaml is larger than 4194304 bytes"), "{}", big.stderr);
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(complaint("t.yaml", &text).starts_with("t.yaml"));
}

#[test]
fn an_empty_file_means_defaults() {
    let place = Place::new();
    place.write("thimble.yaml", "# nothing yet\n");
    assert_eq!(place.run(&["config", "check", "-o", "json"]).expect(0).json()["listen"], "127.0.0.1:8642");
    place.write("thimble.yaml", "limits:\nlog:\n");
    place.run(&["config", "check"]).expect(0);
}
