//! A manifest read by the REST connector: extraction alone, and whole syncs into PostgreSQL. With `PEERS=1` the reference
//! implementation and dlt do the same work in the same run.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use thimble_fixtures::postgres::{Options, PASSWORD, Postgres as Database, USER};
use thimble_plugin::{HostPattern, RawBatch, ReadRequest, RecordSink, StreamState};
use thimble_record::{Failure, Rejected, ReplicationMethod};

use crate::{
    Figure,
    guest::Guest,
    median,
    process::{Fallible, Installation, Run, binaries},
    sync::Source,
};

const MANIFEST: &str = include_str!("peers/issues.yaml");

/// Counts records: line feeds part them, and none stands in one.
#[derive(Default)]
struct Counting {
    records: AtomicU64,
}

#[async_trait]
impl RecordSink for Counting {
    async fn emit(&self, _stream: &str, batch: RawBatch) -> Result<(), Failure> {
        if let RawBatch::Json(bytes) = &batch {
            let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.records.fetch_add(feeds as u64 + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn reject(&self, _stream: &str, _records: Vec<Rejected>) -> Result<(), Failure> {
        Err(Failure::system("the bench rejects nothing"))
    }

    async fn checkpoint(&self, _stream: &str, _state: String) -> Result<(), Failure> {
        Ok(())
    }
}

fn config(url: &str) -> Value {
    json!({"manifest": MANIFEST, "config": {"url": url}, "hosts": [url]})
}

/// Reads every page in the sandbox and counts; in records a second.
async fn extract(url: &str, records: u64, folder: &Path) -> Fallible<f64> {
    let grants = vec![HostPattern::parse(url.trim_start_matches("http://"))?];
    let Guest { connector, session } = Guest::open("rest.wasm", &config(url), grants, folder).await?;
    let started = Instant::now();
    let catalog = connector.discover(&session).await?;
    let stream = catalog.stream("issues").ok_or("the manifest lacks its stream")?.clone();
    let method = ReplicationMethod::FullTable;
    let plan = connector.plan(&session, &stream, method, StreamState::default()).await?;
    let sink = Arc::new(Counting::default());
    for partition in plan.partitions {
        let request = ReadRequest { stream: stream.clone(), method, selected: Vec::new(), partition, state: None };
        connector.read(&session, request, Arc::clone(&sink) as Arc<dyn RecordSink>).await?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let read = sink.records.load(Ordering::Relaxed);
    if read != records {
        return Err(format!("{read} of {records} records were read").into());
    }
    Ok(records as f64 / elapsed)
}

fn component() -> Fallible<PathBuf> {
    Ok(binaries()?.join("../plugins/rest.wasm"))
}

/// What a peer's script says of its run.
struct Peer {
    rate: f64,
    peak_mib: f64,
}

fn peer(script: &str, arguments: &[&str]) -> Fallible<Peer> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(root.join(".scratch/peers/bin/python"))
        .arg(root.join("tests/bench/peers").join(script))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().ok_or_else(|| format!("{script} said nothing"))?;
    let told: Value = serde_json::from_str(line)?;
    let number = |key: &str| told[key].as_f64().ok_or_else(|| format!("{script} did not say its {key}"));
    Ok(Peer { rate: number("records")? / number("seconds")?, peak_mib: number("peak_mib")? })
}

/// Both figures, with the peers' beside them where they are wanted.
pub fn measure(records: u64, runs: usize, peers: bool) -> Fallible<Vec<Figure>> {
    if peers && !Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers/setup")).status()?.success() {
        return Err("the peers could not be installed".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(Database::start(Options::default()))?;
    let source = Source::start(records)?;
    let url = source.url();
    let folder = tempfile::tempdir()?;
    let (mut extracted, mut loaded, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reference, mut dlt) = (Vec::new(), Vec::new());
    for run in 0..runs {
        extracted.push(runtime.block_on(extract(url, records, folder.path()))?);
        let (rate, peak) = load(&runtime, &server, url, records, run)?;
        loaded.push(rate);
        peaks.push(peak);
        // The slow ones once.
        if peers && run == 0 {
            reference.push(peer("reference.py", &[&root("peers/issues.yaml"), url])?);
            runtime.block_on(server.create_database("dlt"))?;
            let scratch = tempfile::tempdir()?;
            let login = format!("://{USER}:{}@", PASSWORD.replace(' ', "%20"));
            let database = server.url("dlt").replacen(&format!("://{USER}@"), &login, 1);
            dlt.push(peer("dlt_pages.py", &[url, &database, &scratch.path().to_string_lossy()])?);
        }
    }
    let beside = |peers: &[Peer], name: &'static str| peers.first().map(|peer| (peer.rate, name));
    let mut figures = vec![
        Figure {
            what: "manifest: JSON pages extracted (1.4 KB records)",
            value: median(extracted),
            unit: "records/s",
            floor: beside(&reference, "airbyte-cdk"),
            target: Some((">=", reference.first().map_or(150_000.0, |peer| peer.rate * 10.0))),
        },
        Figure {
            what: "manifest: JSON pages → PostgreSQL (1.4 KB records)",
            value: median(loaded),
            unit: "records/s",
            floor: beside(&dlt, "dlt"),
            target: Some((">=", 60_000.0)),
        },
    ];
    figures.push(Figure {
        what: "the same, peak memory",
        value: median(peaks),
        unit: "MiB",
        floor: dlt.first().map(|peer| (peer.peak_mib, "dlt")),
        target: Some(("<=", 150.0)),
    });
    Ok(figures)
}

fn root(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(path).to_string_lossy().into_owned()
}

/// One sync into a database of its own: records a second, and the process's peak in MiB.
fn load(
    runtime: &tokio::runtime::Runtime,
    server: &Database,
    url: &str,
    records: u64,
    run: usize,
) -> Fallible<(f64, f64)> {
    let name = format!("rest{run}");
    runtime.block_on(server.create_database(&name))?;
    let destination = json!({"postgres": {"url": server.url(&name), "password": PASSWORD}});
    let connection = json!({"w": {"plugin": "rest", "config": config(url), "streams": [{"name": "issues"}]}});
    let installation = Installation::with_component(&component()?, connection, destination)?;
    let Run { elapsed, peak_mib } = installation.run(&["sync", "w", "--quiet"])?;
    Ok((records as f64 / elapsed.as_secs_f64(), peak_mib))
}
