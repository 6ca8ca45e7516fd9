//! A connection that is disturbed, and what its destination must hold.

use std::{
    collections::BTreeMap,
    process::{Child, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use thimble_fixtures::{
    files::{FileServer, set_modified},
    postgres::{Options, PASSWORD, Postgres, url_at},
};
use tokio::sync::OnceCell;

use crate::harness::{Installation, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Lake,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New files with new ids.
    Append,
    /// New files that change rows of earlier ones.
    Upsert,
    /// Each sync is a full refresh of files that are rewritten.
    Refresh,
}

/// Files of one round. Each is one partition, so that each ends with a checkpoint.
const FILES: u64 = 4;
const ROWS_PER_FILE: u64 = 120;
/// Ids of an upsert table, and of a refreshed one.
const IDS: u64 = FILES * ROWS_PER_FILE;
/// A batch for each file: with several in a sync, every step of the protocol is met more than once.
const ROWS_PER_BATCH: u64 = 100;

/// A lease that a stopped process soon loses.
const LEASE: &str = "400ms";
const WAIT: Duration = Duration::from_secs(60);

/// A database of a server.
#[derive(Clone)]
pub struct Database {
    pub server: Arc<Postgres>,
    pub name: String,
}

impl Database {
    /// On the server that the tests share.
    pub async fn shared(name: &str) -> Self {
        static SERVER: OnceCell<Arc<Postgres>> = OnceCell::const_new();
        let start = || async { Arc::new(Postgres::start(Options::default()).await.unwrap()) };
        let server = Arc::clone(SERVER.get_or_init(start).await);
        server.create_database(name).await.unwrap();
        Self { server, name: name.to_owned() }
    }

    /// On a server that nobody else uses.
    pub async fn own(name: &str) -> Self {
        let server = Arc::new(Postgres::start(Options::default()).await.unwrap());
        server.create_database(name).await.unwrap();
        Self { server, name: name.to_owned() }
    }

    /// The configuration of a destination that is reached at `address`.
    pub fn destination(&self, address: std::net::SocketAddr) -> Value {
        json!({"postgres": {"url": url_at(address, &self.name), "password": PASSWORD}})
    }
}

pub struct Bed {
    pub thimble: Installation,
    mode: Mode,
    database: Option<Database>,
    folder: TempDir,
    rounds: u64,
    /// The last version of each id.
    source: BTreeMap<u64, u64>,
    random: u64,
}

impl Bed {
    /// A bed of its own name, with one round of files, not synced yet.
    pub async fn new(name: &str, target: Target, mode: Mode) -> Self {
        let database = match target {
            Target::Lake => None,
            Target::Postgres => Some(Database::shared(name).await),
        };
        let destination = database.as_ref().map(|database| database.destination(database.server.address()));
        Self::with(database, destination, mode).await
    }

    /// A bed whose rows are in `database`, reached as `destination` says.
    pub async fn with(database: Option<Database>, destination: Option<Value>, mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = FileServer::start(folder.path(), 0).await.unwrap();
        let mut connection =
            json!({"plugin": "files", "config": {"streams": [{"name": "s", "urls": [server.url("*.jsonl")]}]}});
        if mode == Mode::Upsert {
            connection["streams"] = json!([{"stream": "s", "mode": "upsert", "key": ["id"]}]);
        }
        let mut settings = json!({"limits": {
            "batch": {"max_rows": ROWS_PER_BATCH},
            // One file after the other: of two that change a row, the later one is read later.
            "workers": {"partitions": 1, "lease": LEASE},
            "retry": {"base": "50ms", "max_wait": "2s", "max_attempts": 8},
        }});
        if let Some(destination) = destination {
            settings["destinations"] = json!({"warehouse": destination});
            connection["destination"] = "warehouse".into();
        }
        let thimble = Installation::new(json!({"c": connection}), settings);
        thimble.install("files");
        let mut bed = Self { thimble, mode, database, folder, rounds: 0, source: BTreeMap::new(), random: 0x2545_f491 };
        bed.change();
        bed
    }

    /// Uniform in `0..bound`, the same in every run of the test.
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// The source changes: the next sync has work for several batches.
    pub fn change(&mut self) {
        for file in 0..FILES {
            let number = self.rounds * FILES + file;
            let name = if self.mode == Mode::Refresh { file } else { number };
            let rows: Vec<(u64, u64)> = (0..ROWS_PER_FILE).map(|row| self.row(number, file, row)).collect();
            let lines: String = rows
                .iter()
                .map(|(id, version)| format!("{{\"id\":{id},\"v\":{version},\"text\":\"row {id} as of {version}\"}}\n"))
                .collect();
            let path = self.folder.path().join(format!("{name:06}.jsonl"));
            std::fs::write(&path, lines).unwrap();
            set_modified(&path, 1_700_000_000 + number).unwrap();
            self.source.extend(rows);
        }
        self.rounds += 1;
    }

    /// Id and version of a row of a file.
    fn row(&mut self, number: u64, file: u64, row: u64) -> (u64, u64) {
        let unique = number * ROWS_PER_FILE + row;
        match self.mode {
            Mode::Append => (unique, unique),
            // Now and then the same id twice in a file.
            Mode::Upsert => (self.random(IDS), unique),
            Mode::Refresh => (file * ROWS_PER_FILE + row, self.rounds),
        }
    }

    pub fn sync_args(&self) -> Vec<&'static str> {
        match self.mode {
            Mode::Append | Mode::Upsert => vec!["sync", "c", "--quiet"],
            Mode::Refresh => vec!["sync", "c", "--quiet", "--full-refresh"],
        }
    }

    /// Syncs to the end, and says how long it took.
    pub fn sync(&self) -> Duration {
        let started = Instant::now();
        let output = self.thimble.run(&self.sync_args());
        assert!(output.status.success(), "{}", text(&output));
        started.elapsed()
    }

    /// Syncs with a failpoint set.
    pub fn sync_with(&self, failpoint: &str) -> Output {
        self.thimble.command(&self.sync_args()).env("THIMBLE_FAILPOINT", failpoint).output().unwrap()
    }

    /// Starts a sync that says on standard error why it ended; with a failpoint where one is named.
    pub fn spawn(&self, failpoint: Option<&str>) -> Child {
        let mut command = self.thimble.command(&self.sync_args());
        if let Some(failpoint) = failpoint {
            command.env("THIMBLE_FAILPOINT", failpoint);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Id and version of each row of the destination.
    async fn rows(&self) -> Vec<(u64, u64)> {
        let Some(Database { server, name }) = &self.database else {
            let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"));
            return self.thimble.rows("s").iter().map(|row| (number(&row["id"]), number(&row["v"]))).collect();
        };
        let there = server.query(name, "select to_regclass('c.s')").await.unwrap();
        if there[0][0].is_none() {
            return Vec::new();
        }
        let rows = server.query(name, "select id, v from c.s").await.unwrap();
        let number = |value: &Option<String>| value.as_ref().unwrap().parse().unwrap();
        rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
    }

    /// The destination holds exactly what the source has.
    pub async fn assert_exact(&self, after: &str) {
        self.compare(&self.rows().await, |id| self.source.get(&id).copied()).assert_none(after);
    }

    /// How the destination differs from the source.
    pub async fn differences(&self) -> Differences {
        self.compare(&self.rows().await, |id| self.source.get(&id).copied())
    }

    /// The table is whole: that of the last refresh that ended, or of the one before.
    pub async fn assert_old_or_new(&self, after: &str) {
        let rows = self.rows().await;
        let version = rows.first().map(|(_, version)| *version);
        let newest = self.rounds - 1;
        assert!(
            version.is_some_and(|version| version == newest || version + 1 == newest),
            "after {after}: readers see version {version:?}; the source is at {newest}"
        );
        self.compare(&rows, |_| version).assert_none(after);
    }

    fn compare(&self, rows: &[(u64, u64)], expected: impl Fn(u64) -> Option<u64>) -> Differences {
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (id, version) in rows {
            seen.entry(*id).or_default().push(*version);
        }
        let wrong = |id: u64, versions: &[u64]| versions.len() == 1 && expected(id) != Some(versions[0]);
        Differences {
            lost: self.source.keys().copied().filter(|id| !seen.contains_key(id)).collect(),
            doubled: seen.iter().filter(|(_, versions)| versions.len() > 1).map(|(id, _)| *id).collect(),
            wrong: seen.iter().filter(|(id, versions)| wrong(**id, versions)).map(|(id, _)| *id).collect(),
        }
    }
}

/// Ids that a destination does not hold as it should.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences {
    pub lost: Vec<u64>,
    pub doubled: Vec<u64>,
    /// Not there in the last version, or never in the source.
    pub wrong: Vec<u64>,
}

impl Differences {
    fn assert_none(&self, after: &str) {
        let Self { lost, doubled, wrong } = self;
        let counts = (lost.len(), doubled.len(), wrong.len());
        let first: Vec<_> = [lost, doubled, wrong].iter().map(|ids| &ids[..ids.len().min(5)]).collect();
        assert!(counts == (0, 0, 0), "after {after}: (lost, doubled, wrong) = {counts:?}, such as {first:?}");
    }
}

/// The state of a process as the kernel names it: `T` is stopped; `None` where it is gone.
fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// Waits until a process has stopped itself.
fn wait_until_stopped(child: &mut Child) {
    let deadline = Instant::now() + WAIT;
    while state_of(child.id()) != Some('T') {
        assert!(child.try_wait().unwrap().is_none(), "the sync ended before it came to its failpoint");
        assert!(Instant::now() < deadline, "the sync did not come to its failpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A transaction that holds the control database's write lock.
pub struct ControlLock(SqliteConnection);

impl ControlLock {
    /// Waits for the lock so long, and answers `None` where somebody else keeps it.
    pub async fn take(thimble: &Installation, patience: Duration) -> Option<Self> {
        let file = thimble.data().join("thimble.db");
        assert!(file.exists(), "the control database has another name now");
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(patience);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let locked = sqlx::query("begin immediate").execute(&mut connection).await;
        locked.is_ok().then_some(Self(connection))
    }

    pub async fn release(mut self) {
        sqlx::query("rollback").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

/// Whether a process that is stopped now holds the control database's lock: its renewal may have been at work. Nobody can
/// overtake it then.
pub async fn holds_control_lock(thimble: &Installation) -> bool {
    match ControlLock::take(thimble, Duration::from_millis(500)).await {
        Some(lock) => {
            lock.release().await;
            false
        }
        None => true,
    }
}

/// Lets another run take over, once the lease of the stopped one has run out, and go to its end.
pub fn overtake(bed: &Bed) {
    let deadline = Instant::now() + WAIT;
    loop {
        let output = bed.thimble.run(&bed.sync_args());
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "nobody could take over: {}", text(&output));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal by its name.
pub fn signal(child: &Child, name: &str) {
    let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.unwrap().success(), "SIG{name} could not be sent");
}

impl Bed {
    /// Starts a sync and waits until it has stopped itself at a failpoint, without a lock that others need.
    pub async fn stop_at(&self, point: &str) -> Child {
        for _ in 0..10 {
            let mut child = self.spawn(Some(&format!("{point}:stop")));
            wait_until_stopped(&mut child);
            if !holds_control_lock(&self.thimble).await {
                return child;
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        panic!("a sync that stops at {point} always holds the control database's lock");
    }
}
