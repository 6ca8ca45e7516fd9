//! Finds and reads the commit records of a connection.
//!
//! Records are numbered without gaps, so nothing needs to be listed: the last snapshot is found by asking for its possible
//! numbers in growing steps, and the records after it by their names.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStoreExt, path::Path};
use thimble_record::{BatchSeq, ConnectionId};

use super::{
    Lake,
    commit::{CommitRecord, FORMAT, LakeState},
    names,
};
use crate::{
    error::LoadError,
    limits::{RECORDS_AT_ONCE, SNAPSHOT_EVERY},
};

impl Lake {
    /// The state of a connection after its last commit.
    pub(super) async fn state(&self, connection: &ConnectionId) -> Result<Arc<LakeState>, LoadError> {
        let mut state = match self.known(connection) {
            Some(known) => known,
            None => Arc::new(self.last_snapshot(connection).await?),
        };
        // Mostly nothing is new: ask for one, then for more at a time.
        let mut window = 1;
        loop {
            let records = self.records_after(connection, state.seq, window).await?;
            let complete = records.len() < window;
            for record in &records {
                Arc::make_mut(&mut state).apply(record).map_err(|reason| corrupt(connection, record.seq, reason))?;
            }
            if complete {
                self.remember(connection, &state);
                return Ok(state);
            }
            window = (window * 4).min(RECORDS_AT_ONCE);
        }
    }

    /// Reads up to `count` records after `seq`, until the first that is not there.
    async fn records_after(
        &self,
        connection: &ConnectionId,
        seq: BatchSeq,
        count: usize,
    ) -> Result<Vec<CommitRecord>, LoadError> {
        let reads: Vec<_> = (1..=count as u64).map(|step| self.record(connection, BatchSeq(seq.0 + step))).collect();
        let found: Vec<_> = stream::iter(reads).buffered(RECORDS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().map_while(|record| record).collect())
    }

    /// Reads one commit record; `None` when the batch is not committed.
    pub(super) async fn record(
        &self,
        connection: &ConnectionId,
        seq: BatchSeq,
    ) -> Result<Option<CommitRecord>, LoadError> {
        let path = names::commit(connection, seq);
        let Some(content) = self.client.read(&path).await? else { return Ok(None) };
        parse(&path, seq, &content).map(Some)
    }

    /// The state at the last snapshot; the empty state when there is none yet.
    async fn last_snapshot(&self, connection: &ConnectionId) -> Result<LakeState, LoadError> {
        let (mut found, mut step) = (0, 1);
        let mut growing = true;
        loop {
            if self.exists(&names::commit(connection, BatchSeq((found + step) * SNAPSHOT_EVERY))).await? {
                found += step;
                step = if growing { step * 2 } else { step };
            } else {
                growing = false;
            }
            if !growing {
                if step == 1 {
                    break;
                }
                step /= 2;
            }
        }
        if found == 0 {
            return Ok(LakeState::default());
        }
        let seq = BatchSeq(found * SNAPSHOT_EVERY);
        let record = self.record(connection, seq).await?;
        record
            .as_ref()
            .and_then(LakeState::from_snapshot)
            .ok_or_else(|| corrupt(connection, seq, "it holds no snapshot, but every 64th must".into()))
    }

    async fn exists(&self, path: &Path) -> Result<bool, LoadError> {
        match self.client.store().head(path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(LoadError::store("read", path.as_ref(), source)),
        }
    }

    fn known(&self, connection: &ConnectionId) -> Option<Arc<LakeState>> {
        self.known.lock().expect("no code panics while it holds this lock").get(connection).cloned()
    }

    /// Keeps a state for the next load, unless a later one is known.
    pub(super) fn remember(&self, connection: &ConnectionId, state: &Arc<LakeState>) {
        let mut known = self.known.lock().expect("no code panics while it holds this lock");
        let kept = known.entry(connection.clone()).or_insert_with(|| Arc::clone(state));
        if kept.seq < state.seq {
            *kept = Arc::clone(state);
        }
    }

    /// Forgets what was known, so that the next look reads the store.
    pub(super) fn forget(&self, connection: &ConnectionId) {
        self.known.lock().expect("no code panics while it holds this lock").remove(connection);
    }
}

/// Reads a record's text.
fn parse(path: &Path, seq: BatchSeq, content: &[u8]) -> Result<CommitRecord, LoadError> {
    let corrupt = |reason: String| LoadError::Corrupt { object: path.to_string(), reason };
    let format = serde_json::from_slice::<Format>(content).map_err(|error| corrupt(error.to_string()))?.format;
    if format != FORMAT {
        return Err(corrupt(format!("it has format {format}, this version of thimble reads format {FORMAT}")));
    }
    let record: CommitRecord = serde_json::from_slice(content).map_err(|error| corrupt(error.to_string()))?;
    if record.seq == seq { Ok(record) } else { Err(corrupt(format!("it is the record of batch {}", record.seq))) }
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

fn corrupt(connection: &ConnectionId, seq: BatchSeq, reason: String) -> LoadError {
    LoadError::Corrupt { object: names::commit(connection, seq).to_string(), reason }
}
