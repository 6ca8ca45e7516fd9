//! PostgreSQL, a real server: upserts, histories and subtables hold what a naive model holds.
#![allow(clippy::unwrap_used)]

mod base;
#[allow(dead_code)]
#[path = "../../stage/tests/faulty/mod.rs"]
mod faulty;
mod postgres_server;
#[allow(dead_code)]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use base::Base;
use proptest::prelude::*;
use thimble_load::{
    Destination,
    postgres::{Postgres, PostgresSettings},
};
use thimble_record::{BatchSeq, Counts, DataType, DeleteMode, StreamBatch, StreamSchema, WriteMode};
use world::{Chain, Staging, append, field};

type Key = (Option<i64>, Option<String>);

#[derive(Debug, Clone)]
struct Staged {
    key: Key,
    value: Option<i64>,
    deleted: bool,
    sequence: i64,
    children: Vec<i64>,
}

#[derive(Debug, Clone)]
struct Step {
    rows: Vec<Staged>,
    /// How many batches back a sweep begins.
    sweep: Option<u64>,
}

type Random = ((Option<i64>, Option<&'static str>), Option<i64>, bool, i64, Vec<i64>);

fn steps(ordered: bool, deletions: bool) -> impl Strategy<Value = Vec<Step>> {
    let key = (prop::option::weighted(0.9, 0i64..4), prop::option::weighted(0.9, prop::sample::select(vec!["a", "b"])));
    let row =
        (key, prop::option::of(0i64..3), prop::bool::weighted(0.25), 0i64..1_000, prop::collection::vec(0i64..3, 0..3));
    let batch = (prop::collection::vec(row, 0..14), prop::option::weighted(0.3, 0u64..3));
    prop::collection::vec(batch, 1..6).prop_map(move |batches| {
        let mut next = 0;
        let step = |(rows, sweep): (Vec<_>, _)| {
            let rows = rows.into_iter().map(|row: Random| {
                next += 1;
                let ((k1, k2), value, deleted, random, children) = row;
                let deleted = deleted && deletions;
                Staged {
                    key: (k1, k2.map(str::to_owned)),
                    value: value.filter(|_| !deleted),
                    deleted,
                    sequence: if ordered { next } else { random * 1_000 + next },
                    children,
                }
            });
            Step { rows: rows.collect(), sweep }
        };
        batches.into_iter().map(step).collect()
    })
}

/// Instants of a row, by its sequence.
fn extracted_at(sequence: i64) -> i64 {
    1_000_000 * sequence
}

fn deleted_at(sequence: i64) -> i64 {
    1_000_000 * sequence + 7
}

fn root_schema(deletions: bool) -> StreamSchema {
    let mut fields = vec![
        field("k1", DataType::Int64),
        field("k2", DataType::Text),
        field("v", DataType::Int64),
        field("_thimble_extracted_at", DataType::TimestampTz),
        field("_thimble_batch", DataType::Int64),
        field("_thimble_sequence", DataType::Int64),
    ];
    if deletions {
        fields.push(field("_thimble_deleted_at", DataType::TimestampTz));
    }
    StreamSchema::new(fields)
}

fn instants(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn roots(rows: &[Staged], batch: i64, deletions: bool) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.key.1.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        instants(rows.iter().map(|row| Some(extracted_at(row.sequence)))),
        Arc::new(rows.iter().map(|_| batch).map(Some).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.sequence)).collect::<Int64Array>()),
    ];
    if deletions {
        columns.push(instants(rows.iter().map(|row| row.deleted.then(|| deleted_at(row.sequence)))));
    }
    RecordBatch::try_new(root_schema(deletions).to_arrow(), columns).unwrap()
}

fn child_schema() -> StreamSchema {
    StreamSchema::new(vec![
        field("c", DataType::Int64),
        field("_thimble_root_key_k1", DataType::Int64),
        field("_thimble_root_key_k2", DataType::Text),
        field("_thimble_root_sequence", DataType::Int64),
        field("_thimble_batch", DataType::Int64),
        field("_thimble_sequence", DataType::Int64),
    ])
}

fn children(rows: &[Staged], batch: i64) -> RecordBatch {
    let all: Vec<(&Staged, i64)> =
        rows.iter().flat_map(|row| row.children.iter().map(move |child| (row, *child))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(all.iter().map(|(_, child)| Some(*child)).collect::<Int64Array>()),
        Arc::new(all.iter().map(|(row, _)| row.key.0).collect::<Int64Array>()),
        Arc::new(all.iter().map(|(row, _)| row.key.1.as_deref()).collect::<StringArray>()),
        Arc::new(all.iter().map(|(row, _)| Some(row.sequence)).collect::<Int64Array>()),
        Arc::new(all.iter().map(|_| Some(batch)).collect::<Int64Array>()),
        Arc::new((0..all.len() as i64).map(Some).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(child_schema().to_arrow(), columns).unwrap()
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(Base::new)
}

/// A schema of its own for each case.
fn owner() -> (Postgres, String) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let schema = format!("case{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let settings = PostgresSettings { schema: Some(schema.clone()), ..base().settings() };
    (Postgres::new(settings), schema)
}

fn key() -> Vec<String> {
    vec!["k1".into(), "k2".into()]
}

fn part(
    staging: &Staging,
    mode: WriteMode,
    deletes: DeleteMode,
    step: &Step,
    batch: u64,
    deletions: bool,
) -> StreamBatch {
    let schema = root_schema(deletions);
    // Cut in two, for the segments' order must not matter.
    let cut = step.rows.len() / 2;
    let (first, second) = step.rows.split_at(cut);
    let mut segments = Vec::new();
    for (number, rows) in [second, first].into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        segments.push(staging.stage(number as u32, &schema, &roots(rows, batch as i64, deletions)));
    }
    let mut part = append("things", segments);
    part.schema = schema;
    part.mode = mode;
    part.key = key();
    part.deletes = deletes;
    part.sweep = step.sweep.map(|back| BatchSeq(batch.saturating_sub(back)));
    part
}

#[derive(Debug, Clone, PartialEq)]
struct Held {
    value: Option<i64>,
    sequence: i64,
    batch: i64,
    /// Whether, and the instant where the source told it.
    deleted: Option<Option<i64>>,
    children: Vec<i64>,
}

/// One row after the other, in the order of their sequences.
fn upsert_model(table: &mut BTreeMap<Key, Held>, step: &Step, batch: u64, deletes: DeleteMode) -> Counts {
    let before: BTreeSet<Key> = table.keys().cloned().collect();
    let mut rows = step.rows.clone();
    rows.sort_by_key(|row| row.sequence);
    for row in rows {
        let held = table.get(&row.key);
        if held.is_some_and(|held| held.sequence >= row.sequence) {
            continue;
        }
        let (sequence, batch) = (row.sequence, batch as i64);
        match (row.deleted, deletes) {
            (false, _) => {
                table
                    .insert(row.key, Held { value: row.value, sequence, batch, deleted: None, children: row.children });
            }
            (true, DeleteMode::Hard) => drop(table.remove(&row.key)),
            (true, DeleteMode::Soft) => {
                let (value, children) = held.map_or((None, vec![]), |held| (held.value, held.children.clone()));
                let deleted = Some(Some(deleted_at(sequence)));
                table.insert(row.key, Held { value, sequence, batch, deleted, children });
            }
        }
    }
    let loaded = table.keys().filter(|key| !before.contains(*key)).count() as u64;
    if let Some(back) = step.sweep {
        let since = batch.saturating_sub(back) as i64;
        match deletes {
            DeleteMode::Hard => table.retain(|_, held| held.batch >= since),
            DeleteMode::Soft => {
                for held in table.values_mut().filter(|held| held.batch < since && held.deleted.is_none()) {
                    held.deleted = Some(None);
                }
            }
        }
    }
    let staged = step.rows.len() as u64;
    Counts { emitted: staged, loaded, merged: staged - loaded, ..Counts::default() }
}

/// What a text of keys shows.
fn shown(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or("-".into(), ToString::to_string)
}

fn upsert_text(table: &BTreeMap<Key, Held>) -> BTreeSet<String> {
    let row = |(key, held): (&Key, &Held)| {
        let deleted = held.deleted.map_or("-".into(), |at| at.map_or("now".into(), |at| at.to_string()));
        let value = shown(&held.value);
        format!("{}|{}|{value}|{}|{}|{deleted}", shown(&key.0), shown(&key.1), held.sequence, held.batch)
    };
    table.iter().map(row).collect()
}

async fn lines(client: &tokio_postgres::Client, sql: &str) -> BTreeSet<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Whether the table has instants of deletion.
async fn marked(client: &tokio_postgres::Client, schema: &str) -> bool {
    let sql = format!(
        "select 1 from pg_attribute where attrelid = to_regclass('{schema}.things') and attname = '_thimble_deleted_at'"
    );
    !client.query(&sql, &[]).await.unwrap().is_empty()
}

/// The instant of a column, `now` where it is not one of the staged.
fn instant(column: &str) -> String {
    format!(
        "case when {column} is null then '-' when {column} > '2020-01-01' then 'now' \
         else (extract(epoch from {column}) * 1000000)::int8::text end"
    )
}

fn run<F: Future<Output = Result<(), TestCaseError>>>(future: F) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn upserts(
    steps: Vec<Step>,
    deletes: DeleteMode,
    deletions: bool,
    refreshing: bool,
) -> Result<(), TestCaseError> {
    let (owner, schema) = owner();
    let (staging, mut chain, mut table) = (Staging::default(), Chain::new(), BTreeMap::new());
    let client = base().client().await;
    let count = steps.len();
    for (at, step) in steps.iter().enumerate() {
        let batch = at as u64 + 1;
        let mut part = part(&staging, WriteMode::Upsert, deletes, step, batch, deletions);
        if refreshing {
            part.refreshing = true;
            part.generation = thimble_record::Generation(1);
            part.swap = at + 1 == count;
        }
        let sealed = chain.seal(vec![part]);
        let outcome = owner.load(&sealed, &staging).await.unwrap();
        let expected = upsert_model(&mut table, step, batch, deletes);
        prop_assert_eq!(&outcome.streams, &[expected], "batch {}", batch);
        prop_assert!(owner.load(&sealed, &staging).await.unwrap().already_committed);
        if refreshing && at + 1 < count {
            continue;
        }
        let deleted = if !marked(&client, &schema).await { "'-'".to_owned() } else { instant("_thimble_deleted_at") };
        let sql = format!(
            "select concat_ws('|', coalesce(k1::text, '-'), coalesce(k2, '-'), coalesce(v::text, '-'), _thimble_sequence, \
             _thimble_batch, {deleted}) from {schema}.things"
        );
        prop_assert_eq!(lines(&client, &sql).await, upsert_text(&table), "batch {}", batch);
    }
    Ok(())
}

async fn subtables(steps: Vec<Step>, deletes: DeleteMode) -> Result<(), TestCaseError> {
    let (owner, schema) = owner();
    let (staging, mut chain, mut table) = (Staging::default(), Chain::new(), BTreeMap::new());
    let client = base().client().await;
    for (at, step) in steps.iter().enumerate() {
        let batch = at as u64 + 1;
        let part = part(&staging, WriteMode::Upsert, deletes, step, batch, true);
        let rows = children(&step.rows, batch as i64);
        let segments = if rows.num_rows() == 0 { vec![] } else { vec![staging.stage(9, &child_schema(), &rows)] };
        let staged = !segments.is_empty();
        let mut child = append("things__parts", segments);
        child.schema = child_schema();
        child.root = Some("things".into());
        child.mode = WriteMode::Upsert;
        child.key = vec!["_thimble_root_key_k1".into(), "_thimble_root_key_k2".into()];
        // A subtable without rows may be left out once it is known, and its rows are replaced all the same.
        let parts = if staged || at % 2 == 0 { vec![part, child] } else { vec![part] };
        let outcome = owner.load(&chain.seal(parts), &staging).await.unwrap();
        let expected = upsert_model(&mut table, step, batch, deletes);
        prop_assert_eq!(outcome.streams[0], expected);
        let held = |(key, held): (&Key, &Held)| {
            let line = |child: &i64| format!("{}|{}|{child}", shown(&key.0), shown(&key.1));
            held.children.iter().map(line).collect::<Vec<_>>()
        };
        let mut expected: Vec<String> = table.iter().flat_map(held).collect();
        let exists =
            client.query_one("select to_regclass($1) is not null", &[&format!("{schema}.things__parts")]).await;
        if !exists.unwrap().get::<_, bool>(0) {
            prop_assert!(expected.is_empty());
            continue;
        }
        let sql = format!(
            "select concat_ws('|', coalesce(_thimble_root_key_k1::text, '-'), coalesce(_thimble_root_key_k2, '-'), c) \
             from {schema}.things__parts"
        );
        let mut found: Vec<String> = client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected, "batch {}", batch);
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Version {
    key: Key,
    value: Option<i64>,
    sequence: i64,
    batch: i64,
    from: i64,
    /// `Some(None)` is the time of a load.
    to: Option<Option<i64>>,
    deleted: Option<Option<i64>>,
}

fn history_model(table: &mut Vec<Version>, step: &Step, batch: u64) -> Counts {
    let mut rows = step.rows.clone();
    rows.sort_by_key(|row| row.sequence);
    let mut loaded = 0;
    for row in rows {
        let current = table.iter_mut().find(|version| version.key == row.key && version.to.is_none());
        if current.as_ref().is_some_and(|current| current.sequence >= row.sequence) {
            continue;
        }
        let at = extracted_at(row.sequence);
        match current {
            Some(current) if row.deleted => {
                current.to = Some(Some(deleted_at(row.sequence)));
                current.deleted = current.to;
                continue;
            }
            Some(current) if current.value == row.value => {
                current.batch = batch as i64;
                continue;
            }
            Some(current) => current.to = Some(Some(at)),
            None if row.deleted => continue,
            None => {}
        }
        loaded += 1;
        table.push(Version {
            key: row.key,
            value: row.value,
            sequence: row.sequence,
            batch: batch as i64,
            from: at,
            to: None,
            deleted: None,
        });
    }
    if let Some(back) = step.sweep {
        let since = batch.saturating_sub(back) as i64;
        for version in table.iter_mut().filter(|version| version.to.is_none() && version.batch < since) {
            version.to = Some(None);
            version.deleted = Some(None);
        }
    }
    let staged = step.rows.len() as u64;
    Counts { emitted: staged, loaded, merged: staged - loaded, ..Counts::default() }
}

async fn histories(steps: Vec<Step>, deletes: DeleteMode, deletions: bool) -> Result<(), TestCaseError> {
    let (owner, schema) = owner();
    let (staging, mut chain, mut table) = (Staging::default(), Chain::new(), Vec::new());
    let client = base().client().await;
    for (at, step) in steps.iter().enumerate() {
        let batch = at as u64 + 1;
        let part = part(&staging, WriteMode::History, deletes, step, batch, deletions);
        let outcome = owner.load(&chain.seal(vec![part]), &staging).await.unwrap();
        let expected = history_model(&mut table, step, batch);
        prop_assert_eq!(&outcome.streams, &[expected], "batch {}", batch);
        let deleted = if !marked(&client, &schema).await { "'-'".to_owned() } else { instant("_thimble_deleted_at") };
        let sql = format!(
            "select concat_ws('|', coalesce(k1::text, '-'), coalesce(k2, '-'), coalesce(v::text, '-'), _thimble_sequence, \
             _thimble_batch, {from}, {to}, _thimble_current, {deleted}) from {schema}.things",
            from = instant("_thimble_valid_from"),
            to = instant("_thimble_valid_to"),
        );
        let instant =
            |at: Option<Option<i64>>| at.map_or("-".into(), |at| at.map_or("now".into(), |at| at.to_string()));
        let row = |version: &Version| {
            let Version { key, value, sequence, batch, from, to, deleted } = version;
            let current = if to.is_none() { "t" } else { "f" };
            format!(
                "{}|{}|{}|{sequence}|{batch}|{from}|{}|{current}|{}",
                shown(&key.0),
                shown(&key.1),
                shown(value),
                instant(*to),
                instant(*deleted)
            )
        };
        prop_assert_eq!(lines(&client, &sql).await, table.iter().map(row).collect::<BTreeSet<_>>(), "batch {}", batch);
    }
    Ok(())
}

fn modes() -> impl Strategy<Value = DeleteMode> {
    prop_oneof![Just(DeleteMode::Soft), Just(DeleteMode::Hard)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn upserts_hold_what_the_model_holds(steps in steps(false, true), deletes in modes(), refreshing: bool) {
        run(upserts(steps, deletes, true, refreshing))?;
    }

    #[test]
    fn upserts_without_deletions_hold_what_the_model_holds(steps in steps(true, false), deletes in modes()) {
        run(upserts(steps, deletes, false, false))?;
    }

    #[test]
    fn subtables_hold_what_the_model_holds(steps in steps(false, true), deletes in modes()) {
        run(subtables(steps, deletes))?;
    }

    #[test]
    fn histories_hold_what_the_model_holds(steps in steps(false, true), deletes in modes()) {
        run(histories(steps, deletes, true))?;
    }

    #[test]
    fn histories_without_deletions_hold_what_the_model_holds(steps in steps(true, false), deletes in modes()) {
        run(histories(steps, deletes, false))?;
    }
}
