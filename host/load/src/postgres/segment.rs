//! Segments: fetched into memory, verified against what was sealed, and turned into the bytes of a COPY off the async
//! threads. Plaintext never touches a disk here.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};
use thimble_record::{Checksum, DataType, SealedBatch, SegmentRef, StreamBatch};
use tokio::sync::mpsc;

use super::{
    encode::{HEADER, Rows, TRAILER},
    refuse,
};
use crate::{
    destination::SegmentSource,
    error::LoadError,
    limits::{COPY_CHUNK_BYTES, DECODE_ROWS, SEGMENT_BYTES},
};

/// A verified segment.
pub(super) struct Segment {
    stream: String,
    path: String,
    rows: u64,
    plain: Bytes,
}

impl Segment {
    /// Fetches a segment and compares it with what was sealed.
    pub(super) async fn fetch(
        batch: &SealedBatch,
        part: &StreamBatch,
        segment: &SegmentRef,
        segments: &dyn SegmentSource,
    ) -> Result<Self, LoadError> {
        let corrupt = |reason: String| corrupt(&part.stream, &segment.path, reason);
        if segment.plain_bytes > SEGMENT_BYTES {
            return Err(corrupt(format!("it has {} bytes, more than {SEGMENT_BYTES}", segment.plain_bytes)));
        }
        let mut source = segments.open(batch, part, segment).await?;
        let mut plain = BytesMut::with_capacity(segment.plain_bytes as usize);
        let mut digest = Sha256::new();
        while let Some(piece) = source.next().await {
            let piece = piece?;
            if (plain.len() + piece.len()) as u64 > segment.plain_bytes {
                return Err(corrupt(format!("it goes on after {} bytes", segment.plain_bytes)));
            }
            digest.update(&piece);
            plain.extend_from_slice(&piece);
        }
        if plain.len() as u64 != segment.plain_bytes {
            return Err(corrupt(format!("it ends after {} of {} bytes", plain.len(), segment.plain_bytes)));
        }
        if hex::encode(digest.finalize()) != segment.plain_sha256 {
            return Err(corrupt("its digest is another one".into()));
        }
        Ok(Self { stream: part.stream.clone(), path: segment.path.clone(), rows: segment.rows, plain: plain.freeze() })
    }

    /// Encodes its rows and hands them out in chunks, a whole COPY in all. Blocks. Returns the rows' checksum.
    ///
    /// Stops early, without an error, when nobody takes the chunks any more.
    pub(super) fn encode(self, columns: &[Target], chunks: &mpsc::Sender<Bytes>) -> Result<Checksum, LoadError> {
        let Self { stream, path, rows, plain } = self;
        let corrupt = |reason: String| corrupt(&stream, &path, reason);
        let reader = ParquetRecordBatchReaderBuilder::try_new(plain)
            .map_err(|error| corrupt(format!("its Parquet footer cannot be read: {error}")))?;
        let told = reader.metadata().file_metadata().num_rows();
        if u64::try_from(told) != Ok(rows) {
            return Err(corrupt(format!("it holds {told} rows instead of {rows}")));
        }
        let reader = reader
            .with_batch_size(DECODE_ROWS)
            .build()
            .map_err(|error| corrupt(format!("it cannot be read: {error}")))?;
        let types: Vec<DataType> = columns.iter().map(|column| column.sent_as).collect();
        let mut checksum = Checksum::default();
        let mut seen = 0;
        let mut out = Vec::with_capacity(COPY_CHUNK_BYTES + COPY_CHUNK_BYTES / 4);
        out.extend_from_slice(HEADER);
        for batch in reader {
            let batch = batch.map_err(|error| corrupt(format!("it cannot be read: {error}")))?;
            checksum += Checksum::of(&batch);
            seen += batch.num_rows() as u64;
            let batch = arrange(&batch, columns).map_err(corrupt)?;
            let rows = Rows::new(&batch, &types)
                .map_err(|at| corrupt(format!("its column {:?} has another type", columns[at].field)))?;
            for row in 0..batch.num_rows() {
                rows.encode(row, &mut out);
                if out.len() >= COPY_CHUNK_BYTES {
                    let full = std::mem::replace(&mut out, Vec::with_capacity(COPY_CHUNK_BYTES + COPY_CHUNK_BYTES / 4));
                    if chunks.blocking_send(full.into()).is_err() {
                        return Ok(checksum);
                    }
                }
            }
        }
        if seen != rows {
            return Err(corrupt(format!("{seen} rows came out of it instead of {rows}")));
        }
        out.extend_from_slice(&TRAILER);
        // Whoever takes the chunks knows better why it stopped.
        chunks.blocking_send(out.into()).ok();
        Ok(checksum)
    }
}

/// A column that a segment's rows are sent to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The field in the segment.
    pub(super) field: String,
    /// The column's name.
    pub(super) column: String,
    /// The type that its values are sent as, the segment's or a wider one.
    pub(super) sent_as: DataType,
    /// Whether its text says what was rejected, and so may hold what the server does not take.
    pub(super) shown: bool,
}

/// The columns in the order and the types that they are sent in.
fn arrange(batch: &RecordBatch, columns: &[Target]) -> Result<RecordBatch, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let arrange = |target: &Target| -> Result<(String, ArrayRef), String> {
        let column = batch.column_by_name(&target.field).ok_or(format!("it has no column {:?}", target.field))?;
        let wanted = target.sent_as.to_arrow();
        let column = if *column.data_type() == wanted {
            Arc::clone(column)
        } else {
            cast_with_options(column, &wanted, &strict)
                .map_err(|_| format!("a value of its column {:?} does not fit the table's", target.field))?
        };
        let column = if target.shown { refuse::without_nul(&column) } else { column };
        Ok((target.column.clone(), column))
    };
    let columns = columns.iter().map(arrange).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())
}

pub(super) fn corrupt(stream: &str, segment: &str, reason: String) -> LoadError {
    LoadError::CorruptSegment { stream: stream.to_owned(), segment: segment.to_owned(), reason }
}
