//! PostgreSQL, a real server: how quick loading is. Run alone: `cargo test --release -p thimble-load --test postgres_speed
//! -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::unwrap_used)]

mod base;
#[path = "../../stage/tests/faulty/mod.rs"]
mod faulty;
mod postgres_server;
#[allow(dead_code)]
mod world;

use std::{sync::Arc, time::Instant};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use base::Base;
use bytes::Bytes;
use futures::SinkExt;
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use thimble_load::{
    Destination,
    postgres::{Postgres, PostgresSettings, TlsMode},
};
use thimble_record::{DataType, SegmentRef, StreamBatch, StreamSchema, WriteMode};
use world::{Chain, Staging, append, connection, field};

const ROWS: i64 = 1_000_000;
const SEGMENT_ROWS: i64 = 250_000;

fn wide() -> StreamSchema {
    StreamSchema::new(vec![
        field("id", DataType::Int64),
        field("number", DataType::Int64),
        field("name", DataType::Text),
        field("email", DataType::Text),
        field("title", DataType::Text),
        field("amount", DataType::Decimal(12, 2)),
        field("active", DataType::Boolean),
        field("created", DataType::TimestampTz),
        field("day", DataType::Date),
        field("score", DataType::Float64),
        field("doc", DataType::Json),
        field("note", DataType::Text),
        field("_thimble_sequence", DataType::Int64),
    ])
}

fn wide_rows(ids: impl Iterator<Item = i64> + Clone, sequence: i64) -> RecordBatch {
    let text = |f: &dyn Fn(i64) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(ids.clone().map(f))) };
    let amounts = Decimal128Array::from_iter_values(ids.clone().map(|n| i128::from(n * 7919 % 10_000_000)));
    let notes = ids.clone().map(|n| (n % 3 != 0).then(|| format!("note number {n} of a row")));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(Int64Array::from_iter_values(ids.clone().map(|n| n % 1_000))),
        text(&|n| format!("customer number {n} of the shop")),
        text(&|n| format!("customer.{n}@example{}.com", n % 17)),
        text(&|n| format!("a somewhat longer text that tells about record {n}, {:x}", n.wrapping_mul(2_654_435_761))),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(ids.clone().map(|n| Some(n % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(ids.clone().map(|n| 1_700_000_000_000_000 + n * 1_000_003))
                .with_timezone("UTC"),
        ),
        Arc::new(Date32Array::from_iter_values(ids.clone().map(|n| 19_000 + (n % 1_000) as i32))),
        Arc::new(Float64Array::from_iter_values(ids.clone().map(|n| n as f64 * 0.37))),
        text(&|n| format!("{{\"a\": {n}, \"tags\": [\"x\", \"y\"]}}")),
        Arc::new(notes.collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(ids.map(|n| sequence + n))),
    ];
    RecordBatch::try_new(wide().to_arrow(), columns).unwrap()
}

fn stage(staging: &Staging, number: u32, rows: &RecordBatch) -> SegmentRef {
    let compressed = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), wide().to_arrow(), Some(compressed)).unwrap();
    writer.write(rows).unwrap();
    let segment = staging.stage_bytes(number, &wide(), writer.into_inner().unwrap().into(), rows.num_rows() as u64);
    SegmentRef { checksum: thimble_record::Checksum::of(rows), ..segment }
}

fn million(staging: &Staging) -> Vec<SegmentRef> {
    let segment = |n| stage(staging, n as u32, &wide_rows(n * SEGMENT_ROWS..(n + 1) * SEGMENT_ROWS, 0));
    (0..ROWS / SEGMENT_ROWS).map(segment).collect()
}

fn upsert(segments: Vec<SegmentRef>) -> StreamBatch {
    StreamBatch { mode: WriteMode::Upsert, key: vec!["id".into()], ..append("keyed", segments) }
}

/// Kibibytes of memory: now, or at most since [`forget_peak`].
fn memory(line: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|found| found.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long, and wants a quiet machine"]
async fn loading_is_not_much_slower_than_a_piped_copy() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = Postgres::new(PostgresSettings { tls: TlsMode::Disable, ..base.settings() });
    owner.fence(&connection(), thimble_record::Epoch(1)).await.unwrap();
    for round in 0..3 {
        let batch = chain.seal(vec![append(&format!("t{round}"), million(&staging))]);
        forget_peak();
        let before = memory("VmRSS");
        let began = Instant::now();
        owner.load(&batch, &staging).await.unwrap();
        let loaded = began.elapsed().as_secs_f64();
        let grown = memory("VmHWM") - before;
        let client = base.client().await;
        let target = base.client().await;
        client
            .batch_execute(&format!("create table shop.c{round} (like shop.t{round} including defaults)"))
            .await
            .unwrap();
        let columns = wide().fields.iter().map(|field| format!("\"{}\"", field.name)).collect::<Vec<_>>().join(", ");
        let began = Instant::now();
        let out = format!("copy shop.t{round} ({columns}) to stdout (format binary)");
        let out = client.copy_out(&out).await.unwrap();
        let into = format!("copy shop.c{round} ({columns}) from stdin (format binary)");
        let sink = target.copy_in::<_, Bytes>(&into).await.unwrap();
        futures::pin_mut!(out, sink);
        let mut buffer = bytes::BytesMut::new();
        while let Some(chunk) = futures::StreamExt::next(&mut out).await {
            buffer.extend_from_slice(&chunk.unwrap());
            if buffer.len() > 128 * 1024 {
                sink.feed(buffer.split().freeze()).await.unwrap();
            }
        }
        sink.feed(buffer.freeze()).await.unwrap();
        sink.finish().await.unwrap();
        let piped = began.elapsed().as_secs_f64();
        let rate = |seconds: f64| ROWS as f64 / seconds;
        println!(
            "append: {:.0} rows/s; piped binary COPY {:.0} rows/s; ratio {:.2}; {grown} KiB more memory",
            rate(loaded),
            rate(piped),
            piped / loaded
        );
        base.sql(&format!("drop table shop.c{round}; checkpoint"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long, and wants a quiet machine"]
async fn few_changed_rows_are_merged_quickly() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = Postgres::new(PostgresSettings { tls: TlsMode::Disable, ..base.settings() });
    owner.fence(&connection(), thimble_record::Epoch(1)).await.unwrap();
    let batch = chain.seal(vec![upsert(million(&staging))]);
    let began = Instant::now();
    owner.load(&batch, &staging).await.unwrap();
    println!("first upsert of 1,000,000 rows: {:.2} s", began.elapsed().as_secs_f64());
    let segments = million(&staging).into_iter();
    for (at, segment) in segments.enumerate() {
        let part = StreamBatch { stream: "pieces".into(), ..upsert(vec![segment]) };
        let batch = chain.seal(vec![part]);
        let began = Instant::now();
        owner.load(&batch, &staging).await.unwrap();
        println!("piece {at} of 250,000 new rows: {:.2} s", began.elapsed().as_secs_f64());
    }
    for round in 1..5 {
        let ids = (0..10_000).map(move |n| (n * 97 + round) % (ROWS + 1_000));
        let segment = stage(&staging, 0, &wide_rows(ids, round * 10 * ROWS));
        let batch = chain.seal(vec![upsert(vec![segment])]);
        let began = Instant::now();
        let outcome = owner.load(&batch, &staging).await.unwrap();
        println!("10,000 rows into 1,000,000: {:.3} s, {:?}", began.elapsed().as_secs_f64(), outcome.streams[0]);
    }
    let began = Instant::now();
    let segment = stage(&staging, 0, &wide_rows(0..10, 100 * ROWS));
    owner.load(&chain.seal(vec![upsert(vec![segment])]), &staging).await.unwrap();
    println!("10 rows into 1,000,000: {:.3} s", began.elapsed().as_secs_f64());
}
