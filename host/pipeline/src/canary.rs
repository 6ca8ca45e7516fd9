//! A canary: another version of a connection's plugin reads again what a recorded sync read, and nothing comes of it but a
//! report.
//!
//! Reads from the position that stood before the recorded sync, into a sink that decodes and counts. Must never stage, load or
//! seal anything, nor change a position, a schema or a catalog.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use arrow_array::Array;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thimble_engine::{
    canary::{self, Canary, Figures, Found, Recorded},
    reject::{Tally, exceeded},
};
use thimble_load::Destination;
use thimble_plugin::RawBatch;
use thimble_record::{
    BatchSeq, Catalog, ErrorKind, Failure, Field, Position, Rejected, RunId, StreamSchema, envelope::Purpose,
};
use thimble_store::{PluginRow, RunRow};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    collect::{Message, PartitionIndex, StreamWork},
    events::EventSink,
    plan::{self, Chosen, Known, Planned},
    portion::{self, Portion},
    read::{ReadTask, Readers},
    report::RunReport,
    request::SyncRequest,
    session::Loaded,
    worker::{QUEUED_MESSAGES, Worker, failed, lane},
};

/// What a canary may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryLimits {
    /// Records of one stream.
    pub max_records: u64,
    /// Bytes of one stream, as the connector hands them over.
    pub max_bytes: u64,
    /// Milliseconds for all streams; each gets an equal share of what is left.
    pub max_time_ms: u64,
}

impl Default for CanaryLimits {
    fn default() -> Self {
        Self { max_records: 1_000_000, max_bytes: 1024 * 1024 * 1024, max_time_ms: 10 * 60 * 1_000 }
    }
}

/// The request of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// The version that is tried.
    pub digest: String,
    /// The sync that it is compared with.
    pub recorded: RunId,
}

/// What the canary starts from.
struct Ground {
    sync: SyncRequest,
    position: Position,
    seq: BatchSeq,
    report: RunReport,
    destination: Arc<dyn Destination>,
}

impl Worker {
    pub(crate) async fn canary(
        &self,
        run: &RunRow,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<RunReport, Failure> {
        let wrong = |what: String| Failure::new(ErrorKind::Config, format!("the canary cannot run: {what}"));
        let CanaryRequest { digest, recorded } =
            serde_json::from_value(run.request.clone()).map_err(|error| wrong(error.to_string()))?;
        let id = run.connection.clone().ok_or_else(|| wrong("it names no connection".into()))?;
        let connection = self.store.connection(&id).await.map_err(|e| failed(&e))?;
        let recorded = self.store.run(&recorded).await.map_err(|e| failed(&e))?;
        if recorded.connection.as_ref() != Some(&id) {
            return Err(wrong(format!("run {} is none of connection {id}", recorded.id)));
        }
        let ground = self.ground(&recorded).await?;
        let versions = self.store.plugin_versions(&connection.plugin).await.map_err(|e| failed(&e))?;
        let candidate = versions.into_iter().find(|version| version.plugin.digest == digest);
        let candidate = candidate.ok_or_else(|| wrong(format!("{} has no version {digest}", connection.plugin)))?;
        let version = candidate.plugin.version.clone();
        let (canary, cancelled) = tokio::select! {
            tried = self.try_candidate(&ground, candidate.plugin, run, events, &cancel) => (Some(tried?), false),
            () = cancel.cancelled() => (None, true),
        };
        let answer = canary.map(|canary| {
            let mut answer = json!(canary);
            answer["digest"] = json!(digest);
            answer["version"] = json!(version);
            answer["recorded"] = json!(recorded.id);
            answer
        });
        Ok(RunReport { answer, cancelled, ..RunReport::default() })
    }

    /// What the recorded sync was asked for, and the position that stood before it.
    async fn ground(&self, recorded: &RunRow) -> Result<Ground, Failure> {
        let wrong =
            |what: &str| Failure::new(ErrorKind::Config, format!("run {} cannot be read again: {what}", recorded.id));
        let id = recorded.connection.clone().ok_or_else(|| wrong("it names no connection"))?;
        let sync = SyncRequest::parse(&recorded.request)?;
        if sync.replay.is_some() {
            return Err(wrong("it made rows of rejected records, and did not read the source"));
        }
        let report: RunReport = serde_json::from_value(recorded.report.clone())
            .map_err(|_| wrong("its report is not that of a sync that ended"))?;
        let started_at = recorded.started_at.ok_or_else(|| wrong("it never began"))?;
        let seq = match report.began_after {
            Some(seq) => seq,
            None => self.store.checkpoint_before(&id, started_at).await.map_err(|e| failed(&e))?.unwrap_or_default(),
        };
        let position = match seq {
            BatchSeq(0) => Position::default(),
            seq => self
                .store
                .checkpoint(&id, seq)
                .await
                .map_err(|_| wrong("the position that stood before it is no longer known; choose a later run"))?,
        };
        let connection = self.store.connection(&id).await.map_err(|e| failed(&e))?;
        let destination = self.destinations.of(&connection).await?;
        Ok(Ground { sync, position, seq, report, destination })
    }

    /// Whatever the candidate cannot do is the canary's answer, not its failure.
    async fn try_candidate(
        &self,
        ground: &Ground,
        candidate: PluginRow,
        run: &RunRow,
        events: Arc<dyn EventSink>,
        cancel: &CancellationToken,
    ) -> Result<Canary, Failure> {
        let id = run.connection.as_ref().ok_or_else(|| Failure::system("a canary names no connection"))?;
        let backfill = ground.sync.backfill.as_ref();
        let loaded = match self.open_version(id, Arc::clone(&events), backfill, Some(candidate)).await {
            Ok(loaded) => loaded,
            Err(failure) => return Ok(canary::failed("the candidate cannot be started", &failure.message)),
        };
        let until = Instant::now() + Duration::from_millis(self.settings.canary.max_time_ms);
        let discovered = tokio::time::timeout_at(until, loaded.connector.discover(&loaded.session)).await;
        let after = match discovered {
            Ok(Ok(catalog)) => catalog,
            Ok(Err(error)) => {
                return Ok(canary::failed("the candidate cannot discover", &error.failure().message));
            }
            Err(_) => return Ok(canary::failed("the candidate cannot discover", "it took longer than a canary may")),
        };
        let before = loaded.connection.catalog.clone().unwrap_or_else(|| after.clone());
        let chosen = match self.chosen(ground, &loaded, &before, &after) {
            Ok(chosen) => chosen,
            Err(failure) => return Ok(canary::failed("its streams do not fit the connection", &failure.message)),
        };
        let mut wanted: BTreeSet<String> = chosen.iter().map(|chosen| chosen.stream.name.clone()).collect();
        wanted.extend(before.streams.iter().map(|s| s.name.clone()).filter(|name| reads(ground, &loaded, name)));
        let (mut recorded, mut found) = (BTreeMap::new(), BTreeMap::new());
        let mut left = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        for chosen in chosen {
            let name = chosen.stream.name.clone();
            recorded.insert(name.clone(), self.recorded(ground, &loaded, &chosen, &before).await?);
            let share = until.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            let reading = Reading { worker: self, ground, loaded: &loaded, catalog: &after, share };
            found.insert(name, reading.stream(chosen, Arc::clone(&events), cancel).await?);
        }
        Ok(canary::compare(&before, &after, &wanted, &recorded, found))
    }

    /// The streams that the recorded sync would read of the candidate. Those that went with the version in use are told
    /// apart; what neither version has is an error, as in a sync.
    fn chosen(
        &self,
        ground: &Ground,
        loaded: &Loaded,
        before: &Catalog,
        catalog: &Catalog,
    ) -> Result<Vec<Chosen>, Failure> {
        let known = |name: &str| catalog.stream(name).is_some() || before.stream(name).is_none();
        let selected = &loaded.connection.streams;
        let selections: Vec<_> = selected.iter().filter(|s| known(&s.stream)).cloned().collect();
        let mut request = ground.sync.clone();
        request.streams.retain(|name| known(name));
        let none_left = (selections.is_empty() && !selected.is_empty())
            || (request.streams.is_empty() && !ground.sync.streams.is_empty());
        if none_left {
            return Ok(Vec::new());
        }
        let key = self.keys.stable(Purpose::ColumnDigests);
        plan::choose(catalog, &selections, &request, ground.destination.capabilities(), key)
    }

    async fn recorded(
        &self,
        ground: &Ground,
        loaded: &Loaded,
        chosen: &Chosen,
        before: &Catalog,
    ) -> Result<Recorded, Failure> {
        let name = &chosen.stream.name;
        let counts = ground.report.streams.get(name).map(|stream| stream.counts).unwrap_or_default();
        let figures = Figures { records: counts.emitted, rejected: counts.rejected };
        let declared = before.stream(name).map(|stream| selected(&stream.schema, chosen));
        let stored = self.store.schema(&loaded.connection.id, name).await.map_err(|e| failed(&e))?;
        Ok(Recorded { figures, declared, stored })
    }
}

/// Whether a sync of the connection reads a stream of this name, if its source has it.
fn reads(ground: &Ground, loaded: &Loaded, name: &str) -> bool {
    let every = thimble_record::selection::EVERY_STREAM;
    let selected = &loaded.connection.streams;
    let by_connection = selected.is_empty() || selected.iter().any(|s| s.stream == name || s.stream == every);
    let SyncRequest { streams, except, .. } = &ground.sync;
    let by_request = streams.is_empty() || streams.iter().any(|asked| asked == name);
    by_connection && by_request && !except.iter().any(|left_out| left_out == name)
}

/// The declared fields that the connection keeps.
fn selected(schema: &StreamSchema, chosen: &Chosen) -> StreamSchema {
    let columns = &chosen.selection.columns;
    let kept = |field: &&Field| columns.is_empty() || columns.contains(&field.name) || chosen.key.contains(&field.name);
    StreamSchema { fields: schema.fields.iter().filter(kept).cloned().collect(), children: schema.children.clone() }
}

/// One stream's turn.
struct Reading<'a> {
    worker: &'a Worker,
    ground: &'a Ground,
    loaded: &'a Loaded,
    catalog: &'a Catalog,
    share: Duration,
}

impl Reading<'_> {
    async fn stream(
        &self,
        chosen: Chosen,
        events: Arc<dyn EventSink>,
        cancel: &CancellationToken,
    ) -> Result<Found, Failure> {
        let declared = selected(&chosen.stream.schema, &chosen);
        let until = Instant::now() + self.share;
        let limits = self.worker.settings.canary;
        let out_of_time = format!("its share of {} seconds", limits.max_time_ms / 1_000);
        let planned = match tokio::time::timeout_at(until, self.plan(chosen)).await {
            Err(_) => return Ok(Found { declared, cut_by: Some(out_of_time), ..Found::default() }),
            Ok(Err(failure)) => return Ok(Found { declared, failure: Some(failure.message), ..Found::default() }),
            Ok(Ok(planned)) => planned,
        };
        let stop = cancel.child_token();
        let Planned { work, requests, .. } = planned;
        let tasks = requests.into_iter().enumerate().map(|(partition, request)| ReadTask { partition, request });
        let (messages, inbox) = mpsc::channel::<Message>(QUEUED_MESSAGES);
        let tally = Counting::new(work, limits, Arc::clone(&self.ground.destination), stop.clone());
        let counting = tokio::task::spawn_blocking(move || tally.run(inbox));
        let readers = Readers {
            connector: Arc::clone(&self.loaded.connector),
            session: self.loaded.session.clone(),
            settings: self.worker.settings.clone(),
            messages,
            events,
            cancel: stop.clone(),
        };
        let reading = readers.read_all(tasks.collect());
        tokio::pin!(reading);
        let (failures, timed_out) = tokio::select! {
            failures = &mut reading => (failures, false),
            () = tokio::time::sleep_until(until) => {
                stop.cancel();
                (reading.await, true)
            }
        };
        let counted = counting.await.map_err(|error| Failure::system(format!("counting stopped: {error}")))?;
        let mut found = Found { declared, ..counted };
        if timed_out {
            found.cut_by.get_or_insert(out_of_time);
        }
        if found.failure.is_none() {
            found.failure = failures.into_iter().next().map(|failure| failure.message);
        }
        Ok(found)
    }

    async fn plan(&self, chosen: Chosen) -> Result<Planned, Failure> {
        let Ground { sync, position, seq, destination, .. } = self.ground;
        let name = chosen.stream.name.clone();
        let live = position.streams.get(&name).cloned().unwrap_or_default();
        let mut begun = match &sync.backfill {
            None => live,
            Some(backfill) => lane(&name, &live, position, backfill)?,
        };
        plan::begin(&chosen, &mut begun, seq.next(), sync.backfill.is_some());
        let stored = self.worker.store.schema(&self.loaded.connection.id, &name).await.map_err(|e| failed(&e))?;
        let streams = self.catalog.streams.iter().map(|stream| stream.name.clone()).collect();
        let known = Known { stored, streams, capabilities: destination.capabilities() };
        plan::plan(self.loaded.connector.as_ref(), &self.loaded.session, chosen, &begun, known).await
    }
}

/// What a partition sent since its last checkpoint.
#[derive(Default)]
struct Uncovered {
    figures: Figures,
    filled: BTreeSet<String>,
    last: Option<Rejected>,
}

/// The sink of one stream: decodes as a sync would, counts, and keeps nothing.
struct Counting {
    work: StreamWork,
    limits: CanaryLimits,
    destination: Arc<dyn Destination>,
    /// Ends the read where a limit is reached.
    stop: CancellationToken,
    /// The stream's fields before this read, which records may leave empty.
    fields: Vec<String>,
    uncovered: HashMap<PartitionIndex, Uncovered>,
    total: Uncovered,
    bytes: u64,
    cut_by: Option<String>,
}

impl Counting {
    fn new(work: StreamWork, limits: CanaryLimits, destination: Arc<dyn Destination>, stop: CancellationToken) -> Self {
        let fields = work.decoder.schema().fields.iter().map(|field| field.name.clone()).collect();
        let (uncovered, total) = (HashMap::new(), Uncovered::default());
        Self { work, limits, destination, stop, fields, uncovered, total, bytes: 0, cut_by: None }
    }

    /// Runs until the readers are gone, a limit is reached, or a batch cannot be decoded.
    fn run(mut self, mut messages: mpsc::Receiver<Message>) -> Found {
        let mut failure = None;
        while let Some(message) = messages.blocking_recv() {
            if let Err(error) = self.take(message) {
                failure = Some(error.message);
                break;
            }
            if self.cut_by.is_some() {
                break;
            }
        }
        self.stop.cancel();
        failure = failure.or_else(|| self.over_rejected(true));
        let empty = self.fields.iter().filter(|field| !self.total.filled.contains(&self.work.shape.column(field)));
        Found {
            figures: self.total.figures,
            declared: StreamSchema::default(),
            grown: self.work.decoder.schema().clone(),
            empty: empty.cloned().collect(),
            cut_by: self.cut_by,
            failure,
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Batch { partition, batch, _permit } => self.batch(partition, &batch),
            Message::Rejected { partition, records } => {
                let portion = Portion::of_rejected(records, &self.work.shape);
                self.hold(partition, &portion);
                Ok(())
            }
            Message::Checkpoint { partition, .. } | Message::End { partition } => {
                self.cover(partition);
                Ok(())
            }
            Message::Abandon { partition } => {
                self.uncovered.remove(&partition);
                Ok(())
            }
            Message::Tick => Ok(()),
        }
    }

    fn batch(&mut self, partition: PartitionIndex, batch: &RawBatch) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(batch.len() as u64);
        let portion = portion::decode(&mut self.work, batch, self.destination.as_ref())?;
        self.hold(partition, &portion);
        let held: u64 = self.uncovered.values().map(|uncovered| uncovered.figures.records).sum();
        let CanaryLimits { max_records, max_bytes, .. } = self.limits;
        if self.total.figures.records + held > max_records {
            self.cut_by = Some(format!("{max_records} records"));
        } else if self.bytes > max_bytes {
            self.cut_by = Some(format!("{max_bytes} bytes"));
        }
        Ok(())
    }

    fn hold(&mut self, partition: PartitionIndex, portion: &Portion) {
        let uncovered = self.uncovered.entry(partition).or_default();
        uncovered.figures.records += portion.emitted;
        uncovered.figures.rejected += portion.rejected.len() as u64;
        if let Some(last) = portion.rejected.last() {
            uncovered.last = Some(last.clone());
        }
        for rows in &portion.rows {
            for (field, column) in rows.batch.schema().fields().iter().zip(rows.batch.columns()) {
                if column.null_count() < column.len() && !uncovered.filled.contains(field.name()) {
                    uncovered.filled.insert(field.name().clone());
                }
            }
        }
    }

    fn cover(&mut self, partition: PartitionIndex) {
        let Some(Uncovered { figures, filled, last }) = self.uncovered.remove(&partition) else { return };
        self.total.figures.records += figures.records;
        self.total.figures.rejected += figures.rejected;
        self.total.filled.extend(filled);
        self.total.last = last.or(self.total.last.take());
    }

    /// Why a sync would fail by its rejected records.
    fn over_rejected(&self, closing: bool) -> Option<String> {
        let Figures { records, rejected } = self.total.figures;
        let tally = Tally { emitted: records, rejected };
        exceeded(&self.work.target.stream, self.work.max_rejected, tally, closing, self.total.last.as_ref()?)
    }
}
