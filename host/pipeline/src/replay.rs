//! Replays: rejected records are tried again, after what was wrong with them was put right.
//!
//! Each page of records is a batch of its own, which holds their rows and what is now known of them in the rejected-records
//! table: a record leaves that table in the very commit that makes a row of it. Rows keep the sequence that their record
//! was given, so that in a table with a key they do not overwrite what came after. Must never move the position.

use std::collections::BTreeMap;

use thimble_engine::shape::Shape;
use thimble_record::{Failure, Rejected, RejectedRow, StreamSchema, WriteMode, decode::Decoded};

use crate::{
    batch::OpenBatch,
    collect::{StreamWork, now_ms},
    commit::Committer,
    part::batch_of,
    portion::{self, Places, Portion},
    request::Replay,
};

/// Rejected records that are read and replayed together.
pub const PAGE: usize = 5_000;

/// One stream whose rejected records are replayed.
pub struct Replayed {
    /// Without hiding: raw records were kept as they are after it.
    pub work: StreamWork,
    /// The operator's choices, to store the stream's schema as it is before hiding.
    pub shape: Shape,
    pub original: StreamSchema,
    /// Records rejected before this batch were read again since, by a full refresh.
    pub first_batch: thimble_record::BatchSeq,
}

/// Figures of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ReplayReport {
    /// Records that became rows.
    pub replayed: u64,
    /// Records that were rejected again.
    pub rejected: u64,
    /// Records that cannot be replayed: cut short, withheld, of an array or of another stream, or read again since.
    pub skipped: u64,
}

/// Replays all rejected records of the streams given, page by page.
pub async fn replay(
    committer: &mut Committer,
    streams: &mut BTreeMap<String, Replayed>,
    request: &Replay,
    open: OpenBatch,
) -> Result<ReplayReport, Failure> {
    let mut report = ReplayReport::default();
    let mut open = open;
    let mut after = None;
    loop {
        let connection = committer.connection.clone();
        let page = committer.destination.rejected(&connection, after.clone(), PAGE).await;
        let page = page.map_err(|error| error.failure())?;
        let Some(last) = page.last() else { return Ok(report) };
        after = Some((last.rejected.stream.clone(), last.sequence));
        let mut moved = false;
        for (stream, rows) in by_stream(page) {
            let Some(replayed) = streams.get_mut(&stream) else {
                report.skipped += rows.len() as u64;
                continue;
            };
            moved |= replay_rows(committer, replayed, rows, request, &mut open, &mut report)?;
        }
        if moved {
            let next = open.following();
            let position = committer.committed.1.clone();
            let closed = std::mem::replace(&mut open, next).close(position.digest(), position, now_ms())?;
            committer.commit(closed).await?;
        }
    }
}

fn by_stream(page: Vec<RejectedRow>) -> BTreeMap<String, Vec<RejectedRow>> {
    let mut streams: BTreeMap<String, Vec<RejectedRow>> = BTreeMap::new();
    for row in page {
        streams.entry(row.rejected.stream.clone()).or_default().push(row);
    }
    streams
}

/// Tries the records of one stream; answers whether any was tried.
fn replay_rows(
    committer: &Committer,
    replayed: &mut Replayed,
    rows: Vec<RejectedRow>,
    request: &Replay,
    open: &mut OpenBatch,
    report: &mut ReplayReport,
) -> Result<bool, Failure> {
    let Replayed { work, shape, original, first_batch } = replayed;
    let wanted = |row: &RejectedRow| request.reasons.is_empty() || request.reasons.contains(&row.rejected.reason);
    let can = |row: &RejectedRow| !row.rejected.truncated && batch_of(row.sequence) >= *first_batch;
    let (rows, rest): (Vec<_>, Vec<_>) = rows.into_iter().filter(wanted).partition(can);
    report.skipped += rest.len() as u64;
    for row in &rows {
        let (portion, settled) = again(committer, work, row)?;
        report.replayed += u64::from(settled.replayed_at.is_some());
        report.rejected += u64::from(settled.replayed_at.is_none());
        work.records += portion.emitted;
        let mut tables = work.tables();
        tables.source = shape.untreated_source(&tables.source, original);
        open.add(&work.target, &tables, portion, now_ms())?;
        open.settle(vec![settled]);
    }
    Ok(!rows.is_empty())
}

/// Decodes one record once more: what is to be written of it, and its row in the rejected-records table.
fn again(committer: &Committer, work: &mut StreamWork, row: &RejectedRow) -> Result<(Portion, RejectedRow), Failure> {
    let raw = row.rejected.raw.as_bytes();
    let decoded: Decoded = work.decoder.json(raw)?;
    let mut portion = portion::shaped(work, decoded, Some(raw), committer.destination.as_ref())?;
    let mut settled = row.clone();
    if let Some(Rejected { reason, message, .. }) = portion.rejected.pop() {
        (settled.rejected.reason, settled.rejected.message) = (reason, message);
        // The record was counted as rejected when it came.
        return Ok((Portion::default(), settled));
    }
    settled.replayed_at = Some(now_ms() * 1_000);
    // A version that comes late is the newest that is known.
    if work.target.mode != WriteMode::History {
        for rows in &mut portion.rows {
            rows.places = Places::Absolute(vec![row.sequence; rows.batch.num_rows()]);
        }
    }
    Ok((portion, settled))
}
