//! Every shell command and the configuration of the README, as they stand there.

use std::process::{Command, Stdio};

use thimble_fixtures::{files::FileServer, postgres::PASSWORD};

use crate::{
    crash::bed::Database,
    harness::{root, text, thimble},
    notify::Receiver,
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
    std::os::unix::fs::symlink(root().join("plugins"), folder.path().join("plugins")).unwrap();
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
    assert!(ran >= 20, "only {ran} commands were found");
}

/// The operator's path: the block as one script, a real source and a real receiver of alerts. Then the source fails.
#[tokio::test(flavor = "multi_thread")]
async fn the_path_with_curl_leads_to_a_scheduled_sync_that_alerts_when_it_fails() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let [script] = blocks(&readme, "bash").try_into().unwrap();
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("airports.csv");
    std::fs::write(&file, "iata,name\nABC,Somewhere\nDEF,Elsewhere\n").unwrap();
    let server = FileServer::start(source.path(), 0).await.unwrap();
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    // Source and receiver of the test are this machine, which the configuration has to allow.
    std::fs::write(folder.path().join("thimble.yaml"), "network: {allow_private_networks: true}\n").unwrap();
    let built = thimble().ancestors().nth(2).unwrap().to_owned();
    std::fs::create_dir(folder.path().join("target")).unwrap();
    std::os::unix::fs::symlink(built.join("plugins"), folder.path().join("target/plugins")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source_url = server.url("").trim_end_matches('/').to_owned();
    let mut child = Command::new("bash")
        // The server is the script's child and ends with it, when its input is closed.
        .args(["-c", &format!("set -euo pipefail; trap 'kill %1' EXIT\n{script}\nread -r _ || true")])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(folder.path().join("said")).unwrap())
        .stderr(std::fs::File::create(folder.path().join("complained")).unwrap())
        .env("PATH", format!("{}:{}", thimble().parent().unwrap().display(), std::env::var("PATH").unwrap()))
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("SOURCE_HOST", source_url.trim_start_matches("http://"))
        .env("SOURCE", &source_url)
        .env("HOOK", format!("{}/on-call", receiver.url))
        .env_remove("THIMBLE_CONFIG")
        .spawn()
        .unwrap();
    let said = || {
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        format!("{}\n{}", read("said"), read("complained"))
    };
    wait_until(&mut child, "the script ends", &said, || said().contains("thimble_connection")).await;
    // One sync of the schedule came through before the source goes away.
    let loaded = || folder.path().join("thimble-data/lake/flights/airports").is_dir();
    wait_until(&mut child, "the scheduled sync", &said, loaded).await;
    std::fs::remove_file(&file).unwrap();
    let alerted = || receiver.of("/on-call").iter().any(|heard| heard.json().to_string().contains("flights"));
    wait_until(&mut child, "the alert", &said, alerted).await;
    drop(child.stdin.take());
    child.wait().unwrap();
}

async fn wait_until(
    child: &mut std::process::Child,
    what: &str,
    said: &dyn Fn() -> String,
    reached: impl Fn() -> bool,
) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !reached() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && std::time::Instant::now() < until, "{what}: {ended:?}\n{}", said());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
