//! Schedules on real servers: two of them on one data folder, clients that all ask at once, and a machine that sleeps.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use thimble_fixtures::{
    files::FileServer,
    postgres::{Options, PASSWORD, Postgres},
};

use crate::{harness::Installation, serve::Server};

/// The shortest interval there is.
const EVERY: i64 = 10_000;

/// As many clients as there are threads, all at once; answers the status of each.
fn ask_at_once(servers: [&Server<'_>; 2], clients: usize) -> Vec<u16> {
    let barrier = std::sync::Barrier::new(clients);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let (server, barrier) = (servers[number % 2], &barrier);
                scope.spawn(move || {
                    let host = server.url.trim_start_matches("http://");
                    let mut stream = TcpStream::connect(host).unwrap();
                    let body = r#"{"kind": "sync"}"#;
                    let request = format!(
                        "POST /api/v1/connections/c/runs HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        server.token,
                        body.len()
                    );
                    barrier.wait();
                    stream.write_all(request.as_bytes()).unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    answer.split(' ').nth(1).unwrap().parse().unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// All pages of a list.
fn all(server: &Server<'_>, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = server.curl("GET", &format!("{path}&limit=500{cursor}"), &[]);
        assert_eq!(status, 200, "{page}");
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn signal(servers: [&Server<'_>; 2], name: &str) {
    for server in servers {
        assert!(Command::new("kill").args([name, &server.pid().to_string()]).status().unwrap().success());
    }
}

/// By slot, what became of it.
fn decided(server: &Server<'_>) -> BTreeMap<i64, Vec<String>> {
    let mut slots = BTreeMap::<i64, Vec<String>>::new();
    for run in all(server, "/api/v1/runs?connection=c").iter().filter(|run| run["trigger"] == "schedule") {
        slots.entry(run["slot"].as_i64().unwrap()).or_default().push(format!("run {}", run["id"]));
    }
    for event in all(server, "/api/v1/events?connection=c").iter().filter(|event| event["kind"] == "slot-skipped") {
        slots.entry(event["detail"]["slot"].as_i64().unwrap()).or_default().push(event["detail"].to_string());
    }
    slots
}

async fn source(folder: &TempDir) -> (FileServer, Value) {
    std::fs::write(folder.path().join("a.csv"), "id\n1\n2\n").unwrap();
    let source = FileServer::start(folder.path(), 0).await.unwrap();
    let streams = json!([{"name": "s", "urls": [source.url("a.csv")]}]);
    (source, streams)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_and_fifty_clients_one_starts_a_sync_and_no_slot_is_lost_or_repeated() {
    let folder = TempDir::new().unwrap();
    let (_source, streams) = source(&folder).await;
    prove(&Installation::files(streams));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_on_postgresql() {
    let (folder, places) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (_source, streams) = source(&folder).await;
    let postgres = Postgres::start(Options::default()).await.unwrap();
    postgres.create_database("control").await.unwrap();
    let place = |name: &str| format!("file://{}/{name}", places.path().display());
    let extra = json!({
        "store": {"url": postgres.url("control"), "password": PASSWORD},
        "staging": {"url": place("staging")},
        "destination": {"lake": {"url": place("lake")}},
    });
    let installation = Installation::new(json!({"c": {"plugin": "files", "config": {"streams": streams}}}), extra);
    // A folder that is there is no copy of another one, whose control database would be a file.
    std::fs::create_dir(installation.data()).unwrap();
    installation.install("files");
    prove(&installation);
}

fn prove(installation: &Installation) {
    let servers = [Server::start(installation), Server::start(installation)];
    let both = [&servers[0], &servers[1]];
    let (_, connection) = servers[0].curl("GET", "/api/v1/connections/c", &[]);
    let body = json!({"plugin": "files", "config": connection["config"], "schedule": {"every": "10s"}});
    let (status, answer) = servers[0].json("PUT", "/api/v1/connections/c", &body);
    assert_eq!(status, 200, "{answer}");

    // Around several slots, with the schedule of both servers in between.
    let started = Instant::now();
    let mut accepted = 0;
    while started.elapsed() < Duration::from_secs(25) {
        let statuses = ask_at_once(both, 50);
        assert!(statuses.iter().all(|status| *status == 202 || *status == 409), "{statuses:?}");
        let (_, queued) = servers[0].curl("GET", "/api/v1/runs?connection=c&status=queued", &[]);
        let (_, running) = servers[1].curl("GET", "/api/v1/runs?connection=c&status=running", &[]);
        assert!(queued["items"].as_array().unwrap().len() <= 1, "{queued}");
        assert!(running["items"].as_array().unwrap().len() <= 1, "{running}");
        accepted += statuses.iter().filter(|status| **status == 202).count();
        thread::sleep(Duration::from_millis(700));
    }
    // A machine that sleeps for more than two slots.
    signal(both, "-STOP");
    thread::sleep(Duration::from_secs(25));
    signal(both, "-CONT");
    thread::sleep(Duration::from_secs(15));

    let runs = all(&servers[0], "/api/v1/runs?connection=c");
    let asked = runs.iter().filter(|run| run["trigger"] == "api").count();
    assert_eq!(asked, accepted, "what was accepted ran, and nothing else");
    assert!(accepted >= 5, "{accepted} accepted");
    let mut spans: Vec<_> =
        runs.iter().filter_map(|run| Some((run["started_at"].as_i64()?, run["finished_at"].as_i64()?))).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two at a time: {spans:?}");
    let slots = decided(&servers[1]);
    assert!(slots.values().all(|what| what.len() == 1), "a slot twice: {slots:#?}");
    let times: Vec<i64> = slots.keys().copied().collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == EVERY), "a slot lost: {slots:#?}");
    assert!(times.len() >= 6, "{slots:#?}");
    assert!(slots.values().flatten().any(|what| what.contains("missed")), "the sleep is told: {slots:#?}");
}
