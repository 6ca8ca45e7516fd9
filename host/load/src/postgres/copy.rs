//! Copies the segments of a part into a table, one binary COPY each: decoding and encoding run on a blocking thread while
//! the server writes.

use bytes::Bytes;
use futures::SinkExt;
use thimble_record::{Checksum, SealedBatch, SegmentRef, StreamBatch};
use tokio::sync::mpsc;

use super::{
    client::Session,
    segment::{self, Segment, Target},
    table::{self, Table},
};
use crate::{
    destination::SegmentSource,
    error::LoadError,
    limits::{COPY_CHUNKS_AHEAD, FETCH_AHEAD_BYTES},
};

/// What was copied.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Copied {
    /// By the server's count.
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
}

/// Copies all segments of a part into `into`, a table in SQL with the columns of `table`.
pub(super) async fn copy(
    session: &Session,
    batch: &SealedBatch,
    part: &StreamBatch,
    segments: &dyn SegmentSource,
    table: &Table,
    into: &str,
) -> Result<Copied, LoadError> {
    let mut total = Copied::default();
    let mut fetched: Option<Segment> = None;
    for (at, reference) in part.segments.iter().enumerate() {
        let segment = match fetched.take() {
            Some(segment) => segment,
            None => Segment::fetch(batch, part, reference, segments).await?,
        };
        let small = |next: &&SegmentRef| next.plain_bytes + reference.plain_bytes <= FETCH_AHEAD_BYTES;
        let next = part.segments.get(at + 1).filter(small);
        let ahead = async {
            match next {
                Some(next) => Segment::fetch(batch, part, next, segments).await.map(Some),
                None => Ok(None),
            }
        };
        let corrupt = |reason| segment::corrupt(&part.stream, &reference.path, reason);
        let targets = table.targets(&reference.schema.fields).map_err(corrupt)?;
        let (copied, next) = futures::join!(send(session, segment, targets, into), ahead);
        let copied = copied?;
        fetched = next?;
        if copied.rows != reference.rows {
            let source = format!("it took {} rows instead of {}", copied.rows, reference.rows).into();
            return Err(LoadError::Failed { action: "copy rows into", object: table.sql.clone(), source });
        }
        total.rows += copied.rows;
        total.bytes += copied.bytes;
        total.checksum += copied.checksum;
    }
    if total.checksum != part.checksum {
        let (sealed, loaded) = (part.checksum, total.checksum);
        return Err(LoadError::ChecksumMismatch { stream: part.stream.clone(), sealed, loaded });
    }
    Ok(total)
}

async fn send(session: &Session, segment: Segment, targets: Vec<Target>, into: &str) -> Result<Copied, LoadError> {
    let failed = |error: tokio_postgres::Error| session.failed("copy rows into", into, &error);
    let columns = table::list(targets.iter().map(|target| target.column.as_str()), "");
    let sql = format!("copy {into} ({columns}) from stdin (format binary)");
    let sink = session.client.copy_in::<_, Bytes>(&sql).await.map_err(failed)?;
    let mut sink = std::pin::pin!(sink);
    let (sender, mut chunks) = mpsc::channel::<Bytes>(COPY_CHUNKS_AHEAD);
    let encoding = tokio::task::spawn_blocking(move || segment.encode(&targets, &sender));
    let (mut bytes, mut broken) = (0, None);
    while let Some(chunk) = chunks.recv().await {
        bytes += chunk.len() as u64;
        if let Err(error) = sink.feed(chunk).await {
            broken = Some(error);
            break;
        }
    }
    drop(chunks);
    let encoded = encoding.await.map_err(|error| LoadError::Failed {
        action: "encode rows for",
        object: into.to_owned(),
        source: error.into(),
    })?;
    // An encoder's error ends the COPY unfinished, by dropping the sink.
    let checksum = encoded?;
    if let Some(error) = broken {
        return Err(failed(error));
    }
    let rows = sink.finish().await.map_err(failed)?;
    Ok(Copied { rows, bytes, checksum })
}
