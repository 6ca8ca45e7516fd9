//! What a run came to.

use std::collections::BTreeMap;

use crate::replay::ReplayReport;
use serde::{Deserialize, Serialize};
use thimble_record::{
    BatchSeq, Checksum, Counts, Failure, LoadOutcome, SealedBatch, StreamPosition, WriteMode, rejected::REJECTED_STREAM,
};

/// The figures of a run, as stored with it and shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunReport {
    pub streams: BTreeMap<String, StreamReport>,
    /// What its tables are, by the name of their stream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableReport>,
    /// How far streams with a cursor were read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bookmarks: BTreeMap<String, Bookmark>,
    /// No committed row was extracted later; milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extracted_until: Option<i64>,
    /// Batches committed by this run, recovered ones included.
    pub batches: u64,
    /// Of those, batches that an earlier run had sealed.
    pub recovered_batches: u64,
    /// The batch whose position the run read on from; recovered batches come after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_after: Option<BatchSeq>,
    pub elapsed_ms: u64,
    /// One for each stream or partition that failed; the others went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Whether it was stopped by the operator.
    #[serde(default)]
    pub cancelled: bool,
    /// What a replay of rejected records came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayReport>,
    /// What check, discover or install answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
}

/// The figures of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamReport {
    #[serde(flatten)]
    pub counts: Counts,
    /// How its rows meet those that its table has.
    #[serde(default)]
    pub mode: WriteMode,
    /// Bytes of its staged Parquet.
    pub bytes: u64,
    /// Of the rows as they were extracted, staged and loaded, which agreed.
    #[serde(default)]
    pub checksum: Checksum,
}

/// What one table is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableReport {
    /// In a subtable: the stream that its rows were taken out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Columns that identify a row.
    pub key: Vec<String>,
    /// Goes up with every full refresh.
    pub generation: u64,
    /// Whether this run switched readers to a new generation.
    pub swapped: bool,
}

/// How far a stream was read, in its connector's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bookmark {
    /// The cursor field.
    pub key: String,
    /// Before the run.
    pub min: Option<String>,
    /// After it.
    pub max: Option<String>,
}

/// Longest bookmark that is reported; a connector's state may be as long as 1 MiB.
const MAX_BOOKMARK_BYTES: usize = 1024;

impl Bookmark {
    /// Where a stream stands before it is read.
    pub(crate) fn before(cursor: String, position: &StreamPosition) -> Self {
        Self { key: cursor, min: short(position), max: None }
    }

    /// Sets where it stands now.
    pub(crate) fn now(&mut self, position: &StreamPosition) {
        self.max = short(position);
    }
}

fn short(position: &StreamPosition) -> Option<String> {
    position.completed.clone().filter(|state| state.len() <= MAX_BOOKMARK_BYTES)
}

impl RunReport {
    /// Records committed, over all streams.
    pub fn records(&self) -> u64 {
        self.streams.values().map(|stream| stream.counts.loaded + stream.counts.merged).sum()
    }

    /// Records rejected, over all streams.
    pub fn rejected(&self) -> u64 {
        self.streams.values().map(|stream| stream.counts.rejected).sum()
    }

    /// Adds a committed batch.
    pub(crate) fn add(&mut self, batch: &SealedBatch, outcome: &LoadOutcome) {
        self.batches += 1;
        for (part, loaded) in batch.streams.iter().zip(&outcome.streams) {
            if part.stream == REJECTED_STREAM {
                continue;
            }
            let report = self.streams.entry(part.stream.clone()).or_default();
            report.counts += Counts { loaded: loaded.loaded, merged: loaded.merged, ..part.counts };
            report.mode = part.mode;
            report.checksum += part.checksum;
            report.bytes += part.segments.iter().map(|segment| segment.plain_bytes).sum::<u64>();
            let table = self.tables.entry(part.stream.clone()).or_default();
            let swapped = table.swapped || part.swap;
            let (root, key) = (part.root.clone(), part.key.clone());
            *table = TableReport { root, key, generation: part.generation.0, swapped };
        }
    }
}
