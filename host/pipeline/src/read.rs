//! Reading partitions: several at once, each in an instance of its own, tried again from its last checkpoint.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use thimble_engine::retry::{Retry, RetryPolicy};
use thimble_plugin::{Connector, RawBatch, ReadRequest, RecordSink, Session};
use thimble_record::{Failure, Rejected};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    collect::{Message, PartitionIndex},
    events::{EventSink, RunEvent},
    session::jitter,
    settings::WorkerSettings,
};

/// One partition to read.
pub struct ReadTask {
    pub partition: PartitionIndex,
    pub request: ReadRequest,
}

/// What all reads of a run share.
pub struct Readers {
    pub connector: Arc<dyn Connector>,
    pub session: Session,
    pub settings: WorkerSettings,
    pub messages: mpsc::Sender<Message>,
    pub events: Arc<dyn EventSink>,
    pub cancel: CancellationToken,
}

/// Forwards what a guest emits to the collector.
struct ChannelSink {
    partition: PartitionIndex,
    messages: mpsc::Sender<Message>,
    /// Bytes that may wait for the decoder, over the whole run.
    budget: Arc<Semaphore>,
    capacity: usize,
    /// The last checkpoint, from which a failed read goes on.
    state: Arc<Mutex<Option<String>>>,
}

impl ChannelSink {
    async fn send(&self, message: Message) -> Result<(), Failure> {
        self.messages.send(message).await.map_err(|_| Failure::system("the run is ending"))
    }
}

#[async_trait]
impl RecordSink for ChannelSink {
    async fn emit(&self, _stream: &str, batch: RawBatch) -> Result<(), Failure> {
        let bytes = u32::try_from(batch.len().min(self.capacity)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(bytes)
            .await
            .map_err(|_| Failure::system("the run is ending"))?;
        self.send(Message::Batch { partition: self.partition, batch, _permit: permit }).await
    }

    async fn reject(&self, _stream: &str, records: Vec<Rejected>) -> Result<(), Failure> {
        self.send(Message::Rejected { partition: self.partition, records }).await
    }

    async fn checkpoint(&self, _stream: &str, state: String) -> Result<(), Failure> {
        self.send(Message::Checkpoint { partition: self.partition, state: state.clone() }).await?;
        *self.state.lock().expect("no holder of this lock panics") = Some(state);
        Ok(())
    }
}

impl Readers {
    /// Reads all partitions, `max_parallel_partitions` at a time, and returns the failures of those that
    /// could not be read; the others go on. Dropping the future ends every guest.
    pub async fn read_all(self, tasks: Vec<ReadTask>) -> Vec<Failure> {
        let capacity = self.settings.max_queued_bytes;
        let budget = Arc::new(Semaphore::new(capacity.min(Semaphore::MAX_PERMITS)));
        let readers = &self;
        let results = stream::iter(tasks).map(|task| {
            let budget = Arc::clone(&budget);
            async move { readers.read_one(task, budget, capacity).await }
        });
        let mut results = results.buffer_unordered(self.settings.max_parallel_partitions.max(1));
        let mut failures = Vec::new();
        while let Some(result) = results.next().await {
            failures.extend(result.err());
        }
        failures
    }

    async fn read_one(&self, task: ReadTask, budget: Arc<Semaphore>, capacity: usize) -> Result<(), Failure> {
        let ReadTask { partition, mut request } = task;
        let policy: RetryPolicy = self.settings.retry;
        let mut attempt = 1;
        loop {
            if self.cancel.is_cancelled() || self.messages.is_closed() {
                return Ok(());
            }
            let state = Arc::new(Mutex::new(request.state.clone()));
            let sink = Arc::new(ChannelSink {
                partition,
                messages: self.messages.clone(),
                budget: Arc::clone(&budget),
                capacity,
                state: Arc::clone(&state),
            });
            let read = self.spawn_read(request.clone(), sink);
            let failure = match read.await {
                None => return Ok(()),
                Some(Ok(())) => {
                    // A closed channel means that the collector failed; its own failure is the run's.
                    let _ = self.messages.send(Message::End { partition }).await;
                    return Ok(());
                }
                Some(Err(failure)) => failure,
            };
            let _ = self.messages.send(Message::Abandon { partition }).await;
            if self.messages.is_closed() {
                return Ok(());
            }
            let reached = state.lock().expect("no holder of this lock panics").clone();
            // A read that got further than the last one has earned its tries anew.
            attempt = if reached == request.state { attempt } else { 1 };
            request.state = reached;
            let Retry::After(wait_ms) = policy.decide(&failure, attempt, jitter()) else { return Err(failure) };
            let (stream, partition) = (&request.stream.name, &request.partition.id);
            tracing::warn!(stream, partition, wait_ms, error = failure.message, "a partition is read again");
            self.events.event(RunEvent::Retrying {
                stream: request.stream.name.clone(),
                partition: request.partition.id.clone(),
                wait_ms,
                failure,
            });
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(wait_ms)) => {}
                () = self.cancel.cancelled() => return Ok(()),
            }
        }
    }

    /// Runs the guest as a task of its own, so that partitions use several threads; `None` when cancelled.
    async fn spawn_read(&self, request: ReadRequest, sink: Arc<ChannelSink>) -> Option<Result<(), Failure>> {
        let (connector, session) = (Arc::clone(&self.connector), self.session.clone());
        let (stream, partition) = (&request.stream.name, &request.partition.id);
        let span = tracing::info_span!("read", stream, partition);
        let reading = async move { connector.read(&session, request, sink).await };
        let guard = AbortOnDrop(tokio::spawn(reading.instrument(span)));
        let mut guard = guard;
        tokio::select! {
            result = &mut guard.0 => Some(match result {
                Ok(read) => read.map_err(|error| error.failure()),
                Err(error) => Err(Failure::system(format!("reading stopped: {error}"))),
            }),
            () = self.cancel.cancelled() => None,
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
