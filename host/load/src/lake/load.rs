//! Loads one sealed batch: data files first, the fence once more, then the commit record.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use thimble_record::{Checksum, Counts, LoadOutcome, SealedBatch};

use super::{
    Lake,
    client::Created,
    commit::{CommitRecord, DataFile, FORMAT, LakeState, Reading, StreamCommit, has_snapshot},
    names,
};
use crate::{conserve, destination::SegmentSource, error::LoadError, limits::FILES_AT_ONCE};

impl Lake {
    /// See [`Destination::load`](crate::Destination::load).
    pub(super) async fn load_batch(
        &self,
        batch: &SealedBatch,
        segments: &dyn SegmentSource,
    ) -> Result<LoadOutcome, LoadError> {
        let counts = conserve::appended_counts(batch)?;
        self.check_fence(&batch.connection, batch.epoch).await?;
        let state = self.state(&batch.connection).await?;
        if batch.seq <= state.seq {
            return self.committed_before(batch).await;
        }
        admit(&state, batch).map_err(LoadError::Conflict)?;
        let files = self.write_files(batch, segments).await?;
        let bytes = files.iter().flatten().map(|file| file.bytes).sum();
        let (record, next) = record(&state, batch, &counts, files, (self.clock)()).map_err(LoadError::Conflict)?;
        self.check_fence(&batch.connection, batch.epoch).await?;
        if !self.commit(batch, &record).await? {
            return self.committed_before(batch).await;
        }
        let next = Arc::new(next);
        self.remember(&batch.connection, &next);
        self.write_derived(&batch.connection, &next, &record).await;
        Ok(LoadOutcome { streams: counts, checksums: checksums(batch), already_committed: false, bytes })
    }

    /// The data files of each stream of a batch, in the order of the batch.
    async fn write_files(
        &self,
        batch: &SealedBatch,
        segments: &dyn SegmentSource,
    ) -> Result<Vec<Vec<DataFile>>, LoadError> {
        let mut writes = Vec::new();
        for (index, stream) in batch.streams.iter().enumerate() {
            for segment in &stream.segments {
                writes.push(async move {
                    let file = self.write_file(batch, stream, segment, segments).await;
                    file.map(|file| (index, file))
                });
            }
        }
        let written: Vec<(usize, DataFile)> = stream::iter(writes).buffered(FILES_AT_ONCE).try_collect().await?;
        let mut files = vec![Vec::new(); batch.streams.len()];
        for (index, file) in written {
            files[index].push(file);
        }
        Ok(files)
    }

    /// Writes the record. Returns whether ours is the one that is there; `false` when another one is.
    async fn commit(&self, batch: &SealedBatch, record: &CommitRecord) -> Result<bool, LoadError> {
        let path = names::commit(&batch.connection, batch.seq);
        let content =
            serde_json::to_vec(record).expect("a record is plain data with text keys, which always serializes");
        match self.client.create(&path, Bytes::from(content)).await? {
            Created::Ours => Ok(true),
            Created::Other => Ok(false),
        }
    }

    /// The outcome of a batch whose number is committed: success when it is the same batch.
    async fn committed_before(&self, batch: &SealedBatch) -> Result<LoadOutcome, LoadError> {
        let path = names::commit(&batch.connection, batch.seq);
        let record = self.record(&batch.connection, batch.seq).await?.ok_or_else(|| LoadError::Corrupt {
            object: path.to_string(),
            reason: "it is missing, but later batches are committed".into(),
        })?;
        if record.manifest_sha != batch.manifest_sha() {
            return Err(LoadError::Conflict(format!(
                "connection {}: the lake holds another batch {} than the sealed one: was the control database \
                 restored from an older copy?",
                batch.connection, batch.seq
            )));
        }
        let state = self.state(&batch.connection).await?;
        if state.seq == batch.seq {
            // The owner that wrote it may have died before the derived files.
            self.write_derived(&batch.connection, &state, &record).await;
        }
        let streams = record.streams.iter().map(|stream| stream.counts).collect();
        Ok(LoadOutcome { streams, checksums: checksums(batch), already_committed: true, bytes: 0 })
    }
}

/// The lake's files are the staged ones byte for byte, verified by their digests, so their rows have the staged checksums.
fn checksums(batch: &SealedBatch) -> Vec<Checksum> {
    batch.streams.iter().map(|stream| stream.checksum).collect()
}

/// Whether a batch may follow a state. Asked before anything is written.
fn admit(state: &LakeState, batch: &SealedBatch) -> Result<(), String> {
    let in_connection = |reason| format!("connection {}: {reason}", batch.connection);
    state.follows(batch.seq, &batch.from).map_err(in_connection)?;
    for stream in &batch.streams {
        state
            .visible_after(&stream.stream, stream.refreshing, stream.generation, stream.swap)
            .map_err(in_connection)?;
        if let Some(reason) = Reading::of(stream).refuse(&stream.schema) {
            return Err(in_connection(format!("stream {:?}: {reason}", stream.stream)));
        }
    }
    Ok(())
}

/// The record of a batch, and the state after it.
fn record(
    state: &LakeState,
    batch: &SealedBatch,
    counts: &[Counts],
    files: Vec<Vec<DataFile>>,
    committed_at: i64,
) -> Result<(CommitRecord, LakeState), String> {
    let mut streams = Vec::with_capacity(batch.streams.len());
    let mut dropped_generations = Vec::new();
    for ((stream, counts), files) in batch.streams.iter().zip(counts).zip(files) {
        if stream.swap {
            dropped_generations.extend(state.dropped_by_swap(&stream.stream, stream.generation));
        }
        streams.push(StreamCommit {
            stream: stream.stream.clone(),
            table: names::table_name(&stream.stream),
            reading: Reading::of(stream),
            generation: stream.generation,
            refreshing: stream.refreshing,
            swap: stream.swap,
            schema: stream.schema.clone(),
            counts: *counts,
            files,
            sweep: stream.sweep,
        });
    }
    let mut record = CommitRecord {
        format: FORMAT,
        seq: batch.seq,
        epoch: batch.epoch,
        manifest_sha: batch.manifest_sha(),
        from: batch.from.clone(),
        position: batch.to.clone(),
        committed_at,
        streams,
        dropped_generations,
        snapshot: None,
    };
    let mut next = state.clone();
    next.apply(&record)?;
    if has_snapshot(batch.seq) {
        record.snapshot = Some(next.tables.clone());
    }
    Ok((record, next))
}
