//! A real PostgreSQL server for a test binary: started once, stopped and removed when the binary ends, however it ends.
#![allow(dead_code)]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

pub struct Server {
    pub port: u16,
    folder: PathBuf,
    bin: PathBuf,
    /// Ends the server when its standard input is closed, as it is when this process ends.
    _keeper: Child,
}

/// The binary's server.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

impl Server {
    /// A new empty database.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}"));
        name
    }

    /// The certificate that it proves its name with; `None` where there is no tool to make one.
    pub fn certificate(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("server.crt")).ok()
    }

    /// Runs SQL with another client than the one under test; rows come as text, columns divided by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.sql_as("thimble", database, sql)
    }

    pub fn sql_as(&self, user: &str, database: &str, sql: &str) -> String {
        let output = self.psql(user, database, sql);
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
    }

    fn psql(&self, user: &str, database: &str, sql: &str) -> std::process::Output {
        Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", user])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .env("PGTZ", "UTC")
            .env("PGPASSWORD", "sesame")
            .output()
            .unwrap()
    }
}

fn start() -> Server {
    let bin = PathBuf::from(std::env::var("PG_BIN").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".into()));
    let folder = std::env::temp_dir().join(format!("thimble-pg-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let user = unprivileged();
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    let as_user = |program: &Path| {
        let mut command = Command::new(program);
        command.current_dir(&folder);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };
    let password = folder.join("password");
    fs::write(&password, "sesame").unwrap();
    let data = folder.join("data");
    let made = as_user(&bin.join("initdb"))
        .args(["--no-sync", "-A", "scram-sha-256", "-U", "thimble", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
        .arg(&data)
        .arg(format!("--pwfile={}", password.display()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // For "localhost" only, so that a wrong name is met too.
    let certified = as_user(Path::new("openssl"))
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .output()
        .is_ok_and(|output| output.status.success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = "\"$@\" >server.log 2>&1 & p=$!; cat >/dev/null; kill -INT $p; wait $p; cd /; rm -rf \"$FOLDER\"";
    let keeper = as_user(Path::new("/bin/sh"))
        .args(["-c", script, "keeper"])
        .arg(bin.join("postgres"))
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "max_connections=100", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"])
        .args(["-c", &format!("ssl={}", if certified { "on" } else { "off" })])
        .args(["-c", "ssl_cert_file=../server.crt", "-c", "ssl_key_file=../server.key"])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", folder.display()))
        .env("FOLDER", &folder)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let server = Server { port, folder, bin, _keeper: keeper };
    while TcpStream::connect(("127.0.0.1", port)).is_err()
        || !server.psql("thimble", "postgres", "select 1").status.success()
    {
        assert!(began.elapsed() < Duration::from_secs(30), "the server does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// The server refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    user("postgres").or_else(|| user("nobody"))
}
