//! Commit records and the state that they add up to. Pure: no I/O here.
//!
//! The records of a connection are numbered without gaps from 1, create-only, and each names the digest of the position
//! it continues from. Every [`SNAPSHOT_EVERY`]th embeds the whole state after it. The state of a connection is the last
//! snapshot and the records after it, applied in order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thimble_record::{BatchSeq, Counts, Epoch, Generation, Position, StreamSchema, WriteMode};

use crate::limits::SNAPSHOT_EVERY;

/// The only format so far.
pub const FORMAT: u32 = 1;

/// A committed batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    pub format: u32,
    pub seq: BatchSeq,
    /// The epoch that sealed the batch.
    pub epoch: Epoch,
    /// Which batch it was.
    pub manifest_sha: String,
    /// Digest of the position that the batch continues from.
    pub from: String,
    /// The position after the batch.
    pub position: Position,
    /// Milliseconds since the epoch.
    pub committed_at: i64,
    pub streams: Vec<StreamCommit>,
    /// Generations that no reader sees from this commit on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_generations: Vec<DroppedGeneration>,
    /// The state after this commit, in every [`SNAPSHOT_EVERY`]th record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BTreeMap<String, TableState>>,
}

/// One stream's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCommit {
    pub stream: String,
    /// Folder of the table in the connection's folder.
    pub table: String,
    pub mode: WriteMode,
    pub generation: Generation,
    /// Whether `generation` is a full refresh under way or ended by `swap`.
    #[serde(default)]
    pub refreshing: bool,
    /// Whether readers see `generation` from this commit on.
    pub swap: bool,
    /// The whole schema of the stream after this commit.
    pub schema: StreamSchema,
    pub counts: Counts,
    pub files: Vec<DataFile>,
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Name under the lake's root.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// A generation that a swap ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedGeneration {
    pub stream: String,
    pub table: String,
    pub generation: Generation,
}

/// A table after some commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableState {
    pub table: String,
    /// The generation that readers see; `None` while the first full refresh is under way.
    pub visible: Option<Generation>,
    /// When `visible` began to be; milliseconds since the epoch.
    pub visible_since: i64,
    /// The visible generation, and a refresh under way.
    pub generations: BTreeMap<Generation, GenerationState>,
}

/// The files of one generation, in the order of their commits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GenerationState {
    pub schema: StreamSchema,
    pub files: Vec<DataFile>,
}

impl TableState {
    /// What readers see; `None` while there is nothing to see.
    pub fn current(&self) -> Option<(Generation, &GenerationState)> {
        let visible = self.visible?;
        self.generations.get(&visible).map(|state| (visible, state))
    }
}

/// A connection after some commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LakeState {
    pub(crate) seq: BatchSeq,
    pub(crate) position: Position,
    pub(crate) manifest_sha: Option<String>,
    /// By stream.
    pub(crate) tables: BTreeMap<String, TableState>,
}

/// Whether the record of this number holds a snapshot.
pub(crate) fn has_snapshot(seq: BatchSeq) -> bool {
    seq.0 != 0 && seq.0.is_multiple_of(SNAPSHOT_EVERY)
}

impl LakeState {
    /// Starts from a record that holds a snapshot; `None` when it holds none.
    pub(crate) fn from_snapshot(record: &CommitRecord) -> Option<Self> {
        Some(Self {
            seq: record.seq,
            position: record.position.clone(),
            manifest_sha: Some(record.manifest_sha.clone()),
            tables: record.snapshot.clone()?,
        })
    }

    /// Applies the next record.
    ///
    /// # Errors
    /// One sentence, when the record does not follow this state.
    pub(crate) fn apply(&mut self, record: &CommitRecord) -> Result<(), String> {
        self.follows(record.seq, &record.from)?;
        for stream in &record.streams {
            let visible = self.visible_after(&stream.stream, stream.refreshing, stream.generation, stream.swap)?;
            let table = self.tables.entry(stream.stream.clone()).or_default();
            table.table.clone_from(&stream.table);
            let generation = table.generations.entry(stream.generation).or_default();
            generation.schema.clone_from(&stream.schema);
            generation.files.extend(stream.files.iter().cloned());
            if visible != table.visible {
                table.visible = visible;
                table.visible_since = record.committed_at;
            }
            if stream.swap {
                table.generations.retain(|&generation, _| generation >= stream.generation);
            }
        }
        self.seq = record.seq;
        self.position = record.position.clone();
        self.manifest_sha = Some(record.manifest_sha.clone());
        Ok(())
    }

    /// Whether a batch is the next one.
    pub(crate) fn follows(&self, seq: BatchSeq, from: &str) -> Result<(), String> {
        if seq != self.seq.next() {
            return Err(format!("batch {seq} cannot follow batch {}: batches are committed without gaps", self.seq));
        }
        if from != self.position.digest() {
            return Err(format!("batch {seq} does not continue from the position that batch {} ended at", self.seq));
        }
        Ok(())
    }

    /// The generation of a stream that readers see after a batch.
    ///
    /// Rows are appended to the visible generation only, and replace it by a newer one only.
    pub(crate) fn visible_after(
        &self,
        stream: &str,
        refreshing: bool,
        generation: Generation,
        swap: bool,
    ) -> Result<Option<Generation>, String> {
        let visible = self.tables.get(stream).and_then(|table| table.visible);
        let wrong = |what: &str| Err(format!("stream {stream:?}: generation {generation} {what}"));
        match (refreshing, visible) {
            (false, None) => Ok(Some(generation)),
            (false, Some(current)) if current == generation => Ok(visible),
            (false, Some(current)) => wrong(&format!("is appended to, but readers see {current}")),
            (true, Some(current)) if generation <= current => {
                wrong(&format!("cannot replace {current}, which is as new"))
            }
            (true, _) => Ok(if swap { Some(generation) } else { visible }),
        }
    }

    /// The generations of a stream that a swap to `generation` drops.
    pub(crate) fn dropped_by_swap(&self, stream: &str, generation: Generation) -> Vec<DroppedGeneration> {
        let Some(table) = self.tables.get(stream) else { return Vec::new() };
        let dropped = table.generations.keys().filter(|&&old| old < generation);
        dropped
            .map(|&old| DroppedGeneration { stream: stream.into(), table: table.table.clone(), generation: old })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(visible: Option<u64>) -> LakeState {
        let table = TableState { visible: visible.map(Generation), ..TableState::default() };
        LakeState { tables: BTreeMap::from([("s".to_owned(), table)]), ..LakeState::default() }
    }

    #[test]
    fn what_readers_see_after_a_batch() {
        const APPEND: bool = false;
        const REFRESH: bool = true;
        let cases = [
            // visible before, refreshing, generation, swap => visible after (None: refused)
            (None, APPEND, 0, false, Some(Some(0))),
            (None, REFRESH, 0, false, Some(None)),
            (None, REFRESH, 0, true, Some(Some(0))),
            (Some(1), APPEND, 1, false, Some(Some(1))),
            (Some(1), APPEND, 0, false, None),
            (Some(1), APPEND, 2, false, None),
            (Some(1), REFRESH, 1, true, None),
            (Some(1), REFRESH, 0, true, None),
            (Some(1), REFRESH, 2, false, Some(Some(1))),
            (Some(1), REFRESH, 2, true, Some(Some(2))),
        ];
        for (visible, refreshing, generation, swap, expected) in cases {
            let after = state(visible).visible_after("s", refreshing, Generation(generation), swap);
            let expected = expected.map(|visible| visible.map(Generation));
            assert_eq!(after.ok(), expected, "{visible:?} {refreshing} {generation} {swap}");
        }
    }

    #[test]
    fn snapshots_lie_at_multiples_of_their_distance() {
        let with: Vec<_> = (0..=130).filter(|&seq| has_snapshot(BatchSeq(seq))).collect();
        assert_eq!(with, [64, 128]);
    }
}
