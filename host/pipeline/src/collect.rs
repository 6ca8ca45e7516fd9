//! The collector: one thread per run that decodes what partitions send, holds it until their checkpoint, and cuts batches.
//!
//! Owns the working position. A record enters the open batch together with the checkpoint that covers it, so
//! a batch can be cut after any checkpoint of any partition. Must never talk to plugin, store or destination; what the
//! destination can hold is asked of it without I/O.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use thimble_engine::{
    cut::{Cut, CutInputs},
    reject::{Tally, exceeded},
    shape::Shape,
};
use thimble_load::Destination;
use thimble_plugin::RawBatch;
use thimble_record::{ErrorKind, Failure, MaxRejected, Position, Rejected, StreamPosition, decode::Decoder};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    batch::{ClosedBatch, OpenBatch, Target},
    events::{EventSink, RunEvent},
    portion::{self, Portion},
    settings::WorkerSettings,
    tables::Tables,
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
    pub shape: Shape,
    pub max_rejected: MaxRejected,
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

impl StreamWork {
    /// The stream's tables as they stand now.
    pub fn tables(&self) -> Tables {
        Tables::of(&self.decoder, &self.shape)
    }
}

/// What a partition sent since its last checkpoint.
#[derive(Default)]
struct Pending {
    portions: Vec<Portion>,
    bytes: u64,
}

/// Everything the thread starts with.
pub struct Collector {
    /// The first batch, still empty.
    pub open: OpenBatch,
    pub destination: Arc<dyn Destination>,
    pub settings: WorkerSettings,
    /// The backfill that is read, in whose lane the position moves; `None` for a live read.
    pub lane: Option<String>,
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
    /// Digest of the position that the open batch continues from.
    from: String,
    moved: bool,
    pending: HashMap<PartitionIndex, Pending>,
    last_progress: Instant,
}

/// Between progress events of a stream.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

fn fail_where(exceeded: Option<String>) -> Result<(), Failure> {
    exceeded.map_or(Ok(()), |message| Err(Failure::new(ErrorKind::Config, message)))
}

/// Milliseconds since the epoch: the one place where a run reads the wall clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Collector {
    /// Runs until the senders are gone (then the rest is cut as the last batch) or something fails.
    pub fn run(self, mut messages: mpsc::Receiver<Message>) -> Result<(), Failure> {
        let mut collecting = Collecting::new(self);
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
    fn new(work: Collector) -> Self {
        let from = work.base_position.digest();
        Self { work, from, moved: false, pending: HashMap::new(), last_progress: Instant::now() }
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
        stream.bytes += batch.len() as u64;
        let portion = portion::decode(stream, batch, self.work.destination.as_ref())?;
        self.hold(partition, portion)?;
        if self.last_progress.elapsed() >= PROGRESS_EVERY {
            self.tell_progress();
        }
        Ok(())
    }

    fn rejected(&mut self, partition: PartitionIndex, records: Vec<Rejected>) -> Result<(), Failure> {
        let stream = &self.work.streams[self.work.partitions[partition].stream];
        let portion = Portion::of_rejected(records, &stream.shape);
        self.hold(partition, portion)
    }

    /// Keeps what came until a checkpoint covers it.
    fn hold(&mut self, partition: PartitionIndex, portion: Portion) -> Result<(), Failure> {
        let stream = &mut self.work.streams[self.work.partitions[partition].stream];
        stream.records += portion.emitted;
        stream.rejected += portion.rejected.len() as u64;
        if let Some(last) = portion.rejected.last() {
            let tally = Tally { emitted: stream.records, rejected: stream.rejected };
            fail_where(exceeded(&stream.target.stream, stream.max_rejected, tally, false, last))?;
        }
        let pending = self.pending.entry(partition).or_default();
        pending.bytes += portion.bytes();
        pending.portions.push(portion);
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
            "stream {stream}, partition {id}: the connector sent {held} bytes without a checkpoint; `limits.batch.max_uncheckpointed` allows {limit}"
        );
        Err(Failure::new(ErrorKind::Refused, message))
    }

    /// Moves what a checkpoint covers into the open batch.
    fn flush(&mut self, partition: PartitionIndex) -> Result<(), Failure> {
        let Some(Pending { portions, bytes: _ }) = self.pending.remove(&partition) else { return Ok(()) };
        let stream = &self.work.streams[self.work.partitions[partition].stream];
        let (tables, now) = (stream.tables(), now_ms());
        portions.into_iter().try_for_each(|portion| self.work.open.add(&stream.target, &tables, portion, now))
    }

    /// The position of a stream, in the lane that is read.
    fn stream_position(&mut self, stream: &str) -> &mut StreamPosition {
        let Position { streams, backfills } = &mut self.work.position;
        let lane = match &self.work.lane {
            None => streams,
            Some(name) => backfills.entry(name.clone()).or_default(),
        };
        lane.entry(stream.to_owned()).or_default()
    }

    fn partition_position(&mut self, partition: PartitionIndex) -> &mut thimble_record::PartitionPosition {
        let PartitionWork { stream, id } = &self.work.partitions[partition];
        let (name, id) = (self.work.streams[*stream].target.stream.clone(), id.clone());
        self.stream_position(&name).partitions.entry(id).or_default()
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

    /// The plan of a stream has ended: its next state takes effect, a full refresh becomes visible, a full read tells
    /// what is gone, a backfill leaves its lane.
    fn complete(&mut self, stream: usize) {
        let name = self.work.streams[stream].target.stream.clone();
        if let Some(lane) = &self.work.lane {
            let left = self.work.position.backfills.get_mut(lane).map(|streams| (streams.remove(&name), streams.len()));
            if let Some((_, 0)) = left {
                self.work.position.backfills.remove(lane);
            }
            self.moved |= left.is_some();
            return;
        }
        let before = self.stream_position(&name).clone();
        let mut position = before.clone();
        let work = &self.work.streams[stream];
        position.completed = match &work.next {
            NextState::Given(state) => state.clone(),
            NextState::LastCheckpoint { partition_id } => {
                let last = position.partitions.get(partition_id).and_then(|partition| partition.state.clone());
                last.or(before.completed.clone())
            }
        };
        position.partitions.clear();
        let (target, swap) = (work.target.clone(), std::mem::take(&mut position.refreshing));
        let sweep = position.pass.take().filter(|_| target.infer_deletes);
        if swap || sweep.is_some() {
            let tables = work.tables();
            if swap {
                self.work.open.swap(&target, &tables);
            }
            if let Some(since) = sweep {
                self.work.open.sweep(&target, &tables, since);
            }
        }
        self.moved |= position != before;
        *self.stream_position(&name) = position;
    }

    fn cut(&mut self, ended: bool) -> Result<(), Failure> {
        let now = now_ms();
        let open = &self.work.open;
        let age_ms = open.opened_ms.map_or(0, |opened| u64::try_from(now - opened).unwrap_or(0));
        let inputs = CutInputs { bytes: open.bytes, rows: open.rows, age_ms, moved: self.moved, ended };
        if self.work.settings.batch.evaluate(inputs) == Cut::Keep {
            return Ok(());
        }
        self.check_rejected()?;
        let next = open.following();
        let to = self.work.position.clone();
        let next_from = to.digest();
        let from = std::mem::replace(&mut self.from, next_from);
        let closed = std::mem::replace(&mut self.work.open, next).close(from, to, now)?;
        self.moved = false;
        self.tell_progress();
        // The committer ends only with a failure of its own, which the run reports.
        self.work
            .closed
            .blocking_send(closed)
            .map_err(|_| Failure::system("the run is ending because a batch could not be committed"))
    }

    /// Shares of rejected records are looked at when a batch closes, when there is something to take a share of.
    fn check_rejected(&self) -> Result<(), Failure> {
        self.work.streams.iter().try_for_each(|stream| {
            let tally = Tally { emitted: stream.records, rejected: stream.rejected };
            let Some(last) = self.work.open.last_rejected(&stream.target.stream) else { return Ok(()) };
            fail_where(exceeded(&stream.target.stream, stream.max_rejected, tally, true, last))
        })
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
