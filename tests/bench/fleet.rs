//! A host with 1,000 connections that are synced every minute: are they on time, and does the API answer meanwhile?
//!
//! The source shows each connection one new page of ten records a minute, so that every sync loads something. It runs in this
//! process, beside the host, on the same cores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Query, State},
    http::header,
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use thimble_fixtures::pages::page_of;

use crate::{
    Figure,
    process::{Fallible, memory_mib},
    sync::{Http, Server},
};

/// How often each connection is synced.
const EVERY: Duration = Duration::from_secs(60);
/// Records of a page: what is new in a minute.
const RECORDS: u64 = 10;
/// Connectors that compute for ever.
const SPINNING: usize = 8;
/// Between two requests of the client whose waiting is measured.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// One page a minute, each of them new.
#[derive(Clone)]
struct Growing {
    begun: Instant,
    page: Bytes,
}

#[derive(serde::Deserialize)]
struct PageQuery {
    page: u64,
}

async fn page(State(source): State<Growing>, Query(PageQuery { page }): Query<PageQuery>) -> impl IntoResponse {
    let there = page <= source.begun.elapsed().as_secs() / EVERY.as_secs() + 1;
    let body = if there { source.page.clone() } else { Bytes::from_static(b"[]") };
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// Serves until the process ends; answers where.
fn source() -> Fallible<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let state = Growing { begun: Instant::now(), page: page_of(0..RECORDS) };
    let router = Router::new().route("/issues", get(page)).with_state(state);
    thread::spawn(move || runtime.block_on(async { axum::serve(listener, router).await }));
    Ok(format!("http://{address}"))
}

fn connections(url: &str, count: usize) -> Value {
    let mut all: Map<String, Value> = (0..count)
        .map(|number| {
            let connection = json!({
                "plugin": "bench",
                "config": {"url": url, "checkpoint_pages": 1},
                "streams": [{"name": "issues"}],
                "schedule": {"every": "1m"},
            });
            (format!("fleet-{number:04}"), connection)
        })
        .collect();
    for number in 0..SPINNING {
        let spinning = json!({"plugin": "bench", "config": {}, "streams": [{"name": "spin"}]});
        all.insert(format!("spin-{number}"), spinning);
    }
    Value::Object(all)
}

/// What a client waits for, in milliseconds, while others work.
struct Client {
    stop: Arc<AtomicBool>,
    waiting: thread::JoinHandle<Result<Vec<f64>, String>>,
}

impl Client {
    fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, url, token) = (Arc::clone(&stop), server.url.clone(), server.token.clone());
        let waiting = thread::spawn(move || ask(&url, &token, &ended).map_err(|error| error.to_string()));
        Self { stop, waiting }
    }

    fn end(self) -> Fallible<Vec<f64>> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.waiting.join().map_err(|_| "the client met a defect")??)
    }
}

/// What a console asks, in turn.
fn ask(url: &str, token: &str, stop: &AtomicBool) -> Fallible<Vec<f64>> {
    let paths = [
        "/api/v1/connections?limit=20",
        "/api/v1/runs?limit=20",
        "/api/v1/connections/fleet-0001",
        "/api/v1/connections/fleet-0001/schedule",
        "/api/v1/plugins",
    ];
    let mut http = Http::connect(url)?;
    let mut waits = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for path in paths {
            let started = Instant::now();
            let (status, _) = http.request("GET", path, Some(token), None)?;
            waits.push(started.elapsed().as_secs_f64() * 1e3);
            if !status.contains("200") {
                return Err(format!("{path}: {status}").into());
            }
            thread::sleep(ASK_EVERY);
        }
    }
    Ok(waits)
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    // The share is below 1, so that the index is in range.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// What was seen in a span of time.
struct Seen {
    /// From the slot to the start, in seconds, by run.
    delays: Vec<f64>,
    failed: usize,
    /// Slots that should have started in that time.
    expected: usize,
    waits: Vec<f64>,
    peak_mib: f64,
    cpu_share: f64,
}

/// Looks on for a while. Runs are judged by their slots, those at the end by what became of them a little later.
fn look(server: &Server, count: usize, span: Duration) -> Fallible<Seen> {
    let from = now_ms();
    let until = from + i64::try_from(span.as_millis())?;
    let client = Client::start(server);
    let cpu = cpu_seconds(server.child.id())?;
    let (started, mut peak_mib) = (Instant::now(), 0.0_f64);
    while started.elapsed() < span {
        peak_mib = peak_mib.max(memory_mib(server.child.id(), "VmRSS").ok_or("the server is gone")?);
        thread::sleep(Duration::from_millis(200));
    }
    let cpu_share = (cpu_seconds(server.child.id())? - cpu) / started.elapsed().as_secs_f64();
    let waits = client.end()?;
    thread::sleep(Duration::from_secs(10));
    let runs = runs_since(server, from - 60_000)?;
    let slots = runs.iter().filter_map(|run| Some((run, run["slot"].as_i64()?)));
    let slots: Vec<_> = slots.filter(|(_, slot)| (from..until).contains(slot)).collect();
    let delays = slots.iter().filter_map(|(run, slot)| Some((run["started_at"].as_i64()? - slot) as f64 / 1e3));
    Ok(Seen {
        delays: delays.collect(),
        failed: slots.iter().filter(|(run, _)| run["status"] != "succeeded").count(),
        expected: count * usize::try_from(span.as_secs() / EVERY.as_secs())?,
        waits,
        peak_mib,
        cpu_share,
    })
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// User and system time of a process in seconds (proc(5), `stat`, in ticks of 10 ms).
fn cpu_seconds(pid: u32) -> Fallible<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn runs_since(server: &Server, since_ms: i64) -> Fallible<Vec<Value>> {
    let mut http = Http::connect(&server.url)?;
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let (_, answer) = http.request("GET", &format!("/api/v1/runs?limit=500{cursor}"), Some(&server.token), None)?;
        let page: Value = serde_json::from_slice(&answer)?;
        let items = page["items"].as_array().ok_or_else(|| format!("no page of runs: {page}"))?;
        all.extend(items.iter().cloned());
        let oldest = items.last().and_then(|run| run["queued_at"].as_i64());
        match page["next"].as_str() {
            Some(next) if oldest.is_some_and(|oldest| oldest >= since_ms) => cursor = format!("&cursor={next}"),
            _ => return Ok(all),
        }
    }
}

/// `count` connections, a minute to settle, two minutes that count, and one beside connectors that compute for ever.
pub fn measure(count: usize) -> Fallible<Vec<Figure>> {
    let url = source()?;
    let server = Server::with(connections(&url, count))?;
    thread::sleep(EVERY + Duration::from_secs(10));
    let mut calm = look(&server, count, EVERY * 2)?;
    let mut http = Http::connect(&server.url)?;
    for number in 0..SPINNING {
        let path = format!("/api/v1/connections/spin-{number}/runs");
        let (status, answer) = http.request("POST", &path, Some(&server.token), Some(r#"{"kind": "sync"}"#))?;
        if !status.contains("202") {
            return Err(format!("{path}: {status} {}", String::from_utf8_lossy(&answer)).into());
        }
    }
    thread::sleep(Duration::from_secs(5));
    let mut loud = look(&server, count, EVERY)?;
    eprintln!(
        "fleet: {} of {} runs, {} not succeeded, {:.2} cores, delay p50 {:.2} s max {:.2} s, API p50 {:.1} ms max {:.1} ms",
        calm.delays.len(),
        calm.expected,
        calm.failed,
        calm.cpu_share,
        percentile(&mut calm.delays, 0.5),
        percentile(&mut calm.delays, 1.0),
        percentile(&mut calm.waits, 0.5),
        percentile(&mut calm.waits, 1.0),
    );
    eprintln!(
        "fleet beside {SPINNING} endless loops: {} of {} runs, {} not succeeded, {:.2} cores, delay p50 {:.2} s p99 {:.2} s, {:.0} MiB",
        loud.delays.len(),
        loud.expected,
        loud.failed,
        loud.cpu_share,
        percentile(&mut loud.delays, 0.5),
        percentile(&mut loud.delays, 0.99),
        loud.peak_mib,
    );
    Ok(figures(&mut calm, &mut loud))
}

#[allow(clippy::cast_precision_loss, reason = "counts of runs are small")]
fn figures(calm: &mut Seen, loud: &mut Seen) -> Vec<Figure> {
    let figure = |what, value, unit, target| Figure { what, value, unit, floor: None, target: Some(target) };
    let done = (calm.delays.len() - calm.failed) as f64 / calm.expected as f64 * 100.0;
    vec![
        figure("1,000 connections every minute: slots that were synced", done, "%", (">=", 99.5)),
        figure("the same, start delay p99", percentile(&mut calm.delays, 0.99), "s", ("<=", 2.0)),
        figure("the same, memory of the host", calm.peak_mib, "MiB", ("<=", 600.0)),
        figure("the same, API p99", percentile(&mut calm.waits, 0.99), "ms", ("<=", 50.0)),
        figure("beside 8 endless loops, API p99", percentile(&mut loud.waits, 0.99), "ms", ("<=", 50.0)),
    ]
}
