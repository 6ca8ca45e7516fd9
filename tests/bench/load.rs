//! Loading alone: staged segments into a real PostgreSQL, beside a binary COPY of the same rows.

use std::{sync::Arc, time::Instant};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, stream::BoxStream};
use thimble_fixtures::postgres::{Options, PASSWORD, Postgres as Server};
use thimble_load::{
    Destination, SegmentSource,
    postgres::{Password, Postgres, PostgresSettings},
};
use thimble_record::{
    BatchSeq, Checksum, ConnectionId, Counts, DataType, Epoch, Failure, Field, Position, SealedBatch, SegmentRef,
    StreamBatch, StreamPosition, StreamSchema, WriteMode, envelope::HostKey,
};
use thimble_stage::{SegmentId, Stage};

use crate::{
    Figure, median,
    process::{Fallible, memory_mib},
};

const STREAM: &str = "orders";
/// Rows of one record batch, and of one staged batch: what a cut by 64 MiB comes to.
const CHUNK: usize = 8_192;
const BATCH: u64 = 250_000;
const CHANGED: u64 = 10_000;

fn schema() -> StreamSchema {
    let field = |name: &str, data_type| Field { name: name.into(), data_type, nullable: true };
    StreamSchema::new(vec![
        field("id", DataType::Int64),
        field("customer_id", DataType::Int64),
        field("name", DataType::Text),
        field("email", DataType::Text),
        field("address", DataType::Text),
        field("amount", DataType::Decimal(12, 2)),
        field("paid", DataType::Boolean),
        field("created_at", DataType::TimestampTz),
        field("day", DataType::Date),
        field("score", DataType::Float64),
        field("details", DataType::Json),
        field("note", DataType::Text),
        field("_thimble_batch", DataType::Int64),
        field("_thimble_sequence", DataType::Int64),
    ])
}

/// Rows of the ids given, as of `version`.
fn rows(ids: &[i64], version: i64) -> RecordBatch {
    let text = |f: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| f(*id))))
    };
    let int =
        |f: &dyn Fn(i64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| f(*id)))) };
    let amount = Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(id * 37 % 10_000_000)));
    let note = StringArray::from_iter(ids.iter().map(|id| (id % 3 == 0).then(|| format!("a note about order {id}"))));
    let at = TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| 1_700_000_000_000_000 + id * 1_003));
    #[allow(clippy::cast_precision_loss, reason = "any doubles do")]
    let score = Float64Array::from_iter_values(ids.iter().map(|id| *id as f64 / 7.0));
    let columns: Vec<ArrayRef> = vec![
        int(&|id| id),
        int(&|id| id % 5_000),
        text(&|id| format!("customer number {id} as of {version}")),
        text(&|id| format!("customer-{id}@example.org")),
        text(&|id| format!("{} example street, entrance {}, city {}", id % 400, id % 9, id % 77)),
        Arc::new(amount.with_precision_and_scale(12, 2).expect("ten million cents have nine digits")),
        Arc::new(BooleanArray::from_iter(ids.iter().map(|id| Some(id % 2 == 0)))),
        Arc::new(at.with_timezone("UTC")),
        Arc::new(Date32Array::from_iter_values(ids.iter().map(|id| i32::try_from(id % 20_000).unwrap_or(0)))),
        Arc::new(score),
        text(&|id| format!("{{\"source\":\"web\",\"items\":{}}}", id % 12)),
        Arc::new(note),
        int(&|_| version),
        int(&|id| version << 32 | id),
    ];
    RecordBatch::try_new(schema().to_arrow(), columns).expect("the columns are those of the schema")
}

struct Staged(Stage);

#[async_trait]
impl SegmentSource for Staged {
    async fn open(
        &self,
        batch: &SealedBatch,
        stream: &StreamBatch,
        segment: &SegmentRef,
    ) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
        let bytes = self.0.open_segment(&batch.connection, batch.epoch, batch.seq, &stream.stream, segment).await;
        Ok(bytes.map_err(|error| error.failure())?.map(|chunk| chunk.map_err(|error| error.failure())).boxed())
    }
}

/// Stages batches one after the other, as the pipeline does.
struct Source {
    staged: Staged,
    connection: ConnectionId,
    seq: BatchSeq,
    position: Position,
}

impl Source {
    async fn batch(&mut self, ids: &[i64]) -> Fallible<SealedBatch> {
        let seq = self.seq.next();
        let version = i64::try_from(seq.0)?;
        let id =
            SegmentId { connection: self.connection.clone(), epoch: Epoch(1), seq, stream: STREAM.into(), number: 0 };
        let mut writer = self.staged.0.writer(id, &schema())?;
        let mut checksum = Checksum::default();
        for ids in ids.chunks(CHUNK) {
            let rows = rows(ids, version);
            checksum += Checksum::of(&rows);
            writer.write(&rows)?;
        }
        let segment = self.staged.0.put(writer.finish()?).await?;
        let from = self.position.digest();
        let stream = StreamPosition { completed: Some(seq.to_string()), ..StreamPosition::default() };
        self.position.streams.insert(STREAM.into(), stream);
        self.seq = seq;
        let part = StreamBatch {
            mode: WriteMode::Upsert,
            key: vec!["id".into()],
            counts: Counts { emitted: ids.len() as u64, ..Counts::default() },
            checksum,
            segments: vec![segment],
            ..StreamBatch::new(STREAM, schema())
        };
        Ok(SealedBatch {
            connection: self.connection.clone(),
            epoch: Epoch(1),
            seq,
            from,
            to: self.position.clone(),
            streams: vec![part],
        })
    }
}

struct Measured {
    load: f64,
    copy: f64,
    merge: f64,
}

/// Loads `total` rows into an empty database, copies them once more as they are, then merges changes into them.
async fn once(server: &Server, name: &str, total: u64) -> Fallible<Measured> {
    server.create_database(name).await?;
    let folder = tempfile::tempdir()?;
    let url = format!("file://{}", folder.path().display());
    let stage = Stage::open(&url, &std::collections::BTreeMap::new(), HostKey::generate()?)?;
    let connection = ConnectionId::new("bench")?;
    let mut source = Source {
        staged: Staged(stage),
        connection: connection.clone(),
        seq: BatchSeq(0),
        position: Position::default(),
    };
    let settings = PostgresSettings::from_url(&server.url(name), Some(Password::new(PASSWORD)))?;
    let destination = Postgres::new(settings).for_owner();
    destination.fence(&connection, Epoch(1)).await?;
    let mut load = 0.0;
    for first in (0..total).step_by(usize::try_from(BATCH)?) {
        let ids: Vec<i64> = (first..(first + BATCH).min(total)).map(|id| i64::try_from(id).unwrap_or(0)).collect();
        let batch = source.batch(&ids).await?;
        let started = Instant::now();
        destination.load(&batch, &source.staged).await?;
        load += started.elapsed().as_secs_f64();
    }
    let copy = copy(server, name).await?;
    let step = total / CHANGED;
    let changed: Vec<i64> = (0..CHANGED).map(|at| i64::try_from(at * step).unwrap_or(0)).collect();
    let batch = source.batch(&changed).await?;
    let started = Instant::now();
    let outcome = destination.load(&batch, &source.staged).await?;
    let merge = started.elapsed().as_secs_f64();
    if outcome.streams[0].merged != CHANGED {
        return Err(format!("{:?} instead of {CHANGED} merged rows", outcome.streams[0]).into());
    }
    Ok(Measured { load, copy, merge })
}

/// The floor: the same rows through a binary COPY into a table with the same key, from memory.
async fn copy(server: &Server, name: &str) -> Fallible<f64> {
    let mut config: tokio_postgres::Config = server.url(name).parse()?;
    let (client, connection) = config.password(PASSWORD).connect(tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    client.batch_execute("create table floor (like bench.orders including all)").await?;
    let out = client.copy_out("copy bench.orders to stdout (format binary)").await?;
    let chunks: Vec<Bytes> = out.try_collect().await?;
    let started = Instant::now();
    let sink = client.copy_in("copy floor from stdin (format binary)").await?;
    futures::pin_mut!(sink);
    let mut buffer = bytes::BytesMut::with_capacity(1 << 17);
    for chunk in chunks {
        buffer.extend_from_slice(&chunk);
        if buffer.len() >= 1 << 16 {
            sink.send(buffer.split().freeze()).await?;
        }
    }
    sink.send(buffer.freeze()).await?;
    sink.as_mut().finish().await?;
    let elapsed = started.elapsed().as_secs_f64();
    client.batch_execute("drop table floor").await?;
    drop(client);
    driver.await??;
    Ok(elapsed)
}

/// Staged segments → PostgreSQL, and changes merged into them. Floor: a binary COPY of the same rows.
pub fn postgres(total: u64, runs: usize) -> Fallible<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let measured: Vec<Measured> = runtime.block_on(async {
        let server = Server::start(Options::default()).await?;
        let mut measured = Vec::new();
        for run in 0..runs {
            measured.push(once(&server, &format!("bench{run}"), total).await?);
        }
        Ok::<_, Box<dyn std::error::Error>>(measured)
    })?;
    let own = memory_mib(std::process::id(), "VmHWM");
    println!("loading: this process, staging and the rows of the floor included, peaked at {own:.0?} MiB");
    #[allow(clippy::cast_precision_loss, reason = "row counts fit a double")]
    let rate = |seconds: f64| total as f64 / seconds;
    let ratio = median(measured.iter().map(|m| m.copy / m.load).collect());
    Ok(vec![
        Figure {
            what: "staged segments → PostgreSQL, 14 columns, with a key",
            value: median(measured.iter().map(|m| rate(m.load)).collect()),
            unit: "rows/s",
            floor: Some((median(measured.iter().map(|m| rate(m.copy)).collect()), "binary COPY of the same rows")),
            target: None,
        },
        Figure {
            what: "the same, as a share of the COPY in the same run",
            value: ratio * 100.0,
            unit: "%",
            floor: None,
            target: Some((">=", 60.0)),
        },
        Figure {
            what: "10,000 changed rows merged into them",
            value: median(measured.iter().map(|m| m.merge).collect()),
            unit: "s",
            floor: None,
            target: Some(("<=", 0.4)),
        },
    ])
}
