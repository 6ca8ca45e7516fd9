//! The law of conservation, checked before every commit: emitted = loaded + merged + rejected + filtered.

use thimble_record::{Counts, SealedBatch, StreamBatch};

use crate::error::LoadError;

/// The counts of each stream of a batch whose staged rows are all loaded as new rows, in the order of the batch. Also
/// where they are folded when they are read: then nothing is merged by the load.
///
/// # Errors
/// [`LoadError::NotConserved`] with the first stream that does not add up.
pub fn appended_counts(batch: &SealedBatch) -> Result<Vec<Counts>, LoadError> {
    batch.streams.iter().map(appended).collect()
}

fn appended(stream: &StreamBatch) -> Result<Counts, LoadError> {
    let Counts { emitted, loaded: _, merged, rejected, filtered } = stream.counts;
    let counts = Counts { emitted, loaded: stream.staged_rows(), merged, rejected, filtered };
    if counts.conserved() { Ok(counts) } else { Err(LoadError::NotConserved { stream: stream.stream.clone(), counts }) }
}
