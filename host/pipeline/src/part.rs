//! One table's part of the open batch, encoded as it comes.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use thimble_record::{BatchSeq, Checksum, Counts, Failure, StreamBatch, StreamSchema, SystemNaming};
use thimble_stage::{FinishedSegment, SegmentId, SegmentWriter, Stage};

use crate::{batch::Target, tables::with_system_columns};

/// Most segments of one stream in one batch: one for each change of its schema.
pub const MAX_SEGMENTS: u32 = 1_000;

/// Order of extraction within a stream: batch number × 2³² + place in the batch.
pub fn sequence(seq: BatchSeq, place: u64) -> i64 {
    i64::try_from(seq.0 << 32 | place).unwrap_or(i64::MAX)
}

/// The batch that a sequence was given in.
pub fn batch_of(sequence: i64) -> BatchSeq {
    BatchSeq(u64::try_from(sequence).unwrap_or(0) >> 32)
}

/// The part of one table.
pub struct Part {
    pub target: Target,
    /// Of the table, without system columns.
    pub table: StreamSchema,
    /// The stream's own schema, which the next run starts from; `None` for tables that follow from another stream.
    pub source: Option<StreamSchema>,
    writer: Option<(StreamSchema, SegmentWriter)>,
    finished: Vec<FinishedSegment>,
    opened: u32,
    /// Places given so far, to rows and rejected records alike.
    pub places: u64,
    pub swap: bool,
    pub sweep: Option<BatchSeq>,
    pub counts: Counts,
    checksum: Checksum,
}

impl Part {
    pub fn new(target: Target, table: StreamSchema) -> Self {
        Self {
            target,
            table,
            source: None,
            writer: None,
            finished: Vec::new(),
            opened: 0,
            places: 0,
            swap: false,
            sweep: None,
            counts: Counts::default(),
            checksum: Checksum::default(),
        }
    }

    /// Segments opened so far: the number of the next one.
    pub fn opened(&self) -> u32 {
        self.opened
    }

    /// Writes rows with their sequences. Columns may have been added or widened since they were decoded.
    pub fn write(
        &mut self,
        stage: &Stage,
        id: SegmentId,
        rows: &RecordBatch,
        sequences: ArrayRef,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let seq = id.seq;
        let rows = self.complete(rows, seq, sequences, now_ms)?;
        self.checksum += Checksum::of(&rows);
        self.ensure_writer(stage, id)?;
        let (_, writer) = self.writer.as_mut().expect("ensure_writer has opened one");
        writer.write(&rows).map_err(|error| error.failure())
    }

    /// Brings rows to the schema of now and adds the system columns.
    fn complete(
        &self,
        rows: &RecordBatch,
        seq: BatchSeq,
        sequences: ArrayRef,
        now_ms: i64,
    ) -> Result<RecordBatch, Failure> {
        let count = rows.num_rows();
        let mut arrays = Vec::with_capacity(self.table.fields.len() + 4);
        for field in &self.table.fields {
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
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_value(now_ms * 1_000, count).with_timezone("UTC"));
        if self.target.system == SystemNaming::Sdc {
            arrays.push(Arc::clone(&at));
        }
        arrays.push(at);
        arrays.push(Arc::new(Int64Array::from_value(i64::try_from(seq.0).unwrap_or(i64::MAX), count)));
        arrays.push(sequences);
        RecordBatch::try_new(with_system_columns(&self.table, self.target.system).to_arrow(), arrays)
            .map_err(|error| Failure::system(format!("stream {}: {error}", self.target.stream)))
    }

    fn ensure_writer(&mut self, stage: &Stage, id: SegmentId) -> Result<(), Failure> {
        if self.writer.as_ref().is_some_and(|(schema, _)| *schema == self.table) {
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
        let schema = with_system_columns(&self.table, self.target.system);
        let writer = stage.writer(id, &schema).map_err(|error| error.failure())?;
        self.writer = Some((self.table.clone(), writer));
        self.opened += 1;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), Failure> {
        if let Some((_, writer)) = self.writer.take() {
            self.finished.push(writer.finish().map_err(|error| error.failure())?);
        }
        Ok(())
    }

    /// What the sealed batch says of it, its segments, and the stream's schema for the next run.
    pub fn close(mut self) -> Result<(StreamBatch, Vec<FinishedSegment>, Option<StreamSchema>), Failure> {
        self.rotate()?;
        let schema = with_system_columns(&self.table, self.target.system);
        let Target { stream, root, mode, refreshing, generation, key, deletes, infer_deletes: _, system } = self.target;
        let part = StreamBatch {
            root,
            mode,
            generation,
            refreshing,
            swap: self.swap,
            key,
            deletes,
            sweep: self.sweep,
            system,
            counts: self.counts,
            checksum: self.checksum,
            ..StreamBatch::new(stream, schema)
        };
        Ok((part, self.finished, self.source))
    }
}
