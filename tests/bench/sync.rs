//! Whole syncs: JSON pages over HTTP to the lake, ten records cold and warm, and a host that waits.

use std::{
    hint::black_box,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thimble_fixtures::postgres::{Options, PASSWORD, Postgres as Database};

use crate::{
    Figure, median,
    process::{Fallible, Installation, Run, binaries, memory_mib},
};

/// The paged API as a process of its own, as a real source would be.
pub struct Source(Child, String);

impl Source {
    pub fn url(&self) -> &str {
        &self.1
    }

    pub fn start(records: u64) -> Fallible<Self> {
        let mut child = Command::new(binaries()?.join("thimble-fixtures"))
            .args(["pages", "--records", &records.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut url)?;
        Ok(Self(child, url.trim().to_owned()))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // It may have ended by itself; nothing depends on it any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connection(url: &str, checkpoint_pages: u64) -> Value {
    json!({"w": {"plugin": "bench", "config": {"url": url, "checkpoint_pages": checkpoint_pages}, "streams": [{"name": "issues"}]}})
}

/// 1.4 KB records in pages of 1,000, over HTTP, to Parquet in the lake. Floor: fetching all pages and parsing them.
pub fn pages(records: u64, runs: usize) -> Fallible<Vec<Figure>> {
    let source = Source::start(records)?;
    let (mut rates, mut peaks, mut fetched, mut parsed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let installation = Installation::new(connection(&source.1, 2))?;
        let Run { elapsed, peak_mib } = installation.run(&["sync", "w", "--quiet"])?;
        rates.push(records as f64 / elapsed.as_secs_f64());
        peaks.push(peak_mib);
        let (fetch, parse) = floor(&source.1)?;
        fetched.push(records as f64 / fetch.as_secs_f64());
        parsed.push(records as f64 / parse.as_secs_f64());
    }
    let parse = median(parsed);
    Ok(vec![
        Figure {
            what: "JSON pages over HTTP → lake (1.4 KB records)",
            value: median(rates),
            unit: "records/s",
            floor: Some((parse, "serde_json to Value, one thread")),
            target: Some((">=", 100_000.0)),
        },
        Figure {
            what: "the same, fetching alone",
            value: median(fetched),
            unit: "records/s",
            floor: None,
            target: None,
        },
        Figure {
            what: "the same, peak memory",
            value: median(peaks),
            unit: "MiB",
            floor: None,
            target: Some(("<=", 200.0)),
        },
    ])
}

/// The same pages to a real PostgreSQL, as often again, so that the memory can be seen not to grow with the table.
pub fn postgres(records: u64, runs: usize) -> Fallible<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = runtime.block_on(Database::start(Options::default()))?;
    let (mut rates, mut peaks) = (Vec::new(), Vec::new());
    for (round, records) in std::iter::repeat_n(records, runs).chain([records * 4]).enumerate() {
        let source = Source::start(records)?;
        let name = format!("pages{round}");
        runtime.block_on(server.create_database(&name))?;
        let destination = json!({"postgres": {"url": server.url(&name), "password": PASSWORD}});
        let installation = Installation::with_destination(connection(&source.1, 2), destination)?;
        let Run { elapsed, peak_mib } = installation.run(&["sync", "w", "--quiet"])?;
        rates.push(records as f64 / elapsed.as_secs_f64());
        peaks.push(peak_mib);
    }
    let largest = peaks.last().copied().unwrap_or_default();
    Ok(vec![
        Figure {
            what: "JSON pages over HTTP → PostgreSQL (1.4 KB records)",
            value: median(rates),
            unit: "records/s",
            floor: None,
            target: None,
        },
        Figure {
            what: "the same with four times the records, peak memory",
            value: largest,
            unit: "MiB",
            floor: Some((peaks[0], "a quarter of the records")),
            target: Some(("<=", 200.0)),
        },
    ])
}

/// Fetches all pages over one connection, then parses them.
fn floor(url: &str) -> Fallible<(Duration, Duration)> {
    let mut http = Http::connect(url)?;
    let started = Instant::now();
    let mut bodies = Vec::new();
    for page in 1.. {
        let body = http.request("GET", &format!("/issues?page={page}"), None, None)?.1;
        if body.len() <= 2 {
            break;
        }
        bodies.push(body);
    }
    let fetched = started.elapsed();
    let started = Instant::now();
    for body in &bodies {
        black_box(serde_json::from_slice::<Value>(body)?);
    }
    Ok((fetched, started.elapsed()))
}

/// Ten records: `thimble sync` as a process, and a run through a server's API.
pub fn small(runs: usize) -> Fallible<Vec<Figure>> {
    let source = Source::start(10)?;
    let mut cold = Vec::new();
    for _ in 0..runs {
        let installation = Installation::new(connection(&source.1, 1))?;
        cold.push(installation.run(&["sync", "w", "--quiet"])?.elapsed.as_secs_f64() * 1e3);
    }
    let mut warm = Vec::new();
    let server = Server::start(&source.1)?;
    let mut http = Http::connect(&server.url)?;
    for _ in 0..runs {
        let started = Instant::now();
        let body = json!({"kind": "sync", "request": {"full_refresh": true}}).to_string();
        let (status, answer) = http.request("POST", "/api/v1/connections/w/runs", Some(&server.token), Some(&body))?;
        let run: Value = serde_json::from_slice(&answer)?;
        let id = run["id"].as_str().ok_or_else(|| format!("{status}: {run}"))?;
        let (_, answer) = http.request("GET", &format!("/api/v1/runs/{id}?wait=10"), Some(&server.token), None)?;
        let run: Value = serde_json::from_slice(&answer)?;
        if run["status"] != "succeeded" {
            return Err(format!("the run ended badly: {run}").into());
        }
        warm.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let unit = "ms";
    Ok(vec![
        Figure {
            what: "10 records, cold process",
            value: median(cold),
            unit,
            floor: None,
            target: Some(("<=", 200.0)),
        },
        Figure { what: "10 records, warm host", value: median(warm), unit, floor: None, target: Some(("<=", 50.0)) },
    ])
}

/// A server with one connection that does nothing for two seconds.
pub fn idle() -> Fallible<Vec<Figure>> {
    let source = Source::start(10)?;
    let server = Server::start(&source.1)?;
    std::thread::sleep(Duration::from_secs(2));
    let memory = memory_mib(server.child.id(), "VmRSS").ok_or("the server is gone")?;
    Ok(vec![Figure { what: "idle host, memory", value: memory, unit: "MiB", floor: None, target: Some(("<=", 40.0)) }])
}

/// `thimble serve` on a free port.
pub struct Server {
    pub child: Child,
    pub url: String,
    pub token: String,
    _installation: Installation,
}

impl Server {
    fn start(source: &str) -> Fallible<Self> {
        Self::with(connection(source, 1))
    }

    pub fn with(connections: Value) -> Fallible<Self> {
        let installation = Installation::new(connections)?;
        let mut command = installation.command(&["serve", "--output", "json"])?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        let started: Value = serde_json::from_str(&line)?;
        let url = started["url"].as_str().ok_or_else(|| format!("serve printed {line}"))?.to_owned();
        let token = std::fs::read_to_string(installation.data().join("api-token"))?.trim().to_owned();
        Ok(Self { child, url, token, _installation: installation })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; nothing depends on it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Just enough HTTP/1.1 over one connection to cost nothing.
pub struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Http {
    pub fn connect(url: &str) -> Fallible<Self> {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(Self { stream: BufReader::new(TcpStream::connect(&host)?), host })
    }

    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Fallible<(String, Vec<u8>)> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        if let Some(token) = token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        self.stream.get_mut().write_all(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes())?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status.trim().to_owned(), answer))
    }
}
