//! Every shell command and the configuration of the README, as they stand there.

use std::process::{Command, Stdio};

use thimble_fixtures::{files::FileServer, postgres::PASSWORD};

use crate::{
    crash::bed::Database,
    harness::{root, text, thimble},
};

/// The fenced blocks of a language.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = readme;
    let fence = format!("```{language}\n");
    while let Some(start) = rest.find(&fence) {
        let body = &rest[start + fence.len()..];
        let end = body.find("```").unwrap();
        found.push(body[..end].to_owned());
        rest = &body[end + 3..];
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_work_as_they_stand() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("airports.csv"), "iata,name\nABC,Somewhere\nDEF,Elsewhere\n").unwrap();
    let database = Database::shared("readme").await;
    let server = FileServer::start(source.path(), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [config] = blocks(&readme, "yaml").try_into().unwrap();
    // The source of the test is this machine, which the configuration has to allow.
    std::fs::write(folder.path().join("thimble.yaml"), format!("network: {{allow_private_networks: true}}\n{config}"))
        .unwrap();
    let built = thimble().ancestors().nth(2).unwrap().to_owned();
    std::fs::create_dir(folder.path().join("target")).unwrap();
    std::os::unix::fs::symlink(built.join("plugins"), folder.path().join("target/plugins")).unwrap();
    let path = format!(
        "{}:{}:{}",
        thimble().parent().unwrap().display(),
        root().join("tests/tests/shims").display(),
        std::env::var("PATH").unwrap()
    );
    let mut ran = 0;
    for line in blocks(&readme, "sh").iter().flat_map(|block| block.lines()) {
        // `make demo` and `make test` are what runs this.
        if line.trim().is_empty() || line.starts_with("make ") {
            continue;
        }
        let output = Command::new("bash")
            .args(["-c", line])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .env("PATH", &path)
            .env("SOURCE", server.url("").trim_end_matches('/'))
            .env("WAREHOUSE", database.server.url(&database.name))
            .env("WAREHOUSE_PASSWORD", PASSWORD)
            .env("CARGO_TARGET_DIR", built.join("authors"))
            .env("READERS_PYTHON", root().join(".scratch/readers/bin/python"))
            .env_remove("THIMBLE_CONFIG")
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{}", text(&output));
        if line.starts_with("duckdb") {
            assert!(text(&output).contains('2'), "{}", text(&output));
        }
        ran += 1;
    }
    assert!(ran >= 17, "only {ran} commands were found");
}
