//! The connector of the bench: generated rows as Arrow and as JSON lines, a paged JSON API, and a stream that never ends.

use std::{fmt::Write, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use serde::Deserialize;
use thimble_sdk::prelude::*;

#[derive(Deserialize)]
struct Config {
    /// Base URL of the paged API; the generated streams need none.
    #[serde(default)]
    url: String,
    /// Rows of a generated stream.
    #[serde(default)]
    rows: u64,
    /// Pages between two checkpoints.
    #[serde(default = "one")]
    checkpoint_pages: u64,
}

fn one() -> u64 {
    1
}

const BATCH: u64 = 10_000;
const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "url": {"type": "string", "default": ""},
    "rows": {"type": "integer", "minimum": 0},
    "checkpoint_pages": {"type": "integer", "minimum": 1}
  },
  "additionalProperties": false
}"#;

struct Bench;

impl Source for Bench {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("bench", env!("CARGO_PKG_VERSION"))
            .title("Bench")
            .docs("Generates rows, or reads a paged JSON API as fast as the host takes them.")
            .config_schema(SCHEMA)
            .host("{{ url }}")
    }

    fn discover(_config: &Config) -> Result<Catalog> {
        let full = |name: &str| Stream::new(name).methods(vec![Method::FullTable]);
        let issues = ["created_at", "updated_at", "closed_at"]
            .into_iter()
            .fold(Stream::new("issues").key(["id"]), |stream, name| stream.field(name, DataType::TimestampTz));
        Ok(Catalog::new([full("rows_arrow"), full("rows_json"), full("spin"), issues.incremental("page")]))
    }

    fn read(config: &Config, request: &ReadRequest, sink: &mut Sink) -> Result<()> {
        match request.stream.name.as_str() {
            "rows_arrow" => rows(config, sink, |sink, from, to| sink.arrow(&arrow_rows(from, to)?)),
            "rows_json" => rows(config, sink, |sink, from, to| sink.json_page(json_rows(from, to).as_bytes())),
            "spin" => spin(),
            _ => pages(config, request, sink),
        }
    }
}

thimble_sdk::register_source!(Bench);

/// Computes for ever, as a connector with a defect would.
fn spin() -> Result<()> {
    let mut number: u64 = 1;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        if number == 0 {
            return Ok(());
        }
    }
}

fn rows(config: &Config, sink: &mut Sink, emit: impl Fn(&mut Sink, u64, u64) -> Result<()>) -> Result<()> {
    let mut from = 0;
    while from < config.rows {
        let to = (from + BATCH).min(config.rows);
        emit(sink, from, to)?;
        sink.checkpoint(&to)?;
        from = to;
    }
    Ok(())
}

/// Twelve columns: six integers and doubles, two instants, a flag, three texts.
fn arrow_rows(from: u64, to: u64) -> Result<RecordBatch> {
    let ids = || from.cast_signed()..to.cast_signed();
    let int = |f: fn(i64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(ids().map(f))) };
    let double = |f: fn(i64) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(ids().map(f))) };
    let time = |offset: i64| -> ArrayRef {
        let micros = ids().map(|id| 1_700_000_000_000_000 + id * 1_000 + offset);
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    };
    let text = |prefix: &str, modulus: i64| -> ArrayRef {
        // As from a typed source: texts are there already and are only copied into the column.
        let pool: Vec<String> = (0..modulus).map(|id| format!("{prefix}-{id}")).collect();
        Arc::new(StringArray::from_iter_values(ids().map(|id| pool[(id % modulus) as usize].as_str())))
    };
    let flags: ArrayRef = Arc::new(BooleanArray::from_iter(ids().map(|id| Some(id % 3 == 0))));
    let columns: [(&str, ArrayRef); 12] = [
        ("id", int(|id| id)),
        ("account", int(|id| id % 9_973)),
        ("quantity", int(|id| id % 100)),
        ("price", double(|id| id as f64 * 0.25)),
        ("discount", double(|id| (id % 7) as f64 / 8.0)),
        ("weight", double(|id| (id % 1_000) as f64 * 1.5)),
        ("created_at", time(0)),
        ("updated_at", time(500)),
        ("active", flags),
        ("country", text("country", 193)),
        ("sku", text("sku-number", 499)),
        ("note", text("a note that is somewhat longer than a code", 997)),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// The same rows as JSON lines, about 236 bytes each.
fn json_rows(from: u64, to: u64) -> String {
    let mut out = String::with_capacity(usize::try_from(to - from).unwrap_or(0) * 240);
    for id in from..to {
        let (account, quantity, country, sku) = (id % 9_973, id % 100, id % 193, id % 100_000);
        let (price, discount, weight) = (id as f64 * 0.25, (id % 7) as f64 / 8.0, (id % 1_000) as f64 * 1.5);
        let second = id % 60;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            r#"{{"id":{id},"account":{account},"quantity":{quantity},"price":{price},"discount":{discount},"weight":{weight},"created_at":"2024-01-01T00:00:{second:02}Z","updated_at":"2024-01-01T00:00:{second:02}.5Z","active":{},"country":"country-{country}","sku":"sku-number-{sku}","note":"a note-{id}"}}"#,
            id % 3 == 0
        );
    }
    out
}

/// `GET {url}/issues?page=N` until a page is empty; the body goes on as it came.
fn pages(config: &Config, request: &ReadRequest, sink: &mut Sink) -> Result<()> {
    let url = format!("{}/issues", config.url);
    let mut page: u64 = request.cursor()?.unwrap_or(1);
    loop {
        let body = http::get(&url).query("page", page).send()?.bytes()?;
        if body.len() <= 2 {
            return sink.checkpoint(&page);
        }
        sink.json_page(&body)?;
        page += 1;
        if page.is_multiple_of(config.checkpoint_pages) {
            sink.checkpoint(&page)?;
        }
    }
}
