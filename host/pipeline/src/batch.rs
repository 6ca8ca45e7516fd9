//! The open batch: what was checkpointed since the last cut, encoded as it comes.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use std::sync::Arc;
use thimble_record::{
    BatchSeq, ConnectionId, Counts, DataType, Epoch, Failure, Field, Generation, Position, Rejected, RejectedRow,
    SealedBatch, StreamBatch, StreamSchema, WriteMode,
    rejected::{REJECTED_STREAM, rejected_batch, rejected_schema},
};
use thimble_stage::{FinishedSegment, SegmentId, SegmentWriter, Stage};

/// Microseconds since the epoch at which the host took the record.
pub const EXTRACTED_AT: &str = "_thimble_extracted_at";
/// The batch's number in its connection.
pub const BATCH: &str = "_thimble_batch";
/// Order of extraction within a stream: batch number × 2³² + row.
pub const SEQUENCE: &str = "_thimble_sequence";

/// Most segments of one stream in one batch: one for each change of its schema.
pub const MAX_SEGMENTS: u32 = 1_000;

/// What a stream's part of a batch is written as.
#[derive(Debug, Clone)]
pub struct Target {
    pub stream: String,
    pub mode: WriteMode,
    pub refreshing: bool,
    pub generation: Generation,
    pub key: Vec<String>,
}

/// A batch that was cut: everything but its segments' places in the staging store.
pub struct ClosedBatch {
    pub sealed: SealedBatch,
    /// Segments by index of `sealed.streams`.
    pub segments: Vec<(usize, FinishedSegment)>,
    /// Schemas of the streams, without system columns, as stored for the next run.
    pub schemas: Vec<(String, StreamSchema)>,
}

struct Part {
    target: Target,
    schema: StreamSchema,
    writer: Option<(StreamSchema, SegmentWriter)>,
    finished: Vec<FinishedSegment>,
    opened: u32,
    rows: i64,
    swap: bool,
    counts: Counts,
}

/// The batch that is open. Knows its number, because rows carry it.
pub struct OpenBatch {
    stage: Arc<Stage>,
    connection: ConnectionId,
    epoch: Epoch,
    pub seq: BatchSeq,
    parts: BTreeMap<String, Part>,
    rejected: Vec<Rejected>,
    plugin_digest: String,
    pub bytes: u64,
    pub rows: u64,
    pub opened_ms: Option<i64>,
}

/// The stream's schema with the system columns behind it.
fn with_system_columns(schema: &StreamSchema) -> StreamSchema {
    let system = |name: &str, data_type| Field { name: name.into(), data_type, nullable: true };
    let mut fields = schema.fields.clone();
    fields.extend([
        system(EXTRACTED_AT, DataType::TimestampTz),
        system(BATCH, DataType::Int64),
        system(SEQUENCE, DataType::Int64),
    ]);
    StreamSchema::new(fields)
}

impl OpenBatch {
    pub fn new(
        stage: Arc<Stage>,
        connection: ConnectionId,
        epoch: Epoch,
        seq: BatchSeq,
        plugin_digest: String,
    ) -> Self {
        Self {
            stage,
            connection,
            epoch,
            seq,
            parts: BTreeMap::new(),
            rejected: Vec::new(),
            plugin_digest,
            bytes: 0,
            rows: 0,
            opened_ms: None,
        }
    }

    fn part(&mut self, target: &Target, schema: &StreamSchema) -> &mut Part {
        self.parts.entry(target.stream.clone()).or_insert_with(|| Part {
            target: target.clone(),
            schema: schema.clone(),
            writer: None,
            finished: Vec::new(),
            opened: 0,
            rows: 0,
            swap: false,
            counts: Counts::default(),
        })
    }

    /// Adds rows that a checkpoint covers, in the stream's schema as it stands now.
    pub fn write(
        &mut self,
        target: &Target,
        schema: &StreamSchema,
        rows: &RecordBatch,
        now_ms: i64,
    ) -> Result<(), Failure> {
        self.opened_ms.get_or_insert(now_ms);
        self.rows += rows.num_rows() as u64;
        self.bytes += rows.get_array_memory_size() as u64;
        let (stage, seq) = (Arc::clone(&self.stage), self.seq);
        let id = |number| SegmentId {
            connection: self.connection.clone(),
            epoch: self.epoch,
            seq,
            stream: target.stream.clone(),
            number,
        };
        let part = self.parts.get(&target.stream);
        let number = part.map_or(0, |part| part.opened);
        let id = id(number);
        let part = self.part(target, schema);
        part.schema = schema.clone();
        part.counts.emitted += rows.num_rows() as u64;
        let rows = part.complete(rows, seq, now_ms)?;
        part.ensure_writer(&stage, id)?;
        let (_, writer) = part.writer.as_mut().expect("ensure_writer has opened one");
        writer.write(&rows).map_err(|error| error.failure())
    }

    /// Counts a rejected record for its stream, and keeps it for the rejected-records table.
    pub fn reject(&mut self, target: &Target, schema: &StreamSchema, records: Vec<Rejected>, now_ms: i64) {
        self.opened_ms.get_or_insert(now_ms);
        let counts = &mut self.part(target, schema).counts;
        counts.emitted += records.len() as u64;
        counts.rejected += records.len() as u64;
        self.rows += records.len() as u64;
        self.bytes += records.iter().map(|record| record.raw.len() as u64).sum::<u64>();
        self.rejected.extend(records);
    }

    /// Makes readers switch to the stream's generation when this batch commits.
    pub fn swap(&mut self, target: &Target, schema: &StreamSchema) {
        self.part(target, schema).swap = true;
    }

    /// Closes it at position `to`.
    pub fn close(mut self, from: String, to: Position, now_ms: i64) -> Result<ClosedBatch, Failure> {
        self.write_rejected(now_ms)?;
        let mut segments = Vec::new();
        let mut streams = Vec::new();
        let mut schemas = Vec::new();
        for (stream, mut part) in self.parts {
            part.rotate()?;
            segments.extend(part.finished.into_iter().map(|segment| (streams.len(), segment)));
            let schema = with_system_columns(&part.schema);
            if stream != REJECTED_STREAM {
                schemas.push((stream.clone(), part.schema));
            }
            let Target { stream: _, mode, refreshing, generation, key } = part.target;
            streams.push(StreamBatch {
                mode,
                generation,
                refreshing,
                swap: part.swap,
                key,
                counts: part.counts,
                ..StreamBatch::new(stream, schema)
            });
        }
        let sealed = SealedBatch { connection: self.connection, epoch: self.epoch, seq: self.seq, from, to, streams };
        Ok(ClosedBatch { sealed, segments, schemas })
    }

    fn write_rejected(&mut self, now_ms: i64) -> Result<(), Failure> {
        let rejected = std::mem::take(&mut self.rejected);
        if rejected.is_empty() {
            return Ok(());
        }
        let target = Target {
            stream: REJECTED_STREAM.into(),
            mode: WriteMode::Append,
            refreshing: false,
            generation: Generation::default(),
            key: Vec::new(),
        };
        let rows: Vec<RejectedRow> = rejected
            .into_iter()
            .enumerate()
            .map(|(place, rejected)| RejectedRow {
                rejected,
                sequence: place as i64,
                plugin_digest: self.plugin_digest.clone(),
                replayed_at: None,
            })
            .collect();
        let rows = rejected_batch(&rows);
        self.write(&target, &rejected_schema(), &rows, now_ms)
    }
}

impl Part {
    /// Brings rows to the schema of now (columns may have been added or widened since they were decoded)
    /// and adds the system columns.
    fn complete(&mut self, rows: &RecordBatch, seq: BatchSeq, now_ms: i64) -> Result<RecordBatch, Failure> {
        let count = rows.num_rows();
        let mut arrays = Vec::with_capacity(self.schema.fields.len() + 3);
        for field in &self.schema.fields {
            let arrow = field.data_type.to_arrow();
            let array: ArrayRef = match rows.column_by_name(&field.name) {
                None => new_null_array(&arrow, count),
                Some(array) if array.data_type() == &arrow => Arc::clone(array),
                Some(array) => arrow_cast::cast(array, &arrow).map_err(|error| {
                    Failure::system(format!("stream {}: column {}: {error}", self.target.stream, field.name))
                })?,
            };
            arrays.push(array);
        }
        let first = i64::try_from(seq.0).unwrap_or(i64::MAX >> 32) << 32 | self.rows;
        arrays.push(Arc::new(TimestampMicrosecondArray::from_value(now_ms * 1_000, count).with_timezone("UTC")));
        arrays.push(Arc::new(Int64Array::from_value(i64::try_from(seq.0).unwrap_or(i64::MAX), count)));
        arrays.push(Arc::new(Int64Array::from_iter_values(first..first + count as i64)));
        self.rows += count as i64;
        RecordBatch::try_new(with_system_columns(&self.schema).to_arrow(), arrays)
            .map_err(|error| Failure::system(format!("stream {}: {error}", self.target.stream)))
    }

    fn ensure_writer(&mut self, stage: &Stage, id: SegmentId) -> Result<(), Failure> {
        if self.writer.as_ref().is_some_and(|(schema, _)| *schema == self.schema) {
            return Ok(());
        }
        self.rotate()?;
        if self.opened >= MAX_SEGMENTS {
            let message = format!(
                "stream {}: its schema changed more than {MAX_SEGMENTS} times in one batch",
                self.target.stream
            );
            return Err(Failure::system(message));
        }
        let writer = stage.writer(id, &with_system_columns(&self.schema)).map_err(|error| error.failure())?;
        self.writer = Some((self.schema.clone(), writer));
        self.opened += 1;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), Failure> {
        if let Some((_, writer)) = self.writer.take() {
            self.finished.push(writer.finish().map_err(|error| error.failure())?);
        }
        Ok(())
    }
}
