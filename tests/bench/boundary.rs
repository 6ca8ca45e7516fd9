//! Rows from a guest to the host, as Arrow and as JSON lines, with and without decoding on the host.

use std::{
    hint::black_box,
    io::Cursor,
    sync::{Arc, Mutex},
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;
use thimble_plugin::{RawBatch, ReadRequest, RecordSink, StreamState};
use thimble_record::{
    Failure, Rejected, ReplicationMethod, StreamSchema,
    decode::{DecodeOptions, Decoder},
};

use crate::{Figure, guest::Guest, median, process::Fallible};

/// Counts bytes; decodes them where it has a decoder; keeps them where it has a place.
struct Counting {
    decoder: Option<Mutex<Decoder>>,
    kept: Option<Mutex<Vec<RawBatch>>>,
    rows: Mutex<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

#[async_trait]
impl RecordSink for Counting {
    async fn emit(&self, _stream: &str, batch: RawBatch) -> Result<(), Failure> {
        if let Some(decoder) = &self.decoder {
            let decoded = match &batch {
                RawBatch::ArrowIpc(bytes) => locked(decoder).arrow(bytes)?,
                RawBatch::Json(bytes) => locked(decoder).json(bytes)?,
            };
            *locked(&self.rows) += decoded.rows();
            black_box(decoded);
        }
        if let Some(kept) = &self.kept {
            locked(kept).push(batch);
        }
        Ok(())
    }

    async fn reject(&self, _stream: &str, _records: Vec<Rejected>) -> Result<(), Failure> {
        Err(Failure::system("the bench rejects nothing"))
    }

    async fn checkpoint(&self, _stream: &str, _state: String) -> Result<(), Failure> {
        Ok(())
    }
}

impl Guest {
    async fn read(&self, stream: &str, decode: bool, keep: bool) -> Fallible<(f64, Counting)> {
        let catalog = self.connector.discover(&self.session).await?;
        let stream = catalog.stream(stream).ok_or("the bench connector lacks a stream")?.clone();
        let method = ReplicationMethod::FullTable;
        let plan = self.connector.plan(&self.session, &stream, method, StreamState::default()).await?;
        let partition = plan.partitions.into_iter().next().ok_or("the bench connector planned nothing")?;
        let sink = Arc::new(Counting {
            decoder: decode
                .then(|| Mutex::new(Decoder::new(&stream.name, StreamSchema::default(), DecodeOptions::default()))),
            kept: keep.then(Mutex::default),
            rows: Mutex::default(),
        });
        let request = ReadRequest { stream, method, selected: Vec::new(), partition, state: None };
        let started = Instant::now();
        self.connector.read(&self.session, request, Arc::clone(&sink) as Arc<dyn RecordSink>).await?;
        let elapsed = started.elapsed().as_secs_f64();
        Ok((elapsed, Arc::into_inner(sink).ok_or("the guest kept its sink")?))
    }
}

/// Measures the boundary. Floors: copying the same bytes, parsing the same text, encoding the same rows.
pub fn measure(rows: u64, runs: usize) -> Fallible<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    runtime.block_on(async {
        let guest = Guest::open("bench.wasm", &json!({"rows": rows}), Vec::new(), folder.path()).await?;
        let mut rates = [const { Vec::new() }; 4];
        for _ in 0..runs {
            for (rates, (stream, decode)) in rates.iter_mut().zip([
                ("rows_arrow", false),
                ("rows_arrow", true),
                ("rows_json", false),
                ("rows_json", true),
            ]) {
                let (elapsed, sink) = guest.read(stream, decode, false).await?;
                if decode && *locked(&sink.rows) != rows {
                    return Err("rows were lost at the boundary".into());
                }
                rates.push(rows as f64 / elapsed);
            }
        }
        let [arrow, arrow_decoded, json, json_decoded] = rates.map(median);
        let (copied, encoded) = arrow_floors(&guest, rows).await?;
        let parsed = json_floor(&guest, rows).await?;
        let unit = "rows/s";
        Ok(vec![
            Figure {
                what: "boundary, Arrow, guest builds",
                value: arrow,
                unit,
                floor: Some((copied, "memcpy")),
                target: None,
            },
            Figure {
                what: "boundary, Arrow, host decodes",
                value: arrow_decoded,
                unit,
                floor: Some((encoded, "Parquet writer, zstd 1")),
                target: Some((">=", 8e6)),
            },
            Figure { what: "boundary, JSON lines, guest builds", value: json, unit, floor: None, target: None },
            Figure {
                what: "boundary, JSON lines, host decodes",
                value: json_decoded,
                unit,
                floor: Some((parsed, "serde_json to Value")),
                target: None,
            },
        ])
    })
}

/// Copying the emitted bytes, and writing the decoded rows as Parquet, both in rows per second.
async fn arrow_floors(guest: &Guest, rows: u64) -> Fallible<(f64, f64)> {
    let (_, sink) = guest.read("rows_arrow", false, true).await?;
    let kept = sink.kept.map(|kept| kept.into_inner().expect("no holder of this lock panics")).unwrap_or_default();
    let bytes: Vec<Bytes> = kept.into_iter().map(|(RawBatch::ArrowIpc(bytes) | RawBatch::Json(bytes))| bytes).collect();
    let started = Instant::now();
    for batch in &bytes {
        black_box(batch.to_vec());
    }
    let copied = rows as f64 / started.elapsed().as_secs_f64();
    let mut decoder = Decoder::new("rows_arrow", StreamSchema::default(), DecodeOptions::default());
    let mut batches = Vec::new();
    for batch in &bytes {
        batches.extend(decoder.arrow(batch)?.batches);
    }
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let started = Instant::now();
    let mut writer = ArrowWriter::try_new(Cursor::new(Vec::new()), batches[0].schema(), Some(properties))?;
    for batch in &batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok((copied, rows as f64 / started.elapsed().as_secs_f64()))
}

/// Parsing the emitted lines to `serde_json::Value`, in rows per second.
async fn json_floor(guest: &Guest, rows: u64) -> Fallible<f64> {
    let (_, sink) = guest.read("rows_json", false, true).await?;
    let kept = sink.kept.map(|kept| kept.into_inner().expect("no holder of this lock panics")).unwrap_or_default();
    let started = Instant::now();
    for RawBatch::Json(bytes) | RawBatch::ArrowIpc(bytes) in &kept {
        for value in serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>() {
            black_box(value?);
        }
    }
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}
