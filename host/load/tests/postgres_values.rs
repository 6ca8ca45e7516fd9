//! PostgreSQL, a real server: values, names and schemas arrive as they are, and what cannot is refused before.
#![allow(clippy::unwrap_used)]

mod base;
#[path = "../../stage/tests/faulty/mod.rs"]
mod faulty;
mod postgres_server;
#[allow(dead_code)]
mod world;

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use base::Base;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use thimble_load::{Destination, LoadError, postgres};
use thimble_record::{DataType, Field, StreamSchema, rejected};
use world::{Chain, Staging, append, connection, field, replace, rows, schema};

fn batch_of(schema: &StreamSchema, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
}

const MIN_TIMESTAMP: i64 = 946_684_800_000_000 - 211_813_488_000_000_000;
const MIN_DATE: i32 = 10_957 - 2_451_545;
const MAX_DATE: i32 = 10_957 + 2_145_031_948;

/// One row of every type.
#[derive(Debug, Clone)]
struct Row {
    boolean: Option<bool>,
    int: Option<i64>,
    float: Option<f64>,
    decimals: [Option<i128>; 5],
    text: Option<String>,
    bytes: Option<Vec<u8>>,
    date: Option<i32>,
    time: Option<i64>,
    timestamp: Option<i64>,
    instant: Option<i64>,
    json: Option<String>,
}

const DECIMALS: [(u8, i8); 5] = [(38, 0), (38, 37), (12, 2), (18, 6), (20, 20)];

fn row() -> impl Strategy<Value = Row> {
    let some = |max: i64| prop_oneof![Just(0), Just(max), -1_000_000i64..1_000_000, any::<i64>()];
    let int = prop_oneof![Just(i64::MIN), Just(i64::MAX), some(1)];
    let float = prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
        Just(f64::MIN_POSITIVE)
    ];
    let decimal = |(precision, _): (u8, i8)| {
        let end = 10i128.pow(precision.into());
        prop::option::of(prop_oneof![Just(0), Just(end - 1), Just(1 - end), Just(10_000i128 % end), (1 - end)..end])
    };
    let decimals = DECIMALS.map(decimal);
    let micros = || prop_oneof![Just(MIN_TIMESTAMP), Just(i64::MAX), MIN_TIMESTAMP..i64::MAX, Just(0)];
    let date = prop_oneof![Just(MIN_DATE), Just(MAX_DATE), Just(0), MIN_DATE..=MAX_DATE];
    let time = prop_oneof![Just(0), Just(86_400_000_000), 0i64..86_400_000_000];
    let json = prop::sample::select(vec![
        "null",
        "{}",
        "[]",
        "\"\"",
        "1e300",
        "-0.10",
        "[1,[2,{\"a\":[]}]]",
        "{\"b\":1,\"a\":\"\\ud83d\\ude00\"}",
        "\"é\\n\\\\u0000\"",
        " true ",
        "123456789012345678901234567890.123",
    ]);
    let scalars = (
        prop::option::of(any::<bool>()),
        prop::option::of(int),
        prop::option::of(float),
        decimals,
        prop::option::of("[^\0]{0,12}"),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
    );
    let others = (
        prop::option::of(date),
        prop::option::of(time),
        prop::option::of(micros()),
        prop::option::of(micros()),
        prop::option::of(json.prop_map(str::to_owned)),
    );
    (scalars, others).prop_map(
        |((boolean, int, float, decimals, text, bytes), (date, time, timestamp, instant, json))| Row {
            boolean,
            int,
            float,
            decimals,
            text,
            bytes,
            date,
            time,
            timestamp,
            instant,
            json,
        },
    )
}

fn every_type() -> StreamSchema {
    let mut fields = vec![
        field("n", DataType::Int64),
        field("boolean", DataType::Boolean),
        field("int", DataType::Int64),
        field("float", DataType::Float64),
        field("text", DataType::Text),
        field("bytes", DataType::Bytes),
        field("date", DataType::Date),
        field("time", DataType::Time),
        field("timestamp", DataType::Timestamp),
        field("instant", DataType::TimestampTz),
        field("json", DataType::Json),
    ];
    fields.extend(DECIMALS.iter().enumerate().map(|(at, (p, s))| field(&format!("d{at}"), DataType::Decimal(*p, *s))));
    StreamSchema::new(fields)
}

fn every_column(rows: &[Row]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
        Arc::new(rows.iter().map(|row| row.boolean).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.int).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.text.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.bytes.as_deref()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|row| row.date).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|row| row.time).collect::<Time64MicrosecondArray>()),
        Arc::new(rows.iter().map(|row| row.timestamp).collect::<TimestampMicrosecondArray>()),
        Arc::new(rows.iter().map(|row| row.instant).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.json.as_deref()).collect::<StringArray>()),
    ];
    for (at, (precision, scale)) in DECIMALS.into_iter().enumerate() {
        let values: Decimal128Array = rows.iter().map(|row| row.decimals[at]).collect();
        columns.push(Arc::new(values.with_precision_and_scale(precision, scale).unwrap()));
    }
    batch_of(&every_type(), columns)
}

/// A decimal as the server writes it.
fn decimal_text(value: i128, scale: i8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    if scale <= 0 {
        let zeros = if value == 0 { 0 } else { scale.unsigned_abs().into() };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let padded = format!("{digits:0>width$}", width = scale as usize + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale as usize);
    format!("{sign}{whole}.{fraction}")
}

#[tokio::test]
async fn every_value_arrives_exactly() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let mut runner = TestRunner::deterministic();
    let rows: Vec<Row> = (0..3_000).map(|_| row().new_tree(&mut runner).unwrap().current()).collect();
    let batch = every_column(&rows);
    assert!(owner.refuse(&every_type(), &batch).is_empty(), "{:?}", owner.refuse(&every_type(), &batch)[0]);
    owner
        .load(&chain.seal(vec![append("all", vec![staging.stage(0, &every_type(), &batch)])]), &staging)
        .await
        .unwrap();
    // The server rounds the epoch of the last instants, so days and the rest are taken apart.
    let micros = |column: &str| {
        let since = format!("({column} - '2000-01-01')");
        format!(
            "(extract(day from {since})::numeric * 86400000000 + 946684800000000 + extract(epoch from {since} \
             - make_interval(days => extract(day from {since})::int)) * 1000000)::numeric(40)::text"
        )
    };
    let sql = format!(
        "select boolean, int, float, text, bytes, date - date '1970-01-01', (extract(epoch from time) * 1000000)::int8, \
         {}, {}, json::text, d0::text, d1::text, d2::text, d3::text, d4::text from shop.all order by n",
        micros("timestamp"),
        micros("instant")
    );
    let found = base.client().await.query(&sql.replace("shop.all", "shop.\"all\""), &[]).await.unwrap();
    assert_eq!(found.len(), rows.len());
    for (row, found) in rows.iter().zip(&found) {
        assert_eq!(found.get::<_, Option<bool>>(0), row.boolean);
        assert_eq!(found.get::<_, Option<i64>>(1), row.int);
        assert_eq!(found.get::<_, Option<f64>>(2).map(f64::to_bits), row.float.map(f64::to_bits));
        assert_eq!(found.get::<_, Option<String>>(3), row.text);
        assert_eq!(found.get::<_, Option<Vec<u8>>>(4), row.bytes);
        assert_eq!(found.get::<_, Option<i32>>(5), row.date);
        assert_eq!(found.get::<_, Option<i64>>(6), row.time);
        for (at, value) in [(7, row.timestamp), (8, row.instant)] {
            assert_eq!(found.get::<_, Option<String>>(at), value.map(|value| value.to_string()));
        }
        let value = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        assert_eq!(found.get::<_, Option<String>>(9).map(value), row.json.clone().map(value));
        for (at, (_, scale)) in DECIMALS.iter().enumerate() {
            let expected = row.decimals[at].map(|value| decimal_text(value, *scale));
            assert_eq!(found.get::<_, Option<String>>(10 + at), expected);
        }
    }
}

#[tokio::test]
async fn names_arrive_as_they_are_or_stay_apart() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let long = |last: &str| format!("{}{last}", "x".repeat(70));
    let names: Vec<String> =
        ["id", "ID", "select", "a\"b", "line\nbreak", "ctid", "xmin", "nul\0", "nul", "é", "a b", "", "'; drop"]
            .iter()
            .map(|name| (*name).to_owned())
            .chain([long("a"), long("b"), postgres::column_name("ctid"), "_thimble_loaded_at".into()])
            .collect();
    let schema = StreamSchema::new(names.iter().map(|name| field(name, DataType::Int64)).collect());
    let columns = (0..names.len()).map(|at| -> ArrayRef { Arc::new(Int64Array::from(vec![at as i64])) }).collect();
    let batch = batch_of(&schema, columns);
    let streams =
        ["Orders", "orders", "user", "a\"b", "_thimble_commits", &long("1"), &long("2"), "x\0", "_thimble_g1_x"];
    for _ in 0..2 {
        let parts = streams.iter().map(|stream| append(stream, vec![staging.stage(0, &schema, &batch)]));
        owner.load(&chain.seal(parts.collect()), &staging).await.unwrap();
    }
    let client = base.client().await;
    for stream in streams {
        for (at, name) in names.iter().enumerate() {
            let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let (column, table) = (quote(&postgres::column_name(name)), quote(&postgres::table_name(stream)));
            let sql = format!("select count(*) from shop.{table} where {column} = {at}");
            assert_eq!(client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0), 2, "{stream:?} {name:?}");
        }
    }
    let tables = owner.tables(&connection()).await.unwrap();
    assert_eq!(tables.len(), streams.len());
    assert!(tables.iter().any(|table| table.stream == "x\0"));
    // A stored name wins over the map.
    base.sql("alter table shop.orders rename to old_orders");
    base.sql("update shop._thimble_names set table_name = 'old_orders' where stream = 'orders'");
    owner.load(&chain.seal(vec![append("orders", vec![staging.stage(0, &schema, &batch)])]), &staging).await.unwrap();
    assert_eq!(base.sql("select count(*) from shop.old_orders"), "3");
    assert!(!base.exists("orders"));
}

/// A row of a schema, and one of the schema that it grew to.
fn before_and_after() -> [(StreamSchema, RecordBatch); 2] {
    let old = StreamSchema::new(vec![
        field("id", DataType::Int64),
        field("price", DataType::Int64),
        field("tax", DataType::Decimal(10, 2)),
        field("day", DataType::Date),
        field("doc", DataType::Json),
        field("count", DataType::Int64),
    ]);
    let new = StreamSchema::new(vec![
        field("id", DataType::Int64),
        field("price", DataType::Float64),
        field("tax", DataType::Decimal(21, 4)),
        field("day", DataType::Timestamp),
        field("doc", DataType::Text),
        field("count", DataType::Decimal(19, 0)),
        field("extra", DataType::Boolean),
    ]);
    let int = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let decimal = |value: i128, p, s| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(p, s).unwrap())
    };
    let text: ArrayRef = Arc::new(StringArray::from(vec!["{\"a\": 1}"]));
    let before = batch_of(
        &old,
        vec![int(1), int(5), decimal(1234, 10, 2), Arc::new(Date32Array::from(vec![1])), Arc::clone(&text), int(7)],
    );
    let after = batch_of(
        &new,
        vec![
            int(2),
            Arc::new(Float64Array::from(vec![0.5])),
            decimal(7, 21, 4),
            Arc::new(TimestampMicrosecondArray::from(vec![5])),
            text,
            decimal(8, 19, 0),
            Arc::new(BooleanArray::from(vec![true])),
        ],
    );
    [(old, before), (new, after)]
}

#[tokio::test]
async fn schemas_evolve_and_misfits_are_named() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    let [(old, before), (new, after)] = before_and_after();
    owner.load(&chain.seal(vec![append("orders", vec![staging.stage(0, &old, &before)])]), &staging).await.unwrap();
    base.sql("alter table shop.orders add column mine text default 'kept'");
    // Both schemas in one batch, too: the schema changed while it was extracted.
    let parts = vec![staging.stage(0, &old, &before), staging.stage(1, &new, &after)];
    owner.load(&chain.seal(vec![append("orders", parts)]), &staging).await.unwrap();
    let found = base.sql("select id, price, tax, day, doc, count, extra, mine from shop.orders order by id, doc");
    assert_eq!(
        found,
        "1|5|12.3400|1970-01-02 00:00:00|{\"a\": 1}|7||kept\n1|5|12.3400|1970-01-02 00:00:00|{\"a\": 1}|7||kept\n\
         2|0.5|0.0007|1970-01-01 00:00:00.000005|{\"a\": 1}|8|t|kept"
    );
    // A dropped column is made again.
    base.sql("alter table shop.orders drop column tax, drop column _thimble_loaded_at");
    let again = || append("orders", vec![staging.stage(0, &new, &after)]);
    owner.load(&chain.seal(vec![again()]), &staging).await.unwrap();
    assert_eq!(base.sql("select count(*), count(tax), count(_thimble_loaded_at) from shop.orders"), "4|1|1");
    // One that cannot take the values is named; a wider one may stay.
    base.sql("alter table shop.orders alter column id type numeric, alter column price type text");
    let next = chain.seal(vec![again()]);
    let error = owner.load(&next, &staging).await.unwrap_err();
    assert!(matches!(&error, LoadError::Config(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "table \"shop\".\"orders\": its column \"price\" is text, which cannot take double precision: rename or drop the \
         column, then run again"
    );
    base.sql("alter table shop.orders drop column price");
    owner.load(&next, &staging).await.unwrap();
    assert_eq!(base.sql("select count(*), sum(id) from shop.orders"), "5|8");
    // A view holds the type of a column.
    base.sql("create view shop.v as select count from shop.orders");
    let wider = StreamSchema::new(vec![field("id", DataType::Int64), field("count", DataType::Decimal(30, 0))]);
    let count = Decimal128Array::from(vec![1]).with_precision_and_scale(30, 0).unwrap();
    let batch = batch_of(&wider, vec![Arc::new(Int64Array::from(vec![9])), Arc::new(count)]);
    let held = chain.seal(vec![append("orders", vec![staging.stage(0, &wider, &batch)])]);
    let error = owner.load(&held, &staging).await.unwrap_err();
    assert!(matches!(&error, LoadError::Config(says) if says.contains("view")), "{error}");
    base.sql("drop view shop.v");
    owner.load(&held, &staging).await.unwrap();
}

#[tokio::test]
async fn tables_of_others_are_left_alone() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    base.sql("create schema shop; create table shop.orders (id int8, note text)");
    let stage = || vec![staging.stage(0, &schema(), &rows(0..3))];
    let one = chain.seal(vec![append("orders", stage())]);
    let error = owner.load(&one, &staging).await.unwrap_err();
    assert!(error.to_string().contains("this connection did not make it"), "{error}");
    let swapped = Chain::new().seal(vec![replace("orders", 1, true, stage())]);
    let error = owner.load(&swapped, &staging).await.unwrap_err();
    assert!(error.to_string().contains("this connection did not make it"), "{error}");
    assert_eq!(base.sql("select count(*) from shop.orders"), "0");
    base.sql("drop table shop.orders");
    owner.load(&one, &staging).await.unwrap();
    // Two connections in one schema.
    let mut settings = base.settings();
    settings.schema = Some("shop".into());
    let other = postgres::Postgres::new(settings);
    let mut batch = Chain::new().seal(vec![append("orders", stage())]);
    batch.connection = thimble_record::ConnectionId::new("other").unwrap();
    let error = other.load(&batch, &staging).await.unwrap_err();
    assert!(error.to_string().contains("another connection's"), "{error}");
    batch.streams[0].stream = "invoices".into();
    other.load(&batch, &staging).await.unwrap();
    assert_eq!(base.sql("select count(*) from shop.invoices"), "3");
}

/// One bad value among good ones.
fn bad_rows() -> Vec<(&'static str, Field, ArrayRef)> {
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some("good"), None, Some(value)])) };
    let json = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some("[1]"), None, Some(value)])) };
    let nested = "[".repeat(1_001) + &"]".repeat(1_001);
    let instants = |value: i64| TimestampMicrosecondArray::from(vec![Some(0), None, Some(value)]);
    let decimal = Decimal128Array::from(vec![Some(1), None, Some(1_000)]).with_precision_and_scale(3, 1).unwrap();
    vec![
        ("nul-in-text", field("v", DataType::Text), text("a\0b")),
        ("nul-in-json", field("v", DataType::Json), json(r#"{"a":"\u0000"}"#)),
        ("surrogate-in-json", field("v", DataType::Json), json(r#"["\ud800"]"#)),
        ("number-in-json", field("v", DataType::Json), json("[1e200000]")),
        ("invalid-json", field("v", DataType::Json), json("{'a':1}")),
        ("json-too-deep", field("v", DataType::Json), json(&nested)),
        (
            "date-out-of-range",
            field("v", DataType::Date),
            Arc::new(Date32Array::from(vec![Some(0), None, Some(MIN_DATE - 1)])),
        ),
        (
            "date-out-of-range",
            field("v", DataType::Date),
            Arc::new(Date32Array::from(vec![Some(0), None, Some(MAX_DATE + 1)])),
        ),
        (
            "date-out-of-range",
            field("v", DataType::Date),
            Arc::new(Date32Array::from(vec![Some(0), None, Some(i32::MIN)])),
        ),
        (
            "time-out-of-range",
            field("v", DataType::Time),
            Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(-1)])),
        ),
        ("timestamp-out-of-range", field("v", DataType::Timestamp), Arc::new(instants(MIN_TIMESTAMP - 1))),
        (
            "timestamp-out-of-range",
            field("v", DataType::TimestampTz),
            Arc::new(instants(i64::MIN).with_timezone("UTC")),
        ),
        ("decimal-out-of-range", field("v", DataType::Decimal(3, 1)), Arc::new(decimal)),
    ]
}

#[tokio::test]
async fn what_is_refused_would_fail_and_what_is_not_loads() {
    let (base, staging) = (Base::new(), Staging::default());
    let owner = base.owner();
    for (reason, field, column) in bad_rows() {
        let schema = StreamSchema::new(vec![field]);
        let batch = batch_of(&schema, vec![column]);
        let refused = owner.refuse(&schema, &batch);
        assert_eq!(refused.iter().map(|r| (r.row, r.reason)).collect::<Vec<_>>(), [(2, reason)]);
        assert!(refused[0].message.contains("\"v\""), "{}", refused[0].message);
        // The server agrees, and what it says shows no value.
        let stage =
            |batch: &RecordBatch| Chain::new().seal(vec![append("orders", vec![staging.stage(0, &schema, batch)])]);
        let fresh = Base::new();
        let error = fresh.owner().load(&stage(&batch), &staging).await;
        if !matches!(reason, "json-too-deep") {
            let error = error.unwrap_err();
            assert!(!error.to_string().contains("a\0b") && !error.to_string().contains("'a'"), "{error}");
        }
        Base::new().owner().load(&stage(&batch.slice(0, 2)), &staging).await.unwrap();
    }
    // The deepest and the largest that are let through.
    let deep = format!("{}{}", "{\"a\":".repeat(999), "[1]".to_owned() + &"}".repeat(999));
    let documents = [deep, "[".repeat(1_000) + &"]".repeat(1_000), "9".repeat(131_072), "1e-16383".into()];
    let schema = StreamSchema::new(vec![field("v", DataType::Json)]);
    let batch = batch_of(&schema, vec![Arc::new(StringArray::from_iter_values(&documents))]);
    assert!(owner.refuse(&schema, &batch).is_empty());
    let batch = Chain::new().seal(vec![append("orders", vec![staging.stage(0, &schema, &batch)])]);
    owner.load(&batch, &staging).await.unwrap();
    assert_eq!(base.sql("select count(v::text) from shop.orders"), "4");
}

#[tokio::test]
async fn one_bad_row_of_many_is_left_out() {
    let (base, staging) = (Base::new(), Staging::default());
    let owner = base.owner();
    let texts = (0..100_000).map(|n| if n == 77_777 { "\0".to_owned() } else { format!("note {n}") });
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(0..100_000)), Arc::new(StringArray::from_iter_values(texts))];
    let batch = batch_of(&schema(), columns);
    let refused = owner.refuse(&schema(), &batch);
    assert_eq!(refused.iter().map(|r| r.row).collect::<Vec<_>>(), [77_777]);
    let good = [batch.slice(0, 77_777), batch.slice(77_778, 22_222)];
    let parts = good.iter().enumerate().map(|(at, rows)| staging.stage(at as u32, &schema(), rows)).collect();
    owner.load(&Chain::new().seal(vec![append("orders", parts)]), &staging).await.unwrap();
    assert_eq!(base.sql("select count(*) from shop.orders"), "99999");
}

#[tokio::test]
async fn wide_rows_load_up_to_what_a_page_takes() {
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    for (data_type, count, fits) in [
        (DataType::Int64, 960, true),
        (DataType::Int64, 1_000, false),
        (DataType::Text, 320, true),
        (DataType::Text, 330, false),
        (DataType::Boolean, 1_400, true),
    ] {
        let fields = (0..count).map(|at| field(&format!("c{at}"), data_type)).collect();
        let schema = StreamSchema::new(fields);
        let long: String = (0..3_000).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
        let column = |_| -> ArrayRef {
            match data_type {
                DataType::Int64 => Arc::new(Int64Array::from(vec![1])),
                DataType::Text => Arc::new(StringArray::from(vec![long.as_str()])),
                _ => Arc::new(BooleanArray::from(vec![true])),
            }
        };
        let batch = batch_of(&schema, (0..count).map(column).collect());
        let refused = owner.refuse(&schema, &batch);
        assert_eq!(
            refused.iter().map(|r| r.reason).collect::<Vec<_>>(),
            if fits { vec![] } else { vec!["row-too-large"] }
        );
        if fits {
            let part = append(&format!("{data_type:?}"), vec![staging.stage(0, &schema, &batch)]);
            owner.load(&chain.seal(vec![part]), &staging).await.unwrap();
        }
    }
}

#[tokio::test]
async fn rejected_records_are_kept_and_read_back() {
    use thimble_record::{
        Rejected, RejectedRow, SystemColumn, WriteMode, rejected::rejected_batch, rejected::rejected_schema,
    };
    let (base, staging, mut chain) = (Base::new(), Staging::default(), Chain::new());
    let owner = base.owner();
    assert!(owner.rejected(&connection(), None, 10).await.unwrap().is_empty());
    let row = |stream: &str, sequence, raw: &str, replayed_at| RejectedRow {
        rejected: Rejected::new(stream, "nul-in-text", "it has a NUL", raw),
        sequence,
        plugin_digest: "d".into(),
        replayed_at,
    };
    let mut schema = rejected_schema();
    schema.fields.push(field(thimble_record::SystemNaming::Thimble.name(SystemColumn::Sequence), DataType::Int64));
    let mut load = |rows: Vec<RejectedRow>, first: i64| {
        let batch = rejected_batch(&rows);
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(Int64Array::from_iter_values(first..first + rows.len() as i64)));
        let mut part = append(rejected::REJECTED_STREAM, vec![staging.stage(0, &schema, &batch_of(&schema, columns))]);
        part.mode = WriteMode::Upsert;
        part.key = rejected::REJECTED_KEY.map(str::to_owned).to_vec();
        chain.seal(vec![part])
    };
    let batch = load(vec![row("b", 1, "{\"a\":\"\0\"}", None), row("a", 2, "x", None), row("B", 3, "y", None)], 1);
    owner.load(&batch, &staging).await.unwrap();
    let found = owner.rejected(&connection(), None, 10).await.unwrap();
    let places: Vec<_> = found.iter().map(|row| (row.rejected.stream.as_str(), row.sequence)).collect();
    assert_eq!(places, [("B", 3), ("a", 2), ("b", 1)]);
    assert_eq!(found[2].rejected.raw, "{\"a\":\"\u{2400}\"}");
    let batch = load(vec![row("a", 2, "x", Some(5))], 10);
    let counts = owner.load(&batch, &staging).await.unwrap().streams[0];
    assert_eq!((counts.loaded, counts.merged), (0, 1));
    let after = owner.rejected(&connection(), Some(("B".into(), 3)), 10).await.unwrap();
    assert_eq!(after.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1]);
    assert_eq!(owner.rejected(&connection(), None, 1).await.unwrap().len(), 1);
}
