//! Loading alone: staged segments into a real PostgreSQL, beside a binary COPY of the same rows.
//!
//! A child process loads what this one has staged, so that its memory is that of loading and nothing else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
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
    process::{Fallible, wait},
};

/// Rows are only added to the one, and merged into the other.
const ADDED: &str = "orders";
const MERGED: &str = "orders_by_id";
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

/// What the child is to load, and how it reaches staging and database.
#[derive(Serialize, Deserialize)]
struct Work {
    url: String,
    staging: PathBuf,
    key: String,
    batches: Vec<SealedBatch>,
}

fn stage(folder: &Path, key: HostKey) -> Fallible<Stage> {
    Ok(Stage::open(&format!("file://{}", folder.display()), &BTreeMap::new(), key)?)
}

/// The child: loads the batches in `file`, and prints the seconds that each took.
pub fn child(file: &Path) -> Fallible<()> {
    let Work { url, staging, key, batches } = serde_json::from_slice(&std::fs::read(file)?)?;
    let staged = Staged(stage(&staging, HostKey::from_hex(&key)?)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let seconds: Vec<f64> = runtime.block_on(async {
        let destination = Postgres::new(PostgresSettings::from_url(&url, Some(Password::new(PASSWORD)))?).for_owner();
        let connection = batches[0].connection.clone();
        destination.fence(&connection, Epoch(1)).await?;
        let mut seconds = Vec::new();
        for batch in &batches {
            let started = Instant::now();
            destination.load(batch, &staged).await?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        Ok::<_, Box<dyn std::error::Error>>(seconds)
    })?;
    println!("{}", serde_json::to_string(&seconds)?);
    Ok(())
}

/// Stages batches one after the other, as the pipeline does.
struct Source {
    stage: Stage,
    connection: ConnectionId,
    batches: Vec<SealedBatch>,
    position: Position,
}

impl Source {
    async fn batch(&mut self, stream: &str, mode: WriteMode, ids: &[i64]) -> Fallible<()> {
        let seq = BatchSeq(self.batches.len() as u64 + 1);
        let version = i64::try_from(seq.0)?;
        let connection = self.connection.clone();
        let id = SegmentId { connection: connection.clone(), epoch: Epoch(1), seq, stream: stream.into(), number: 0 };
        let mut writer = self.stage.writer(id, &schema())?;
        let mut checksum = Checksum::default();
        for ids in ids.chunks(CHUNK) {
            let rows = rows(ids, version);
            checksum += Checksum::of(&rows);
            writer.write(&rows)?;
        }
        let segment = self.stage.put(writer.finish()?).await?;
        let from = self.position.digest();
        let position = StreamPosition { completed: Some(seq.to_string()), ..StreamPosition::default() };
        self.position.streams.insert(stream.into(), position);
        let part = StreamBatch {
            mode,
            key: vec!["id".into()],
            counts: Counts { emitted: ids.len() as u64, ..Counts::default() },
            checksum,
            segments: vec![segment],
            ..StreamBatch::new(stream, schema())
        };
        let (to, streams) = (self.position.clone(), vec![part]);
        self.batches.push(SealedBatch { connection, epoch: Epoch(1), seq, from, to, streams });
        Ok(())
    }

    /// All rows in batches of the usual size. Answers how many batches.
    async fn all(&mut self, stream: &str, mode: WriteMode, total: u64) -> Fallible<usize> {
        let before = self.batches.len();
        for first in (0..total).step_by(usize::try_from(BATCH)?) {
            let ids: Vec<i64> = (first..(first + BATCH).min(total)).map(|id| i64::try_from(id).unwrap_or(0)).collect();
            self.batch(stream, mode, &ids).await?;
        }
        Ok(self.batches.len() - before)
    }
}

struct Measured {
    add: f64,
    merge_new: f64,
    merge_changed: f64,
    copy: f64,
    peak_mib: f64,
}

/// Loads `total` rows into an empty table, then into one with a key, then changes into that; and copies the rows once more
/// as they are.
async fn once(server: &Server, name: &str, total: u64) -> Fallible<Measured> {
    server.create_database(name).await?;
    let folder = tempfile::tempdir()?;
    let key = HostKey::generate()?;
    let hex = key.expose_hex();
    let mut source = Source {
        stage: stage(folder.path(), key)?,
        connection: ConnectionId::new("bench")?,
        batches: Vec::new(),
        position: Position::default(),
    };
    let added = source.all(ADDED, WriteMode::Append, total).await?;
    let merged = source.all(MERGED, WriteMode::Upsert, total).await?;
    let step = total / CHANGED;
    let changed: Vec<i64> = (0..CHANGED).map(|at| i64::try_from(at * step).unwrap_or(0)).collect();
    source.batch(MERGED, WriteMode::Upsert, &changed).await?;
    let work = Work { url: server.url(name), staging: folder.path().to_owned(), key: hex, batches: source.batches };
    let file = folder.path().join("work.json");
    std::fs::write(&file, serde_json::to_vec(&work)?)?;
    let mut child =
        Command::new(std::env::current_exe()?).arg("--load-child").arg(&file).stdout(Stdio::piped()).spawn()?;
    let (status, peak_mib) = wait(&mut child)?;
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().ok_or("no standard output")?, &mut printed)?;
    if !status.success() {
        return Err(format!("loading ended with {status}").into());
    }
    let seconds: Vec<f64> = serde_json::from_str(&printed)?;
    let (add, rest) = seconds.split_at(added);
    let (merge_new, changed) = rest.split_at(merged);
    let copy = copy(server, name).await?;
    Ok(Measured { add: add.iter().sum(), merge_new: merge_new.iter().sum(), merge_changed: changed[0], copy, peak_mib })
}

/// The floor: the same rows through a binary COPY into an empty table, from memory.
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
    drop(client);
    driver.await??;
    Ok(elapsed)
}

/// Staged segments → PostgreSQL, and changes merged into them. Floor: a binary COPY of the same rows.
pub fn postgres(total: u64, runs: usize) -> Fallible<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let (measured, quarter) = runtime.block_on(async {
        let server = Server::start(Options::default()).await?;
        let mut measured = Vec::new();
        for run in 0..runs {
            measured.push(once(&server, &format!("bench{run}"), total).await?);
        }
        let quarter = once(&server, "quarter", total / 4).await?;
        Ok::<_, Box<dyn std::error::Error>>((measured, quarter))
    })?;
    let of = |f: fn(&Measured) -> f64| median(measured.iter().map(f).collect());
    #[allow(clippy::cast_precision_loss, reason = "row counts fit a double")]
    let rows = total as f64;
    let floor = rows / of(|m| m.copy);
    Ok(vec![
        Figure {
            what: "staged segments → PostgreSQL, 14 columns",
            value: rows / of(|m| m.add),
            unit: "rows/s",
            floor: Some((floor, "binary COPY of the same rows")),
            target: Some((">=", 0.6 * floor)),
        },
        Figure {
            what: "the same, merged by key, all of them new",
            value: rows / of(|m| m.merge_new),
            unit: "rows/s",
            floor: Some((floor, "binary COPY of the same rows")),
            target: None,
        },
        Figure {
            what: "10,000 changed rows merged into them",
            value: of(|m| m.merge_changed) * 1e3,
            unit: "ms",
            floor: None,
            target: Some(("<=", 400.0)),
        },
        Figure {
            what: "loading all of it, peak memory",
            value: of(|m| m.peak_mib),
            unit: "MiB",
            floor: Some((quarter.peak_mib, "a quarter of the rows")),
            target: Some(("<=", 128.0)),
        },
    ])
}
