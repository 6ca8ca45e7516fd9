//! What the pipeline asks of every destination.

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thimble_record::{
    BatchSeq, ConnectionId, Epoch, Failure, LoadOutcome, Position, RejectedRow, SealedBatch, SegmentRef, StreamBatch,
    StreamSchema,
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

/// What a destination can hold, as planning and extraction need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Most columns of one table, the host's included.
    pub max_columns: usize,
    /// Whether tables can hold the last row of each key.
    pub upsert: bool,
    /// Whether tables can hold the versions of each key.
    pub history: bool,
}

/// A row that a destination cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its index in the batch. Each row is refused once.
    pub row: usize,
    /// A short code in kebab-case.
    pub reason: &'static str,
    /// One sentence that names the field.
    pub message: String,
}

/// A table that readers can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    pub stream: String,
    /// What a reader names it by: a folder or URL, or a quoted `"schema"."table"`.
    pub location: String,
    /// Exact, or the destination's own estimate.
    pub rows: u64,
    /// Stored bytes, where the destination can tell.
    pub bytes: Option<u64>,
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

    /// What it can hold.
    fn capabilities(&self) -> Capabilities;

    /// The rows that it cannot hold, in ascending order. Called before rows are staged, because a sealed batch must
    /// load whole: what this lets through must never make a load fail. Pure computing over `rows`, which have the columns
    /// of `schema` by name.
    fn refuse(&self, schema: &StreamSchema, rows: &RecordBatch) -> Vec<Refusal>;

    /// The rows whose key it cannot keep apart from others, in ascending order, where the stream is merged by this key. As
    /// with [`refuse`](Self::refuse).
    fn refuse_keys(&self, key: &[String], rows: &RecordBatch) -> Vec<Refusal> {
        let _ = (key, rows);
        Vec::new()
    }

    /// What a reader names a stream's table by, as in [`TableInfo::location`]. Pure: whether it is there is not asked.
    fn location(&self, connection: &ConnectionId, stream: &str) -> String;

    /// The tables of a connection. May read them to count their rows.
    async fn tables(&self, connection: &ConnectionId) -> Result<Vec<TableInfo>, LoadError>;

    /// Rejected records that no replay made rows of, by stream and sequence, those after `after`; at most `limit`.
    async fn rejected(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, LoadError>;
}
