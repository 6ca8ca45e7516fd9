//! Records that could not become rows, and the table they go to.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};

use crate::schema::{DataType, Field, StreamSchema};

/// Name of the table, in every destination, that rejected records go to.
pub const REJECTED_STREAM: &str = "_thimble_rejected";

/// Most bytes of a raw record that are kept.
pub const MAX_RAW_BYTES: usize = 64 * 1024;

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The stream it belongs to.
    pub stream: String,
    /// A short code in kebab-case.
    pub reason: String,
    /// One sentence: the file and line or the key, and what is wrong.
    pub message: String,
    /// As much of the raw record as fits in [`MAX_RAW_BYTES`].
    pub raw: String,
}

impl Rejected {
    /// Cuts `raw` to the limit at a character boundary.
    pub fn new(stream: &str, reason: &str, message: impl Into<String>, raw: &str) -> Self {
        let end = raw.floor_char_boundary(MAX_RAW_BYTES);
        Self { stream: stream.into(), reason: reason.into(), message: message.into(), raw: raw[..end].into() }
    }
}

/// The schema of the rejected-records table, without system columns.
pub fn rejected_schema() -> StreamSchema {
    let text = |name: &str| Field { name: name.into(), data_type: DataType::Text, nullable: false };
    StreamSchema { fields: vec![text("stream"), text("reason"), text("message"), text("raw"), text("plugin_digest")] }
}

/// Rows of the rejected-records table.
pub fn rejected_batch(records: &[Rejected], plugin_digest: &str) -> RecordBatch {
    let column =
        |f: fn(&Rejected) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(records.iter().map(f))) };
    let digests: ArrayRef = Arc::new(StringArray::from_iter_values(records.iter().map(|_| plugin_digest)));
    RecordBatch::try_new(
        rejected_schema().to_arrow(),
        vec![column(|r| &r.stream), column(|r| &r.reason), column(|r| &r.message), column(|r| &r.raw), digests],
    )
    .expect("five text columns of one length")
}
