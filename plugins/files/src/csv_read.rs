//! A CSV file to Arrow batches.
//!
//! Owns the header, the rejection of records that do not fit it, and the walk over the file. Must never hold more
//! than one window, and never end without every byte being in a batch, a rejected record or an error.

use std::{io::Read, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema};

use crate::{
    config::CsvConfig,
    csv_columns::{Nulls, Table},
    csv_split::{Dialect, Scan, Skipper, Span, Splitter, blank_lines},
    error::{FilesError, from_io},
    kind::{Guess, Kind},
    limits::{
        BATCH_RECORDS, CHUNK_BYTES, MAX_FIELD_NAME, MAX_FIELDS, MAX_HEADER_BYTES, MAX_RAW_BYTES, MAX_RECORD_BYTES,
    },
    progress::Progress,
    window::Window,
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How a file is written.
#[derive(Debug, Clone)]
pub struct CsvLayout {
    pub dialect: Dialect,
    pub header: bool,
    pub columns: Vec<String>,
    pub nulls: Nulls,
}

impl CsvLayout {
    /// From the checked configuration. `tabs`: the file's name says that tabs delimit.
    pub fn new(config: &CsvConfig, tabs: bool) -> Result<Self, FilesError> {
        let wrong = |setting: &'static str| move |problem: String| FilesError::setting(setting, problem);
        let default = if tabs { b'\t' } else { b',' };
        let delimiter = config.delimiter_byte(default).map_err(wrong("csv.delimiter"))?;
        let quote = config.quote_byte().map_err(wrong("csv.quote"))?;
        Ok(Self {
            dialect: Dialect { delimiter, quote },
            header: config.header,
            columns: config.columns.clone(),
            nulls: Nulls::new(&config.null_values),
        })
    }
}

/// One column of the file: what to make of it. `None` for what was not selected.
type Column = Option<(String, Option<Kind>)>;

/// What is known of the file's columns.
struct Reader<'l> {
    layout: &'l CsvLayout,
    splitter: Splitter,
    columns: Vec<Column>,
}

/// Buffers of one window, kept from one to the next.
#[derive(Default)]
struct Buffers {
    spans: Vec<Span>,
    scratch: Vec<u8>,
}

/// What to do after a window.
enum Next {
    Consumed(usize),
    /// No record fits; more data would help.
    Grow,
    /// A record is over the limit.
    Oversized,
}

/// Reads a file from `progress.position` to its end.
pub fn read(input: impl Read, layout: &CsvLayout, progress: &mut Progress<'_>) -> Result<(), FilesError> {
    let mut window = Window::new(input, progress.position.offset);
    let mut reader = Reader { layout, splitter: Splitter::new(layout.dialect), columns: Vec::new() };
    reader.set_columns(progress);
    let mut buffers = Buffers::default();
    let mut wanted = CHUNK_BYTES;
    loop {
        let failed = window.fill(wanted).err();
        if progress.position.offset == 0 {
            drop_mark(&mut window, progress)?;
        }
        match reader.window(window.data(), window.finished(), &mut buffers, progress)? {
            Next::Consumed(count) => {
                wanted = CHUNK_BYTES;
                window.consume(count);
                progress.position.offset = window.offset();
                progress.advance(count as u64)?;
            }
            Next::Grow => wanted = (wanted * 2).min(MAX_RECORD_BYTES + 1),
            Next::Oversized if failed.is_none() => skip_record(&mut window, layout.dialect, progress)?,
            Next::Oversized => {}
        }
        if let Some(error) = failed {
            progress.checkpoint()?;
            return Err(from_io(error, &progress.task.file, window.offset()));
        }
        if window.done() {
            break;
        }
    }
    if progress.position.records == 0 && progress.position.header.is_empty() {
        progress.output.info(&format!("{} is empty", progress.task.file));
    }
    progress.checkpoint()
}

/// Drops a byte order mark; refuses UTF-16.
fn drop_mark(window: &mut Window<impl Read>, progress: &mut Progress<'_>) -> Result<(), FilesError> {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = window.data() {
        let file = progress.task.file.clone();
        return Err(FilesError::Damaged { file, byte: 0, what: "it is UTF-16; convert it to UTF-8".into() });
    }
    if window.data().starts_with(BOM) {
        window.consume(BOM.len());
        progress.position.offset = window.offset();
    }
    Ok(())
}

impl Reader<'_> {
    fn set_columns(&mut self, progress: &Progress<'_>) {
        let task = progress.task;
        let column = |name: &String| task.wants(name).then(|| (name.clone(), task.kind(name)));
        self.columns = progress.position.header.iter().map(column).collect();
    }

    /// Makes batches of the whole records in `data`. `last`: nothing follows it.
    fn window(
        &mut self,
        data: &[u8],
        last: bool,
        buffers: &mut Buffers,
        progress: &mut Progress<'_>,
    ) -> Result<Next, FilesError> {
        let clean = simdutf8::basic::from_utf8(data).is_ok();
        let mut at = 0;
        while at < data.len() {
            buffers.spans.clear();
            buffers.scratch.clear();
            let from = at;
            let stopped = self.batch(data, &mut at, last, clean, buffers, progress)?;
            self.emit(data, buffers, progress)?;
            match stopped {
                Some(Scan::Incomplete) if at == 0 && data.len() > MAX_RECORD_BYTES => return Ok(Next::Oversized),
                Some(Scan::Incomplete) if at == 0 => return Ok(Next::Grow),
                Some(Scan::Incomplete) => return Ok(Next::Consumed(at)),
                Some(Scan::Unclosed) => at = self.unclosed(data, at, progress)?,
                _ if at == from => break,
                _ => {}
            }
        }
        Ok(Next::Consumed(at))
    }

    /// Scans records from `at` on until the batch is full; says why it stopped earlier.
    fn batch(
        &mut self,
        data: &[u8],
        at: &mut usize,
        last: bool,
        clean: bool,
        buffers: &mut Buffers,
        progress: &mut Progress<'_>,
    ) -> Result<Option<Scan>, FilesError> {
        let mut good = 0;
        while good < BATCH_RECORDS {
            let (blank, lines) = blank_lines(&data[*at..]);
            *at += blank;
            progress.position.line += lines;
            if *at == data.len() {
                return Ok(None);
            }
            let (spans, scratch) = (buffers.spans.len(), buffers.scratch.len());
            let scan = self.splitter.scan(data, *at, last, &mut buffers.spans, &mut buffers.scratch);
            let Scan::Record { end, lines } = scan else {
                buffers.spans.truncate(spans);
                buffers.scratch.truncate(scratch);
                return Ok(Some(scan));
            };
            let raw = &data[*at..end];
            if self.columns.is_empty() {
                let first = self.first_record(raw, data, buffers, progress)?;
                if first {
                    buffers.spans.clear();
                    buffers.scratch.clear();
                    (progress.position.line, *at) = (progress.position.line + lines, end);
                    continue;
                }
            }
            progress.position.records += 1;
            if self.fits(raw, buffers.spans.len() - spans, clean, progress)? {
                good += 1;
            } else {
                buffers.spans.truncate(spans);
                buffers.scratch.truncate(scratch);
            }
            (progress.position.line, *at) = (progress.position.line + lines, end);
        }
        Ok(None)
    }

    /// Whether a record has the right number of fields and is UTF-8; else it is rejected.
    fn fits(&self, raw: &[u8], fields: usize, clean: bool, progress: &mut Progress<'_>) -> Result<bool, FilesError> {
        let expected = self.columns.len();
        if fields == expected && (clean || simdutf8::basic::from_utf8(raw).is_ok()) {
            return Ok(true);
        }
        let line = (progress.position.line + 1).to_string();
        let (reason, what) = if fields > expected {
            ("too-many-fields", format!("the record has {fields} fields, and the header has {expected}"))
        } else if fields < expected {
            ("too-few-fields", format!("the record has {fields} fields, and the header has {expected}"))
        } else {
            ("invalid-utf8", "the record is not valid UTF-8".to_owned())
        };
        progress.reject(&line, reason, &what, raw)?;
        Ok(false)
    }

    /// Learns the columns from the first record. True where it was the header and holds no data.
    fn first_record(
        &mut self,
        raw: &[u8],
        data: &[u8],
        buffers: &Buffers,
        progress: &mut Progress<'_>,
    ) -> Result<bool, FilesError> {
        let width = buffers.spans.len();
        let limit = |what: &str, limit: usize| FilesError::Limit {
            what: format!("the header of {}: {what}", progress.task.file),
            limit: limit.to_string(),
            advice: "check csv.delimiter and csv.quote".into(),
        };
        if width > MAX_FIELDS {
            return Err(limit("the number of its fields", MAX_FIELDS));
        }
        if raw.len() > MAX_HEADER_BYTES {
            return Err(limit("its bytes", MAX_HEADER_BYTES));
        }
        let names = if !self.layout.columns.is_empty() {
            self.layout.columns.clone()
        } else if self.layout.header {
            header_names(data, buffers, progress)?
        } else {
            (1..=width).map(|n| format!("column_{n}")).collect()
        };
        progress.position.header = names;
        self.set_columns(progress);
        Ok(self.layout.header)
    }

    /// The file ends inside quotes: rejects the line where the quotes open, and goes on behind it.
    fn unclosed(&mut self, data: &[u8], at: usize, progress: &mut Progress<'_>) -> Result<usize, FilesError> {
        let end = memchr::memchr(b'\n', &data[at..]).map_or(data.len(), |line| at + line + 1);
        let line = progress.position.line + 1;
        progress.reject(&line.to_string(), "unclosed-quote", "a quote is opened and never closed", &data[at..end])?;
        progress.position.records += 1;
        progress.position.line = line;
        Ok(end)
    }

    fn emit(&mut self, data: &[u8], buffers: &Buffers, progress: &mut Progress<'_>) -> Result<(), FilesError> {
        if buffers.spans.is_empty() {
            return Ok(());
        }
        let (spans, scratch) = (buffers.spans.as_slice(), buffers.scratch.as_slice());
        let table = Table { data, scratch, spans, width: self.columns.len(), nulls: &self.layout.nulls };
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for (at, column) in self.columns.iter_mut().enumerate() {
            let Some((name, known)) = column else { continue };
            let kind = known.get_or_insert_with(|| {
                let mut guess = Guess::default();
                table.guess(at, &mut guess);
                guess.kind()
            });
            let (built, array) = table.build(at, *kind);
            let field = Field::new(name.as_str(), array.data_type().clone(), true);
            fields.push(if built == Kind::Json { mark_json(field) } else { field });
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(table.rows()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        let batch = batch
            .map_err(|error| FilesError::Answer { url: progress.task.file.clone(), problem: error.to_string() })?;
        progress.output.arrow(&batch)
    }
}

/// Tells the host that a column of text holds JSON.
pub fn mark_json(field: Field) -> Field {
    field.with_metadata([("thimble.type".to_owned(), "json".to_owned())].into())
}

/// Names from the header: never empty, never twice.
fn header_names(data: &[u8], buffers: &Buffers, progress: &Progress<'_>) -> Result<Vec<String>, FilesError> {
    let mut names: Vec<String> = Vec::with_capacity(buffers.spans.len());
    let damaged = |what: String| FilesError::Damaged { file: progress.task.file.clone(), byte: 0, what };
    let mut taken = std::collections::HashSet::new();
    for (at, span) in buffers.spans.iter().enumerate() {
        let bytes = if span.form == crate::csv_split::Form::Unescaped { &buffers.scratch } else { data };
        let name = std::str::from_utf8(&bytes[span.start as usize..span.end as usize]);
        let name = name.map_err(|_| damaged(format!("name {} of the header is not valid UTF-8", at + 1)))?.trim();
        if name.len() > MAX_FIELD_NAME {
            return Err(damaged(format!("name {} of the header is longer than {MAX_FIELD_NAME} bytes", at + 1)));
        }
        let mut unique = if name.is_empty() { format!("column_{}", at + 1) } else { name.to_owned() };
        let mut copy = 2;
        while !taken.insert(unique.clone()) {
            unique = format!("{name}_{copy}");
            copy += 1;
        }
        names.push(unique);
    }
    Ok(names)
}

/// Walks over a record that is over the limit, and rejects it by its start.
fn skip_record(
    window: &mut Window<impl Read>,
    dialect: Dialect,
    progress: &mut Progress<'_>,
) -> Result<(), FilesError> {
    let raw = window.data()[..MAX_RAW_BYTES.min(window.data().len())].to_vec();
    let start = window.offset();
    let mut skipper = Skipper::new(dialect);
    loop {
        let end = skipper.skip(window.data());
        window.consume(end.unwrap_or(window.data().len()));
        if end.is_some() {
            break;
        }
        if let Err(error) = window.fill(CHUNK_BYTES) {
            progress.checkpoint()?;
            return Err(from_io(error, &progress.task.file, window.offset()));
        }
        if window.done() {
            break;
        }
    }
    let size = window.offset() - start;
    let line = progress.position.line + 1;
    let what = format!("the record has {size} bytes, over the limit of {MAX_RECORD_BYTES}");
    progress.reject(&line.to_string(), "record-too-large", &what, &raw)?;
    progress.position.line += skipper.lines;
    progress.position.records += 1;
    progress.position.offset = window.offset();
    progress.advance(size)
}
