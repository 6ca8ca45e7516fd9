//! Upserted tables, read by the lake and by DuckDB, against a model that knows no files: it does what each commit says to
//! the rows that it holds.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Int64Type, TimestampMicrosecondType},
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use thimble_load::{Destination, LoadError, lake::Lake};
use thimble_record::{
    BatchSeq, Counts, DataType, DeleteMode, Epoch, Field, Generation, Rejected, RejectedRow, SegmentRef, StreamBatch,
    StreamSchema, SystemNaming, WriteMode,
    rejected::{REJECTED_KEY, REJECTED_STREAM, rejected_batch, rejected_schema},
};

use crate::world::{Chain, Staging, World, connection, field};

const BATCH: &str = "_thimble_batch";
const SEQUENCE: &str = "_thimble_sequence";
const DELETED: &str = "_thimble_deleted_at";
const ROOT: &str = "_thimble_root_sequence";

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

fn lake(world: &World) -> Lake {
    world.lake().with_clock(|| NOW.get())
}

/// A record of one stream.
#[derive(Debug, Clone)]
struct Record {
    /// Of two columns.
    key: (Option<i64>, bool),
    deleted: bool,
    /// A replayed record keeps its place in the order: batches back.
    back: u64,
    children: u64,
}

#[derive(Debug, Clone)]
enum Op {
    Rows(Vec<Record>),
    /// Ends a full read that began so many batches before.
    Sweep(Vec<Record>, u64),
    Refresh(Vec<Record>, Vec<Record>),
    Deletes(DeleteMode),
    Mode(WriteMode),
}

fn history() -> impl Strategy<Value = Vec<Op>> {
    let record = (prop::option::weighted(0.9, 0..4_i64), any::<bool>(), prop::bool::weighted(0.3), 0..3_u64, 0..3_u64)
        .prop_map(|(id, half, deleted, back, children)| Record { key: (id, half), deleted, back, children });
    let records = || prop::collection::vec(record.clone(), 0..6);
    let deletes = prop_oneof![Just(DeleteMode::Soft), Just(DeleteMode::Hard)];
    let mode = prop_oneof![1 => Just(WriteMode::Append), 3 => Just(WriteMode::Upsert)];
    let op = prop_oneof![
        6 => records().prop_map(Op::Rows),
        3 => (records(), 0..4_u64).prop_map(|(records, back)| Op::Sweep(records, back)),
        1 => (records(), records()).prop_map(|(a, b)| Op::Refresh(a, b)),
        1 => deletes.prop_map(Op::Deletes),
        1 => mode.prop_map(Op::Mode),
    ];
    prop::collection::vec(op, 1..14)
}

/// Version, value, and the mark of a deletion in microseconds.
type Row = ((i64, i64), i64, Option<i64>);

#[derive(Default, Clone)]
struct Key {
    last: Option<Row>,
    values: Option<Row>,
    deleted_at: Option<i64>,
}

/// One generation, after some commits.
#[derive(Default, Clone)]
struct Model {
    keys: BTreeMap<(Option<i64>, String), Key>,
    all: Vec<((Option<i64>, String), Row)>,
    /// Sequence of the root row, and value.
    children: Vec<(i64, i64)>,
}

/// What a reader sees: key, value and deletion of each row; root and value of each row of the subtable.
type Seen = (Vec<(Option<i64>, String, i64, Option<i64>)>, Vec<(i64, i64)>);

impl Model {
    fn take(&mut self, key: (Option<i64>, String), row: Row) {
        self.all.push((key.clone(), row));
        let known = self.keys.entry(key).or_default();
        if known.last.is_none_or(|last| row.0 > last.0) {
            (known.last, known.deleted_at) = (Some(row), row.2);
        }
        if row.2.is_none() && known.values.is_none_or(|values| row.0 > values.0) {
            known.values = Some(row);
        }
    }

    fn sweep(&mut self, since: u64, at: i64) {
        for known in self.keys.values_mut() {
            let unseen = known.last.is_some_and(|((_, batch), _, _)| batch < since as i64);
            if unseen && known.deleted_at.is_none() {
                known.deleted_at = Some(at);
            }
        }
    }

    fn seen(&self, mode: WriteMode, deletes: DeleteMode) -> Seen {
        let (mut rows, mut children) = (Vec::new(), self.children.clone());
        if mode == WriteMode::Append {
            rows.extend(self.all.iter().map(|((id, half), (_, value, deleted))| (*id, half.clone(), *value, *deleted)));
        } else {
            let mut roots = BTreeSet::new();
            for ((id, half), known) in &self.keys {
                if deletes == DeleteMode::Hard && known.deleted_at.is_some() {
                    continue;
                }
                let ((sequence, _), value, _) = known.values.or(known.last).unwrap();
                roots.insert(sequence);
                rows.push((*id, half.clone(), value, known.deleted_at));
            }
            children.retain(|(root, _)| roots.contains(root));
        }
        rows.sort();
        children.sort();
        (rows, children)
    }
}

/// Loads histories, and keeps the model beside.
struct Play {
    lake: Lake,
    staging: Staging,
    chain: Chain,
    visible: Model,
    mode: WriteMode,
    deletes: DeleteMode,
    generation: u64,
    values: i64,
    /// Whether the column of deletions exists.
    marks: bool,
}

impl Play {
    fn new(lake: Lake) -> Self {
        let (mode, deletes) = (WriteMode::Upsert, DeleteMode::Soft);
        let (staging, chain) = (Staging::default(), Chain::new());
        Self { lake, staging, chain, visible: Model::default(), mode, deletes, generation: 0, values: 0, marks: false }
    }

    fn schema(&self) -> StreamSchema {
        let mut fields = vec![
            field("id", DataType::Int64),
            field("ha\"lf", DataType::Text),
            field("v", DataType::Int64),
            field(BATCH, DataType::Int64),
            field(SEQUENCE, DataType::Int64),
        ];
        fields.extend(self.marks.then(|| field(DELETED, DataType::TimestampTz)));
        StreamSchema::new(fields)
    }

    /// Stages records for the next batch, and takes them into the model.
    fn stage(&mut self, records: &[Record], model: &mut Model) -> (Vec<SegmentRef>, Vec<SegmentRef>) {
        let batch = self.chain.seq as i64 + 1;
        self.marks |= records.iter().any(|record| record.deleted);
        let (mut rows, mut children) = (Vec::new(), Vec::new());
        for record in records {
            self.values += 1;
            let sequence = (batch - record.back as i64).max(0) << 32 | self.values;
            let deleted_at = record.deleted.then_some(self.values * 1_000_003);
            let key = (record.key.0, if record.key.1 { "x" } else { "y" }.to_owned());
            let row = ((sequence, batch), self.values, deleted_at);
            model.take(key.clone(), row);
            rows.push((key, row));
            for _ in 0..record.children {
                self.values += 1;
                children.push((sequence, self.values));
            }
        }
        model.children.extend(&children);
        let ints = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let mut columns = vec![
            ints(rows.iter().map(|(key, _)| key.0).collect()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(key, _)| &key.1))),
            ints(rows.iter().map(|(_, row)| Some(row.1)).collect()),
            ints(rows.iter().map(|(_, row)| Some(row.0.1)).collect()),
            ints(rows.iter().map(|(_, row)| Some(row.0.0)).collect()),
        ];
        let deletions: TimestampMicrosecondArray = rows.iter().map(|(_, row)| row.2).collect();
        columns.extend(self.marks.then(|| Arc::new(deletions.with_timezone("UTC")) as ArrayRef));
        let stage = |schema: &StreamSchema, columns| {
            let rows = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
            // In two files, so that a batch has versions of one key in both.
            let half = rows.num_rows() / 2;
            let parts = [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
            let full = parts.iter().filter(|part| part.num_rows() > 0);
            full.zip(0..).map(|(part, number)| self.staging.stage(number, schema, part)).collect()
        };
        let child_columns = vec![
            ints(children.iter().map(|child| Some(child.1)).collect()),
            ints(children.iter().map(|child| Some(child.0)).collect()),
            ints(vec![None; children.len()]),
        ];
        (stage(&self.schema(), columns), stage(&child_schema(), child_columns))
    }

    async fn load(&mut self, segments: (Vec<SegmentRef>, Vec<SegmentRef>), change: impl Fn(&mut StreamBatch)) {
        let part = |stream, schema: StreamSchema, key: &[&str], segments: Vec<SegmentRef>| {
            let emitted = segments.iter().map(|segment| segment.rows).sum();
            let mut part = StreamBatch {
                mode: self.mode,
                deletes: self.deletes,
                key: key.iter().map(|name| (*name).to_owned()).collect(),
                generation: Generation(self.generation),
                counts: Counts { emitted, ..Counts::default() },
                segments,
                ..StreamBatch::new(stream, schema)
            };
            change(&mut part);
            part
        };
        let root = part("s", self.schema(), &["id", "ha\"lf"], segments.0);
        let child = part("s__items", child_schema(), &["_thimble_root_key_id"], segments.1);
        let child = StreamBatch { root: Some("s".into()), sweep: None, ..child };
        NOW.set(NOW.get() + 1_001);
        let batch = self.chain.seal(vec![root, child]);
        let outcome = self.lake.load(&batch, &self.staging).await.unwrap();
        let staged: u64 = batch.streams.iter().map(StreamBatch::staged_rows).sum();
        assert_eq!(outcome.streams.iter().map(|counts| counts.loaded).sum::<u64>(), staged);
        assert!(outcome.streams.iter().all(|counts| counts.merged == 0));
    }

    async fn run(&mut self, op: &Op) {
        let mut model = self.visible.clone();
        match op {
            Op::Deletes(deletes) => self.deletes = *deletes,
            Op::Mode(mode) => self.mode = *mode,
            Op::Rows(_) | Op::Sweep(..) | Op::Refresh(..) => {}
        }
        match op {
            Op::Rows(records) => {
                let segments = self.stage(records, &mut model);
                self.load(segments, |_| {}).await;
            }
            Op::Sweep(records, back) => {
                let segments = self.stage(records, &mut model);
                let since = (self.chain.seq + 1).saturating_sub(*back).max(1);
                self.load(segments, |part| part.sweep = Some(BatchSeq(since))).await;
                model.sweep(since, NOW.get() * 1_000);
            }
            Op::Refresh(first, second) => {
                self.generation += 1;
                model = Model::default();
                for (records, swap) in [(first, false), (second, true)] {
                    let segments = self.stage(records, &mut model);
                    self.load(segments, |part| (part.refreshing, part.swap) = (true, swap)).await;
                    if !swap {
                        assert_eq!(self.seen().await, self.expected(), "readers see the old generation until the swap");
                    }
                }
            }
            Op::Deletes(_) | Op::Mode(_) => self.load((Vec::new(), Vec::new()), |_| {}).await,
        }
        self.visible = model;
    }

    fn expected(&self) -> Seen {
        self.visible.seen(self.mode, self.deletes)
    }

    async fn seen(&self) -> Seen {
        seen(&self.lake).await
    }
}

fn child_schema() -> StreamSchema {
    StreamSchema::new(vec![
        field("value", DataType::Int64),
        field(ROOT, DataType::Int64),
        field("_thimble_root_key_id", DataType::Int64),
    ])
}

/// What the lake shows, and that its counts agree with it.
async fn seen(lake: &Lake) -> Seen {
    let (mut rows, mut children) = (Vec::new(), Vec::new());
    let tables = lake.tables(&connection()).await.unwrap();
    let counted = |stream: &str| tables.iter().find(|table| table.stream == stream).map_or(0, |table| table.rows);
    if tables.is_empty() {
        return (rows, children);
    }
    for batch in lake.scan(&connection(), "s", None).await.unwrap().collect().await.unwrap() {
        let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let (ids, values) = (ints("id"), ints("v"));
        let halves = batch.column_by_name("ha\"lf").unwrap().as_string::<i32>();
        let deletions = batch.column_by_name(DELETED).map(|c| c.as_primitive::<TimestampMicrosecondType>());
        for row in 0..batch.num_rows() {
            let deleted = deletions.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            let id = ids.is_valid(row).then(|| ids.value(row));
            rows.push((id, halves.value(row).to_owned(), values.value(row), deleted));
        }
    }
    for batch in lake.scan(&connection(), "s__items", None).await.unwrap().collect().await.unwrap() {
        let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        children.extend(ints(ROOT).into_iter().zip(ints("value")));
    }
    rows.sort();
    children.sort();
    assert_eq!((counted("s"), counted("s__items")), (rows.len() as u64, children.len() as u64));
    assert_eq!(lake.count(&connection(), "s").await.unwrap(), rows.len() as u64);
    assert_eq!(lake.count(&connection(), "s__items").await.unwrap(), children.len() as u64);
    (rows, children)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn readers_see_what_the_model_says(history in history()) {
        runtime().block_on(async {
            let world = World::memory();
            let mut play = Play::new(lake(&world));
            for op in &history {
                play.run(op).await;
                prop_assert_eq!(play.seen().await, play.expected());
            }
            // One that read nothing before sees the same.
            prop_assert_eq!(seen(&lake(&world)).await, play.expected());
            Ok(())
        })?;
    }
}

/// A Python with DuckDB: what `THIMBLE_TEST_READERS` names, or where `make readers` puts it.
fn python() -> Option<PathBuf> {
    let made = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.scratch/readers/bin/python");
    let python = std::env::var_os("THIMBLE_TEST_READERS").map_or(made, PathBuf::from);
    python.exists().then_some(python)
}

const QUERY: &str = r#"
import duckdb, json, sys
for path in sys.argv[1:]:
    db = duckdb.connect()
    db.execute(open(path).read())
    names = [c[0] for c in db.execute('describe s').fetchall()]
    deleted = 'epoch_us("_thimble_deleted_at")' if '_thimble_deleted_at' in names else 'NULL'
    rows = db.execute(f'select id, "ha""lf", v, {deleted} from s order by 1 nulls first, 2, 3, 4 nulls first').fetchall()
    children = db.execute('select _thimble_root_sequence, value from s__items order by 1, 2').fetchall()
    print(json.dumps([rows, children, names]))
"#;

#[test]
fn duckdb_sees_what_the_lake_shows() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with DuckDB here");
        return;
    };
    let mut runner = TestRunner::deterministic();
    let mut expected = Vec::new();
    let worlds: Vec<_> = (0..60)
        .map(|_| {
            let history = history().new_tree(&mut runner).unwrap().current();
            let world = World::folder();
            let columns = runtime().block_on(async {
                let mut play = Play::new(lake(&world));
                for op in &history {
                    play.run(op).await;
                }
                assert_eq!(play.seen().await, play.expected());
                expected.push((play.expected(), history.clone()));
                let scan = play.lake.scan(&connection(), "s", None).await.unwrap();
                scan.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
            });
            (world, columns)
        })
        .collect();
    let views = worlds.iter().map(|(world, _)| world.path().join("shop/views.sql"));
    let output = Command::new(python).args(["-c", QUERY]).args(views).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.lines().count(), expected.len());
    for ((line, (expected, history)), (world, columns)) in output.lines().zip(expected).zip(&worlds) {
        let found: (Vec<_>, Vec<(i64, i64)>, Vec<String>) = serde_json::from_str(line).unwrap();
        let views = std::fs::read_to_string(world.path().join("shop/views.sql")).unwrap();
        assert_eq!((found.0, found.1), expected, "{history:?}\n{views}");
        if expected_columns_known(&views) {
            assert_eq!(&found.2, columns, "{views}");
        }
    }
}

/// The view of a table that only grows has the columns of its files, which may not have all columns of the schema yet.
fn expected_columns_known(views: &str) -> bool {
    views.contains("QUALIFY")
}

fn upsert(schema: StreamSchema, key: &[&str], segments: Vec<SegmentRef>) -> StreamBatch {
    let emitted = segments.iter().map(|segment| segment.rows).sum();
    StreamBatch {
        mode: WriteMode::Upsert,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        counts: Counts { emitted, ..Counts::default() },
        segments,
        ..StreamBatch::new("s", schema)
    }
}

#[tokio::test]
async fn parts_that_cannot_be_read_so_are_refused() {
    let (world, staging) = (World::folder(), Staging::default());
    let full = StreamSchema::new(vec![
        field("id", DataType::Int64),
        field(SEQUENCE, DataType::Int64),
        field(BATCH, DataType::Int64),
    ]);
    let without =
        |name: &str| StreamSchema::new(full.fields.iter().filter(|f| f.name != name).cloned().collect::<Vec<Field>>());
    let history = StreamBatch { mode: WriteMode::History, ..upsert(full.clone(), &["id"], vec![]) };
    let child = StreamBatch { root: Some("r".into()), ..upsert(full.clone(), &["id"], vec![]) };
    let sdc = StreamBatch { system: SystemNaming::Sdc, ..upsert(full.clone(), &["id"], vec![]) };
    for (part, says) in [
        (upsert(full.clone(), &[], vec![]), "without a key"),
        (upsert(full.clone(), &["id", "no"], vec![]), "no column `no`"),
        (upsert(without(SEQUENCE), &["id"], vec![]), SEQUENCE),
        (upsert(without(BATCH), &["id"], vec![]), BATCH),
        (child, ROOT),
        (sdc, "_sdc_sequence"),
        (history, "versions of each key"),
    ] {
        let error = lake(&world).load(&Chain::new().seal(vec![part]), &staging).await.unwrap_err();
        assert!(matches!(&error, LoadError::Conflict(message) if message.contains(says)), "{error}");
    }
    assert!(!lake(&world).capabilities().history && lake(&world).capabilities().upsert);
}

#[tokio::test]
async fn more_keys_than_fit_are_named_and_counted_as_versions() {
    let (world, staging, mut chain) = (World::memory(), Staging::default(), Chain::new());
    let schema = StreamSchema::new(vec![
        field("id", DataType::Int64),
        field(SEQUENCE, DataType::Int64),
        field(BATCH, DataType::Int64),
    ]);
    let ints = |values: [i64; 4]| -> ArrayRef { Arc::new(Int64Array::from_iter_values(values)) };
    let rows = vec![ints([1, 2, 1, 3]), ints([1, 2, 3, 4]), ints([1; 4])];
    let rows = RecordBatch::try_new(schema.to_arrow(), rows).unwrap();
    let segments = vec![staging.stage(0, &schema, &rows)];
    lake(&world).load(&chain.seal(vec![upsert(schema, &["id"], segments)]), &staging).await.unwrap();
    assert_eq!(lake(&world).with_keys(3).count(&connection(), "s").await.unwrap(), 3);
    let small = lake(&world).with_keys(2);
    let Err(error) = small.scan(&connection(), "s", None).await else { panic!("three keys, room for two") };
    assert!(error.to_string().contains("more than 2 keys"), "{error}");
    assert_eq!(small.tables(&connection()).await.unwrap()[0].rows, 4);
}

#[tokio::test]
async fn a_rejected_record_that_was_replayed_is_no_longer_listed() {
    let (world, staging, mut chain) = (World::memory(), Staging::default(), Chain::new());
    let lake = lake(&world);
    let mut schema = rejected_schema();
    schema.fields.extend([field(BATCH, DataType::Int64), field(SEQUENCE, DataType::Int64)]);
    let row = |stream: &str, sequence, replayed_at| RejectedRow {
        rejected: Rejected::new(stream, "type-conflict", "no", "{}"),
        sequence,
        plugin_digest: "d".into(),
        replayed_at,
    };
    for (batch, rows) in [vec![row("a", 1, None), row("a", 2, None), row("b", 1, None)], vec![row("a", 1, Some(5))]]
        .into_iter()
        .enumerate()
    {
        let count = rows.len();
        let mut columns = rejected_batch(&rows).columns().to_vec();
        columns.push(Arc::new(Int64Array::from_value(batch as i64 + 1, count)));
        columns.push(Arc::new(Int64Array::from_iter_values((0..count as i64).map(|n| (batch as i64 + 1) << 32 | n))));
        let rows = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        let part = upsert(schema.clone(), &REJECTED_KEY, vec![staging.stage(0, &schema, &rows)]);
        let part = StreamBatch { stream: REJECTED_STREAM.into(), ..part };
        lake.load(&chain.seal(vec![part]), &staging).await.unwrap();
    }
    lake.fence(&connection(), Epoch(1)).await.unwrap();
    let listed = lake.rejected(&connection(), None, 10).await.unwrap();
    let places: Vec<_> = listed.iter().map(|row| (row.rejected.stream.as_str(), row.sequence)).collect();
    assert_eq!(places, [("a", 2), ("b", 1)]);
}

/// Prints how long it takes; asserts only what is shown.
#[tokio::test]
async fn folding_a_million_rows() {
    const ROWS: i64 = 1_000_000;
    let (world, staging, mut chain) = (World::folder(), Staging::default(), Chain::new());
    let schema = StreamSchema::new(vec![
        field("id", DataType::Text),
        field("v", DataType::Int64),
        field(SEQUENCE, DataType::Int64),
        field(BATCH, DataType::Int64),
    ]);
    let ints = |of: fn(i64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..ROWS).map(of))) };
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| format!("customer-{}", n % 500_000))));
    let rows = RecordBatch::try_new(schema.to_arrow(), vec![ids, ints(|n| n), ints(|n| n), ints(|_| 1)]).unwrap();
    let segments = vec![staging.stage(0, &schema, &rows)];
    let lake = lake(&world);
    lake.load(&chain.seal(vec![upsert(schema, &["id"], segments)]), &staging).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(lake.count(&connection(), "s").await.unwrap(), 500_000);
    let counted = started.elapsed();
    let batches = lake.scan(&connection(), "s", None).await.unwrap().collect().await.unwrap();
    println!("1,000,000 rows of 500,000 keys: counted in {counted:?}, scanned in {:?}", started.elapsed() - counted);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 500_000);
    let last = |batch: &RecordBatch| batch.column(1).as_primitive::<Int64Type>().iter().all(|v| v >= Some(500_000));
    assert!(batches.iter().all(last));
}
