//! A Parquet file to Arrow batches.
//!
//! Owns the footer, the walk over row groups and rows, and which columns are read. Never holds a row group.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Fields, Schema};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector},
        parquet_to_arrow_field_levels, parquet_to_arrow_schema,
    },
    basic::Compression,
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::{
    csv_read::mark_json,
    error::FilesError,
    fetch::Fetch,
    kind::Kind,
    limits::{MAX_FIELDS, MAX_PARQUET_FOOTER, PARQUET_BATCH_RECORDS},
    nested::{kind_of, portable},
    parquet_source::{Ranges, RowGroup},
    progress::Progress,
};

/// Bytes that are read at once from the end of a file, where the footer is.
const TAIL: u64 = 64 * 1024;

/// An open file.
pub struct ParquetFile {
    ranges: Ranges,
    metadata: Arc<ParquetMetaData>,
    name: String,
}

impl ParquetFile {
    /// Reads the footer.
    pub fn open(file: Arc<dyn Fetch>, name: &str) -> Result<Self, FilesError> {
        let damaged = |byte: u64, what: String| FilesError::Damaged { file: name.to_owned(), byte, what };
        let size = file.size().ok_or_else(|| FilesError::Answer {
            url: name.to_owned(),
            problem: "it has no Content-Length, which Parquet needs".into(),
        })?;
        if size < 12 {
            return Err(damaged(size, "it is too short for a Parquet file".into()));
        }
        let ranges = Ranges::whole(file, size);
        let tail_start = size - size.min(TAIL);
        let tail = ranges.prefetch(tail_start, (size - tail_start) as usize)?;
        let (length, magic) = tail[tail.len() - 8..].split_at(4);
        if magic != b"PAR1" {
            return Err(damaged(size, "it does not end as a Parquet file does".into()));
        }
        let length = u64::from(u32::from_le_bytes(length.try_into().expect("four bytes")));
        if length > MAX_PARQUET_FOOTER as u64 {
            return Err(FilesError::Limit {
                what: format!("the footer of {name} has {length} bytes, which"),
                limit: format!("{MAX_PARQUET_FOOTER} bytes"),
                advice: "write fewer row groups and columns".into(),
            });
        }
        if length + 12 > size {
            return Err(damaged(size, "its footer is longer than the file".into()));
        }
        if length + 8 > TAIL.min(size) {
            ranges.prefetch(size - length - 8, (length + 8) as usize)?;
        }
        let parsed = ParquetMetaDataReader::new().parse_and_finish(&ranges);
        let metadata = parsed.map_err(|error| explain(error, &ranges, name, size - length))?;
        let file = Self { ranges, metadata: Arc::new(metadata), name: name.to_owned() };
        file.check(size)?;
        Ok(file)
    }

    fn check(&self, size: u64) -> Result<(), FilesError> {
        let columns = self.metadata.file_metadata().schema_descr().num_columns();
        if columns > MAX_FIELDS {
            return Err(FilesError::Limit {
                what: format!("the number of columns of {}, {columns},", self.name),
                limit: MAX_FIELDS.to_string(),
                advice: "drop columns".into(),
            });
        }
        for group in self.metadata.row_groups() {
            if group.num_rows() < 0 || group.num_columns() != columns {
                let what = "a row group does not fit the schema".into();
                return Err(FilesError::Damaged { file: self.name.clone(), byte: size, what });
            }
            for column in group.columns() {
                if let Compression::BROTLI(_) | Compression::LZO = column.compression() {
                    let (codec, path) = (column.compression(), column.column_path());
                    return Err(FilesError::Answer {
                        url: self.name.clone(),
                        problem: format!(
                            "its column {path} is compressed with {codec}; use zstd, snappy, gzip, lz4 or none"
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    /// The columns with the types that streams have for them.
    pub fn fields(&self) -> Result<Vec<(String, Kind)>, FilesError> {
        let schema = parquet_to_arrow_schema(self.metadata.file_metadata().schema_descr(), None);
        let schema = schema.map_err(|error| self.explain(error, 0))?;
        Ok(schema.fields().iter().map(|field| (field.name().clone(), kind_of(field.data_type()))).collect())
    }

    /// Reads from `progress.position` to the end.
    pub fn read(&self, progress: &mut Progress<'_>) -> Result<(), FilesError> {
        let descriptor = self.metadata.file_metadata().schema_descr();
        let roots = descriptor.root_schema().get_fields();
        let wanted = roots.iter().enumerate().filter(|(_, root)| progress.task.wants(root.name())).map(|(at, _)| at);
        let mask = ProjectionMask::roots(descriptor, wanted);
        let columns = (0..descriptor.num_columns()).filter(|leaf| mask.leaf_included(*leaf)).count();
        for index in progress.position.row_group..self.metadata.num_row_groups() {
            let group = RowGroup { ranges: self.ranges.clone(), metadata: Arc::clone(&self.metadata), index, columns };
            self.row_group(&group, mask.clone(), progress)?;
            progress.position.row_group = index + 1;
            progress.position.row = 0;
        }
        if progress.position.records == 0 {
            progress.output.info(&format!("{} has no records", self.name));
        }
        progress.checkpoint()
    }

    fn row_group(&self, group: &RowGroup, mask: ProjectionMask, progress: &mut Progress<'_>) -> Result<(), FilesError> {
        let meta = self.metadata.row_group(group.index);
        let (rows, done) = (u64::try_from(meta.num_rows()).unwrap_or_default(), progress.position.row);
        if done >= rows {
            return Ok(());
        }
        let at = u64::try_from(meta.file_offset().unwrap_or_default()).unwrap_or_default();
        let wrong = |error| self.explain(error, at);
        if group.columns == 0 {
            return self.count_only(rows - done, progress);
        }
        let descriptor = self.metadata.file_metadata().schema_descr();
        let levels = parquet_to_arrow_field_levels(descriptor, mask, None).map_err(wrong)?;
        let skip = |rows: u64| {
            RowSelection::from(vec![
                RowSelector::skip(usize::try_from(done).unwrap_or_default()),
                RowSelector::select(usize::try_from(rows - done).unwrap_or_default()),
            ])
        };
        let selection = (done > 0).then(|| skip(rows));
        let reader =
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, group, PARQUET_BATCH_RECORDS, selection);
        for batch in reader.map_err(wrong)? {
            let batch = batch.map_err(|error| wrong(error.into()))?;
            let count = batch.num_rows() as u64;
            let portable = portable_batch(&batch).map_err(|error| wrong(error.into()))?;
            progress.output.arrow(&portable)?;
            progress.position.row += count;
            progress.position.records += count;
            // What the host holds until the checkpoint is the decoded batch, however well the file was compressed.
            progress.advance(portable.get_array_memory_size() as u64)?;
        }
        if progress.position.row == rows {
            return Ok(());
        }
        let (read, index) = (progress.position.row, group.index);
        let what = format!("row group {index} says that it has {rows} rows, and has {read}");
        Err(FilesError::Damaged { file: self.name.clone(), byte: at, what })
    }

    fn explain(&self, error: ParquetError, byte: u64) -> FilesError {
        explain(error, &self.ranges, &self.name, byte)
    }

    /// No column is wanted, and the rows count all the same.
    fn count_only(&self, rows: u64, progress: &mut Progress<'_>) -> Result<(), FilesError> {
        let mut left = usize::try_from(rows).unwrap_or(usize::MAX);
        while left > 0 {
            let count = left.min(PARQUET_BATCH_RECORDS);
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
            progress.output.arrow(&batch.expect("a batch without columns"))?;
            progress.position.row += count as u64;
            progress.position.records += count as u64;
            progress.advance(1)?;
            left -= count;
        }
        Ok(())
    }
}

fn portable_batch(batch: &RecordBatch) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let array = portable(array)?;
        let plain = Field::new(field.name(), array.data_type().clone(), true);
        fields.push(if kind_of(field.data_type()) == Kind::Json { mark_json(plain) } else { plain });
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(Fields::from(fields))), arrays, &options)
}

/// What an error of the Parquet reader means: a failed request comes back as it was.
fn explain(error: ParquetError, ranges: &Ranges, name: &str, byte: u64) -> FilesError {
    ranges.take_failed().unwrap_or_else(|| FilesError::Damaged { file: name.to_owned(), byte, what: error.to_string() })
}
