//! Reads the rejected-records table back, for replays.

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use futures::TryStreamExt;
use thimble_record::{ConnectionId, Rejected, RejectedRow, rejected::REJECTED_STREAM};

use super::Lake;
use crate::error::LoadError;

impl Lake {
    /// See [`Destination::rejected`](crate::Destination::rejected).
    pub(super) async fn rejected_after(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, LoadError> {
        if !self.holds(connection, REJECTED_STREAM).await? {
            return Ok(Vec::new());
        }
        let mut batches = self.scan(connection, REJECTED_STREAM, None).await?.batches;
        let mut found = std::collections::BTreeMap::new();
        while let Some(batch) = batches.try_next().await? {
            for row in rows(&batch) {
                let place = (row.rejected.stream.clone(), row.sequence);
                if row.replayed_at.is_none() && after.as_ref().is_none_or(|after| place > *after) {
                    found.insert(place, row);
                }
            }
            // Only the first ones are wanted, so no more are held.
            while found.len() > limit {
                found.pop_last();
            }
        }
        Ok(found.into_values().collect())
    }
}

fn rows(batch: &RecordBatch) -> Vec<RejectedRow> {
    let text = |name: &str, row: usize| -> String {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.filter(|column| column.is_valid(row)).map_or_else(String::new, |column| column.value(row).to_owned())
    };
    let sequences = batch.column_by_name("record_sequence").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let truncated = batch.column_by_name("truncated").and_then(|column| column.as_boolean_opt());
    let replayed = batch.column_by_name("replayed_at");
    let row = |row: usize| RejectedRow {
        rejected: Rejected {
            stream: text("stream", row),
            ordinal: None,
            reason: text("reason", row),
            message: text("message", row),
            raw: text("raw", row),
            truncated: truncated.is_some_and(|column| column.value(row)),
        },
        sequence: sequences.map_or(0, |column| column.value(row)),
        plugin_digest: text("plugin_digest", row),
        // Only whether it was replayed matters here.
        replayed_at: replayed.filter(|column| column.is_valid(row)).map(|_| 0),
    };
    (0..batch.num_rows()).map(row).collect()
}
