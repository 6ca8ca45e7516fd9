//! What the pipeline asks of every destination.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thimble_record::{
    BatchSeq, ConnectionId, Epoch, Failure, LoadOutcome, Position, SealedBatch, SegmentRef, StreamBatch,
};

use crate::error::LoadError;

/// Where a destination gets staged rows from.
#[async_trait]
pub trait SegmentSource: Send + Sync {
    /// Streams one segment's plaintext: a complete Parquet file, verified. An error may come at any moment; only a
    /// stream that ends without one was complete.
    async fn open(
        &self,
        batch: &SealedBatch,
        stream: &StreamBatch,
        segment: &SegmentRef,
    ) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure>;
}

/// What a destination has committed for a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// The greatest epoch that fenced the destination.
    pub fence: Epoch,
    /// The last committed batch; zero when there is none.
    pub seq: BatchSeq,
    /// The position after that batch.
    pub position: Position,
    /// Which batch it was; `None` when there is none.
    pub manifest_sha: Option<String>,
}

/// A place that rows are loaded into.
#[async_trait]
pub trait Destination: Send + Sync {
    /// A handle for one owner: it remembers the epoch of its own fences alone. Each run takes one, so that a run that was
    /// overtaken within the same process is shut out like any other.
    fn for_owner(&self) -> Arc<dyn Destination>;

    /// Shuts out owners with a smaller epoch and tells what is committed. Called once at the start of each run, before
    /// anything else; calling it again with the same epoch is allowed. Repairs what a crash left behind a commit.
    ///
    /// # Errors
    /// [`LoadError::Fenced`] when a greater epoch was here.
    async fn fence(&self, connection: &ConnectionId, epoch: Epoch) -> Result<Committed, LoadError>;

    /// Loads a sealed batch and commits it together with its position. All of it becomes visible or nothing.
    ///
    /// The caller's epoch is that of its last [`fence`](Self::fence); the batch may have been sealed by an earlier one.
    /// Loading a batch that is committed already succeeds and changes nothing. After an error the same batch can be
    /// loaded again, by this owner or another.
    async fn load(&self, batch: &SealedBatch, segments: &dyn SegmentSource) -> Result<LoadOutcome, LoadError>;

    /// Tells what is committed, without fencing.
    async fn committed(&self, connection: &ConnectionId) -> Result<Committed, LoadError>;
}
