//! Where a read puts its records: batching, splitting at the boundary's limits, checkpoints.

use serde::Serialize;

use crate::split::{Piece, json_pieces};
use crate::{Error, Result};

/// The most bytes of one batch (`wit/v0.1`).
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Single records are gathered up to about this many bytes.
pub const TARGET_BATCH_BYTES: usize = 1024 * 1024;
/// The most bytes of a rejected record that are kept (`wit/v0.1`).
pub const MAX_RAW_BYTES: usize = 64 * 1024;
/// The most rejected records of one call (`wit/v0.1`).
pub const MAX_REJECTED: usize = 10_000;
/// The most bytes of a checkpoint (`wit/v0.1`).
pub const MAX_STATE_BYTES: usize = 1024 * 1024;

/// What reached the boundary, in order. Only a sink for tests keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emitted {
    Json(Vec<u8>),
    ArrowIpc(Vec<u8>),
    Rejected { reason: String, message: String, raw: String },
    Checkpoint(String),
}

/// The two ends a sink can have.
enum End {
    Host,
    Test(Vec<Emitted>),
}

/// Takes the records of one read. Everything put in before a checkpoint is committed with it or not
/// at all, so a reader should checkpoint at least every few MiB, usually after each page.
pub struct Sink {
    stream: String,
    end: End,
    lines: Vec<u8>,
    rejected: Vec<(String, String, String)>,
    rejected_bytes: usize,
}

impl Sink {
    pub(crate) fn to_host(stream: &str) -> Self {
        Self::new(stream, End::Host)
    }

    /// A sink for tests, which keeps what is emitted: see [`Sink::into_emitted`].
    pub fn for_test(stream: &str) -> Self {
        Self::new(stream, End::Test(Vec::new()))
    }

    fn new(stream: &str, end: End) -> Self {
        Self { stream: stream.to_owned(), end, lines: Vec::new(), rejected: Vec::new(), rejected_bytes: 0 }
    }

    /// What a sink for tests was given.
    ///
    /// # Errors
    /// Those of [`Sink::flush`].
    pub fn into_emitted(mut self) -> Result<Vec<Emitted>> {
        self.flush()?;
        match self.end {
            End::Host => Ok(Vec::new()),
            End::Test(emitted) => Ok(emitted),
        }
    }

    /// Forwards a page as it is: one JSON array of objects, or objects one after the other (JSON lines).
    /// The cheapest way for document sources: the host decodes the records. A page over 4 MiB is cut at
    /// record borders; a single record over 4 MiB is rejected.
    ///
    /// # Errors
    /// Those of the host, to be returned from `read` as they are.
    pub fn json_page(&mut self, page: &[u8]) -> Result<()> {
        self.flush_lines()?;
        self.emit_json(page)
    }

    /// Adds one record. Gathered to batches of about 1 MiB.
    ///
    /// # Errors
    /// Kind system where the record cannot be written as JSON; those of the host.
    pub fn record(&mut self, record: &impl Serialize) -> Result<()> {
        let before = self.lines.len();
        if let Err(error) = serde_json::to_writer(&mut self.lines, record) {
            self.lines.truncate(before);
            return Err(Error::system(format!("stream {}: a record cannot be written as JSON: {error}", self.stream)));
        }
        self.lines.push(b'\n');
        if self.lines.len() >= TARGET_BATCH_BYTES { self.flush_lines() } else { Ok(()) }
    }

    /// Counts a record that was read but cannot be turned into fields. `reason` is a short code in
    /// kebab-case, `message` one sentence that names the file and line or the key, `raw` as much of the
    /// record as there is.
    ///
    /// # Errors
    /// Those of the host.
    pub fn reject(&mut self, reason: &str, message: impl Into<String>, raw: impl AsRef<[u8]>) -> Result<()> {
        let raw = raw.as_ref();
        let raw = String::from_utf8_lossy(&raw[..raw.len().min(MAX_RAW_BYTES)]);
        // Replacing invalid UTF-8 makes text longer.
        let raw = raw[..raw.floor_char_boundary(MAX_RAW_BYTES)].to_owned();
        let message = message.into();
        self.rejected_bytes += reason.len() + message.len() + raw.len();
        self.rejected.push((reason.to_owned(), message, raw));
        let full = self.rejected.len() >= MAX_REJECTED || self.rejected_bytes >= TARGET_BATCH_BYTES;
        if full { self.flush_rejected() } else { Ok(()) }
    }

    /// States that `state` resumes after everything put in so far. [`crate::ReadRequest::cursor`] gives it
    /// back.
    ///
    /// # Errors
    /// Kind refused where the state is over 1 MiB; those of the host.
    pub fn checkpoint(&mut self, state: &impl Serialize) -> Result<()> {
        self.flush()?;
        let text = serde_json::to_string(state)?;
        if text.len() > MAX_STATE_BYTES {
            let (stream, size) = (&self.stream, text.len());
            return Err(Error::refused(format!("stream {stream}: a checkpoint has {size} bytes, at most 1048576 fit")));
        }
        match &mut self.end {
            End::Host => Ok(crate::bindings::thimble::connector::sink::checkpoint(&self.stream, &text)?),
            End::Test(emitted) => {
                emitted.push(Emitted::Checkpoint(text));
                Ok(())
            }
        }
    }

    /// Hands over what is gathered. Happens by itself before a checkpoint and when `read` returns `Ok`.
    ///
    /// # Errors
    /// Those of the host.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_lines()?;
        self.flush_rejected()
    }

    fn flush_lines(&mut self) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.lines);
        self.emit_json(&lines)?;
        lines.clear();
        self.lines = lines;
        Ok(())
    }

    fn emit_json(&mut self, page: &[u8]) -> Result<()> {
        for piece in json_pieces(page, MAX_BATCH_BYTES) {
            match piece {
                Piece::Whole(bytes) => self.emit(Payload::Json(bytes))?,
                Piece::Elements(bytes) => {
                    let mut array = Vec::with_capacity(bytes.len() + 2);
                    array.push(b'[');
                    array.extend_from_slice(bytes);
                    array.push(b']');
                    self.emit(Payload::Json(&array))?;
                }
                Piece::TooLarge(raw) => {
                    let (stream, size) = (&self.stream, raw.len());
                    let message = format!("stream {stream}: a record has {size} bytes, at most {MAX_BATCH_BYTES} fit");
                    self.reject("record-too-large", message, raw)?;
                }
            }
        }
        Ok(())
    }

    fn flush_rejected(&mut self) -> Result<()> {
        if self.rejected.is_empty() {
            return Ok(());
        }
        let rejected = std::mem::take(&mut self.rejected);
        self.rejected_bytes = 0;
        match &mut self.end {
            End::Host => {
                use crate::bindings::thimble::connector::{sink, types::RejectedRecord};
                let records: Vec<_> =
                    rejected.iter().map(|(reason, message, raw)| RejectedRecord { reason, message, raw }).collect();
                Ok(sink::reject(&self.stream, &records)?)
            }
            End::Test(emitted) => {
                let kept =
                    rejected.into_iter().map(|(reason, message, raw)| Emitted::Rejected { reason, message, raw });
                emitted.extend(kept);
                Ok(())
            }
        }
    }

    fn emit(&mut self, payload: Payload<'_>) -> Result<()> {
        match &mut self.end {
            End::Host => {
                use crate::bindings::thimble::connector::{sink, types::Batch};
                let batch = match payload {
                    Payload::Json(bytes) => Batch::Json(bytes),
                    #[cfg(feature = "arrow")]
                    Payload::ArrowIpc(bytes) => Batch::ArrowIpc(bytes),
                };
                Ok(sink::emit(&self.stream, batch)?)
            }
            End::Test(emitted) => {
                emitted.push(match payload {
                    Payload::Json(bytes) => Emitted::Json(bytes.to_vec()),
                    #[cfg(feature = "arrow")]
                    Payload::ArrowIpc(bytes) => Emitted::ArrowIpc(bytes.to_vec()),
                });
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("stream", &self.stream).finish_non_exhaustive()
    }
}

enum Payload<'a> {
    Json(&'a [u8]),
    #[cfg(feature = "arrow")]
    ArrowIpc(&'a [u8]),
}

#[cfg(feature = "arrow")]
impl Sink {
    /// Hands over typed columns as one Arrow IPC stream; cut by rows where it is over 4 MiB. A single row
    /// over 4 MiB is rejected. Columns are matched to the stream's fields by name.
    ///
    /// # Errors
    /// Kind system where Arrow cannot encode the batch; those of the host.
    pub fn arrow(&mut self, batch: &arrow_array::RecordBatch) -> Result<()> {
        self.flush_lines()?;
        self.emit_arrow(batch, MAX_BATCH_BYTES)
    }

    fn emit_arrow(&mut self, batch: &arrow_array::RecordBatch, max: usize) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let bytes = encode(batch)?;
        if bytes.len() <= max {
            return self.emit(Payload::ArrowIpc(&bytes));
        }
        if rows == 1 {
            let (stream, size) = (&self.stream, bytes.len());
            let message = format!("stream {stream}: a record has {size} bytes, at most {max} fit");
            return self.reject("record-too-large", message, "");
        }
        // Even rows make the first guess right; skewed ones are cut again.
        let pieces = bytes.len().div_ceil(max) + 1;
        let step = rows.div_ceil(pieces).max(1);
        drop(bytes);
        for start in (0..rows).step_by(step) {
            self.emit_arrow(&batch.slice(start, step.min(rows - start)), max)?;
        }
        Ok(())
    }
}

#[cfg(feature = "arrow")]
fn encode(batch: &arrow_array::RecordBatch) -> Result<Vec<u8>> {
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_gathered_goes_before_the_checkpoint() {
        let mut sink = Sink::for_test("s");
        sink.record(&serde_json::json!({"a": 1})).unwrap();
        sink.reject("invalid-json", "line 2 is not JSON", b"\xff{").unwrap();
        sink.checkpoint(&7).unwrap();
        sink.record(&serde_json::json!({"a": 2})).unwrap();
        let emitted = sink.into_emitted().unwrap();
        assert_eq!(
            emitted,
            [
                Emitted::Json(b"{\"a\":1}".to_vec()),
                Emitted::Rejected {
                    reason: "invalid-json".into(),
                    message: "line 2 is not JSON".into(),
                    raw: "\u{fffd}{".into()
                },
                Emitted::Checkpoint("7".into()),
                Emitted::Json(b"{\"a\":2}".to_vec()),
            ]
        );
    }

    #[test]
    fn records_gather_to_batches_of_a_mebibyte() {
        let mut sink = Sink::for_test("s");
        for n in 0..30_000 {
            sink.record(&serde_json::json!({"n": n, "text": "x".repeat(100)})).unwrap();
        }
        let sizes: Vec<usize> = sink
            .into_emitted()
            .unwrap()
            .iter()
            .map(|emitted| match emitted {
                Emitted::Json(bytes) => bytes.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes.len(), 4);
        assert!(sizes[..3].iter().all(|size| (TARGET_BATCH_BYTES - 200..TARGET_BATCH_BYTES + 200).contains(size)));
    }

    #[test]
    fn a_page_over_the_limit_is_cut_and_a_record_over_it_rejected() {
        let small = format!("{{\"t\":\"{}\"}}", "y".repeat(1_000_000));
        let large = format!("{{\"t\":\"{}\"}}", "z".repeat(MAX_BATCH_BYTES));
        let page = format!("[{small},{small},{small},{small},{small},{large},{small}]");
        let mut sink = Sink::for_test("s");
        sink.json_page(page.as_bytes()).unwrap();
        let (mut records, mut rejected) = (0, 0);
        for emitted in sink.into_emitted().unwrap() {
            match emitted {
                Emitted::Json(bytes) => {
                    assert!(bytes.len() <= MAX_BATCH_BYTES);
                    records += serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).unwrap().len();
                }
                Emitted::Rejected { reason, message, raw } => {
                    rejected += 1;
                    assert_eq!((reason.as_str(), raw.len()), ("record-too-large", MAX_RAW_BYTES));
                    assert_eq!(message, "stream s: a record has 4194312 bytes, at most 4194304 fit");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((records, rejected), (6, 1));
    }

    #[test]
    fn rejected_records_and_states_keep_their_limits() {
        let mut sink = Sink::for_test("s");
        sink.reject("x", "y", vec![0xff; 3 * MAX_RAW_BYTES]).unwrap();
        assert_eq!(sink.checkpoint(&"x".repeat(MAX_STATE_BYTES)).unwrap_err().kind, crate::ErrorKind::Refused);
        match &sink.into_emitted().unwrap()[..] {
            [Emitted::Rejected { raw, .. }] => assert!(raw.len() <= MAX_RAW_BYTES && raw.len() > MAX_RAW_BYTES - 3),
            other => panic!("{other:?}"),
        }
    }

    #[cfg(feature = "arrow")]
    #[test]
    fn arrow_batches_are_cut_by_rows() {
        use arrow_array::{Array, RecordBatch, StringArray};
        let texts: Vec<String> = (0..500).map(|n| "t".repeat(if n < 20 { 20_000 } else { 10 })).collect();
        let column: arrow_array::ArrayRef = std::sync::Arc::new(StringArray::from(texts.clone()));
        let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
        let mut sink = Sink::for_test("s");
        sink.emit_arrow(&batch, 50_000).unwrap();
        let mut back = Vec::new();
        for emitted in sink.into_emitted().unwrap() {
            let Emitted::ArrowIpc(bytes) = emitted else { panic!("{emitted:?}") };
            assert!(bytes.len() <= 50_000);
            for batch in arrow_ipc::reader::StreamReader::try_new(&bytes[..], None).unwrap() {
                let batch = batch.unwrap();
                let column = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
                back.extend((0..column.len()).map(|row| column.value(row).to_owned()));
            }
        }
        assert_eq!(back, texts);
    }

    #[cfg(feature = "arrow")]
    #[test]
    fn one_row_over_the_limit_is_rejected() {
        let column: arrow_array::ArrayRef =
            std::sync::Arc::new(arrow_array::StringArray::from(vec!["t".repeat(9_000)]));
        let batch = arrow_array::RecordBatch::try_from_iter([("t", column)]).unwrap();
        let mut sink = Sink::for_test("s");
        sink.emit_arrow(&batch, 5_000).unwrap();
        assert!(
            matches!(&sink.into_emitted().unwrap()[..], [Emitted::Rejected { reason, .. }] if reason == "record-too-large")
        );
    }
}
