//! The worker: takes a run from the queue to its end.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use thimble_plugin::{PluginHost, egress::Rehearsal};
use thimble_record::{
    BatchSeq, Catalog, ConnectionId, ErrorKind, Failure, Position, RejectedRow, RunId, StreamPosition,
    envelope::{Keys, Purpose},
};
use thimble_stage::Stage;
use thimble_store::{NewRun, RunKind, RunOutcome, RunRow, Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    batch::{ClosedBatch, OpenBatch},
    collect::{Collector, Message, NextState, PartitionWork, StreamWork, now_ms},
    commit::Committer,
    destinations::Destinations,
    events::{EventSink, RunEvent},
    failpoints,
    lease::{self, Lease},
    plan::{self, Chosen, Known, Planned},
    read::{ReadTask, Readers},
    replay::{self, Replayed},
    report::{Bookmark, RunReport},
    request::{Backfill, Replay, SyncRequest},
    session::Loaded,
    settings::WorkerSettings,
};

/// Messages that wait for the collector; their bytes are limited by `max_queued_bytes`.
pub(crate) const QUEUED_MESSAGES: usize = 256;

/// Executes runs. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    pub store: Store,
    pub plugins: Arc<PluginHost>,
    pub stage: Arc<Stage>,
    pub destinations: Destinations,
    pub keys: Keys,
    pub settings: WorkerSettings,
    /// How the traffic of its runs differs from that of every day.
    pub rehearsal: Rehearsal,
}

pub(crate) fn failed(error: &StoreError) -> Failure {
    error.failure()
}

impl Worker {
    /// Name under which this process holds runs and leases.
    pub fn holder(&self) -> String {
        lease::holder()
    }

    /// Releases what dead processes of this machine held; answers their runs.
    pub async fn release_dead(&self) -> Result<Vec<RunId>, StoreError> {
        lease::release_dead(&self.store).await
    }

    /// Puts the installed connectors where other hosts find them, as far as this host has them. A failure is told, and
    /// tried again at the next start.
    pub async fn share_plugins(&self) {
        let plugins = match self.store.plugins().await {
            Ok(plugins) => plugins,
            Err(error) => return tracing::warn!(error = %error.failure(), "the installed plugins cannot be listed"),
        };
        for plugin in plugins {
            if let Err(error) = self.plugins.share(&plugin.digest).await {
                tracing::warn!(plugin = plugin.name, error = %error.failure(), "a plugin cannot be shared with other hosts");
            }
        }
    }

    /// Queues a run and executes it at once in this process. Fails before anything started where a sync of the
    /// connection is under way.
    pub async fn run_now(
        &self,
        new: NewRun,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<RunRow, StoreError> {
        lease::release_dead(&self.store).await?;
        let run = self.store.start(&new, &self.holder(), self.settings.lease_ms, now_ms()).await?;
        self.execute(run, events, cancel).await
    }

    /// Executes a claimed run and stores its outcome; answers the finished row.
    pub async fn execute(
        &self,
        run: RunRow,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<RunRow, StoreError> {
        let span = tracing::info_span!(
            "run",
            run_id = %run.id,
            connection = run.connection.as_ref().map(ConnectionId::as_str),
            kind = ?run.kind,
            trigger = ?run.trigger,
        );
        self.execute_run(run, events, cancel).instrument(span).await
    }

    async fn execute_run(
        &self,
        run: RunRow,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<RunRow, StoreError> {
        let started = Instant::now();
        let result = match run.kind {
            RunKind::Sync => self.sync(&run, Arc::clone(&events), cancel).await,
            RunKind::Check => self.check(&run, Arc::clone(&events)).await.map_err(Into::into),
            RunKind::Discover => self.discover(&run, Arc::clone(&events)).await.map_err(Into::into),
            RunKind::Install => self.install_run(&run).await.map_err(Into::into),
            RunKind::Canary => self.canary(&run, Arc::clone(&events), cancel).await.map_err(Into::into),
        };
        let (mut report, failure) = match result {
            Ok(report) => {
                let first = report.failures.first().cloned();
                (report, first)
            }
            Err(Stopped { failure, report }) => (*report, Some(failure)),
        };
        report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        events.event(RunEvent::Finished { report: report.clone(), failure: failure.clone() });
        let stored = serde_json::to_value(&report).expect("a report is plain data, which always serializes");
        let outcome = match failure.clone() {
            Some(failure) => RunOutcome::failed(failure, stored),
            None if report.cancelled => RunOutcome::cancelled(stored),
            None => RunOutcome::succeeded(stored),
        };
        let error = failure.as_ref().map(|failure| failure.message.as_str());
        let (records, rejected, elapsed_ms) = (report.records(), report.rejected(), report.elapsed_ms);
        tracing::info!(status = ?outcome.status, records, rejected, elapsed_ms, error, "run ended");
        failpoints::hit(failpoints::BEFORE_FINISH);
        match (self.store.finish(&run.id, &outcome, now_ms()).await, failure) {
            // Whoever overtook this run has written it off already; why it ended is still to be told.
            (Err(StoreError::Conflict { .. }), Some(failure)) => {
                let mut run = self.store.run(&run.id).await?;
                run.failure = Some(failure);
                Ok(run)
            }
            (finished, _) => finished,
        }
    }

    /// What the connection's destination holds of rejected records, by stream and sequence, after `after`.
    pub async fn rejected(
        &self,
        id: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, Failure> {
        let connection = self.store.connection(id).await.map_err(|e| failed(&e))?;
        let destination = self.destinations.of(&connection).await?;
        destination.rejected(id, after, limit).await.map_err(|error| error.failure())
    }

    async fn sync(
        &self,
        run: &RunRow,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<RunReport, Stopped> {
        let id =
            run.connection.clone().ok_or_else(|| Failure::system(format!("run {} names no connection", run.id)))?;
        lease::release_dead(&self.store).await.map_err(|e| failed(&e))?;
        let ttl = self.settings.lease_ms;
        let connection = self.store.connection(&id).await.map_err(|e| failed(&e))?;
        let destination = self.destinations.of(&connection).await?.for_owner();
        let epoch = self.store.acquire(&id, &self.holder(), ttl, now_ms()).await.map_err(|e| failed(&e))?;
        self.store.set_run_epoch(&run.id, epoch).await.map_err(|e| failed(&e))?;
        failpoints::hit(failpoints::AFTER_LEASE);
        let lease = Lease::keep(self.store.clone(), id.clone(), epoch, run.id.clone(), ttl, cancel.clone());
        let mut committer = Committer::new(
            self.store.clone(),
            Arc::clone(&self.stage),
            destination,
            id.clone(),
            epoch,
            self.settings.clone(),
            Arc::clone(&events),
        );
        let result = self.extract_and_commit(run, &id, &mut committer, events, cancel.clone()).await;
        let mut report = std::mem::take(&mut committer.report);
        let lost = lease.lost();
        lease.release(committer.epoch).await.map_err(|e| failed(&e))?;
        match (lost, result) {
            (Some(failure), _) | (None, Err(failure)) => Err(Stopped { failure, report: Box::new(report) }),
            (None, Ok(failures)) => {
                report.failures = failures;
                report.cancelled = cancel.is_cancelled();
                Ok(report)
            }
        }
    }

    /// Everything between the lease and the report. Answers the failures of streams that could not be read whole.
    async fn extract_and_commit(
        &self,
        run: &RunRow,
        id: &ConnectionId,
        committer: &mut Committer,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<Vec<Failure>, Failure> {
        committer.recover().await?;
        self.begin(committer).await?;
        events.event(RunEvent::Started {
            epoch: committer.epoch.0,
            recovered_batches: committer.report.recovered_batches,
        });
        let request = SyncRequest::parse(&run.request)?;
        let loaded = self.open(id, Arc::clone(&events), request.backfill.as_ref()).await?;
        let catalog = self.catalog(&loaded).await?;
        let capabilities = committer.destination.capabilities();
        // One for the installation, so that equal values are equal in all connections and stay so.
        let key = self.keys.stable(Purpose::ColumnDigests);
        let chosen = plan::choose(&catalog, &loaded.connection.streams, &request, capabilities, key)?;
        if let Some(replay) = &request.replay {
            self.replay(committer, &loaded, &catalog, chosen, replay).await?;
            return Ok(Vec::new());
        }
        let mut failures = Vec::new();
        let mut planned = Vec::new();
        let mut position = committer.committed.1.clone();
        for stream in chosen {
            note_bookmark(committer, &stream, &position);
            match self.plan_one(committer, &loaded, &catalog, stream, &mut position, &request).await {
                Ok(plan) => planned.push(plan),
                // One stream that cannot be planned must not stop the others; its position stays as it was.
                Err(failure) => failures.push(failure),
            }
        }
        tell_plans(&planned, events.as_ref());
        let (streams, partitions, tasks) = number(planned);
        let (closed_tx, closed_rx) = mpsc::channel::<ClosedBatch>(1);
        let (messages, inbox) = mpsc::channel::<Message>(QUEUED_MESSAGES);
        let collector = Collector {
            open: self.first_batch(committer, &loaded.plugin.digest),
            destination: Arc::clone(&committer.destination),
            settings: self.settings.clone(),
            lane: request.backfill.map(|backfill| backfill.name),
            position,
            base_position: committer.committed.1.clone(),
            streams,
            partitions,
            closed: closed_tx,
            events: Arc::clone(&events),
        };
        let collecting = tokio::task::spawn_blocking(move || collector.run(inbox));
        let readers = Readers {
            connector: loaded.connector,
            session: loaded.session,
            settings: self.settings.clone(),
            messages,
            events,
            cancel,
        };
        let driven = drive(readers, tasks, collecting, committer, closed_rx).await;
        for (stream, bookmark) in &mut committer.report.bookmarks {
            bookmark.now(&committer.committed.1.streams.get(stream).cloned().unwrap_or_default());
        }
        failures.extend(driven?);
        Ok(failures)
    }

    /// Takes over an edited position, and notes the batch from which this run reads on.
    async fn begin(&self, committer: &mut Committer) -> Result<(), Failure> {
        let recovered = committer.committed.0;
        let before = BatchSeq(recovered.0.saturating_sub(committer.report.recovered_batches));
        self.apply_edit(committer).await?;
        let edited = committer.committed.0;
        committer.report.began_after = Some(if edited == recovered { before } else { edited });
        Ok(())
    }

    /// The batch after the last committed one, still empty.
    fn first_batch(&self, committer: &Committer, plugin_digest: &str) -> OpenBatch {
        OpenBatch::new(
            Arc::clone(&self.stage),
            committer.connection.clone(),
            committer.epoch,
            committer.committed.0.next(),
            plugin_digest.to_owned(),
            plan::rejected_target(committer.destination.capabilities()),
        )
    }

    /// Sets the stream's place in `position` for this run, and plans it from there. On failure the position stays.
    async fn plan_one(
        &self,
        committer: &Committer,
        loaded: &Loaded,
        catalog: &Catalog,
        stream: Chosen,
        position: &mut Position,
        request: &SyncRequest,
    ) -> Result<Planned, Failure> {
        let name = stream.stream.name.clone();
        let live = position.streams.get(&name).cloned().unwrap_or_default();
        let mut begun = match &request.backfill {
            None => live,
            Some(backfill) => lane(&name, &live, position, backfill)?,
        };
        plan::begin(&stream, &mut begun, committer.committed.0.next(), request.backfill.is_some());
        let known = self.known(committer, catalog, &name).await?;
        let planned = plan::plan(loaded.connector.as_ref(), &loaded.session, stream, &begun, known).await?;
        let streams = match &request.backfill {
            None => &mut position.streams,
            Some(backfill) => position.backfills.entry(backfill.name.clone()).or_default(),
        };
        streams.insert(name, begun);
        Ok(planned)
    }

    async fn known(&self, committer: &Committer, catalog: &Catalog, stream: &str) -> Result<Known, Failure> {
        let stored = self.store.schema(&committer.connection, stream).await.map_err(|e| failed(&e))?;
        let streams = catalog.streams.iter().map(|stream| stream.name.clone()).collect();
        Ok(Known { stored, streams, capabilities: committer.destination.capabilities() })
    }

    /// Makes rows of rejected records instead of reading the source.
    async fn replay(
        &self,
        committer: &mut Committer,
        loaded: &Loaded,
        catalog: &Catalog,
        chosen: Vec<Chosen>,
        request: &Replay,
    ) -> Result<(), Failure> {
        let mut streams = BTreeMap::new();
        for mut stream in chosen {
            let name = stream.stream.name.clone();
            let position = committer.committed.1.streams.get(&name).cloned().unwrap_or_default();
            let mut known = self.known(committer, catalog, &name).await?;
            let shape = stream.shape.clone();
            let original = known.stored.clone().unwrap_or_default();
            known.stored = known.stored.map(|stored| shape.treated_source(&stored));
            stream.shape = shape.of_treated();
            let work = plan::work(stream, &position, known, 0, NextState::Given(None))?;
            streams.insert(name, Replayed { work, shape, original, first_batch: position.first_batch });
        }
        let open = self.first_batch(committer, &loaded.plugin.digest);
        committer.report.replay = Some(replay::replay(committer, &mut streams, request, open).await?);
        Ok(())
    }

    /// Commits a pending correction of the position as a batch of its own, without rows.
    async fn apply_edit(&self, committer: &mut Committer) -> Result<(), Failure> {
        let id = committer.connection.clone();
        let Some(edit) = self.store.position_edit(&id).await.map_err(|e| failed(&e))? else { return Ok(()) };
        let from = committer.committed.1.clone();
        let batch = self.first_batch(committer, "");
        committer.edit = Some(edit.id);
        committer.commit(batch.close(from.digest(), edit.position, now_ms())?).await
    }
}

/// Notes where the cursor of a stream stood before the run.
fn note_bookmark(committer: &mut Committer, stream: &Chosen, position: &Position) {
    let Some(cursor) = &stream.stream.cursor else { return };
    let name = stream.stream.name.clone();
    let before = position.streams.get(&name).cloned().unwrap_or_default();
    committer.report.bookmarks.insert(name, Bookmark::before(cursor.clone(), &before));
}

/// Where a backfill of a stream goes on: in its own lane, into the generation that readers see.
pub(crate) fn lane(
    stream: &str,
    live: &StreamPosition,
    position: &Position,
    backfill: &Backfill,
) -> Result<StreamPosition, Failure> {
    if live.refreshing {
        let message =
            format!("stream {stream}: a full refresh of it is under way: sync it to its end before a backfill");
        return Err(Failure::new(ErrorKind::Config, message));
    }
    let known = position.backfills.get(&backfill.name).and_then(|streams| streams.get(stream)).cloned();
    Ok(StreamPosition { generation: live.generation, first_batch: live.first_batch, ..known.unwrap_or_default() })
}

/// A run that ended early, with what it had committed.
pub(crate) struct Stopped {
    failure: Failure,
    report: Box<RunReport>,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self { failure, report: Box::default() }
    }
}

fn tell_plans(planned: &[Planned], events: &dyn EventSink) {
    for Planned { work, requests, estimated_bytes, estimated_records } in planned {
        events.event(RunEvent::Planned {
            stream: work.target.stream.clone(),
            partitions: requests.len() as u64,
            estimated_bytes: *estimated_bytes,
            estimated_records: *estimated_records,
        });
    }
}

/// Numbers the partitions of all streams, in the order in which they are read: one of each stream in turn, so that no
/// stream waits for all of another.
fn number(planned: Vec<Planned>) -> (Vec<StreamWork>, Vec<PartitionWork>, Vec<ReadTask>) {
    let mut streams = Vec::new();
    let mut queues = Vec::new();
    for (stream, Planned { work, requests, .. }) in planned.into_iter().enumerate() {
        streams.push(work);
        queues.push((stream, requests.into_iter()));
    }
    let (mut partitions, mut tasks) = (Vec::new(), Vec::new());
    loop {
        let before = tasks.len();
        for (stream, queue) in &mut queues {
            if let Some(request) = queue.next() {
                tasks.push(ReadTask { partition: partitions.len(), request: request.clone() });
                partitions.push(PartitionWork { stream: *stream, id: request.partition.id });
            }
        }
        if tasks.len() == before {
            return (streams, partitions, tasks);
        }
    }
}

/// Between the ticks by which batches of slow sources come of age.
const TICK: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs readers, collector and committer side by side until all is committed or something fails.
async fn drive(
    readers: Readers,
    tasks: Vec<ReadTask>,
    collecting: tokio::task::JoinHandle<Result<(), Failure>>,
    committer: &mut Committer,
    closed: mpsc::Receiver<ClosedBatch>,
) -> Result<Vec<Failure>, Failure> {
    let ticker = readers.messages.clone();
    let reading = async move {
        let read = readers.read_all(tasks);
        tokio::pin!(read);
        loop {
            tokio::select! {
                failures = &mut read => return failures,
                () = tokio::time::sleep(TICK) => {
                    // A full queue is busy and needs no tick; a closed one ends by itself.
                    let _ = ticker.try_send(Message::Tick);
                }
            }
        }
    };
    // The committer's failure drops its receiver, which ends the collector, whose receiver ends the readers.
    let committing = committer.run(closed);
    let (failures, collected, committed) = tokio::join!(reading, collecting, committing);
    committed?;
    collected.map_err(|error| Failure::system(format!("decoding stopped: {error}")))??;
    Ok(failures)
}
