//! Commit records and the state that they add up to. Pure: no I/O here.
//!
//! The records of a connection are numbered without gaps from 1, create-only, and each names the digest of the position
//! it continues from. Every [`SNAPSHOT_EVERY`]th embeds the whole state after it. The state of a connection is the last
//! snapshot and the records after it, applied in order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thimble_record::{
    BatchSeq, Counts, DataType, DeleteMode, Epoch, Field, Generation, Position, StreamBatch, StreamSchema,
    SystemColumn, SystemNaming, WriteMode,
};

use crate::limits::{LAKE_SWEEPS, SNAPSHOT_EVERY};

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
    #[serde(default)]
    pub reading: Reading,
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
    /// The batch that ended a full read whose deletes are inferred names the batch that began it: what no batch from that
    /// one on has written is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<BatchSeq>,
}

/// How a table is read from its files. What the newest commit says holds for the whole table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    pub mode: WriteMode,
    /// Columns that identify a row; in a subtable, a root record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    pub deletes: DeleteMode,
    pub system: SystemNaming,
    /// In a subtable, the stream that its rows were taken out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

impl Reading {
    /// How a part of a batch wants its table to be read.
    pub(crate) fn of(part: &StreamBatch) -> Self {
        let StreamBatch { mode, key, deletes, system, root, .. } = part;
        Self { mode: *mode, key: key.clone(), deletes: *deletes, system: *system, root: root.clone() }
    }

    /// Whether the last row of each key is what readers see.
    pub(crate) fn folds(&self) -> bool {
        self.mode == WriteMode::Upsert && self.root.is_none()
    }

    /// Why a table cannot be read so, with this schema.
    pub(crate) fn refuse(&self, schema: &StreamSchema) -> Option<String> {
        match self.mode {
            WriteMode::Append => return None,
            WriteMode::History => return Some("the lake cannot hold the versions of each key".into()),
            WriteMode::Upsert if self.key.is_empty() => return Some("rows without a key cannot be upserted".into()),
            WriteMode::Upsert => {}
        }
        let system: &[SystemColumn] = if self.root.is_some() {
            &[SystemColumn::RootSequence]
        } else {
            &[SystemColumn::Sequence, SystemColumn::Batch]
        };
        let mut needed =
            self.key.iter().map(String::as_str).chain(system.iter().map(|column| self.system.name(*column)));
        let missing = needed.find(|name| schema.field(name).is_none())?;
        Some(format!("its rows are upserted, but have no column `{missing}`"))
    }
}

/// A full read that ended: rows whose last version no batch from `since` on has written count as deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    pub since: BatchSeq,
    /// When it was committed; milliseconds since the epoch.
    pub at: i64,
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
    #[serde(default)]
    pub reading: Reading,
    /// Each later one reaches further. Of more than [`LAKE_SWEEPS`], the oldest are taken as one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<Sweep>,
}

impl GenerationState {
    /// The schema that readers see: with a column for deletions where only sweeps know of some.
    pub fn visible_schema(&self) -> StreamSchema {
        let mut schema = self.schema.clone();
        let name = self.reading.system.name(SystemColumn::DeletedAt);
        let marks = self.reading.folds() && self.reading.deletes == DeleteMode::Soft && !self.sweeps.is_empty();
        if marks && schema.field(name).is_none() {
            schema.fields.push(Field { name: name.into(), data_type: DataType::TimestampTz, nullable: true });
        }
        schema
    }

    fn sweep(&mut self, sweep: Sweep) {
        if self.sweeps.last().is_some_and(|last| last.since >= sweep.since) {
            return;
        }
        self.sweeps.push(sweep);
        if self.sweeps.len() > LAKE_SWEEPS {
            // The second reaches further than the first, so that only some times of deletion become later.
            self.sweeps.remove(0);
        }
    }
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
            generation.reading.clone_from(&stream.reading);
            if let Some(since) = stream.sweep {
                generation.sweep(Sweep { since, at: record.committed_at });
            }
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
    fn sweeps_are_bounded_and_each_reaches_further() {
        let mut state = GenerationState::default();
        for since in [1, 3, 2, 3, 4] {
            state.sweep(Sweep { since: BatchSeq(since), at: 10 * since as i64 });
        }
        assert_eq!(state.sweeps.iter().map(|sweep| sweep.since.0).collect::<Vec<_>>(), [1, 3, 4]);
        for since in 5..=LAKE_SWEEPS as u64 + 2 {
            state.sweep(Sweep { since: BatchSeq(since), at: 0 });
        }
        assert_eq!((state.sweeps.len(), state.sweeps[0]), (LAKE_SWEEPS, Sweep { since: BatchSeq(3), at: 30 }));
    }

    #[test]
    fn snapshots_lie_at_multiples_of_their_distance() {
        let with: Vec<_> = (0..=130).filter(|&seq| has_snapshot(BatchSeq(seq))).collect();
        assert_eq!(with, [64, 128]);
    }
}
