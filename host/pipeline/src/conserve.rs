//! The law of conservation, checked on every batch between its steps: no record is lost, invented or changed on the way
//! from extraction to staging to the destination. Pure.

use thimble_record::{Checksum, Counts, Failure, LoadOutcome, SealedBatch, StreamBatch};

/// What was staged is what was extracted. Checked before a batch is sealed.
pub fn staged(part: &StreamBatch) -> Result<(), Failure> {
    let Counts { emitted, rejected, filtered, .. } = part.counts;
    let rows = part.staged_rows();
    if emitted != rows + rejected + filtered {
        return Err(Failure::system(format!(
            "stream {}: {emitted} records were extracted, but {rows} staged + {rejected} rejected + {filtered} filtered; nothing of the batch was sealed",
            part.stream
        )));
    }
    let mut sum = Checksum::default();
    part.segments.iter().for_each(|segment| sum += segment.checksum);
    if sum != part.checksum {
        return Err(Failure::system(format!(
            "stream {}: the rows staged have the checksum {sum}, those extracted {}; nothing of the batch was sealed",
            part.stream, part.checksum
        )));
    }
    Ok(())
}

/// What the destination says it did is what was sealed. The destination checks it before its commit; this is the check of
/// its answer, and keeps the staging where it fails.
pub fn loaded(sealed: &SealedBatch, outcome: &LoadOutcome) -> Result<(), Failure> {
    if outcome.already_committed {
        return Ok(());
    }
    let LoadOutcome { streams, checksums, .. } = outcome;
    let whole = streams.len() == sealed.streams.len() && checksums.len() == sealed.streams.len();
    let parts = sealed.streams.iter().zip(streams).zip(checksums);
    let differs = parts.into_iter().find(|((part, counts), checksum)| {
        let sealed = Counts { loaded: counts.loaded, merged: counts.merged, ..part.counts };
        !counts.conserved() || **counts != sealed || **checksum != part.checksum
    });
    match differs {
        None if whole => Ok(()),
        None => Err(Failure::system(format!("batch {}: the destination answered for other streams", sealed.seq))),
        Some(((part, counts), checksum)) => Err(Failure::system(format!(
            "stream {}, batch {}: the destination loaded {} and merged {} of {} staged rows, with the checksum {checksum} instead of {}; the staging is kept",
            part.stream,
            sealed.seq,
            counts.loaded,
            counts.merged,
            part.staged_rows(),
            part.checksum
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::{BatchSeq, ConnectionId, Epoch, Position, StreamSchema};

    use super::*;

    fn part() -> StreamBatch {
        let counts = Counts { emitted: 1, rejected: 1, ..Counts::default() };
        StreamBatch { counts, ..StreamBatch::new("s", StreamSchema::default()) }
    }

    #[test]
    fn a_record_that_is_neither_staged_nor_rejected_is_missed() {
        staged(&part()).unwrap();
        let mut lost = part();
        lost.counts.emitted = 2;
        assert!(staged(&lost).unwrap_err().message.contains("2 records were extracted, but 0 staged + 1 rejected"));
        let mut changed = part();
        changed.checksum = Checksum(7);
        assert!(staged(&changed).unwrap_err().message.contains("0000000000000007"));
    }

    #[test]
    fn an_answer_that_does_not_add_up_is_not_believed() {
        let sealed = SealedBatch {
            connection: ConnectionId::new("c").unwrap(),
            epoch: Epoch(1),
            seq: BatchSeq(1),
            from: String::new(),
            to: Position::default(),
            streams: vec![part()],
        };
        let right = LoadOutcome {
            streams: vec![part().counts],
            checksums: vec![Checksum::default()],
            already_committed: false,
            bytes: 0,
        };
        loaded(&sealed, &right).unwrap();
        let more = Counts { loaded: 1, ..part().counts };
        assert!(loaded(&sealed, &LoadOutcome { streams: vec![more], ..right.clone() }).is_err());
        assert!(loaded(&sealed, &LoadOutcome { checksums: vec![Checksum(1)], ..right.clone() }).is_err());
        assert!(loaded(&sealed, &LoadOutcome { checksums: vec![], ..right.clone() }).is_err());
        let before = LoadOutcome { already_committed: true, checksums: vec![], ..right };
        loaded(&sealed, &before).unwrap();
    }
}
