//! The committer: maps each action of `thimble_engine::commit` to one piece of I/O.
//!
//! Owns the only path by which rows reach a destination. Must never decide what comes next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use thimble_engine::commit::{self, Action, Input, State};
use thimble_load::{Destination, LoadError, SegmentSource};
use thimble_record::{
    BatchSeq, ConnectionId, Epoch, Failure, LoadOutcome, Position, SealedBatch, SegmentRef, StreamBatch,
};
use thimble_stage::{Stage, StageError};
use thimble_store::Store;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::{
    batch::ClosedBatch,
    collect::now_ms,
    conserve,
    events::{EventSink, RunEvent},
    failpoints,
    report::RunReport,
    session::jitter,
    settings::WorkerSettings,
};

/// Segments that no sealed batch names are kept this long: their writer may still be at work.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(3600);

/// One connection's committer for one run.
pub struct Committer {
    pub store: Store,
    pub stage: Arc<Stage>,
    pub destination: Arc<dyn Destination>,
    pub connection: ConnectionId,
    pub epoch: Epoch,
    pub settings: WorkerSettings,
    pub events: Arc<dyn EventSink>,
    pub report: RunReport,
    /// What the destination says it has, kept up with every commit.
    pub committed: (BatchSeq, Position),
    /// The pending correction of the position that the next batch applies.
    pub edit: Option<i64>,
    state: State,
    action: Action,
    /// The batch that the state speaks of.
    current: Option<Current>,
}

struct Current {
    sealed: SealedBatch,
    closed: Option<Closed>,
    outcome: Option<LoadOutcome>,
    recovered: bool,
}

struct Closed {
    segments: Vec<(usize, thimble_stage::FinishedSegment)>,
    schemas: Vec<(String, thimble_record::StreamSchema)>,
}

/// The destination's way to a batch's staged bytes.
struct Staged<'s> {
    stage: &'s Stage,
    /// Whether a segment was not there.
    missing: AtomicBool,
}

#[async_trait]
impl SegmentSource for Staged<'_> {
    async fn open(
        &self,
        batch: &SealedBatch,
        stream: &StreamBatch,
        segment: &SegmentRef,
    ) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
        let bytes = self.stage.open_segment(&batch.connection, batch.epoch, batch.seq, &stream.stream, segment).await;
        let bytes = bytes.map_err(|error| {
            self.missing.fetch_or(matches!(error, StageError::Missing(_)), Ordering::Relaxed);
            error.failure()
        })?;
        Ok(bytes.map(|chunk| chunk.map_err(|error| error.failure())).boxed())
    }
}

impl Committer {
    pub fn new(
        store: Store,
        stage: Arc<Stage>,
        destination: Arc<dyn Destination>,
        connection: ConnectionId,
        epoch: Epoch,
        settings: WorkerSettings,
        events: Arc<dyn EventSink>,
    ) -> Self {
        let (action, state) = commit::start();
        Self {
            store,
            stage,
            destination,
            connection,
            epoch,
            settings,
            events,
            report: RunReport::default(),
            committed: (BatchSeq::default(), Position::default()),
            edit: None,
            state,
            action,
            current: None,
        }
    }

    /// Fences the destination and loads what was sealed; then `committed` is where extraction starts.
    pub async fn recover(&mut self) -> Result<(), Failure> {
        self.advance().await
    }

    /// Commits batches as they are closed, until the sender is gone.
    pub async fn run(&mut self, mut closed: mpsc::Receiver<ClosedBatch>) -> Result<(), Failure> {
        while let Some(batch) = closed.recv().await {
            self.commit(batch).await?;
        }
        Ok(())
    }

    /// Commits one batch.
    pub async fn commit(&mut self, batch: ClosedBatch) -> Result<(), Failure> {
        let ClosedBatch { sealed, segments, schemas } = batch;
        let seq = sealed.seq;
        self.report.extracted_until = Some(now_ms());
        self.current =
            Some(Current { sealed, closed: Some(Closed { segments, schemas }), outcome: None, recovered: false });
        self.step(Input::Closed(seq));
        self.advance().await
    }

    fn step(&mut self, input: Input) {
        let state = std::mem::replace(&mut self.state, State::Stopped);
        (self.action, self.state) = state.step(&self.settings.retry, jitter(), input);
    }

    /// Acts until the next batch is awaited.
    async fn advance(&mut self) -> Result<(), Failure> {
        loop {
            let input = match self.action.clone() {
                Action::AwaitBatch => return Ok(()),
                Action::Stop(failure) => return Err(failure),
                action => self.act(action).await.unwrap_or_else(Input::Failed),
            };
            self.step(input);
        }
    }

    async fn act(&mut self, action: Action) -> Result<Input, Failure> {
        match action {
            Action::RaiseFence => self.fence().await,
            Action::ListSealed { after } => self.left_over(after).await,
            Action::PutSegments(_) => self.put().await,
            Action::Seal(_) => self.seal().await,
            Action::Load(_) => self.load().await,
            Action::Wait { ms } => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(Input::Done)
            }
            Action::AskDestination => {
                let committed = self.destination.committed(&self.connection).await.map_err(|error| error.failure())?;
                Ok(Input::Committed(committed.seq))
            }
            Action::Mirror(seq) => self.mirror(seq).await,
            Action::Collect(seq) => {
                let collected = self.stage.collect(&self.connection, seq, self.epoch, ORPHAN_GRACE, now_ms()).await;
                failpoints::hit(failpoints::AFTER_COLLECT);
                collected.map_err(|error| error.failure()).map(|_| Input::Done)
            }
            Action::AwaitBatch | Action::Stop(_) => unreachable!("advance handles both"),
        }
    }

    async fn fence(&mut self) -> Result<Input, Failure> {
        let committed = loop {
            match self.destination.fence(&self.connection, self.epoch).await {
                Ok(committed) => break committed,
                // The control database was restored from a backup: go on above the destination's epoch.
                Err(LoadError::Fenced { held, .. }) if held >= self.epoch => {
                    let raised = self.store.raise_epoch(&self.connection, self.epoch, held).await;
                    self.epoch = raised.map_err(|error| error.failure())?;
                }
                Err(error) => return Err(error.failure()),
            }
        };
        failpoints::hit(failpoints::AFTER_FENCE);
        let mirrored = self.store.position(&self.connection).await.map_err(|error| error.failure())?;
        let behind = mirrored.as_ref().is_some_and(|(seq, _)| *seq > committed.seq);
        if behind || committed.seq > BatchSeq::default() && mirrored.is_none_or(|(seq, _)| seq < committed.seq) {
            let now = now_ms();
            let result = if behind {
                self.store.rebase(&self.connection, self.epoch, committed.seq, &committed.position, now).await
            } else {
                self.store.mirror(&self.connection, self.epoch, committed.seq, &committed.position, now).await
            };
            result.map_err(|error| error.failure())?;
        }
        self.committed = (committed.seq, committed.position);
        Ok(Input::Fenced { committed: committed.seq })
    }

    async fn left_over(&mut self, after: BatchSeq) -> Result<Input, Failure> {
        let sealed = self.store.sealed_after(&self.connection, after).await.map_err(|error| error.failure())?;
        let Some(sealed) = sealed.into_iter().next() else { return Ok(Input::LeftOver(None)) };
        let (seq, position) = &self.committed;
        if sealed.from != position.digest() {
            // The control database or the destination was restored from a backup: what is sealed belongs to another
            // history, and the destination would refuse it forever.
            let forgotten = self.store.rebase(&self.connection, self.epoch, *seq, position, now_ms()).await;
            forgotten.map_err(|error| error.failure())?;
            return Ok(Input::LeftOver(None));
        }
        let seq = sealed.seq;
        self.current = Some(Current { sealed, closed: None, outcome: None, recovered: true });
        Ok(Input::LeftOver(Some(seq)))
    }

    fn current(&mut self) -> &mut Current {
        self.current.as_mut().expect("every state past Ready speaks of a batch")
    }

    async fn put(&mut self) -> Result<Input, Failure> {
        failpoints::hit(failpoints::BEFORE_STAGE);
        let stage = Arc::clone(&self.stage);
        let current = self.current();
        let segments = current.closed.as_mut().map(|closed| std::mem::take(&mut closed.segments)).unwrap_or_default();
        for (stream, segment) in segments {
            let reference = stage.put(segment).await.map_err(|error| error.failure())?;
            current.sealed.streams[stream].segments.push(reference);
        }
        current.sealed.streams.iter().try_for_each(conserve::staged)?;
        failpoints::hit(failpoints::AFTER_STAGE);
        Ok(Input::Done)
    }

    async fn seal(&mut self) -> Result<Input, Failure> {
        failpoints::hit(failpoints::BEFORE_SEAL);
        let (store, edit, epoch) = (self.store.clone(), self.edit, self.epoch);
        let current = self.current();
        debug_assert_eq!(current.sealed.epoch, epoch);
        let schemas = current.closed.as_ref().map(|closed| closed.schemas.as_slice()).unwrap_or_default();
        store.seal(&current.sealed, schemas, edit, now_ms()).await.map_err(|error| error.failure())?;
        self.edit = None;
        failpoints::hit(failpoints::AFTER_SEAL);
        Ok(Input::Done)
    }

    async fn load(&mut self) -> Result<Input, Failure> {
        failpoints::hit(failpoints::BEFORE_LOAD);
        let (stage, destination) = (Arc::clone(&self.stage), Arc::clone(&self.destination));
        let current = self.current();
        let staged = Staged { stage: &stage, missing: AtomicBool::new(false) };
        let span = tracing::info_span!("load", batch = current.sealed.seq.0, streams = current.sealed.streams.len());
        let loaded = destination.load(&current.sealed, &staged).instrument(span).await;
        failpoints::hit(failpoints::AFTER_LOAD);
        if loaded.is_err() && current.recovered && staged.missing.into_inner() {
            return self.forget().await;
        }
        match loaded {
            Ok(outcome) => {
                conserve::loaded(&current.sealed, &outcome)?;
                current.outcome = Some(outcome);
                Ok(Input::Done)
            }
            Err(LoadError::Unknown { .. }) => Ok(Input::Unknown),
            Err(error) => Err(error.failure()),
        }
    }

    /// Gives up a sealed batch that cannot be loaded any more, because its segments are gone. Its records are extracted
    /// again: the position that the destination holds still lies before them.
    async fn forget(&mut self) -> Result<Input, Failure> {
        let (seq, _) = self.committed;
        let forgotten = self.store.forget_sealed(&self.connection, self.epoch, seq).await;
        forgotten.map_err(|error| error.failure())?;
        self.current = None;
        let message = format!("the staged segments of batch {} are gone; its records are extracted again", seq.next());
        self.events.event(RunEvent::Log { level: "warn".into(), message });
        Ok(Input::Forgotten)
    }

    async fn mirror(&mut self, seq: BatchSeq) -> Result<Input, Failure> {
        failpoints::hit(failpoints::BEFORE_MIRROR);
        let Current { sealed, outcome, recovered, closed: _ } = self.current.take().expect("a loaded batch is current");
        let outcome = outcome.unwrap_or_else(|| committed_before(&sealed));
        let marked = self.store.mark_committed(&self.connection, self.epoch, seq, &outcome, now_ms()).await;
        marked.map_err(|error| error.failure())?;
        failpoints::hit(failpoints::AFTER_MIRROR);
        self.report.add(&sealed, &outcome);
        self.report.recovered_batches += u64::from(recovered);
        let (records, rejected) = (self.report.records(), self.report.rejected());
        tracing::info!(batch = seq.0, records, rejected, "batch committed");
        self.events.event(RunEvent::Committed { seq, records, rejected });
        self.committed = (seq, sealed.to);
        Ok(Input::Done)
    }
}

/// The outcome of a batch whose commit was found, its answer having been lost.
fn committed_before(sealed: &SealedBatch) -> LoadOutcome {
    let streams = sealed.streams.iter().map(|part| {
        let mut counts = part.counts;
        counts.loaded = part.staged_rows();
        counts
    });
    LoadOutcome {
        streams: streams.collect(),
        checksums: sealed.streams.iter().map(|part| part.checksum).collect(),
        already_committed: true,
        bytes: 0,
    }
}
