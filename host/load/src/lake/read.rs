//! Reads tables: what the last commit made visible, in the newest schema.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, SchemaRef};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetResultPayload, path::Path};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
    file::reader::ChunkReader,
};
use thimble_record::{ConnectionId, Generation, StreamSchema, SystemColumn};

use super::{
    Lake,
    commit::{DataFile, GenerationState, LakeState, TableState},
    merge::{Sieve, Winners},
    views::folded_root,
};
use crate::{
    error::LoadError,
    limits::{SCAN_BYTES, SCAN_ROWS},
};

/// Rows of folded tables, by connection and stream, with what they were counted of.
pub(super) type Counted = HashMap<(ConnectionId, String), (Fold, u64)>;

/// What the fold of a table hangs on: the state of its generation, and of its root's, with the number and the last of
/// their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fold(Vec<(usize, GenerationState)>);

impl Fold {
    fn of(table: &GenerationState, root: Option<&GenerationState>) -> Self {
        let bare = |GenerationState { schema, files, reading, sweeps }: &GenerationState| {
            // Files are only ever added to a generation, and the last one's name tells which generation it is.
            let last = files.last().cloned().into_iter().collect();
            let (schema, reading, sweeps) = (schema.clone(), reading.clone(), sweeps.clone());
            (files.len(), GenerationState { schema, files: last, reading, sweeps })
        };
        Self([Some(table), root].into_iter().flatten().map(bare).collect())
    }
}

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
    /// The tables of a connection that readers can see, by stream name. Of a table with more keys than fit in memory, the
    /// number of rows is that of all versions.
    pub async fn tables(&self, connection: &ConnectionId) -> Result<Vec<Table>, LoadError> {
        let state = self.state(connection).await?;
        let mut tables = Vec::new();
        for (stream, table) in &state.tables {
            let Some((generation, visible)) = table.current() else { continue };
            let rows = match self.rows(connection, &state, stream, visible).await {
                Err(LoadError::Config(_)) => versions(visible),
                rows => rows?,
            };
            tables.push(Table {
                stream: stream.clone(),
                table: table.table.clone(),
                generation,
                schema: visible.visible_schema(),
                rows,
                bytes: visible.files.iter().map(|file| file.bytes).sum(),
                files: visible.files.len(),
            });
        }
        Ok(tables)
    }

    /// Whether readers can see a table of a stream. Counts nothing.
    pub async fn holds(&self, connection: &ConnectionId, stream: &str) -> Result<bool, LoadError> {
        let state = self.state(connection).await?;
        Ok(state.tables.get(stream).and_then(TableState::current).is_some())
    }

    /// The committed files of a stream, in the order of their commits. [`Lake::location`] tells where they lie.
    pub async fn files(&self, connection: &ConnectionId, stream: &str) -> Result<Vec<DataFile>, LoadError> {
        let state = self.state(connection).await?;
        Ok(visible(connection, &state, stream)?.files.clone())
    }

    /// Rows of a stream that readers see. Those of an upserted table are counted by reading its keys, once for each state
    /// of the table; others are known from the commit records.
    pub async fn count(&self, connection: &ConnectionId, stream: &str) -> Result<u64, LoadError> {
        let state = self.state(connection).await?;
        self.rows(connection, &state, stream, visible(connection, &state, stream)?).await
    }

    /// Reads the rows of a stream, at most `limit`.
    pub async fn scan(&self, connection: &ConnectionId, stream: &str, limit: Option<u64>) -> Result<Scan, LoadError> {
        let state = self.state(connection).await?;
        let visible = visible(connection, &state, stream)?;
        let sieve = self.sieve(&state, stream, visible).await?;
        let schema = visible.visible_schema().to_arrow();
        let scanner = self.scanner(visible, Arc::clone(&schema), sieve, None, limit.unwrap_or(u64::MAX));
        let batches = stream::try_unfold(scanner, |mut scanner| async move {
            Ok(scanner.next_batch().await?.map(|batch| (batch, scanner)))
        });
        Ok(Scan { schema, batches: batches.boxed() })
    }

    fn scanner(
        &self,
        visible: &GenerationState,
        schema: SchemaRef,
        sieve: Sieve,
        columns: Option<Vec<String>>,
        left: u64,
    ) -> Scanner {
        Scanner { lake: self.clone(), schema, files: visible.files.clone().into(), open: None, sieve, columns, left }
    }

    /// What lets through the rows of a table that readers see.
    async fn sieve(&self, state: &LakeState, stream: &str, visible: &GenerationState) -> Result<Sieve, LoadError> {
        if visible.reading.folds() {
            return Ok(Sieve::Winners(self.winners(stream, visible).await?));
        }
        let Some((root, table)) = folded_root(state, visible) else { return Ok(Sieve::All) };
        let column = visible.reading.system.name(SystemColumn::RootSequence);
        Ok(Sieve::Roots { column, sequences: self.winners(root, table).await?.sequences() })
    }

    /// Reads the keys of an upserted table.
    async fn winners(&self, stream: &str, visible: &GenerationState) -> Result<Winners, LoadError> {
        let schema = Winners::columns(visible);
        let names = schema.fields.iter().map(|field| field.name.clone()).collect();
        let mut scanner = self.scanner(visible, schema.to_arrow(), Sieve::All, Some(names), u64::MAX);
        let mut winners = Winners::new(visible, self.keys);
        while let Some(batch) = scanner.next_batch().await? {
            winners.take(&batch);
            if winners.full() {
                return Err(LoadError::Config(format!(
                    "stream {stream:?} has more than {} keys, which is what is folded in memory: read its view of \
                     views.sql with DuckDB instead",
                    self.keys
                )));
            }
        }
        Ok(winners)
    }

    async fn rows(
        &self,
        connection: &ConnectionId,
        state: &LakeState,
        stream: &str,
        visible: &GenerationState,
    ) -> Result<u64, LoadError> {
        let root = folded_root(state, visible);
        if !visible.reading.folds() && root.is_none() {
            return Ok(versions(visible));
        }
        let (place, fold) = ((connection.clone(), stream.to_owned()), Fold::of(visible, root.map(|(_, table)| table)));
        let known = self.counted.lock().expect("no code panics while it holds this lock").get(&place).cloned();
        if let Some((_, rows)) = known.filter(|(of, _)| *of == fold) {
            return Ok(rows);
        }
        let rows = match self.sieve(state, stream, visible).await? {
            Sieve::All => versions(visible),
            Sieve::Winners(winners) => winners.count(),
            Sieve::Roots { column, sequences } => {
                let field = visible.schema.field(column).cloned().into_iter().collect();
                let schema = StreamSchema::new(field).to_arrow();
                let sieve = Sieve::Roots { column, sequences };
                let mut scanner = self.scanner(visible, schema, sieve, Some(vec![column.to_owned()]), u64::MAX);
                let mut rows = 0;
                while let Some(batch) = scanner.next_batch().await? {
                    rows += batch.num_rows() as u64;
                }
                rows
            }
        };
        self.counted.lock().expect("no code panics while it holds this lock").insert(place, (fold, rows));
        Ok(rows)
    }

    /// Opens a file, or these columns of it.
    async fn open_file(
        &self,
        file: &DataFile,
        columns: Option<Vec<String>>,
    ) -> Result<ParquetRecordBatchReader, LoadError> {
        let path = Path::from(file.path.as_str());
        let found = self.client.get(&path).await?.ok_or_else(|| corrupt(file, "it is missing"))?;
        if found.meta.size != file.bytes {
            let reason = format!("it has {} bytes instead of the committed {}", found.meta.size, file.bytes);
            return Err(corrupt(file, reason));
        }
        match found.payload {
            GetResultPayload::File(content, _) => blocking(file, move || reader(content, columns)).await,
            GetResultPayload::Stream(_) if file.bytes > SCAN_BYTES => {
                Err(corrupt(file, format!("it has more than the {SCAN_BYTES} bytes that are read into memory")))
            }
            GetResultPayload::Stream(_) => {
                let content = found.bytes().await.map_err(|source| LoadError::store("read", &file.path, source))?;
                blocking(file, move || reader(content, columns)).await
            }
        }
    }
}

fn visible<'s>(
    connection: &ConnectionId,
    state: &'s LakeState,
    stream: &str,
) -> Result<&'s GenerationState, LoadError> {
    let visible = state.tables.get(stream).and_then(TableState::current).map(|(_, visible)| visible);
    visible.ok_or_else(|| {
        let known: Vec<_> = state.tables.keys().map(|name| format!("{name:?}")).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        LoadError::Config(format!(
            "connection {connection} has no committed rows of a stream {stream:?}: its streams are {known}"
        ))
    })
}

/// Rows in the files of a table.
fn versions(visible: &GenerationState) -> u64 {
    visible.files.iter().map(|file| file.rows).sum()
}

struct Scanner {
    lake: Lake,
    schema: SchemaRef,
    files: VecDeque<DataFile>,
    open: Option<(DataFile, ParquetRecordBatchReader)>,
    sieve: Sieve,
    /// The only columns that are read.
    columns: Option<Vec<String>>,
    left: u64,
}

impl Scanner {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, LoadError> {
        while self.left > 0 {
            let (file, mut reader) = match self.open.take() {
                Some(open) => open,
                None => {
                    let Some(file) = self.files.pop_front() else { return Ok(None) };
                    let reader = self.lake.open_file(&file, self.columns.clone()).await?;
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
            let batch = self.sieve.sift(batch).map_err(|error| corrupt(&file, error.to_string()))?;
            self.open = Some((file, reader));
            if batch.num_rows() == 0 {
                continue;
            }
            let rows = (batch.num_rows() as u64).min(self.left);
            self.left -= rows;
            return Ok(Some(batch.slice(0, rows as usize)));
        }
        Ok(None)
    }
}

fn reader<R: ChunkReader + 'static>(
    content: R,
    columns: Option<Vec<String>>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(content)?.with_batch_size(SCAN_ROWS);
    if let Some(columns) = columns {
        let fields = builder.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| columns.contains(field.name())).map(|(index, _)| index);
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        builder = builder.with_projection(mask);
    }
    builder.build()
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
