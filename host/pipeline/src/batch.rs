//! The open batch: what was checkpointed since the last cut.
//!
//! Owns the order of a batch: every record of a stream gets a place, and with the batch's number its sequence.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use thimble_record::{
    BatchSeq, ConnectionId, DeleteMode, Epoch, Failure, Field, Generation, Position, Rejected, RejectedRow,
    SealedBatch, StreamSchema, SystemNaming, WriteMode,
    rejected::{rejected_batch, rejected_schema},
};
use thimble_stage::{FinishedSegment, SegmentId, Stage};

use crate::{
    part::{Part, sequence},
    portion::{ChildPortion, Places, Portion, Rows},
    tables::{ChildTable, Tables, level_columns, root_columns},
};

/// What a stream's part of a batch is written as.
#[derive(Debug, Clone)]
pub struct Target {
    pub stream: String,
    /// For a subtable: the stream that its rows are taken out of.
    pub root: Option<String>,
    pub mode: WriteMode,
    pub refreshing: bool,
    pub generation: Generation,
    /// Columns of the table.
    pub key: Vec<String>,
    pub deletes: DeleteMode,
    /// Whether the end of a full read tells which records are gone.
    pub infer_deletes: bool,
    pub system: SystemNaming,
}

impl Target {
    /// The table of one of its arrays.
    fn child(&self, stream: &str) -> Self {
        let mode = match self.mode {
            WriteMode::Append | WriteMode::History => WriteMode::Append,
            WriteMode::Upsert => WriteMode::Upsert,
        };
        Self {
            stream: stream.to_owned(),
            root: Some(self.stream.clone()),
            mode,
            key: self.key.iter().map(|key| self.system.root_key(key)).collect(),
            ..self.clone()
        }
    }
}

/// A batch that was cut: everything but its segments' places in the staging store.
pub struct ClosedBatch {
    pub sealed: SealedBatch,
    /// Segments by index of `sealed.streams`.
    pub segments: Vec<(usize, FinishedSegment)>,
    /// Schemas of the streams, as stored for the next run.
    pub schemas: Vec<(String, StreamSchema)>,
}

/// The batch that is open. Knows its number, because rows carry it.
pub struct OpenBatch {
    stage: Arc<Stage>,
    connection: ConnectionId,
    epoch: Epoch,
    pub seq: BatchSeq,
    /// By stream: an array's name begins with its root's, so roots come first.
    parts: BTreeMap<String, Part>,
    rejected: Vec<RejectedRow>,
    rejected_target: Target,
    plugin_digest: String,
    pub bytes: u64,
    pub rows: u64,
    pub opened_ms: Option<i64>,
}

impl OpenBatch {
    pub fn new(
        stage: Arc<Stage>,
        connection: ConnectionId,
        epoch: Epoch,
        seq: BatchSeq,
        plugin_digest: String,
        rejected_target: Target,
    ) -> Self {
        Self {
            stage,
            connection,
            epoch,
            seq,
            parts: BTreeMap::new(),
            rejected: Vec::new(),
            rejected_target,
            plugin_digest,
            bytes: 0,
            rows: 0,
            opened_ms: None,
        }
    }

    /// An empty batch that follows this one.
    pub fn following(&self) -> Self {
        Self::new(
            Arc::clone(&self.stage),
            self.connection.clone(),
            self.epoch,
            self.seq.next(),
            self.plugin_digest.clone(),
            self.rejected_target.clone(),
        )
    }

    fn root_part(&mut self, target: &Target, tables: &Tables) -> &mut Part {
        let part = part(&mut self.parts, target, &tables.table);
        part.table.clone_from(&tables.table);
        part.source = Some(tables.source.clone());
        part
    }

    /// Adds records that a checkpoint covers, in the stream's tables as they stand now.
    pub fn add(&mut self, target: &Target, tables: &Tables, portion: Portion, now_ms: i64) -> Result<(), Failure> {
        self.opened_ms.get_or_insert(now_ms);
        self.bytes += portion.bytes();
        self.rows += portion.emitted;
        let Portion { emitted, rows, rejected, filtered, children } = portion;
        let seq = self.seq;
        let part = self.root_part(target, tables);
        let first = part.places;
        part.places += emitted;
        part.counts.emitted += emitted;
        part.counts.filtered += filtered;
        part.counts.rejected += rejected.len() as u64;
        let mut roots = None;
        for Rows { batch, places } in rows {
            let sequences = sequences(seq, first, &places);
            self.write(&target.stream, &batch, Arc::clone(&sequences), now_ms)?;
            roots.get_or_insert((batch, sequences));
        }
        self.keep_rejected(first, rejected);
        if let Some((roots, sequences)) = roots {
            self.open_children(target, tables);
            for child in children {
                self.add_child(target, tables, child, (&roots, &sequences), now_ms)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, stream: &str, rows: &RecordBatch, sequences: ArrayRef, now_ms: i64) -> Result<(), Failure> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let part = self.parts.get_mut(stream).expect("a part is opened before its rows are written");
        let id = SegmentId {
            connection: self.connection.clone(),
            epoch: self.epoch,
            seq: self.seq,
            stream: stream.to_owned(),
            number: part.opened(),
        };
        part.write(&self.stage, id, rows, sequences, now_ms)
    }

    fn keep_rejected(&mut self, first: u64, rejected: Vec<Rejected>) {
        let (seq, digest) = (self.seq, self.plugin_digest.clone());
        self.rejected.extend(rejected.into_iter().map(|rejected| RejectedRow {
            sequence: sequence(seq, first + rejected.ordinal.unwrap_or(0)),
            plugin_digest: digest.clone(),
            replayed_at: None,
            rejected,
        }));
    }

    /// Opens the parts of a keyed stream's arrays: also a record whose arrays are empty now ends the rows that they had.
    fn open_children(&mut self, target: &Target, tables: &Tables) {
        if target.mode != WriteMode::Upsert {
            return;
        }
        for ChildTable { stream, table } in tables.children.values() {
            part(&mut self.parts, &target.child(stream), &child_table(target, tables, table));
        }
    }

    /// Adds rows of an array; each takes its record's sequence and key along.
    fn add_child(
        &mut self,
        target: &Target,
        tables: &Tables,
        child: ChildPortion,
        (roots, sequences): (&RecordBatch, &ArrayRef),
        now_ms: i64,
    ) -> Result<(), Failure> {
        let ChildPortion { path, stream, emitted, filtered, rows, roots: of, levels, rejected } = child;
        let Some(ChildTable { table, .. }) = tables.children.get(&path) else {
            return Err(Failure::system(format!(
                "stream {stream}: its rows came without a schema; please report this"
            )));
        };
        let mut schema = child_table(target, tables, table);
        schema.fields.extend(level_columns(target.system, levels.len()));
        let rows = with_root(target, tables, &rows, &of, &levels, (roots, sequences))?;
        let part = part(&mut self.parts, &target.child(&stream), &schema);
        part.table = merged(&part.table, schema);
        let first = part.places;
        part.places += emitted;
        part.counts.emitted += emitted;
        part.counts.filtered += filtered;
        part.counts.rejected += rejected.len() as u64;
        let count = rows.num_rows() as u64;
        let own: ArrayRef =
            Arc::new(Int64Array::from_iter_values((first..first + count).map(|place| sequence(self.seq, place))));
        self.write(&stream, &rows, own, now_ms)?;
        let rejected = rejected.into_iter().enumerate().map(|(at, mut record)| {
            record.ordinal = Some(count + at as u64);
            record
        });
        self.keep_rejected(first, rejected.collect());
        Ok(())
    }

    /// The last record of a stream that was rejected in this batch.
    pub fn last_rejected(&self, stream: &str) -> Option<&Rejected> {
        self.rejected.iter().rev().map(|row| &row.rejected).find(|rejected| rejected.stream == stream)
    }

    /// Stores what a replay came to: rows of the rejected-records table as they stand now.
    pub fn settle(&mut self, rows: Vec<RejectedRow>) {
        self.rejected.extend(rows);
    }

    /// Makes readers switch to the stream's generation when this batch commits.
    pub fn swap(&mut self, target: &Target, tables: &Tables) {
        self.root_part(target, tables).swap = true;
        for ChildTable { stream, table } in tables.children.values() {
            part(&mut self.parts, &target.child(stream), &child_table(target, tables, table)).swap = true;
        }
    }

    /// States that rows which no batch from `since` on has written are gone at the source.
    pub fn sweep(&mut self, target: &Target, tables: &Tables, since: BatchSeq) {
        self.root_part(target, tables).sweep = Some(since);
    }

    /// Closes it at position `to`.
    pub fn close(mut self, from: String, to: Position, now_ms: i64) -> Result<ClosedBatch, Failure> {
        self.write_rejected(now_ms)?;
        let mut segments = Vec::new();
        let mut streams = Vec::new();
        let mut schemas = Vec::new();
        for (stream, part) in self.parts {
            let (part, finished, source) = part.close()?;
            segments.extend(finished.into_iter().map(|segment| (streams.len(), segment)));
            schemas.extend(source.map(|source| (stream, source)));
            streams.push(part);
        }
        let sealed = SealedBatch { connection: self.connection, epoch: self.epoch, seq: self.seq, from, to, streams };
        Ok(ClosedBatch { sealed, segments, schemas })
    }

    fn write_rejected(&mut self, now_ms: i64) -> Result<(), Failure> {
        let rejected = std::mem::take(&mut self.rejected);
        if rejected.is_empty() {
            return Ok(());
        }
        let target = self.rejected_target.clone();
        let part = part(&mut self.parts, &target, &rejected_schema());
        part.counts.emitted += rejected.len() as u64;
        let count = rejected.len() as u64;
        let own: ArrayRef = Arc::new(Int64Array::from_iter_values((0..count).map(|place| sequence(self.seq, place))));
        self.write(&target.stream, &rejected_batch(&rejected), own, now_ms)
    }
}

fn part<'p>(parts: &'p mut BTreeMap<String, Part>, target: &Target, table: &StreamSchema) -> &'p mut Part {
    parts.entry(target.stream.clone()).or_insert_with(|| Part::new(target.clone(), table.clone()))
}

/// The schema of an array's table, with the columns that name its record.
fn child_table(target: &Target, tables: &Tables, table: &StreamSchema) -> StreamSchema {
    let mut schema = table.clone();
    schema.fields.extend(root_columns(target, &tables.table));
    schema
}

/// The wider of two schemas of one table: the new one, and what only the old one has.
fn merged(old: &StreamSchema, mut new: StreamSchema) -> StreamSchema {
    let missing: Vec<Field> = old.fields.iter().filter(|field| new.field(&field.name).is_none()).cloned().collect();
    new.fields.extend(missing);
    new
}

fn sequences(seq: BatchSeq, first: u64, places: &Places) -> ArrayRef {
    Arc::new(match places {
        Places::Within(places) => Int64Array::from_iter_values(places.iter().map(|place| sequence(seq, first + place))),
        Places::Absolute(sequences) => Int64Array::from(sequences.clone()),
    })
}

/// Rows of an array with the columns that name their record and their place.
fn with_root(
    target: &Target,
    tables: &Tables,
    rows: &RecordBatch,
    of: &[u32],
    levels: &[Vec<i64>],
    (roots, sequences): (&RecordBatch, &ArrayRef),
) -> Result<RecordBatch, Failure> {
    let failed = |error: arrow_schema::ArrowError| Failure::system(format!("stream {}: {error}", target.stream));
    let of = UInt32Array::from(of.to_vec());
    let take = |column: &ArrayRef| arrow_select::take::take(column, &of, None).map_err(failed);
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    for field in root_columns(target, &tables.table) {
        let key = target.key.iter().find(|key| target.system.root_key(key) == field.name);
        let column = match key {
            None => take(sequences)?,
            Some(key) => {
                let column = roots.column_by_name(key).ok_or_else(|| {
                    Failure::system(format!("stream {}: its key column {key} is missing", target.stream))
                })?;
                take(column)?
            }
        };
        fields.push(Arc::new(field.to_arrow().with_data_type(column.data_type().clone())));
        columns.push(column);
    }
    for (field, level) in level_columns(target.system, levels.len()).zip(levels) {
        fields.push(Arc::new(field.to_arrow()));
        columns.push(Arc::new(Int64Array::from(level.clone())));
    }
    let schema: SchemaRef = Arc::new(arrow_schema::Schema::new(fields));
    RecordBatch::try_new(schema, columns).map_err(failed)
}
