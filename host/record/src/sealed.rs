//! Sealed batches: what extraction hands to loading, once and unchangeably.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    counts::Counts,
    ids::{BatchSeq, ConnectionId, Epoch, Generation},
    position::Position,
    schema::StreamSchema,
};

/// How a stream's rows reach its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// Rows are added.
    Append,
    /// Rows are added to a new generation that replaces the old one when the refresh ends.
    Replace,
}

/// One immutable encrypted segment in the staging store. Its plaintext is one complete Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Object name under the staging root.
    pub path: String,
    /// SHA-256 of the stored (encrypted) bytes, hex.
    pub sha256: String,
    /// Length of the stored bytes.
    pub bytes: u64,
    /// SHA-256 of the plaintext Parquet file, hex.
    pub plain_sha256: String,
    /// Length of the plaintext.
    pub plain_bytes: u64,
    /// Rows in the Parquet file.
    pub rows: u64,
    /// The data key of the segment, wrapped by the host key, hex.
    pub wrapped_key: String,
    /// Number of the segment within the batch; with connection, epoch, seq and stream, the AEAD's
    /// associated data.
    pub number: u32,
    /// The schema of its rows, system columns included.
    pub schema: StreamSchema,
}

/// One stream's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamBatch {
    pub stream: String,
    pub mode: WriteMode,
    pub generation: Generation,
    /// Set in the batch that ends a full refresh: readers switch to `generation` in this commit.
    pub swap: bool,
    pub key: Vec<String>,
    /// The stream's whole schema after this batch, system columns included. Columns are only ever added or widened.
    pub schema: StreamSchema,
    /// `loaded` and `merged` are zero until the load fills them.
    pub counts: Counts,
    pub segments: Vec<SegmentRef>,
}

impl StreamBatch {
    /// Rows staged for this stream.
    pub fn staged_rows(&self) -> u64 {
        self.segments.iter().map(|segment| segment.rows).sum()
    }
}

/// A batch that will be loaded, whatever happens: it never changes after it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBatch {
    pub connection: ConnectionId,
    /// The epoch that sealed it; part of the segments' associated data.
    pub epoch: Epoch,
    pub seq: BatchSeq,
    /// Digest of the position that the batch continues from, exclusive.
    pub from: String,
    /// The position after the batch, inclusive.
    pub to: Position,
    pub streams: Vec<StreamBatch>,
}

impl SealedBatch {
    /// SHA-256 of the canonical JSON, hex: tells whether two owners mean the same batch.
    pub fn manifest_sha(&self) -> String {
        let json = serde_json::to_vec(self).expect("a sealed batch is plain data, which always serializes");
        hex::encode(Sha256::digest(json))
    }
}

/// What a destination did with a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOutcome {
    /// Loaded and merged rows by stream, in the order of `SealedBatch::streams`.
    pub streams: Vec<Counts>,
    /// Whether the batch had been committed before, so that nothing was done now.
    pub already_committed: bool,
    /// Bytes written to the destination.
    pub bytes: u64,
}
