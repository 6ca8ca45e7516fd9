//! Keeps what a run tells while it goes: its log lines and its progress, in the control database.
//!
//! The sink never blocks; a task writes in intervals. Must never hold more than a bounded number of lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use thimble_pipeline::{EventSink, RunEvent};
use thimble_record::RunId;
use thimble_store::{Change, EventKind, LogLevel, LogLine, NewEvent, RunRow, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::now_ms;

/// How often lines and progress are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Lines that wait to be written; further ones are dropped and counted.
const MAX_WAITING_LINES: usize = 4096;

/// Hosts of one run whose denial stands in the audit log; the denials of further ones are in the run's log only.
const MAX_DENIED_HOSTS: usize = 100;

/// Takes the events of one run.
#[derive(Default)]
pub struct Recorder {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<LogLine>,
    dropped: u64,
    streams: BTreeMap<String, serde_json::Value>,
    moved: bool,
    /// Every host that was denied to the run.
    denied: BTreeSet<String>,
    /// Denials that are not in the audit log yet: host and sentence.
    to_audit: Vec<(String, String)>,
}

impl Recorder {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Plain data that no panic leaves half-changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, level: LogLevel, source: &str, message: String) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= MAX_WAITING_LINES {
            waiting.dropped += 1;
            return;
        }
        waiting.lines.push(LogLine { at: now_ms(), level, source: source.into(), message });
    }

    /// Once for each host: a connector that tries again and again must not fill the audit log.
    fn denied(&self, host: String, message: String) {
        let mut waiting = self.lock();
        if waiting.denied.len() < MAX_DENIED_HOSTS && waiting.denied.insert(host.clone()) {
            waiting.to_audit.push((host, message));
        }
    }

    async fn audit(&self, store: &Store, run: &RunId) {
        let waiting = std::mem::take(&mut self.lock().to_audit);
        if waiting.is_empty() {
            return;
        }
        if let Err(error) = note_denials(store, run, &waiting).await {
            tracing::warn!(%run, error = %error.failure(), "denials of a run cannot be noted in the audit log");
        }
    }

    /// Writes what waits. A run's log is worth no failure of the run.
    async fn write(&self, store: &Store, run: &RunId) {
        self.audit(store, run).await;
        let (mut lines, dropped, progress) = {
            let mut waiting = self.lock();
            let moved = std::mem::take(&mut waiting.moved);
            let progress = moved.then(|| json!({ "streams": waiting.streams }));
            (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped), progress)
        };
        if dropped > 0 {
            let message = format!("{dropped} log lines came faster than they could be stored and were dropped");
            lines.push(LogLine { at: now_ms(), level: LogLevel::Warn, source: "host".into(), message });
        }
        if let Err(error) = store.append_logs(run, &lines).await {
            tracing::warn!(%run, error = %error.failure(), "log lines of a run cannot be stored");
        }
        if let Some(progress) = progress
            && let Err(error) = store.progress(run, &progress).await
        {
            tracing::debug!(%run, error = %error.failure(), "the progress of a run cannot be stored");
        }
    }
}

impl EventSink for Recorder {
    fn event(&self, event: RunEvent) {
        match event {
            RunEvent::Log { level, message } => self.line(parse_level(&level), "plugin", message),
            RunEvent::Progress { stream, records, bytes, rejected } => {
                let mut waiting = self.lock();
                let progress = json!({ "emitted": records, "bytes": bytes, "rejected": rejected });
                waiting.streams.insert(stream, progress);
                waiting.moved = true;
            }
            RunEvent::EgressDenied { host, message } => self.denied(host, message),
            RunEvent::Retrying { stream, partition, wait_ms, failure } => {
                let message =
                    format!("stream {stream}, partition {partition}: {failure}; trying again in {wait_ms} ms");
                self.line(LogLevel::Warn, "host", message);
            }
            RunEvent::Started { epoch, recovered_batches } if recovered_batches > 0 => {
                let message = format!("recovered {recovered_batches} batches of an earlier run (epoch {epoch})");
                self.line(LogLevel::Info, "host", message);
            }
            RunEvent::Committed { seq, records, rejected } => {
                let message = format!("committed batch {seq}: {records} records, {rejected} rejected");
                self.line(LogLevel::Info, "host", message);
            }
            RunEvent::Finished { report, failure } => {
                // The first of the streams' failures is the run's; one that ended the run early stands alone.
                let alone = failure.filter(|_| report.failures.is_empty());
                for failure in report.failures.iter().chain(&alone) {
                    self.line(LogLevel::Error, "host", failure.message.clone());
                }
            }
            RunEvent::Started { .. } | RunEvent::Planned { .. } => {}
        }
    }
}

/// A row of the audit log and an event for each host that was denied to a run.
async fn note_denials(store: &Store, run: &RunId, denials: &[(String, String)]) -> Result<(), StoreError> {
    let row = store.run(run).await?;
    let workspace = row.workspace.as_deref();
    let connection = row.connection.as_ref().map(ToString::to_string);
    for (host, message) in denials {
        let detail = json!({ "run": run, "connection": connection, "message": message });
        let change = Change { actor: "run", action: "egress.denied", subject: host, detail: &detail, workspace };
        store.note(change, now_ms()).await?;
        let event = NewEvent {
            kind: EventKind::EgressDenied,
            workspace: row.workspace.clone(),
            connection: connection.clone(),
            stream: None,
            run: Some(run.clone()),
            detail: json!({ "host": host, "message": message }),
        };
        store.append_event(&event, now_ms()).await?;
    }
    Ok(())
}

fn parse_level(level: &str) -> LogLevel {
    match level {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Info,
    }
}

/// Which run is recorded.
pub enum Which {
    Known(RunId),
    /// The one run of this holder; it exists only after the work has begun.
    HeldBy(String),
}

impl Which {
    async fn find(&self, store: &Store) -> Option<RunId> {
        match self {
            Self::Known(run) => Some(run.clone()),
            Self::HeldBy(holder) => {
                let unfinished = store.unfinished_runs().await.ok()?;
                unfinished.into_iter().find(|run| run.holder.as_ref() == Some(holder)).map(|run| run.id)
            }
        }
    }
}

/// Writes while `work` goes on, and once more at its end.
///
/// The writing is a task of its own: the work may hold the database's one writing connection at any of its waits.
pub async fn record<E>(
    recorder: Arc<Recorder>,
    store: Store,
    which: Which,
    work: impl Future<Output = Result<RunRow, E>>,
) -> Result<RunRow, E> {
    let done = CancellationToken::new();
    let ended = match &which {
        Which::Known(run) => Some(run.clone()),
        Which::HeldBy(_) => None,
    };
    let writing = tokio::spawn(write_until(done.clone(), Arc::clone(&recorder), store.clone(), which));
    let result = work.await;
    done.cancel();
    if let Err(error) = writing.await {
        tracing::warn!(%error, "the log of a run stopped before the run");
    }
    // The outcome holds the final figures.
    recorder.lock().moved = false;
    if let Some(run) = result.as_ref().ok().map(|row| row.id.clone()).or(ended) {
        recorder.write(&store, &run).await;
    }
    result
}

async fn write_until(done: CancellationToken, recorder: Arc<Recorder>, store: Store, which: Which) {
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            () = tokio::time::sleep(WRITE_EVERY) => {
                if let Some(run) = which.find(&store).await {
                    recorder.write(&store, &run).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_store::{NewRun, RunOutcome, Trigger};

    use super::*;

    /// The work is inside a write nearly all the time; a recorder that kept it from going on while it waits for the
    /// same connection would wait for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writing_never_holds_up_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("thimble.db")).await.unwrap();
        let run = store.start(&NewRun::install("x", Trigger::Manual), "me", 60_000, now_ms()).await.unwrap();
        let recorder = Arc::new(Recorder::default());
        let (sink, writer, id) = (Arc::clone(&recorder), store.clone(), run.id.clone());
        let work = async move {
            let until = tokio::time::Instant::now() + WRITE_EVERY * 5 / 2;
            while tokio::time::Instant::now() < until {
                sink.event(RunEvent::Log { level: "info".into(), message: "at work".into() });
                writer.append_audit("me", "test", "x", &json!({}), now_ms()).await?;
            }
            writer.finish(&id, &RunOutcome::succeeded(serde_json::Value::Null), now_ms()).await
        };
        let recorded = record::<StoreError>(recorder, store.clone(), Which::Known(run.id.clone()), work);
        let ended = tokio::time::timeout(Duration::from_secs(20), recorded).await.unwrap().unwrap();
        assert!(ended.status.finished());
        assert!(!store.logs(&run.id, 0, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn each_denied_host_stands_once_in_the_audit_log_and_not_too_many_do() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("thimble.db")).await.unwrap();
        let run = store.start(&NewRun::install("x", Trigger::Manual), "me", 60_000, now_ms()).await.unwrap();
        let recorder = Recorder::default();
        let deny = |host: String| recorder.event(RunEvent::EgressDenied { host, message: "not granted".into() });
        (0..3).for_each(|_| deny("a.example".into()));
        recorder.write(&store, &run.id).await;
        deny("a.example".into());
        (0..MAX_DENIED_HOSTS + 5).for_each(|n| deny(format!("{n}.example")));
        recorder.write(&store, &run.id).await;
        let rows = store.audit(1_000, None).await.unwrap();
        let denied: Vec<_> = rows.iter().filter(|row| row.action == "egress.denied").collect();
        assert_eq!(denied.len(), MAX_DENIED_HOSTS);
        assert_eq!(denied.iter().filter(|row| row.subject == "a.example").count(), 1);
        assert_eq!(denied[0].detail["run"], run.id.0.as_str());
        let events = store.events(None, None, 1_000, None).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == EventKind::EgressDenied).count(), MAX_DENIED_HOSTS);
    }

    #[test]
    fn lines_that_wait_are_bounded() {
        let recorder = Recorder::default();
        for _ in 0..MAX_WAITING_LINES + 7 {
            recorder.event(RunEvent::Log { level: "warn".into(), message: "again".into() });
        }
        let waiting = recorder.lock();
        assert_eq!((waiting.lines.len(), waiting.dropped), (MAX_WAITING_LINES, 7));
    }
}
