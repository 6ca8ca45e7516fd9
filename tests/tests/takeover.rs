//! Several processes on one PostgreSQL control database with shared staging and lake, as on several machines: a worker
//! that dies, sleeps or is stopped is replaced within seconds, and each row arrives exactly once.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use thimble_fixtures::{
    files::{FileServer, set_modified},
    objects::ObjectServer,
    postgres::{Options, PASSWORD, Postgres},
};

use crate::{
    crash::bed::signal,
    harness::{Installation, component, root, text},
    serve::Server,
};

/// The promise: from the death of a worker to the first progress of the next.
const TAKEOVER: Duration = Duration::from_secs(10);
/// For whatever should happen at all.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

const FILES: u64 = 24;
const ROWS_PER_FILE: u64 = 200;

/// What all processes share.
struct Fleet {
    postgres: Arc<Postgres>,
    settings: Value,
    _places: Places,
    source: TempDir,
    server: FileServer,
    rounds: u64,
}

/// Where staging and lake lie.
enum Places {
    Folder(TempDir),
    Objects(ObjectServer),
}

impl Places {
    fn place(&self, name: &str) -> Value {
        match self {
            Self::Folder(folder) => json!({"url": format!("file://{}/{name}", folder.path().display())}),
            Self::Objects(server) => server.place(name),
        }
    }
}

/// A worker with a data folder of its own.
struct Worker {
    place: Installation,
    child: Child,
    holder: String,
}

impl Fleet {
    /// And the installation with the API, whose plugin the workers do not have yet.
    async fn new() -> (Self, Installation) {
        Self::on(Places::Folder(tempfile::tempdir().unwrap())).await
    }

    async fn on(places: Places) -> (Self, Installation) {
        let postgres = Arc::new(Postgres::start(Options::default()).await.unwrap());
        postgres.create_database("control").await.unwrap();
        let source = tempfile::tempdir().unwrap();
        let settings = settings(&postgres, &places);
        let server = FileServer::start(source.path(), 0).await.unwrap();
        let connections = json!({"c": {"plugin": "files",
            "config": {"streams": [{"name": "s", "urls": [server.url("*.jsonl")]}]}}});
        let front = Installation::new(connections, settings.clone());
        front.json(&["plugin", "install", component("files").to_str().unwrap(), "--grant"]);
        let mut fleet = Self { postgres, settings, _places: places, source, server, rounds: 0 };
        fleet.change();
        (fleet, front)
    }

    /// New files, whose pieces come slowly enough that a sync lasts for seconds.
    fn change(&mut self) {
        for file in self.rounds * FILES..(self.rounds + 1) * FILES {
            let rows: String = (file * ROWS_PER_FILE..(file + 1) * ROWS_PER_FILE)
                .map(|id| format!("{{\"id\":{id},\"text\":\"row {id} of file {file}\"}}\n"))
                .collect();
            let path = self.source.path().join(format!("{file:06}.jsonl"));
            std::fs::write(&path, rows).unwrap();
            set_modified(&path, 1_700_000_000 + file).unwrap();
            let slow = thimble_fixtures::files::Fault::Slow { pause_ms: 150 };
            self.server.fault(&format!("/{file:06}.jsonl"), slow);
        }
        self.rounds += 1;
    }

    /// A worker as on another machine: nothing but the configuration and the host key.
    fn worker(&self, front: &Installation) -> Worker {
        let place = Installation::new(json!({}), self.settings.clone());
        let worker = start(front, place);
        worker.warm();
        worker
    }

    async fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.postgres.query("control", sql).await.unwrap()
    }

    /// Id, status, holder and report of the newest run.
    async fn newest(&self) -> [String; 4] {
        let rows = self.sql("select id, status, coalesce(holder, ''), report from runs order by id desc limit 1").await;
        let row: Vec<String> = rows[0].iter().map(|value| value.clone().unwrap_or_default()).collect();
        row.try_into().unwrap()
    }

    /// Waits until the newest run is as wanted, and answers it.
    async fn until(&self, what: &str, wanted: impl Fn(&[String; 4]) -> bool) -> [String; 4] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let newest = self.newest().await;
            if wanted(&newest) {
                return newest;
            }
            assert!(Instant::now() < deadline, "{what}: the newest run is {newest:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Every row of the source is in the lake, once.
    fn assert_exact(&self, front: &Installation, after: &str) {
        let rows = front.rows("s");
        let ids: BTreeSet<u64> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
        let expected = self.rounds * FILES * ROWS_PER_FILE;
        assert_eq!((rows.len() as u64, ids.len() as u64), (expected, expected), "rows and ids after {after}");
        assert_eq!(ids.last().copied(), Some(expected - 1), "after {after}");
    }
}

fn settings(postgres: &Postgres, places: &Places) -> Value {
    json!({
        "store": {"url": postgres.url("control"), "password": PASSWORD, "max_connections": 5},
        "staging": places.place("staging"),
        "destination": {"lake": places.place("lake")},
        "limits": {"batch": {"max_rows": ROWS_PER_FILE}, "workers": {"partitions": 1}},
    })
}

fn start(front: &Installation, place: Installation) -> Worker {
    let mut command = place.command(&["worker", "--capacity", "2", "--output", "json"]);
    command.env("THIMBLE_HOST_KEY_FILE", front.data().join("host.key"));
    let log = std::fs::File::options().create(true).append(true).open(place.folder.path().join("log")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the worker said {line:?}"));
    Worker { holder: started["holder"].as_str().unwrap().to_owned(), place, child }
}

impl Worker {
    /// SIGKILL, then a new process in the same place.
    fn replace(self, front: &Installation) -> Self {
        let place = Installation { folder: TempDir::new().unwrap() };
        let mut gone = self;
        let place = std::mem::replace(&mut gone.place, place);
        drop(gone);
        start(front, place)
    }
}

impl Worker {
    /// Waits until it has compiled the connector, as a worker does that has been up for a moment.
    fn warm(&self) {
        let cache = self.place.data().join("plugins/cache");
        let compiled = || {
            let files = std::fs::read_dir(&cache).into_iter().flatten().flatten();
            files.filter(|file| file.path().extension().is_some_and(|extension| extension == "code")).count()
        };
        let deadline = Instant::now() + PATIENCE;
        while compiled() == 0 {
            assert!(Instant::now() < deadline, "{} compiles nothing ahead", self.holder);
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.place.folder.path().join("log")).unwrap_or_default();
            eprintln!("worker {}:\n{log}", self.holder);
        }
    }
}

fn moved(report: &str) -> bool {
    report.contains("emitted")
}

/// Starts a sync over the API and waits until a worker is in the midst of it; answers the run and its holder.
async fn in_the_midst(fleet: &Fleet, server: &Server<'_>) -> [String; 4] {
    let (status, run) = server.json("POST", "/api/v1/connections/c/runs", &json!({"kind": "sync"}));
    assert_eq!(status, 202, "{run}");
    let id = run["id"].as_str().unwrap().to_owned();
    fleet.until("a worker begins", |[newest, status, ..]| *newest == id && status == "running").await
}

/// The position of the worker that holds a run.
fn holder(workers: &[Worker], run: &[String; 4]) -> usize {
    workers.iter().position(|worker| worker.holder == run[2]).unwrap_or_else(|| panic!("nobody holds {run:?}"))
}

/// Waits for the next run to move, and says how long that took.
async fn taken_over(fleet: &Fleet, lost: &[String; 4], since: Instant) -> Duration {
    let next = fleet.until("nobody takes over", |[id, status, holder, report]| {
        *id != lost[0] && (status == "succeeded" || status == "running" && *holder != lost[2] && moved(report))
    });
    next.await;
    since.elapsed()
}

async fn succeeded(fleet: &Fleet) {
    let ended = fleet.until("the sync does not end", |[_, status, ..]| status != "running" && status != "queued").await;
    assert_eq!(ended[1], "succeeded", "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_replaced_within_ten_seconds_and_nothing_is_lost_or_doubled() {
    let kills: u64 = std::env::var("TAKEOVER_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let (fleet, front) = Fleet::new().await;
    workers_are_killed(fleet, front, kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_where_staging_and_lake_lie_in_an_object_store() {
    let store = ObjectServer::start(&root().join(".scratch/readers/bin/weed")).unwrap();
    let (fleet, front) = Fleet::on(Places::Objects(store)).await;
    workers_are_killed(fleet, front, 3).await;
}

async fn workers_are_killed(mut fleet: Fleet, front: Installation, kills: u64) {
    let server = Server::start_with(&front, &["--no-runs"]);
    let mut workers = vec![fleet.worker(&front), fleet.worker(&front)];
    let (_, listed) = server.curl("GET", "/api/v1/workers", &[]);
    assert!(listed["items"].as_array().unwrap().len() >= 2, "{listed}");
    let mut longest = Duration::ZERO;
    for kill in 0..kills {
        if kill > 0 {
            fleet.change();
        }
        let run = in_the_midst(&fleet, &server).await;
        // From before the first batch to the last one.
        tokio::time::sleep(Duration::from_millis(kill * 37 % 20 * 150)).await;
        let run = match fleet.newest().await {
            [id, status, ..] if id != run[0] || status != "running" => panic!("a sync is too short for this test"),
            _ => run,
        };
        let dead = holder(&workers, &run);
        signal(&workers[dead].child, "KILL");
        let took = taken_over(&fleet, &run, Instant::now()).await;
        longest = longest.max(took);
        assert!(took <= TAKEOVER, "kill {kill}: taken over after {took:?}");
        succeeded(&fleet).await;
        fleet.assert_exact(&front, &format!("kill {kill}"));
        let lost = workers.swap_remove(dead);
        workers.push(lost.replace(&front));
    }
    println!("{kills} kills; the longest takeover took {longest:?}");
    let lost = fleet.sql("select count(*) from events where kind = 'worker-lost'").await;
    assert_eq!(lost[0][0].as_deref(), Some(kills.to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_worker_is_shut_out_and_a_stopped_one_hands_over_at_once() {
    let (mut fleet, front) = Fleet::new().await;
    let server = Server::start_with(&front, &["--no-runs"]);
    let mut workers = vec![fleet.worker(&front), fleet.worker(&front)];
    let run = in_the_midst(&fleet, &server).await;
    let asleep = holder(&workers, &run);
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal(&workers[asleep].child, "STOP");
    let took = taken_over(&fleet, &run, Instant::now()).await;
    assert!(took <= TAKEOVER, "taken over after {took:?}");
    succeeded(&fleet).await;
    signal(&workers[asleep].child, "CONT");
    fleet.assert_exact(&front, "a sleep");
    fleet.change();
    // It is as good as any other, once it is awake.
    let run = in_the_midst(&fleet, &server).await;
    let stopped = holder(&workers, &run);
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal(&workers[stopped].child, "TERM");
    let ended = workers[stopped].child.wait().unwrap();
    let since = Instant::now();
    assert!(ended.success(), "{ended}");
    let took = taken_over(&fleet, &run, since).await;
    assert!(took <= Duration::from_secs(5), "a worker that stops hands over at once, not after {took:?}");
    succeeded(&fleet).await;
    fleet.assert_exact(&front, "a sleep and a stop");
    workers.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_control_database_costs_nothing_but_time() {
    let (mut fleet, front) = Fleet::new().await;
    let server = Server::start_with(&front, &["--no-runs"]);
    let _workers = [fleet.worker(&front), fleet.worker(&front)];
    for round in 0..2 {
        if round > 0 {
            fleet.change();
        }
        in_the_midst(&fleet, &server).await;
        tokio::time::sleep(Duration::from_millis(500 + 1_200 * round)).await;
        fleet.postgres.stop_immediate().unwrap();
        let (status, problem) = server.curl("GET", "/readyz", &[]);
        assert_eq!(status, 503);
        assert!(problem["detail"].as_str().unwrap().contains("control database"), "{problem}");
        tokio::time::sleep(Duration::from_secs(20)).await;
        fleet.postgres.start_again().await.unwrap();
        let ended = fleet.until("it does not end", |[_, status, ..]| status != "running" && status != "queued").await;
        if ended[1] != "succeeded" {
            // Whoever asked for it may ask again; what was committed stays.
            let (status, run) = server.json("POST", "/api/v1/connections/c/runs", &json!({"kind": "sync"}));
            assert_eq!(status, 202, "{run}");
            succeeded(&fleet).await;
        }
        fleet.assert_exact(&front, &format!("outage {round}"));
        println!("outage {round}: the sync {}", ended[1]);
    }
    assert_eq!(server.curl("GET", "/readyz", &[]).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_share_the_work_does_not_start() {
    let (fleet, front) = Fleet::new().await;
    let server = Server::start_with(&front, &["--no-runs"]);
    let refused = |installation: &Installation, key: Option<&Installation>| {
        let mut command = installation.command(&["worker"]);
        if let Some(key) = key {
            command.env("THIMBLE_HOST_KEY_FILE", key.data().join("host.key"));
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        text(&output)
    };
    let stranger = Installation::new(json!({}), fleet.settings.clone());
    let said = refused(&stranger, None);
    assert!(said.contains("host key is not the one"), "{said}");
    let lonely = Installation::new(json!({}), json!({}));
    let said = refused(&lonely, Some(&front));
    assert!(said.contains("store"), "{said}");
    let mut own_staging = fleet.settings.clone();
    own_staging["staging"] = json!({});
    let said = refused(&Installation::new(json!({}), own_staging), Some(&front));
    assert!(said.contains("staging"), "{said}");
    drop(server);
}
