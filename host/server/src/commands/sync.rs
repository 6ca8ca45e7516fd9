//! `thimble sync`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::Serialize;
use serde_json::{Value, json};
use thimble_load::Destination;
use thimble_pipeline::{EventSink, ReplayReport, RunEvent, RunReport};
use thimble_record::{Checksum, ConnectionId, Failure, WriteMode};
use thimble_store::{RunKind, RunRow};

use super::{
    execute::{self, Asked, Executed, failure_of},
    recording::Recording,
    runs::word,
};
use crate::{
    cli::Global,
    exit::CliError,
    output::{Output, Table, count, plural, seconds, size},
    progress::{Progress, Progressed},
    wiring::Wired,
};

/// Move what is new from a connection's source to the destination.
///
/// Ctrl-C stops at the next checkpoint; what was moved stays, and the next sync goes on there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble sync flights\n  thimble sync flights --stream airports --full-refresh\n  thimble sync flights --output json | jq .streams"
)]
pub struct Sync {
    /// The connection.
    connection: String,
    /// Only this stream; may be given several times.
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Read everything again; the old rows stay readable until the new ones take their place.
    #[arg(long)]
    full_refresh: bool,
    #[command(flatten)]
    recording: Recording,
}

/// What is shown when it is over.
#[derive(Serialize)]
struct Summary {
    run: String,
    connection: String,
    status: String,
    seconds: f64,
    records: u64,
    rejected: u64,
    batches: u64,
    recovered_batches: u64,
    streams: BTreeMap<String, StreamSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<ReplayReport>,
    failures: Vec<Failure>,
    /// Commands that read the first stream.
    read: Vec<String>,
}

#[derive(Serialize)]
struct StreamSummary {
    records: u64,
    bytes: u64,
    /// Extracted; the sum of the four below.
    emitted: u64,
    /// New rows.
    loaded: u64,
    /// Folded into another row of the same key.
    merged: u64,
    rejected: u64,
    filtered: u64,
    /// Of the rows, as they were extracted, staged and loaded.
    checksum: Checksum,
    seconds: f64,
    /// Folder of whole Parquet files, or the table's name.
    location: String,
}

/// Syncs.
pub fn run(arguments: Sync, global: &Global, output: Output) -> Result<(), CliError> {
    let Sync { connection, streams, full_refresh, recording } = arguments;
    let request = json!({ "streams": streams, "full_refresh": full_refresh });
    execute(&connection, request, recording, global, output)
}

/// Runs a sync of this request and shows what it came to.
pub fn execute(
    connection: &str,
    request: Value,
    recording: Recording,
    global: &Global,
    output: Output,
) -> Result<(), CliError> {
    let watcher = Arc::new(Watcher::new(output.quiet));
    let watch = Arc::clone(&watcher) as Arc<dyn EventSink>;
    let asked = Asked { connection, kind: RunKind::Sync, request, watch, recording };
    execute::run(asked, global, output, async |Executed { wired, id, run, .. }| {
        let spans = watcher.finish();
        let failure = failure_of(&run);
        // A run that failed early has no figures, and its error says it all.
        let destination = destination(&wired, &id).await;
        if let Some(summary) = summary(destination.as_deref(), &id, &run, &spans)
            && (failure.is_none() || output.is_text() && !summary.streams.is_empty())
        {
            show(&summary, output)?;
        }
        failure.map_or(Ok(()), Err)
    })
}

/// The connection's destination; nothing where it cannot be told, because the sync is over.
async fn destination(wired: &Wired, id: &ConnectionId) -> Option<Arc<dyn Destination>> {
    let connection = wired.worker.store.connection(id).await.ok()?;
    wired.worker.destinations.of(&connection).await.ok()
}

fn summary(destination: Option<&dyn Destination>, id: &ConnectionId, run: &RunRow, spans: &Spans) -> Option<Summary> {
    let report: RunReport = serde_json::from_value(run.report.clone()).ok()?;
    let (records, rejected) = (report.records(), report.rejected());
    let place = |stream: &str| {
        let location = destination.map_or_else(String::new, |destination| destination.location(id, stream));
        location.trim_end_matches("/*.parquet").to_owned()
    };
    let describe = |(stream, figures): (&String, &thimble_pipeline::StreamReport)| {
        let seconds = spans.get(stream).map_or(0.0, |(first, last)| last.duration_since(*first).as_secs_f64());
        let summary = StreamSummary {
            records: figures.counts.loaded + figures.counts.merged,
            bytes: figures.bytes,
            emitted: figures.counts.emitted,
            loaded: figures.counts.loaded,
            merged: figures.counts.merged,
            rejected: figures.counts.rejected,
            filtered: figures.counts.filtered,
            checksum: figures.checksum,
            seconds,
            location: place(stream),
        };
        (stream.clone(), summary)
    };
    let streams: BTreeMap<_, _> = report.streams.iter().map(describe).collect();
    let largest = streams.iter().max_by_key(|(_, stream)| stream.records);
    let read = largest.map(|(name, stream)| commands(id, name, report.streams[name].mode, &stream.location));
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of a run fit a double")]
    let seconds = report.elapsed_ms as f64 / 1000.0;
    Some(Summary {
        run: run.id.to_string(),
        connection: id.to_string(),
        status: word(&run.status),
        seconds,
        records,
        rejected,
        batches: report.batches,
        recovered_batches: report.recovered_batches,
        streams,
        replay: report.replay,
        failures: report.failures,
        read: read.unwrap_or_default(),
    })
}

/// Commands that read a table.
fn commands(id: &ConnectionId, stream: &str, mode: WriteMode, location: &str) -> Vec<String> {
    if location.is_empty() {
        return Vec::new();
    }
    let in_lake = !location.starts_with('"');
    if in_lake && mode != WriteMode::Append {
        // The files hold every version; the reader folds them, and so do the views for DuckDB.
        return vec![format!(
            "thimble read {id} {stream}    # for DuckDB there are views in {id}/views.sql of the lake"
        )];
    }
    if !in_lake {
        return vec![format!("psql -c 'select count(*) from {location}'    # and the destination's URL")];
    }
    let quoted = location.replace('\'', "''");
    let escaped = location.replace('\\', "\\\\").replace('\'', "\\'");
    vec![
        format!("duckdb -c \"SELECT count(*) FROM read_parquet('{quoted}/*.parquet', union_by_name=true)\""),
        format!("python3 -c \"import pyarrow.dataset as d; print(d.dataset('{escaped}').count_rows())\""),
    ]
}

fn show(summary: &Summary, output: Output) -> Result<(), CliError> {
    output.show(summary, |out| {
        if let Some(ReplayReport { replayed, rejected, skipped }) = summary.replay {
            let (replayed, rejected, skipped) = (count(replayed), count(rejected), count(skipped));
            return writeln!(
                out,
                "{}: {replayed} rejected records became rows, {rejected} were rejected again, {skipped} cannot be replayed (run {})",
                summary.connection, summary.run
            );
        }
        if summary.streams.is_empty() {
            return writeln!(
                out,
                "{}: nothing new ({:.2} s, run {})",
                summary.connection, summary.seconds, summary.run
            );
        }
        let mut table = Table::new(&["stream", "records#", "bytes#", "seconds#", "merged#", "rejected#", "filtered#", "table"]);
        for (stream, StreamSummary { records, bytes, merged, rejected, filtered, seconds, location, .. }) in &summary.streams {
            table.row([
                stream.clone(),
                count(*records),
                size(*bytes),
                format!("{seconds:.2}"),
                count(*merged),
                count(*rejected),
                count(*filtered),
                location.clone(),
            ]);
        }
        table.write(out)?;
        writeln!(
            out,
            "\n{}: {} records, {} rejected, {} in {:.2} s (run {})",
            summary.connection,
            count(summary.records),
            count(summary.rejected),
            plural(summary.batches, "batch", "batches"),
            summary.seconds,
            summary.run
        )?;
        if summary.recovered_batches > 0 {
            let recovered = plural(summary.recovered_batches, "batch", "batches");
            writeln!(out, "{recovered} of an interrupted run came first")?;
        }
        for failure in &summary.failures {
            writeln!(out, "failed: {failure}")?;
        }
        if !summary.read.is_empty() {
            writeln!(out, "\nread it:\n  {}", summary.read.join("\n  "))?;
        }
        Ok(())
    })
}

/// When each stream was first and last heard of.
type Spans = BTreeMap<String, (Instant, Instant)>;

/// Turns events into progress.
struct Watcher {
    state: Mutex<Watching>,
}

struct Watching {
    progress: Option<Progress>,
    streams: BTreeMap<String, Progressed>,
    spans: Spans,
}

impl Watcher {
    fn new(quiet: bool) -> Self {
        let progress = Some(Progress::start(quiet));
        Self { state: Mutex::new(Watching { progress, streams: BTreeMap::new(), spans: Spans::new() }) }
    }

    /// Ends the progress and gives the times.
    fn finish(&self) -> Spans {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = state.progress.take() {
            progress.finish();
        }
        std::mem::take(&mut state.spans)
    }
}

impl Watching {
    fn update(&mut self, stream: String, change: impl FnOnce(&mut Progressed)) {
        let now = Instant::now();
        self.spans.entry(stream.clone()).or_insert((now, now)).1 = now;
        let progressed = self.streams.entry(stream.clone()).or_default();
        change(progressed);
        if let Some(progress) = &mut self.progress {
            progress.update(&stream, *progressed, now);
        }
    }

    fn say(&self, text: &str) {
        if let Some(progress) = &self.progress {
            progress.say(text);
        }
    }
}

impl EventSink for Watcher {
    fn event(&self, event: RunEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            RunEvent::Planned { stream, partitions, estimated_bytes: _, estimated_records } => {
                state.update(stream, |at| {
                    at.partitions = partitions;
                    at.expected = estimated_records.filter(|records| *records > 0);
                });
            }
            RunEvent::Progress { stream, records, bytes, rejected } => state.update(stream, |at| {
                at.records = records;
                at.bytes = bytes;
                at.rejected = rejected;
            }),
            RunEvent::Retrying { stream, partition, wait_ms, failure } => {
                let wait = seconds(i64::try_from(wait_ms).unwrap_or(i64::MAX));
                state.say(&format!("{stream}: {failure}; partition {partition} is tried again in {wait}"));
            }
            RunEvent::Started { recovered_batches, .. } if recovered_batches > 0 => {
                let recovered = plural(recovered_batches, "batch", "batches");
                state.say(&format!("recovered {recovered} of an interrupted run"));
            }
            RunEvent::Log { level, message } if matches!(level.as_str(), "warn" | "error") => {
                state.say(&format!("{level}: {message}"));
            }
            RunEvent::Started { .. }
            | RunEvent::Committed { .. }
            | RunEvent::Log { .. }
            | RunEvent::EgressDenied { .. }
            | RunEvent::Finished { .. } => {}
        }
    }
}
