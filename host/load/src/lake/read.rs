//! Reads tables: what the last commit made visible, in the newest schema.

use std::{collections::VecDeque, fs::File, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetResultPayload, path::Path};
use parquet::{
    arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    errors::ParquetError,
};
use thimble_record::{ConnectionId, Generation, StreamSchema};

use super::{
    Lake,
    commit::{DataFile, GenerationState, TableState},
};
use crate::{
    error::LoadError,
    limits::{SCAN_BYTES, SCAN_ROWS},
};

/// A table as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub stream: String,
    /// Folder in the connection's folder.
    pub table: String,
    pub generation: Generation,
    pub schema: StreamSchema,
    pub rows: u64,
    pub bytes: u64,
    pub files: usize,
}

/// The rows of a table, in the order of their commits.
pub struct Scan {
    /// The newest schema; every batch has it. Columns that a file does not have are null.
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, LoadError>>,
}

impl Scan {
    /// All batches, in memory.
    pub async fn collect(self) -> Result<Vec<RecordBatch>, LoadError> {
        self.batches.try_collect().await
    }
}

impl Lake {
    /// The tables of a connection that readers can see, by stream name.
    pub async fn tables(&self, connection: &ConnectionId) -> Result<Vec<Table>, LoadError> {
        let state = self.state(connection).await?;
        Ok(state.tables.iter().filter_map(|(stream, table)| describe(stream, table)).collect())
    }

    /// The committed files of a stream, in the order of their commits. [`Lake::location`] tells where they lie.
    pub async fn files(&self, connection: &ConnectionId, stream: &str) -> Result<Vec<DataFile>, LoadError> {
        Ok(self.visible(connection, stream).await?.files)
    }

    /// Rows of a stream, by the commit records.
    pub async fn count(&self, connection: &ConnectionId, stream: &str) -> Result<u64, LoadError> {
        Ok(self.visible(connection, stream).await?.files.iter().map(|file| file.rows).sum())
    }

    /// Reads the rows of a stream, at most `limit`.
    pub async fn scan(&self, connection: &ConnectionId, stream: &str, limit: Option<u64>) -> Result<Scan, LoadError> {
        let GenerationState { schema, files } = self.visible(connection, stream).await?;
        let schema = schema.to_arrow();
        let scanner = Scanner {
            lake: self.clone(),
            schema: Arc::clone(&schema),
            files: files.into(),
            open: None,
            left: limit.unwrap_or(u64::MAX),
        };
        let batches = stream::try_unfold(scanner, |mut scanner| async move {
            Ok(scanner.next_batch().await?.map(|batch| (batch, scanner)))
        });
        Ok(Scan { schema, batches: batches.boxed() })
    }

    async fn visible(&self, connection: &ConnectionId, stream: &str) -> Result<GenerationState, LoadError> {
        let state = self.state(connection).await?;
        let visible = state.tables.get(stream).and_then(TableState::current).map(|(_, visible)| visible.clone());
        visible.ok_or_else(|| {
            let known: Vec<_> = state.tables.keys().map(|name| format!("{name:?}")).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            LoadError::Config(format!(
                "connection {connection} has no committed rows of a stream {stream:?}: its streams are {known}"
            ))
        })
    }

    async fn open_file(&self, file: &DataFile) -> Result<ParquetRecordBatchReader, LoadError> {
        let path = Path::from(file.path.as_str());
        let found = self.client.get(&path).await?.ok_or_else(|| corrupt(file, "it is missing"))?;
        if found.meta.size != file.bytes {
            let reason = format!("it has {} bytes instead of the committed {}", found.meta.size, file.bytes);
            return Err(corrupt(file, reason));
        }
        match found.payload {
            GetResultPayload::File(content, _) => blocking(file, move || reader(content)).await,
            GetResultPayload::Stream(_) if file.bytes > SCAN_BYTES => {
                Err(corrupt(file, format!("it has more than the {SCAN_BYTES} bytes that are read into memory")))
            }
            GetResultPayload::Stream(_) => {
                let content = found.bytes().await.map_err(|source| LoadError::store("read", &file.path, source))?;
                blocking(file, move || in_memory(content)).await
            }
        }
    }
}

fn describe(stream: &str, table: &TableState) -> Option<Table> {
    let (generation, visible) = table.current()?;
    Some(Table {
        stream: stream.to_owned(),
        table: table.table.clone(),
        generation,
        schema: visible.schema.clone(),
        rows: visible.files.iter().map(|file| file.rows).sum(),
        bytes: visible.files.iter().map(|file| file.bytes).sum(),
        files: visible.files.len(),
    })
}

struct Scanner {
    lake: Lake,
    schema: SchemaRef,
    files: VecDeque<DataFile>,
    open: Option<(DataFile, ParquetRecordBatchReader)>,
    left: u64,
}

impl Scanner {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, LoadError> {
        while self.left > 0 {
            let (file, mut reader) = match self.open.take() {
                Some(open) => open,
                None => {
                    let Some(file) = self.files.pop_front() else { return Ok(None) };
                    let reader = self.lake.open_file(&file).await?;
                    (file, reader)
                }
            };
            let schema = Arc::clone(&self.schema);
            let read = blocking(&file, move || {
                let batch = reader.next().transpose()?;
                let batch = batch.map(|batch| reconcile(&batch, &schema)).transpose()?;
                Ok(batch.map(|batch| (batch, reader)))
            });
            let Some((batch, reader)) = read.await? else { continue };
            self.open = Some((file, reader));
            let rows = (batch.num_rows() as u64).min(self.left);
            self.left -= rows;
            return Ok(Some(batch.slice(0, rows as usize)));
        }
        Ok(None)
    }
}

fn reader(content: File) -> Result<ParquetRecordBatchReader, ParquetError> {
    ParquetRecordBatchReaderBuilder::try_new(content)?.with_batch_size(SCAN_ROWS).build()
}

fn in_memory(content: Bytes) -> Result<ParquetRecordBatchReader, ParquetError> {
    ParquetRecordBatchReaderBuilder::try_new(content)?.with_batch_size(SCAN_ROWS).build()
}

/// Decodes off the async threads.
async fn blocking<T: Send + 'static>(
    file: &DataFile,
    work: impl FnOnce() -> Result<T, ParquetError> + Send + 'static,
) -> Result<T, LoadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| corrupt(file, error.to_string())),
        Err(error) => Err(corrupt(file, format!("reading it failed: {error}"))),
    }
}

fn corrupt(file: &DataFile, reason: impl Into<String>) -> LoadError {
    LoadError::Corrupt { object: file.path.clone(), reason: reason.into() }
}

/// Brings a batch of an older schema to the newest: absent columns become null, widened ones are cast. A value that the
/// wider type cannot hold is an error, never a silent null.
fn reconcile(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &arrow_schema::FieldRef| -> Result<ArrayRef, ArrowError> {
        match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast_with_options(column, field.data_type(), &options),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
