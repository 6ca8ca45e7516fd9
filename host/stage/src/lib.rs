//! The staging area: immutable, encrypted, create-only segments in an object store.
//!
//! Owns the segment format, its encryption and its names. A segment is one complete Parquet file,
//! encrypted under a key of its own, and bound to its connection, epoch, batch, stream and number.
//! Must never decide what is staged or when it is loaded, and never overwrite an object.

mod collect;
mod components;
mod decrypt;
mod encrypt;
mod error;
mod frame;
mod limits;
mod objects;
mod put;
mod writer;

use std::{collections::BTreeMap, sync::Arc};

use object_store::ObjectStore;
use thimble_record::{BatchSeq, ConnectionId, Epoch, StreamSchema, envelope::Keys};

pub use error::StageError;
pub use limits::{CHUNK_BYTES, PUT_ATTEMPTS, ROW_GROUP_BYTES, ROW_GROUP_ROWS};
pub use writer::{FinishedSegment, SegmentWriter};

/// What a segment is part of. All of it is bound into the encryption, so that no segment can be read in the place of
/// another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentId {
    pub connection: ConnectionId,
    /// The epoch of the run that wrote it.
    pub epoch: Epoch,
    pub seq: BatchSeq,
    pub stream: String,
    /// Number within the batch.
    pub number: u32,
}

/// The staging area of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Stage {
    store: Arc<dyn ObjectStore>,
    keys: Keys,
}

impl Stage {
    /// Opens `file:///folder` (made when absent) or `s3://bucket/prefix`.
    ///
    /// Options: for `file`, `fsync` (default `true`); for `s3`, the settings of object_store's `AmazonS3ConfigKey`
    /// and `ClientConfigKey` (`endpoint`, `region`, `access_key_id`, `secret_access_key`, `allow_http`, `timeout`, …).
    /// What is not given is taken from the `AWS_*` environment variables.
    pub fn open(url: &str, options: &BTreeMap<String, String>, keys: impl Into<Keys>) -> Result<Self, StageError> {
        Ok(Self::with_store(objects::open(url, options)?, keys))
    }

    /// Uses a store that was made elsewhere. It must support conditional creation.
    pub fn with_store(store: Arc<dyn ObjectStore>, keys: impl Into<Keys>) -> Self {
        Self { store, keys: keys.into() }
    }

    /// Starts a segment. CPU only; nothing is stored before [`put`](Self::put).
    pub fn writer(&self, id: SegmentId, schema: &StreamSchema) -> Result<SegmentWriter, StageError> {
        SegmentWriter::new(id, schema, &self.keys)
    }
}
