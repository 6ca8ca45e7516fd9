//! The collector: one thread per run that decodes what partitions send, holds it until their checkpoint, and cuts batches.
//!
//! Owns the working position. A record enters the open batch together with the checkpoint that covers it, so
//! a batch can be cut after any checkpoint of any partition. Must never talk to plugin, store or destination.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arrow_array::RecordBatch;
use thimble_engine::cut::{Cut, CutInputs};
use thimble_plugin::RawBatch;
use thimble_record::{ConnectionId, Epoch, ErrorKind, Failure, Position, Rejected, decode::Decoder};
use thimble_stage::Stage;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    batch::{ClosedBatch, OpenBatch, Target},
    events::{EventSink, RunEvent},
    settings::WorkerSettings,
};

/// Index of a partition within the run.
pub type PartitionIndex = usize;

/// What partitions tell the collector, in their order.
pub enum Message {
    /// `_permit` returns its bytes to the queue's budget once the batch is decoded.
    Batch {
        partition: PartitionIndex,
        batch: RawBatch,
        _permit: OwnedSemaphorePermit,
    },
    Rejected {
        partition: PartitionIndex,
        records: Vec<Rejected>,
    },
    Checkpoint {
        partition: PartitionIndex,
        state: String,
    },
    /// Read to its end, which is a checkpoint.
    End {
        partition: PartitionIndex,
    },
    /// A try failed: what no checkpoint covers is forgotten and read again.
    Abandon {
        partition: PartitionIndex,
    },
    /// Time has passed.
    Tick,
}

/// What becomes `completed` when a stream's plan ends.
pub enum NextState {
    Given(Option<String>),
    /// The last checkpoint of the plan's only partition.
    LastCheckpoint {
        partition_id: String,
    },
}

/// One stream of the run.
pub struct StreamWork {
    pub target: Target,
    pub decoder: Decoder,
    /// Partitions of the plan that were not read to their end.
    pub remaining: usize,
    pub next: NextState,
    pub records: u64,
    pub bytes: u64,
    pub rejected: u64,
}

/// One partition of the run.
pub struct PartitionWork {
    pub stream: usize,
    pub id: String,
}

#[derive(Default)]
struct Pending {
    rows: Vec<RecordBatch>,
    rejected: Vec<Rejected>,
    bytes: u64,
}

/// Everything the thread starts with.
pub struct Collector {
    pub stage: Arc<Stage>,
    pub connection: ConnectionId,
    pub epoch: Epoch,
    pub plugin_digest: String,
    pub settings: WorkerSettings,
    /// Where extraction starts: the committed position, with the generations that begin now.
    pub position: Position,
    /// The committed position, which the first batch continues from.
    pub base_position: Position,
    pub streams: Vec<StreamWork>,
    pub partitions: Vec<PartitionWork>,
    pub closed: mpsc::Sender<ClosedBatch>,
    pub events: Arc<dyn EventSink>,
}

/// A collector at work.
pub struct Collecting {
    work: Collector,
    open: OpenBatch,
    /// Digest of the position that the open batch continues from.
    from: String,
    moved: bool,
    pending: HashMap<PartitionIndex, Pending>,
    last_progress: Instant,
}

/// Between progress events of a stream.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// Milliseconds since the epoch: the one place where a run reads the wall clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Collector {
    /// Runs until the senders are gone (then the rest is cut as the last batch) or something fails.
    /// `base` is the last committed batch.
    pub fn run(self, base: thimble_record::BatchSeq, mut messages: mpsc::Receiver<Message>) -> Result<(), Failure> {
        let mut collecting = Collecting::new(self, base);
        collecting.complete_finished_plans();
        while let Some(message) = messages.blocking_recv() {
            collecting.take(message)?;
        }
        collecting.cut(true)?;
        collecting.tell_progress();
        Ok(())
    }
}

impl Collecting {
    fn new(work: Collector, base: thimble_record::BatchSeq) -> Self {
        let open = OpenBatch::new(
            Arc::clone(&work.stage),
            work.connection.clone(),
            work.epoch,
            base.next(),
            work.plugin_digest.clone(),
        );
        let from = work.base_position.digest();
        Self { work, open, from, moved: false, pending: HashMap::new(), last_progress: Instant::now() }
    }

    fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Batch { partition, batch, _permit } => self.decode(partition, &batch),
            Message::Rejected { partition, records } => self.rejected(partition, records),
            Message::Checkpoint { partition, state } => {
                self.flush(partition)?;
                self.partition_position(partition).state = Some(state);
                self.moved = true;
                self.cut(false)
            }
            Message::End { partition } => {
                self.flush(partition)?;
                self.end(partition);
                self.cut(false)
            }
            Message::Abandon { partition } => {
                self.pending.remove(&partition);
                Ok(())
            }
            Message::Tick => self.cut(false),
        }
    }

    fn decode(&mut self, partition: PartitionIndex, batch: &RawBatch) -> Result<(), Failure> {
        let stream = &mut self.work.streams[self.work.partitions[partition].stream];
        let decoded = match batch {
            RawBatch::ArrowIpc(bytes) => stream.decoder.arrow(bytes)?,
            RawBatch::Json(bytes) => stream.decoder.json(bytes)?,
        };
        stream.records += decoded.emitted;
        stream.bytes += batch.len() as u64;
        stream.rejected += decoded.rejected.len() as u64;
        let bytes: usize = decoded.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let pending = self.pending.entry(partition).or_default();
        pending.bytes += bytes as u64;
        pending.rows.extend(decoded.batches);
        pending.rejected.extend(decoded.rejected);
        self.check_pending(partition)?;
        if self.last_progress.elapsed() >= PROGRESS_EVERY {
            self.tell_progress();
        }
        Ok(())
    }

    fn rejected(&mut self, partition: PartitionIndex, records: Vec<Rejected>) -> Result<(), Failure> {
        let stream = &mut self.work.streams[self.work.partitions[partition].stream];
        stream.records += records.len() as u64;
        stream.rejected += records.len() as u64;
        let pending = self.pending.entry(partition).or_default();
        pending.bytes += records.iter().map(|record| (record.raw.len() + record.message.len()) as u64).sum::<u64>();
        pending.rejected.extend(records);
        self.check_pending(partition)
    }

    fn check_pending(&self, partition: PartitionIndex) -> Result<(), Failure> {
        let limit = self.work.settings.max_uncheckpointed_bytes;
        let held = self.pending.get(&partition).map_or(0, |pending| pending.bytes);
        if held <= limit {
            return Ok(());
        }
        let PartitionWork { stream, id } = &self.work.partitions[partition];
        let stream = &self.work.streams[*stream].target.stream;
        let message = format!(
            "stream {stream}, partition {id}: the connector sent {held} bytes without a checkpoint; `max_uncheckpointed_bytes` allows {limit}"
        );
        Err(Failure::new(ErrorKind::Refused, message))
    }

    /// Moves what a checkpoint covers into the open batch.
    fn flush(&mut self, partition: PartitionIndex) -> Result<(), Failure> {
        let Some(Pending { rows, rejected, bytes: _ }) = self.pending.remove(&partition) else { return Ok(()) };
        let stream = &self.work.streams[self.work.partitions[partition].stream];
        let now = now_ms();
        for batch in &rows {
            self.open.write(&stream.target, stream.decoder.schema(), batch, now)?;
        }
        if !rejected.is_empty() {
            self.open.reject(&stream.target, stream.decoder.schema(), rejected, now);
        }
        Ok(())
    }

    fn partition_position(&mut self, partition: PartitionIndex) -> &mut thimble_record::PartitionPosition {
        let PartitionWork { stream, id } = &self.work.partitions[partition];
        let name = &self.work.streams[*stream].target.stream;
        self.work.position.streams.entry(name.clone()).or_default().partitions.entry(id.clone()).or_default()
    }

    fn end(&mut self, partition: PartitionIndex) {
        self.partition_position(partition).done = true;
        self.moved = true;
        let stream = self.work.partitions[partition].stream;
        self.work.streams[stream].remaining -= 1;
        if self.work.streams[stream].remaining == 0 {
            self.complete(stream);
        }
    }

    /// Plans without a partition left to read end at once.
    fn complete_finished_plans(&mut self) {
        for stream in 0..self.work.streams.len() {
            if self.work.streams[stream].remaining == 0 {
                self.complete(stream);
            }
        }
    }

    /// The plan of a stream has ended: its next state takes effect, and a full refresh becomes visible.
    fn complete(&mut self, stream: usize) {
        let work = &self.work.streams[stream];
        let position = self.work.position.streams.entry(work.target.stream.clone()).or_default();
        let before = position.clone();
        position.completed = match &work.next {
            NextState::Given(state) => state.clone(),
            NextState::LastCheckpoint { partition_id } => {
                let last = position.partitions.get(partition_id).and_then(|partition| partition.state.clone());
                last.or(before.completed.clone())
            }
        };
        position.partitions.clear();
        if position.refreshing {
            position.refreshing = false;
            self.open.swap(&work.target, work.decoder.schema());
        }
        self.moved |= *position != before;
    }

    fn cut(&mut self, ended: bool) -> Result<(), Failure> {
        let now = now_ms();
        let age_ms = self.open.opened_ms.map_or(0, |opened| u64::try_from(now - opened).unwrap_or(0));
        let inputs = CutInputs { bytes: self.open.bytes, rows: self.open.rows, age_ms, moved: self.moved, ended };
        if self.work.settings.batch.evaluate(inputs) == Cut::Keep {
            return Ok(());
        }
        let next = OpenBatch::new(
            Arc::clone(&self.work.stage),
            self.work.connection.clone(),
            self.work.epoch,
            self.open.seq.next(),
            self.work.plugin_digest.clone(),
        );
        let to = self.work.position.clone();
        let next_from = to.digest();
        let from = std::mem::replace(&mut self.from, next_from);
        let closed = std::mem::replace(&mut self.open, next).close(from, to, now)?;
        self.moved = false;
        self.tell_progress();
        // The committer ends only with a failure of its own, which the run reports.
        self.work
            .closed
            .blocking_send(closed)
            .map_err(|_| Failure::system("the run is ending because a batch could not be committed"))
    }

    fn tell_progress(&mut self) {
        self.last_progress = Instant::now();
        for stream in &self.work.streams {
            self.work.events.event(RunEvent::Progress {
                stream: stream.target.stream.clone(),
                records: stream.records,
                bytes: stream.bytes,
                rejected: stream.rejected,
            });
        }
    }
}
