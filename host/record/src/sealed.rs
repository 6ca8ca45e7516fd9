//! Sealed batches: what extraction hands to loading, once and unchangeably.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    checksum::Checksum,
    counts::Counts,
    ids::{BatchSeq, ConnectionId, Epoch, Generation},
    position::Position,
    schema::StreamSchema,
    selection::DeleteMode,
    system::SystemNaming,
};

/// How a stream's rows meet the rows that its table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// Rows are added.
    #[default]
    Append,
    /// Of the rows of a key, those in the table included, the one with the greatest sequence stays.
    Upsert,
    /// A row that differs from the current version of its key ends that version and becomes the current one.
    History,
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
    /// Of its rows.
    #[serde(default)]
    pub checksum: Checksum,
}

/// One stream's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamBatch {
    pub stream: String,
    /// In a subtable: the stream that its rows were taken out of. That stream stands before it in the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    pub mode: WriteMode,
    pub generation: Generation,
    /// Whether `generation` is a full refresh under way: its rows go to a table of their own, which readers do not see.
    #[serde(default)]
    pub refreshing: bool,
    /// Set in the batch that ends a full refresh: readers switch to `generation` in this commit.
    pub swap: bool,
    /// Columns that identify a row, by the names in `schema`. In a subtable of a stream with a key: the columns that
    /// repeat the root's key, which identify the rows of one root record together.
    pub key: Vec<String>,
    #[serde(default)]
    pub deletes: DeleteMode,
    /// Set in the batch that ends a full read whose deletes are inferred: rows of the table that no batch from this one
    /// on has written are gone at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<BatchSeq>,
    /// Names of the host's columns in `schema`.
    #[serde(default)]
    pub system: SystemNaming,
    /// The stream's whole schema after this batch, system columns included. Columns are only ever added or widened.
    pub schema: StreamSchema,
    /// `loaded` and `merged` are zero until the load fills them.
    pub counts: Counts,
    /// Of all its rows, computed as they left extraction.
    #[serde(default)]
    pub checksum: Checksum,
    pub segments: Vec<SegmentRef>,
}

impl StreamBatch {
    /// A part that appends to generation 0, without rows.
    pub fn new(stream: impl Into<String>, schema: StreamSchema) -> Self {
        Self {
            stream: stream.into(),
            root: None,
            mode: WriteMode::Append,
            generation: Generation::default(),
            refreshing: false,
            swap: false,
            key: Vec::new(),
            deletes: DeleteMode::default(),
            sweep: None,
            system: SystemNaming::default(),
            schema,
            counts: Counts::default(),
            checksum: Checksum::default(),
            segments: Vec::new(),
        }
    }

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
    /// Of the rows as they were loaded, in the same order.
    #[serde(default)]
    pub checksums: Vec<Checksum>,
    /// Whether the batch had been committed before, so that nothing was done now.
    pub already_committed: bool,
    /// Bytes written to the destination.
    pub bytes: u64,
}
