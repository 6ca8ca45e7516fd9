//! The rules for Prometheus, by Prometheus' own tool.

use std::process::Command;

use crate::harness::{root, text};

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    let folder = root().join("host/control/alerts");
    for arguments in [["check", "rules", "thimble.rules.yml"], ["test", "rules", "thimble.rules.test.yml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(&folder).output();
        let output = output.expect("promtool is not installed: run tests/setup");
        assert!(output.status.success(), "{}", text(&output));
    }
    // A rule that no test names could say anything.
    let rules = std::fs::read_to_string(folder.join("thimble.rules.yml")).unwrap();
    let tests = std::fs::read_to_string(folder.join("thimble.rules.test.yml")).unwrap();
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} is not tested");
    }
}
