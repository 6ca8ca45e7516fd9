//! The lake: Parquet files in an object store, committed by records that are written last.
//!
//! Why a batch is in the lake once, and whole:
//! - A reader believes the commit records only. The record of a batch is written after its data files, in one create-only
//!   put, so a batch is visible whole or not at all.
//! - A sealed batch never changes, and there is one per connection and number, because sealing is guarded by the lease's
//!   epoch in the control database. So whoever loads batch n writes the same files under the same names and the same
//!   record. A second record for n cannot be created.
//! - An owner that was shut out by a greater fence stops when it looks for fences, before its record. If it looked just
//!   before the fence appeared, it can at most write the record of its sealed batch, which is the very batch that the new
//!   owner finds sealed and loads: it then finds it committed.
//! - A put whose answer was lost is resolved by asking for its name.
//!
//! Plain readers: the folder `<connection>/<table>/current` (a link, in a local lake) holds whole Parquet files only. It
//! may show the files of a batch just before its record; never twice, and never a part of a file. `manifest.json` and
//! `views.sql` name committed files only. These derived files are written after the record; the next fence repairs what
//! a crash, or an owner that was shut out, left wrong in them.

//!
//! Upsert is done by readers: data files never change and are the staged bytes, so `current` holds every version of every
//! row. [`Lake::scan`] and the views of `views.sql` show
//! - of each key, the row with the greatest sequence (then batch);
//! - of a key whose last row marks a deletion: nothing (hard), or its last row without a mark, as it was but for the time
//!   of the deletion (soft; the mark itself where no other row is there);
//! - a key whose last row no batch of an ended full read has written like one deleted when that read was committed;
//! - of a subtable of such a stream, the rows of root rows that are shown.
//!
//! What the newest commit says of mode, key and deletions holds for the whole table. All staged rows count as loaded,
//! none as merged. It is taken for granted that a row's batch column is the number of the batch that it came in.

mod client;
mod collect;
pub mod commit;
mod derived;
mod fence;
mod load;
mod merge;
mod names;
mod read;
mod rejects;
mod state;
mod views;
mod write;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use object_store::ObjectStore;
use thimble_record::{BatchSeq, ConnectionId, Epoch, LoadOutcome, RejectedRow, SealedBatch, StreamSchema};

pub use names::table_name;
pub use read::{Scan, Table};

use crate::{
    destination::{Capabilities, Committed, Destination, Refusal, SegmentSource, TableInfo},
    error::LoadError,
    limits::{LAKE_COLUMNS, LAKE_KEYS},
    objects::{self, Objects},
};
use client::Client;
use commit::LakeState;

/// Milliseconds since the epoch, now. Only written down in records; nothing is decided by it.
pub type Clock = fn() -> i64;

/// A lake, as one owner sees it. Clones share what the owner knows and the epoch it fenced with; open another one for
/// another owner.
#[derive(Clone)]
pub struct Lake {
    client: Client,
    clock: Clock,
    /// The last known state of each connection, so that a load reads only what is new.
    known: Arc<Mutex<HashMap<ConnectionId, Arc<LakeState>>>>,
    /// The epoch of this owner's last fence, by connection.
    fenced: Arc<Mutex<HashMap<ConnectionId, Epoch>>>,
    /// The last batch that all derived files were written after, by connection.
    derived: Arc<Mutex<HashMap<ConnectionId, BatchSeq>>>,
    /// Rows of tables that have to be read to be counted.
    counted: Arc<Mutex<read::Counted>>,
    /// Keys of one table that are held in memory.
    keys: usize,
}

impl Lake {
    /// Opens `file:///folder` (made when absent) or `s3://bucket/prefix`. Options as for the staging area: `fsync` for
    /// `file`; object_store's settings for `s3`.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, LoadError> {
        Ok(Self::with_objects(objects::open(url, options)?))
    }

    /// Uses a store that was made elsewhere; `base` is what other tools put before an object's name, with the final `/`.
    /// The store must support conditional creation.
    pub fn with_store(store: Arc<dyn ObjectStore>, base: &str) -> Self {
        Self::with_objects(Objects { durable: Arc::clone(&store), quick: store, folder: None, base: base.to_owned() })
    }

    /// Puts a layer around the store of an opened lake, for example to limit or to disturb it.
    #[must_use]
    pub fn wrapped(mut self, wrap: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        self.client.objects.durable = wrap(self.client.objects.durable);
        self.client.objects.quick = wrap(self.client.objects.quick);
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the limit of keys that a scan holds, [`LAKE_KEYS`].
    #[must_use]
    pub fn with_keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    fn with_objects(objects: Objects) -> Self {
        Self {
            client: Client { objects },
            clock: wall_clock,
            known: Arc::default(),
            fenced: Arc::default(),
            derived: Arc::default(),
            counted: Arc::default(),
            keys: LAKE_KEYS,
        }
    }

    /// Where other tools find an object of the lake: an absolute path or a URL.
    pub fn location(&self, path: &str) -> String {
        format!("{}{path}", self.client.objects.base)
    }
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Destination for Lake {
    fn for_owner(&self) -> Arc<dyn Destination> {
        Arc::new(Self { fenced: Arc::default(), ..self.clone() })
    }

    async fn fence(&self, connection: &ConnectionId, epoch: Epoch) -> Result<Committed, LoadError> {
        self.take_over(connection, epoch).await
    }

    async fn load(&self, batch: &SealedBatch, segments: &dyn SegmentSource) -> Result<LoadOutcome, LoadError> {
        self.load_batch(batch, segments).await
    }

    async fn committed(&self, connection: &ConnectionId) -> Result<Committed, LoadError> {
        let fence = self.greatest_fence(connection).await?;
        let state = self.state(connection).await?;
        Ok(fence::committed(fence, &state))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { max_columns: LAKE_COLUMNS, upsert: true, history: false }
    }

    fn refuse(&self, _schema: &StreamSchema, _rows: &RecordBatch) -> Vec<Refusal> {
        // Parquet holds every value that Arrow holds.
        Vec::new()
    }

    fn location(&self, connection: &ConnectionId, stream: &str) -> String {
        self.location(&format!("{connection}/{}/current/*.parquet", table_name(stream)))
    }

    async fn tables(&self, connection: &ConnectionId) -> Result<Vec<TableInfo>, LoadError> {
        let tables = Self::tables(self, connection).await?.into_iter();
        Ok(tables
            .map(|Table { stream, rows, bytes, .. }| TableInfo {
                location: Destination::location(self, connection, &stream),
                stream,
                rows,
                bytes: Some(bytes),
            })
            .collect())
    }

    async fn rejected(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, LoadError> {
        self.rejected_after(connection, after, limit).await
    }
}
