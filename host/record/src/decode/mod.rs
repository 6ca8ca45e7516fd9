//! Bytes from a connector become Arrow batches of the stream's schema.
//!
//! Owns: what happens when data and schema disagree. New fields become columns, numbers widen on the
//! ladder of [`DataType::widen`], other conflicting values go to a variant column `name__type`, and
//! what cannot be a row at all is handed back as a rejected record. Every record that comes in is
//! accounted for: `emitted = rows + rejected`. Must never do I/O, and never fail a batch for one bad record.

mod arrow;
mod column;
mod json;
mod scalar;

use std::collections::{BTreeSet, HashMap};

use arrow_array::RecordBatch;

use crate::{
    error::{ErrorKind, Failure},
    rejected::Rejected,
    schema::{Field, StreamSchema},
};

/// Most columns that a stream may grow to; a record that asks for more is rejected.
pub const MAX_COLUMNS: usize = 2_000;
/// Longest field name, in bytes; a record with a longer one is rejected.
pub const MAX_NAME_BYTES: usize = 255;
/// Most rows in one batch from a connector.
pub const MAX_BATCH_ROWS: usize = 1_000_000;
/// Most bytes of one record; a larger one is rejected.
pub const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// Prefix of the columns that the host adds; fields of connectors may not use it.
pub const SYSTEM_PREFIX: &str = "_thimble_";

/// Decodes the batches of one stream, and keeps its schema as it grows.
#[derive(Debug)]
pub struct Decoder {
    stream: String,
    schema: StreamSchema,
    index: HashMap<String, usize>,
    selected: Option<BTreeSet<String>>,
}

/// What one batch came to.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows in the stream's schema as it was right after this batch.
    pub batches: Vec<RecordBatch>,
    /// Records that came in: rows and rejected ones.
    pub emitted: u64,
    pub rejected: Vec<Rejected>,
}

impl Decoded {
    /// Rows over all batches.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

impl Decoder {
    /// Starts from the stream's stored schema. `selected` names the fields to keep; `None` keeps all.
    pub fn new(stream: impl Into<String>, schema: StreamSchema, selected: Option<BTreeSet<String>>) -> Self {
        let index = schema.fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect();
        Self { stream: stream.into(), schema, index, selected }
    }

    /// The schema as it has grown so far, without system columns.
    pub fn schema(&self) -> &StreamSchema {
        &self.schema
    }

    /// Decodes a JSON array of objects, or objects one after the other.
    pub fn json(&mut self, bytes: &[u8]) -> Result<Decoded, Failure> {
        json::decode(self, bytes)
    }

    /// Decodes one Arrow IPC stream.
    pub fn arrow(&mut self, bytes: &[u8]) -> Result<Decoded, Failure> {
        arrow::decode(self, bytes)
    }

    fn wants(&self, name: &str) -> bool {
        self.selected.as_ref().is_none_or(|selected| selected.contains(name))
    }

    fn add_field(&mut self, field: Field) -> usize {
        let position = self.schema.fields.len();
        self.index.insert(field.name.clone(), position);
        self.schema.fields.push(field);
        position
    }

    /// Why a new field of this name cannot be added, as (reason code, sentence).
    fn refuse_name(&self, name: &str) -> Option<(&'static str, String)> {
        if name.len() > MAX_NAME_BYTES {
            let shown = &name[..name.floor_char_boundary(60)];
            Some(("name-too-long", format!("the field name `{shown}…` is longer than {MAX_NAME_BYTES} bytes")))
        } else if name.is_empty() {
            Some(("empty-name", "a field has an empty name".to_owned()))
        } else if name.starts_with(SYSTEM_PREFIX) {
            Some(("reserved-name", format!("the field `{name}` uses the reserved prefix `{SYSTEM_PREFIX}`")))
        } else if self.schema.fields.len() >= MAX_COLUMNS {
            Some((
                "too-many-columns",
                format!("the field `{name}` would be column {}, over the limit of {MAX_COLUMNS}", MAX_COLUMNS + 1),
            ))
        } else {
            None
        }
    }

    fn malformed(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(
            ErrorKind::System,
            format!("stream {}: the connector sent a batch that cannot be read: {what}", self.stream),
        )
    }
}
