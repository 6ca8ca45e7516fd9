//! Rows that the database cannot hold.
use crate::destination::Refusal;
use arrow_array::RecordBatch;
use thimble_record::StreamSchema;

pub(super) fn refuse(_schema: &StreamSchema, _rows: &RecordBatch) -> Vec<Refusal> {
    Vec::new()
}
