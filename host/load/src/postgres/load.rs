//! Loads one sealed batch: rows, position and every change of a table in one transaction.

use std::collections::BTreeMap;

use thimble_record::{BatchSeq, Counts, Epoch, Generation, LoadOutcome, SealedBatch, StreamBatch, WriteMode};

use super::{
    Postgres, children,
    client::{Session, Value},
    copy::{self, Copied},
    fence, history,
    merge::{self, Winners},
    names, sqlstate,
    state::{Held, Known, Place},
    swap,
    table::Table,
};
use crate::{
    destination::{Committed, SegmentSource},
    error::LoadError,
    limits::{COMMIT_WAIT, MERGE_MEMORY_KIB},
};

/// What is to become of the transaction.
enum Step {
    Commit(LoadOutcome),
    /// Nothing was changed, because it is all there.
    RollBack(LoadOutcome),
}

impl Postgres {
    /// See [`Destination::load`](crate::Destination::load).
    pub(super) async fn load_batch(
        &self,
        batch: &SealedBatch,
        segments: &dyn SegmentSource,
    ) -> Result<LoadOutcome, LoadError> {
        let place = self.place_of(&batch.connection);
        let epoch = self.epoch(&batch.connection, batch.epoch);
        let session = self.lease().await?;
        place.ensure(&session).await?;
        session.run("begin in", &place.commits, "begin isolation level read committed read write").await?;
        let mut load = Load::new(&session, &place, batch, segments, epoch);
        match load.run().await {
            Ok(Step::Commit(outcome)) => {
                commit(&session, &place, batch.seq).await?;
                session.give_back();
                Ok(outcome)
            }
            Ok(Step::RollBack(outcome)) => {
                session.roll_back().await;
                Ok(outcome)
            }
            Err(error) => {
                session.roll_back().await;
                Err(error)
            }
        }
    }

    /// See [`Destination::committed`](crate::Destination::committed).
    pub(super) async fn committed_now(
        &self,
        connection: &thimble_record::ConnectionId,
    ) -> Result<Committed, LoadError> {
        let place = self.place_of(connection);
        let session = self.lease().await?;
        let held = if place.exists(&session).await? { place.held(&session, false).await? } else { None };
        session.give_back();
        Ok(held.map(|held| held.committed).unwrap_or_default())
    }
}

/// Commits. An answer that does not come leaves the outcome unknown.
async fn commit(session: &Session, place: &Place, seq: BatchSeq) -> Result<(), LoadError> {
    let object = format!("batch {seq} of connection {} in {}", place.connection, place.commits);
    match tokio::time::timeout(COMMIT_WAIT, session.client.batch_execute("commit")).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if sqlstate::rolled_back(&error) => Err(session.failed("commit", &object, &error)),
        Ok(Err(error)) => {
            let source = match session.failed("commit", "", &error) {
                LoadError::Transient { source, .. } | LoadError::Failed { source, .. } => source,
                other => other.into(),
            };
            Err(LoadError::Unknown { object, source })
        }
        Err(_) => Err(LoadError::Unknown { object, source: "no answer to the commit came".into() }),
    }
}

/// One load under way.
pub(super) struct Load<'a> {
    pub(super) session: &'a Session,
    pub(super) place: &'a Place,
    pub(super) batch: &'a SealedBatch,
    segments: &'a dyn SegmentSource,
    epoch: Epoch,
    pub(super) known: BTreeMap<String, Known>,
    /// Of the roots of subtables, by stream: which of their staged rows won.
    pub(super) winners: BTreeMap<String, Winners>,
}

impl<'a> Load<'a> {
    fn new(
        session: &'a Session,
        place: &'a Place,
        batch: &'a SealedBatch,
        segments: &'a dyn SegmentSource,
        epoch: Epoch,
    ) -> Self {
        Self { session, place, batch, segments, epoch, known: BTreeMap::new(), winners: BTreeMap::new() }
    }

    async fn run(&mut self) -> Result<Step, LoadError> {
        let turn = format!("select pg_advisory_xact_lock({})", self.place.lock());
        self.session.run("wait for", &self.place.commits, &turn).await?;
        let held = self.place.held(self.session, true).await?;
        if let Some(held) = &held {
            fence::refuse_smaller(&self.batch.connection, self.epoch, held.committed.fence)?;
            if held.committed.seq >= self.batch.seq {
                return self.committed_before(held).map(Step::RollBack);
            }
        }
        let state = held.map(|held| held.committed).unwrap_or_default();
        self.admit(&state).map_err(|reason| self.conflict(&reason))?;
        self.take_row(&state).await?;
        self.known = self.place.known(self.session).await?;
        let memory = format!(
            "select set_config('work_mem', '{MERGE_MEMORY_KIB}kB', true) \
             where pg_size_bytes(current_setting('work_mem')) < {MERGE_MEMORY_KIB} * 1024"
        );
        self.session.run("set up a merge in", &self.place.commits, &memory).await?;
        let (mut counts, mut checksums, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (index, part) in self.batch.streams.iter().enumerate() {
            let (part_counts, copied) = self.part(index, part).await?;
            if !part_counts.conserved() {
                return Err(LoadError::NotConserved { stream: part.stream.clone(), counts: part_counts });
            }
            counts.push(part_counts);
            checksums.push(copied.checksum);
            bytes += copied.bytes;
        }
        children::remove_absent(self).await?;
        for part in self.batch.streams.iter().filter(|part| part.swap) {
            swap::swap(self, part).await?;
        }
        self.advance(&counts).await?;
        Ok(Step::Commit(LoadOutcome { streams: counts, checksums, already_committed: false, bytes }))
    }

    fn conflict(&self, reason: &str) -> LoadError {
        LoadError::Conflict(format!("connection {}: {reason}", self.batch.connection))
    }

    /// Whether the batch is the next one.
    fn admit(&self, state: &Committed) -> Result<(), String> {
        let SealedBatch { seq, from, .. } = self.batch;
        if *seq != state.seq.next() {
            return Err(format!("batch {seq} cannot follow batch {}: batches are committed without gaps", state.seq));
        }
        if *from != state.position.digest() {
            return Err(format!("batch {seq} does not continue from the position that batch {} ended at", state.seq));
        }
        Ok(())
    }

    /// Makes sure that the connection's row names this owner: it never fenced, or the database is an older copy.
    async fn take_row(&self, state: &Committed) -> Result<(), LoadError> {
        if state.fence == self.epoch {
            return Ok(());
        }
        let sql = format!(
            "insert into {} as c (connection, fence, seq, state, rows, counts) values ($1, $2, 0, '{{}}', 0, '[]') \
             on conflict (connection) do update set fence = excluded.fence where c.fence < excluded.fence",
            self.place.commits
        );
        let values: [Value<'_>; 2] = [&self.place.connection, &(self.epoch.0 as i64)];
        self.session.change("write", &self.place.commits, &sql, &values).await.map(|_| ())
    }

    /// The outcome of a batch whose number is committed: success when it is the same batch.
    fn committed_before(&self, held: &Held) -> Result<LoadOutcome, LoadError> {
        let batch = self.batch;
        let last = held.committed.seq == batch.seq;
        if last && held.committed.manifest_sha != Some(batch.manifest_sha()) {
            return Err(self.conflict(&format!(
                "the database holds another batch {} than the sealed one: was the control database restored from an \
                 older copy?",
                batch.seq
            )));
        }
        // Only the last batch's counts are kept; for one before, nobody is waiting.
        let staged = |part: &StreamBatch| Counts { loaded: part.staged_rows(), ..part.counts };
        let streams = if last { held.counts.clone() } else { batch.streams.iter().map(staged).collect() };
        let checksums = batch.streams.iter().map(|part| part.checksum).collect();
        Ok(LoadOutcome { streams, checksums, already_committed: true, bytes: 0 })
    }

    /// Loads one stream's part.
    async fn part(&mut self, index: usize, part: &StreamBatch) -> Result<(Counts, Copied), LoadError> {
        let fields: Vec<&str> = part.schema.fields.iter().map(|field| field.name.as_str()).collect();
        let naming = self.place.naming(self.session, &part.stream, &fields).await?;
        let before = self.known.get(&part.stream).and_then(|known| known.visible);
        let visible = visible_after(part, before).map_err(|reason| self.conflict(&reason))?;
        let known = Known { table: naming.table.clone(), visible: before, root: part.root.clone() };
        let name = if part.refreshing {
            swap::drop_stale(self.session, self.place, &naming.table, part.generation).await?;
            names::shadow_name(&naming.table, part.generation)
        } else {
            naming.table.clone()
        };
        self.refuse_foreign(part, &name).await?;
        let known = if part.refreshing { known } else { Known { visible, ..known } };
        if self.known.get(&part.stream) != Some(&known) {
            self.place.remember(self.session, &part.stream, &known).await?;
        }
        self.known.insert(part.stream.clone(), known);
        let table = Table::prepare(self.session, self.place, &naming, &name, part).await?;
        let (loaded, copied) = self.rows(index, part, &table).await?;
        let merged = copied.rows.checked_sub(loaded).ok_or_else(|| LoadError::Failed {
            action: "count the rows of",
            object: table.sql.clone(),
            source: format!("{loaded} new rows came of {}", copied.rows).into(),
        })?;
        Ok((Counts { loaded, merged, ..part.counts }, copied))
    }

    /// Puts the rows where they belong, and tells how many of them are new rows of the table.
    async fn rows(&mut self, index: usize, part: &StreamBatch, table: &Table) -> Result<(u64, Copied), LoadError> {
        let replaced = part.root.is_some() && part.mode == WriteMode::Upsert;
        match (part.mode, &part.root) {
            (WriteMode::Upsert, None) => merge::upsert(self, index, part, table).await,
            (WriteMode::History, None) => history::load(self, index, part, table).await,
            (_, Some(root)) if replaced => children::replace(self, index, part, root, table).await,
            _ => {
                let copied = self.copy(part, table, &table.sql).await?;
                Ok((copied.rows, copied))
            }
        }
    }

    pub(super) async fn copy(&self, part: &StreamBatch, table: &Table, into: &str) -> Result<Copied, LoadError> {
        copy::copy(self.session, self.batch, part, self.segments, table, into).await
    }

    /// A table that stands under our name but that no commit made is somebody else's.
    async fn refuse_foreign(&self, part: &StreamBatch, name: &str) -> Result<(), LoadError> {
        let ours = part.refreshing || self.known.get(&part.stream).is_some_and(|known| known.visible.is_some());
        if ours || !super::table::exists(self.session, self.place, name).await? {
            return Ok(());
        }
        Err(LoadError::Config(format!(
            "table {} exists, but this connection did not make it: rename it, or give the connection another schema",
            self.place.table(name)
        )))
    }

    /// Moves the connection's row on. Whoever was shut out in between fails here.
    async fn advance(&self, counts: &[Counts]) -> Result<(), LoadError> {
        let sql = format!(
            "update {} set seq = $3::int8, state = $4, manifest_sha = $5, rows = $6, counts = $7, committed_at = now() \
             where connection = $1 and fence = $2 and seq = $3::int8 - 1",
            self.place.commits
        );
        let json =
            |value: Result<String, serde_json::Error>| value.expect("plain data with text keys always serializes");
        let state = json(serde_json::to_string(&self.batch.to));
        let kept = json(serde_json::to_string(counts));
        let rows: u64 = counts.iter().map(|counts| counts.loaded).sum();
        let (epoch, seq) = (self.epoch.0 as i64, self.batch.seq.0 as i64);
        let values: [Value<'_>; 7] =
            [&self.place.connection, &epoch, &seq, &state, &self.batch.manifest_sha(), &(rows as i64), &kept];
        match self.session.change("commit to", &self.place.commits, &sql, &values).await? {
            1 => Ok(()),
            _ => {
                Err(self
                    .conflict("its row changed while a batch was loaded, which a lock should have kept from happening"))
            }
        }
    }
}

/// The generation that readers see after a part: rows are appended to the visible generation only, and replace it by a
/// newer one only.
fn visible_after(part: &StreamBatch, visible: Option<Generation>) -> Result<Option<Generation>, String> {
    let generation = part.generation;
    let wrong = |what: &str| Err(format!("stream {:?}: generation {generation} {what}", part.stream));
    match (part.refreshing, visible) {
        (false, None) => Ok(Some(generation)),
        (false, Some(current)) if current == generation => Ok(visible),
        (false, Some(current)) => wrong(&format!("is appended to, but readers see {current}")),
        (true, Some(current)) if generation <= current => wrong(&format!("cannot replace {current}, which is as new")),
        (true, _) => Ok(if part.swap { Some(generation) } else { visible }),
    }
}
