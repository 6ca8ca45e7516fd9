//! `thimble serve` as a process with its log kept, and a plain client of it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::Installation;

pub struct Served {
    child: Child,
    pub address: String,
    pub token: String,
    log: PathBuf,
}

impl Served {
    /// Starts the server on an installation; `level` is what it logs.
    pub fn start(installation: &Installation, level: &str) -> Self {
        Self::start_with(installation, level, &[])
    }

    /// With further variables in its environment.
    pub fn start_with(installation: &Installation, level: &str, variables: &[(&str, &str)]) -> Self {
        let log = installation.folder.path().join("serve.log");
        let mut child = installation
            .command(&["serve", "--output", "json", "--log-level", level])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line} {}", std::fs::read_to_string(&log).unwrap()));
        let token = std::fs::read_to_string(installation.data().join("api-token")).unwrap().trim().to_owned();
        let address = started["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self { child, address, token, log }
    }

    /// (status, body as it is)
    pub fn ask(&self, method: &str, path: &str, token: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut told = Vec::new();
        stream.read_to_end(&mut told).unwrap();
        let told = String::from_utf8_lossy(&told).into_owned();
        let (head, body) = told.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {told}"));
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (head[9..12].parse().unwrap(), if chunked { unchunked(body) } else { body.to_owned() })
    }

    /// (status, body) with the first token.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, told) = self.ask(method, path, &self.token, "application/json", body.as_bytes());
        (status, serde_json::from_str(&told).unwrap_or(Value::String(told)))
    }

    /// Starts a run of a connection and waits for its end.
    pub fn run(&self, connection: &str, kind: &str) -> Value {
        let path = format!("/api/v1/connections/{connection}/runs");
        let (status, run) = self.json("POST", &path, &serde_json::json!({ "kind": kind }));
        assert_eq!(status, 202, "{run}");
        self.finished(&run)
    }

    pub fn finished(&self, run: &Value) -> Value {
        let (_, run) = self.json("GET", &format!("/api/v1/runs/{}?wait=60", run["id"].as_str().unwrap()), &Value::Null);
        run
    }

    /// Checks that it lives and can work.
    #[track_caller]
    pub fn is_well(&self) {
        for path in ["/livez", "/readyz"] {
            let (status, told) = self.json("GET", path, &Value::Null);
            assert_eq!(status, 200, "{path}: {told}");
        }
        assert_eq!(self.json("GET", "/api/v1/connections", &Value::Null).0, 200);
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Asks it to end, waits for that, and answers its log.
    pub fn stop(mut self) -> String {
        let kill = std::process::Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.log()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unchunked(body: &str) -> String {
    let mut rest = body;
    let mut whole = String::new();
    while let Some((length, tail)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 || !tail.is_char_boundary(length.min(tail.len())) {
            break;
        }
        whole.push_str(&tail[..length.min(tail.len())]);
        rest = tail.get(length + 2..).unwrap_or("");
    }
    whole
}
