//! Records that could not become rows, and the table they go to.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use crate::schema::{DataType, Field, StreamSchema};

/// Name of the table, in every destination, that rejected records go to.
pub const REJECTED_STREAM: &str = "_thimble_rejected";

/// The columns that identify a rejected record.
pub const REJECTED_KEY: [&str; 2] = ["stream", "record_sequence"];

/// Most bytes of a raw record that are kept.
pub const MAX_RAW_BYTES: usize = 64 * 1024;

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The stream it belongs to.
    pub stream: String,
    /// Its place among the records of the batch in which it came, counted from 0 with rows and rejected ones alike;
    /// `None` where the connector itself rejected it.
    pub ordinal: Option<u64>,
    /// A short code in kebab-case.
    pub reason: String,
    /// One sentence: the file and line or the key, and what is wrong.
    pub message: String,
    /// As much of the raw record as fits in [`MAX_RAW_BYTES`].
    pub raw: String,
    /// Whether `raw` is not the whole record, so that it cannot be replayed.
    pub truncated: bool,
}

impl Rejected {
    /// Cuts `raw` to the limit at a character boundary. NUL, which no database takes in a text, becomes U+2400.
    pub fn new(stream: &str, reason: &str, message: impl Into<String>, raw: &str) -> Self {
        let end = raw.floor_char_boundary(MAX_RAW_BYTES);
        let clean = |text: &str| text.replace('\0', "\u{2400}");
        Self {
            stream: stream.into(),
            ordinal: None,
            reason: reason.into(),
            message: clean(&message.into()),
            raw: clean(&raw[..end]),
            truncated: end < raw.len() || raw.contains('\0'),
        }
    }
}

/// A row of the rejected-records table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    pub rejected: Rejected,
    /// The sequence that the record would have had as a row of its stream; with the stream's name, its key.
    pub sequence: i64,
    /// Digest of the connector that sent it.
    pub plugin_digest: String,
    /// Microseconds since the epoch at which a replay made a row of it.
    pub replayed_at: Option<i64>,
}

/// The schema of the rejected-records table, without system columns.
pub fn rejected_schema() -> StreamSchema {
    let field = |name: &str, data_type, nullable| Field { name: name.into(), data_type, nullable };
    StreamSchema::new(vec![
        field("stream", DataType::Text, false),
        field("record_sequence", DataType::Int64, false),
        field("reason", DataType::Text, false),
        field("message", DataType::Text, false),
        field("raw", DataType::Text, false),
        field("truncated", DataType::Boolean, false),
        field("plugin_digest", DataType::Text, false),
        field("replayed_at", DataType::TimestampTz, true),
    ])
}

/// Rows of the rejected-records table, in the schema of [`rejected_schema`].
pub fn rejected_batch(rows: &[RejectedRow]) -> RecordBatch {
    let text =
        |f: fn(&RejectedRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(f))) };
    let replayed = TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.replayed_at)).with_timezone("UTC");
    RecordBatch::try_new(
        rejected_schema().to_arrow(),
        vec![
            text(|row| &row.rejected.stream),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.sequence))),
            text(|row| &row.rejected.reason),
            text(|row| &row.rejected.message),
            text(|row| &row.rejected.raw),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.rejected.truncated)))),
            text(|row| &row.plugin_digest),
            Arc::new(replayed),
        ],
    )
    .expect("eight columns of one length in the table's types")
}
