//! Encodes the rows of one segment as Parquet and encrypts them on the way.
//!
//! CPU only: nothing here waits or touches the store.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    schema::types::ColumnPath,
};
use thimble_record::{
    Checksum, DataType, SegmentRef, StreamSchema,
    envelope::{DataKey, Keys},
};

use crate::{
    SegmentId, StageError,
    encrypt::{Encrypted, Encryptor},
    frame::segment_aad,
    limits::{DICTIONARY_BYTES, PAGE_BYTES, ROW_GROUP_BYTES, ROW_GROUP_ROWS, STATISTICS_BYTES, WRITE_BATCH_ROWS},
    put,
};

/// One segment being written. Memory: one row group in progress, plus the encrypted bytes so far.
pub struct SegmentWriter {
    id: SegmentId,
    schema: StreamSchema,
    arrow: SchemaRef,
    wrapped_key: String,
    parquet: ArrowWriter<Encryptor>,
    rows: u64,
    checksum: Checksum,
}

/// A complete, encrypted segment that is not stored yet. Cheap to clone.
#[derive(Clone)]
pub struct FinishedSegment {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) reference: SegmentRef,
}

impl FinishedSegment {
    /// What the sealed batch will say about it.
    pub fn reference(&self) -> &SegmentRef {
        &self.reference
    }
}

impl SegmentWriter {
    pub(crate) fn new(id: SegmentId, schema: &StreamSchema, keys: &Keys) -> Result<Self, StageError> {
        let in_segment = |source| StageError::Key { path: put::folder(&id), source };
        let key = DataKey::generate().map_err(in_segment)?;
        let wrapped_key = hex::encode(keys.wrap(&key, &segment_aad(&id)).map_err(in_segment)?);
        let arrow = schema.to_arrow();
        let options = ArrowWriterOptions::new().with_properties(properties(schema));
        let parquet = ArrowWriter::try_new_with_options(Encryptor::new(&key, &id), arrow.clone(), options)
            .map_err(|source| StageError::Encode { stream: id.stream.clone(), source })?;
        Ok(Self { schema: schema.clone(), arrow, wrapped_key, parquet, rows: 0, checksum: Checksum::default(), id })
    }

    /// Encodes rows. Their columns must be those of the segment's schema, in order and type.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), StageError> {
        if let Some(reason) = misfit(&self.arrow, batch) {
            return Err(StageError::Schema { stream: self.id.stream.clone(), reason });
        }
        self.parquet.write(batch).map_err(|source| StageError::Encode { stream: self.id.stream.clone(), source })?;
        self.rows += batch.num_rows() as u64;
        self.checksum += Checksum::of(batch);
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Encoded bytes so far; the row group in progress is an estimate.
    pub fn encoded_bytes(&self) -> u64 {
        (self.parquet.bytes_written() + self.parquet.in_progress_size()) as u64
    }

    /// Closes the Parquet file and seals the last chunk.
    pub fn finish(self) -> Result<FinishedSegment, StageError> {
        let Self { id, schema, arrow: _, wrapped_key, parquet, rows, checksum } = self;
        let encryptor =
            parquet.into_inner().map_err(|source| StageError::Encode { stream: id.stream.clone(), source })?;
        let Encrypted { chunks, sha256, bytes, plain_sha256, plain_bytes } = encryptor.finish();
        let reference = SegmentRef {
            path: put::path(&id, &sha256),
            sha256,
            bytes,
            plain_sha256,
            plain_bytes,
            rows,
            wrapped_key,
            number: id.number,
            schema,
            checksum,
        };
        Ok(FinishedSegment { chunks, reference })
    }
}

/// Why a batch cannot go into a segment of this schema. Metadata may differ.
fn misfit(schema: &SchemaRef, batch: &RecordBatch) -> Option<String> {
    let given = batch.schema_ref();
    if given.fields().len() != schema.fields().len() {
        return Some(format!("{} columns instead of {}", given.fields().len(), schema.fields().len()));
    }
    schema.fields().iter().zip(given.fields()).find_map(|(want, got)| {
        let fits = want.name() == got.name() && want.data_type() == got.data_type();
        let (want_type, got_type) = (want.data_type(), got.data_type());
        (!fits).then(|| format!("column {:?} ({got_type}) instead of {:?} ({want_type})", got.name(), want.name()))
    })
}

/// How segments are encoded. Chosen by measuring: zstd 1 is the best trade of bytes for time, statistics per
/// column chunk suffice for pruning, and a page index or bloom filters would cost more than they give.
fn properties(schema: &StreamSchema) -> WriterProperties {
    let base = WriterProperties::builder()
        .set_created_by(concat!("thimble ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(ROW_GROUP_ROWS)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_offset_index_disabled(true);
    schema.fields.iter().fold(base, |builder, field| encode_column(builder, &field.name, field.data_type)).build()
}

/// Documents are neither repeated nor compared: no dictionary, no statistics. Doubles are seldom repeated.
fn encode_column(builder: WriterPropertiesBuilder, name: &str, data_type: DataType) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(name.to_owned());
    match data_type {
        DataType::Json | DataType::Bytes => builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_statistics_enabled(column, EnabledStatistics::None),
        DataType::Float64 => builder.set_column_dictionary_enabled(column, false),
        _ => builder,
    }
}
