//! A real PostgreSQL server of our own: a scratch folder, a free port of the loopback interface, an ordinary user.
//!
//! It ends with the value, and with the process where that ends first: a guard holds a pipe of ours, and the pipe's end
//! stops the server and removes its folder.

use std::{
    fs::File,
    io::{Error, Write},
    net::{SocketAddr, TcpListener},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The server's superuser.
pub const USER: &str = "thimble";
/// Its password.
pub const PASSWORD: &str = "one password for all tests";

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

const MISSING: &str = "PostgreSQL's server programs (initdb, postgres, pg_ctl) were not found: install them, on Debian with `apt-get install postgresql`";

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether what is committed survives a power cut; the tests do without, since none cuts the power.
    pub fsync: bool,
    /// More settings, as `name=value`.
    pub settings: Vec<String>,
}

/// A running server, or one that was stopped and can be started again.
pub struct Postgres {
    binaries: PathBuf,
    /// Who runs it, where we are root: PostgreSQL refuses to.
    user: Option<(u32, u32)>,
    folder: PathBuf,
    port: u16,
    options: Options,
    server: Mutex<Option<Child>>,
    guard: Child,
}

fn failed(what: impl Into<String>) -> Error {
    Error::other(what.into())
}

impl Postgres {
    /// Creates a cluster and starts its server.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let binaries = binaries().ok_or_else(|| failed(MISSING))?;
        let user = ordinary_user()?;
        let folder = tempfile::Builder::new().prefix("thimble-postgres-").tempdir()?.keep();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let guard = guard(&folder)?;
        let server = Mutex::new(None);
        let postgres = Self { binaries, user, folder, port: free_port()?, options, server, guard };
        postgres.create_cluster()?;
        postgres.start_again().await?;
        Ok(postgres)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(&self.folder).stdin(Stdio::null()).env_remove("PGDATA").env("LC_ALL", "C.UTF-8");
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn create_cluster(&self) -> std::io::Result<()> {
        let password = self.folder.join("password");
        writeln!(File::create(&password)?, "{PASSWORD}")?;
        if let Some((uid, gid)) = self.user {
            chown(&password, Some(uid), Some(gid))?;
        }
        let output = self
            .program("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(self.data())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr))))
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().expect("no holder of this lock panics")
    }

    /// Starts the server again after a stop, on the same folder and port, and waits until it answers.
    pub async fn start_again(&self) -> std::io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            *self.server() = Some(self.spawn()?);
            loop {
                if self.connect("postgres").await.is_ok() {
                    return Ok(());
                }
                // Sessions of a killed server may keep it from starting for a moment.
                if self.server().as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(failed(format!("PostgreSQL does not answer: {}", self.log())));
                }
                tokio::time::sleep(POLL).await;
            }
            if Instant::now() > deadline {
                return Err(failed(format!("PostgreSQL does not start: {}", self.log())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        let fsync = if self.options.fsync { "on" } else { "off" };
        let settings = [
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "shared_buffers=64MB".into(),
            format!("fsync={fsync}"),
            format!("full_page_writes={fsync}"),
        ];
        for setting in settings.iter().chain(&self.options.settings) {
            command.arg("-c").arg(setting);
        }
        command.stdout(Stdio::null()).stderr(log).spawn()
    }

    /// What the server said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// `pg_ctl stop -m immediate`: every session is cut, and the next start recovers.
    pub fn stop_immediate(&self) -> std::io::Result<()> {
        let mut stop = self.program("pg_ctl");
        stop.args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data()).stdout(Stdio::null());
        if !stop.status()?.success() {
            return Err(failed("pg_ctl could not stop the server"));
        }
        self.reap()
    }

    /// SIGKILL to the server's first process.
    pub fn kill(&self) -> std::io::Result<()> {
        if let Some(server) = self.server().as_mut() {
            server.kill()?;
        }
        self.reap()
    }

    fn reap(&self) -> std::io::Result<()> {
        self.server().take().map_or(Ok(()), |mut server| server.wait().map(drop))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The URL of a database, without the password.
    pub fn url(&self, database: &str) -> String {
        url_at(self.address(), database)
    }

    /// Creates an empty database.
    pub async fn create_database(&self, name: &str) -> std::io::Result<()> {
        self.query("postgres", &format!("create database \"{name}\"")).await.map(drop)
    }

    async fn connect(&self, database: &str) -> std::io::Result<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(USER).password(PASSWORD).dbname(database);
        config.connect_timeout(START_TIMEOUT);
        let (client, connection) = config.connect(NoTls).await.map_err(Error::other)?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs SQL in a session of its own; answers the rows of all statements as text.
    pub async fn query(&self, database: &str, sql: &str) -> std::io::Result<Vec<Vec<Option<String>>>> {
        let client = self.connect(database).await?;
        let messages = client.simple_query(sql).await.map_err(|error| {
            failed(error.as_db_error().map_or_else(|| error.to_string(), |error| format!("{}: {sql}", error.message())))
        })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.map(|row| (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()).collect())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The guard does all that is left once its pipe is closed.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.reap();
    }
}

/// The URL of a database behind any address, such as a proxy's, without the password.
pub fn url_at(address: SocketAddr, database: &str) -> String {
    format!("postgres://{USER}@{address}/{database}")
}

/// A shell that waits for the end of our pipe, which comes with our own end at the latest.
fn guard(folder: &Path) -> std::io::Result<Child> {
    const SCRIPT: &str = r#"cat >/dev/null
        kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
        for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e "$1/data/postmaster.pid" ] && sleep 0.1; done
        rm -rf "$1""#;
    Command::new("sh")
        .args(["-c", SCRIPT, "guard"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A keyboard interrupt ends the tests, and by that the guard's wait.
        .process_group(0)
        .spawn()
}

/// A port of the loopback interface that nothing listens on.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The folder of the newest server programs of this machine.
fn binaries() -> Option<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut installed: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    installed.sort_unstable_by(|a, b| b.cmp(a));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        told.into_iter().chain(installed.into_iter().map(|(_, path)| path)).chain(std::env::split_paths(&path));
    folders.into_iter().find(|folder| ["initdb", "postgres", "pg_ctl"].iter().all(|name| folder.join(name).exists()))
}

/// Who runs the server where we are root: `postgres`, else `nobody`. Nobody else where we are not.
fn ordinary_user() -> std::io::Result<Option<(u32, u32)>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse::<u32>().ok());
    if uid != Some(0) {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name))
                .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    found.map(Some).ok_or_else(|| failed("PostgreSQL cannot run as root, and there is no user `postgres` or `nobody`"))
}
