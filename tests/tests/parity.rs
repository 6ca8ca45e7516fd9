//! Manifests do the same here as in the reference: requests, records, states and errors. What the reference does is
//! remembered beside each case, so that it need not be installed; `make parity` runs it afresh.

use std::process::Command;

use crate::harness::{root, thimble};

#[test]
fn manifests_do_what_they_do_in_the_reference() {
    let command = format!("{} manifest try", thimble().display());
    let run = root().join("tests/parity/run.py");
    let own = std::fs::read_dir(root().join("tests/parity/cases")).unwrap();
    // Published manifests are downloaded for `make parity`, and never stored here.
    let names =
        own.map(|case| case.unwrap().file_name().into_string().unwrap()).filter(|name| !name.starts_with("pub_"));
    let names: Vec<String> = names.collect();
    assert!(names.len() >= 50, "{names:?}");
    let mut compare = Command::new("python3");
    compare.arg(run).args(["--ours", &command]);
    for name in &names {
        compare.args(["--only", name]);
    }
    let output = compare.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("DIFF") || line.starts_with("     ")).collect();
    assert!(output.status.success(), "{}\n{}", failed.join("\n"), String::from_utf8_lossy(&output.stderr));
}
