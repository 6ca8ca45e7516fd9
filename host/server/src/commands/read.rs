//! `thimble read`.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use futures::TryStreamExt;
use serde_json::Value;
use thimble_load::{Destination, lake::Scan, postgres::Postgres};
use thimble_record::{ConnectionId, DataType, Field};

use crate::{
    cli::Global,
    context::{Context, connection_id, runtime},
    exit::{CliError, Exit},
    output::{Format, Output, Table},
    wiring::{self, Opened},
};

/// Records of a text table where no limit is given: about a screenful.
const TABLE_LIMIT: u64 = 20;

/// Longest cell of a text table, in characters.
const MAX_CELL: usize = 60;

/// Columns that the host adds start with this.
const SYSTEM_PREFIX: &str = "_thimble_";

/// Print records of a table of the lake.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble read flights airports --limit 5\n  thimble read flights airports --format csv > airports.csv\n  thimble read flights _thimble_rejected --format json    what was rejected, and why"
)]
pub struct Read {
    /// The connection.
    connection: String,
    /// The stream.
    stream: String,
    /// At most so many records [default: 20 for a table, else all].
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Form of the records; json is one object a line, `--output json` one array.
    #[arg(long, value_enum, default_value_t = Form::Table)]
    format: Form,
    /// Show the columns that the host adds, too.
    #[arg(long)]
    system: bool,
}

/// Form of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Columns for people.
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values with a header line.
    Csv,
    /// One array: what `--output json` asks for where `--format` does not say otherwise.
    #[value(skip)]
    Document,
}

/// Prints them.
pub fn run(arguments: &Read, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::existing(global, output)?;
    let id = connection_id(&arguments.connection)?;
    let form = match (arguments.format, output.format) {
        (Form::Table, Format::Json) => Form::Document,
        (form, _) => form,
    };
    let limit = arguments.limit.or((form == Form::Table).then_some(TABLE_LIMIT));
    runtime(1)?.block_on(async {
        let lake = match wiring::destination_of(&context, &id).await? {
            Opened::Lake(lake) => lake,
            Opened::Postgres(postgres) => return Err(not_here(&postgres, &id, &arguments.stream).await?),
        };
        if !lake.holds(&id, &arguments.stream).await.map_err(|error| error.failure())? {
            let message = format!("the lake has no table of the stream {} of connection {id}", arguments.stream);
            return Err(CliError::new(Exit::NotFound, message).hint(format!("thimble tables {id}")));
        }
        let scan = lake.scan(&id, &arguments.stream, limit).await.map_err(|error| error.failure())?;
        print(scan, form, arguments.system).await
    })
}

/// A database has better readers than this one: tells how to ask it.
async fn not_here(postgres: &Postgres, id: &ConnectionId, stream: &str) -> Result<CliError, CliError> {
    let tables = postgres.tables(id).await.map_err(|error| error.failure())?;
    let Some(table) = tables.into_iter().find(|table| table.stream == stream) else {
        let message = format!("the destination has no table of the stream {stream} of connection {id}");
        return Ok(CliError::new(Exit::NotFound, message).hint(format!("thimble tables {id}")));
    };
    let message = format!("connection {id} loads into PostgreSQL; `thimble read` reads lakes only");
    let hint = format!("psql -c 'select * from {} limit 20' and the destination's URL", table.location);
    Ok(CliError::new(Exit::Usage, message).hint(hint))
}

async fn print(scan: Scan, form: Form, system: bool) -> Result<(), CliError> {
    let Scan { schema, mut batches } = scan;
    let columns: Vec<usize> = (0..schema.fields().len())
        .filter(|at| system || !schema.field(*at).name().starts_with(SYSTEM_PREFIX))
        .collect();
    let names: Vec<String> = columns.iter().map(|at| schema.field(*at).name().clone()).collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut table = Table::owned(names.clone());
    let mut array = ArrayWriter::default();
    let mut written = if form == Form::Csv { csv_line(&mut out, &names) } else { Ok(()) };
    while written.is_ok()
        && let Some(batch) = batches.try_next().await.map_err(|error| error.failure())?
    {
        let batch = batch.project(&columns).expect("the columns are of this schema");
        written = match form {
            Form::Json => json_records(&batch, |record| {
                serde_json::to_writer(&mut out, &record)?;
                writeln!(out)
            }),
            Form::Document => json_records(&batch, |record| array.item(&mut out, &record)),
            Form::Csv => text_rows(&batch, |row| csv_line(&mut out, &row)),
            Form::Table => text_rows(&batch, |row| {
                table.cells(row.iter().map(|cell| shortened(cell)).collect());
                Ok(())
            }),
        };
    }
    written
        .and_then(|()| match form {
            Form::Table => table.write(&mut out),
            Form::Document => array.end(&mut out),
            Form::Json | Form::Csv => Ok(()),
        })
        .and_then(|()| out.flush())
        .or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(CliError::io("cannot write to standard output", &error)),
        })
}

/// Instants are printed by their offset, because the printer knows no zone names; ours are all UTC.
fn printable(column: &ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<types::TimestampMicrosecondType>() {
        Some(instants) if instants.timezone().is_some() => Arc::new(instants.clone().with_timezone("+00:00")),
        _ => Arc::clone(column),
    }
}

fn formatters<'a>(columns: &'a [ArrayRef], options: &'a FormatOptions<'a>) -> io::Result<Vec<ArrayFormatter<'a>>> {
    columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column, options))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)
}

/// Writes one JSON array, item by item.
#[derive(Default)]
struct ArrayWriter {
    items: u64,
}

impl ArrayWriter {
    fn item(&mut self, out: &mut dyn Write, item: &serde_json::Map<String, Value>) -> io::Result<()> {
        out.write_all(if self.items == 0 { b"[\n" } else { b",\n" })?;
        self.items += 1;
        Ok(serde_json::to_writer(out, item)?)
    }

    fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.items == 0 { b"[]\n" } else { b"\n]\n" })
    }
}

fn text_rows(batch: &RecordBatch, mut each: impl FnMut(Vec<String>) -> io::Result<()>) -> io::Result<()> {
    let options = FormatOptions::default();
    let columns: Vec<ArrayRef> = batch.columns().iter().map(printable).collect();
    let formatters = formatters(&columns, &options)?;
    (0..batch.num_rows()).try_for_each(|row| each(formatters.iter().map(|cell| cell.value(row).to_string()).collect()))
}

fn shortened(cell: &str) -> String {
    let plain: String = cell.chars().take(MAX_CELL).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if plain.len() < cell.len() { format!("{plain}…") } else { plain }
}

fn csv_line(out: &mut dyn Write, cells: &[String]) -> io::Result<()> {
    for (at, cell) in cells.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        if cell.contains(['"', ',', '\n', '\r']) {
            write!(out, "{comma}\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{cell}")?;
        }
    }
    writeln!(out)
}

fn json_records(
    batch: &RecordBatch,
    mut each: impl FnMut(serde_json::Map<String, Value>) -> io::Result<()>,
) -> io::Result<()> {
    let schema = batch.schema();
    let kinds: Vec<Option<DataType>> =
        schema.fields().iter().map(|field| Field::from_arrow(field).map(|field| field.data_type)).collect();
    let options = FormatOptions::default();
    let columns: Vec<ArrayRef> = batch.columns().iter().map(printable).collect();
    let formatters = formatters(&columns, &options)?;
    for row in 0..batch.num_rows() {
        let mut record = serde_json::Map::new();
        for (at, field) in schema.fields().iter().enumerate() {
            let text = || formatters[at].value(row).to_string();
            record.insert(field.name().clone(), cell(batch.column(at), kinds[at], row, text));
        }
        each(record)?;
    }
    Ok(())
}

/// A value as JSON. Decimals, times and bytes are text: JSON has no type that keeps them.
fn cell(column: &dyn Array, kind: Option<DataType>, row: usize, text: impl Fn() -> String) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match kind {
        Some(DataType::Boolean) => Value::Bool(column.as_boolean().value(row)),
        Some(DataType::Int64) if let Some(numbers) = column.as_primitive_opt::<types::Int64Type>() => {
            numbers.value(row).into()
        }
        Some(DataType::Float64) if let Some(numbers) = column.as_primitive_opt::<types::Float64Type>() => {
            serde_json::Number::from_f64(numbers.value(row)).map_or_else(|| Value::String(text()), Value::Number)
        }
        Some(DataType::Json) => serde_json::from_str(&text()).unwrap_or_else(|_| Value::String(text())),
        _ => Value::String(text()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use thimble_record::StreamSchema;

    use super::*;

    fn batch() -> RecordBatch {
        let field = |name: &str, data_type| Field { name: name.into(), data_type, nullable: true };
        let schema = StreamSchema::new(vec![
            field("id", DataType::Int64),
            field("ok", DataType::Boolean),
            field("price", DataType::Float64),
            field("doc", DataType::Json),
            field("name", DataType::Text),
            field("at", DataType::TimestampTz),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None])),
            Arc::new(BooleanArray::from(vec![true, false])),
            Arc::new(Float64Array::from(vec![1.5, f64::NAN])),
            Arc::new(StringArray::from(vec![r#"{"a":[1]}"#, "not json"])),
            Arc::new(StringArray::from(vec!["a \"b\", c", "x\ny"])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000]).with_timezone("UTC")),
        ];
        RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
    }

    #[test]
    fn json_keeps_types_and_large_numbers() {
        let mut array = ArrayWriter::default();
        let mut out = Vec::new();
        json_records(&batch(), |record| array.item(&mut out, &record)).unwrap();
        array.end(&mut out).unwrap();
        let lines: Vec<Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(lines[0]["id"], 9_007_199_254_740_993_i64);
        assert_eq!(lines[0]["doc"]["a"][0], 1);
        assert_eq!(lines[1]["id"], Value::Null);
        assert_eq!(lines[1]["price"], "NaN");
        assert_eq!(lines[1]["doc"], "not json");
        assert_eq!(lines[0]["at"], "1970-01-01T00:00:00Z");
        assert_eq!(lines[1]["at"], "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn no_records_are_an_empty_array() {
        let mut out = Vec::new();
        ArrayWriter::default().end(&mut out).unwrap();
        assert_eq!(out, b"[]\n");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        text_rows(&batch(), |row| csv_line(&mut out, &row)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("9007199254740993,true,1.5,\"{\"\"a\"\":[1]}\",\"a \"\"b\"\", c\",1970-01-01T00:00:00Z\n"),
            "{text}"
        );
        assert!(text.contains("\"x\ny\",1970-01-01T00:00:01.500Z\n"), "{text}");
    }

    #[test]
    fn cells_are_cut_and_cannot_control_the_terminal() {
        assert_eq!(shortened("\u{1b}[31mred"), " [31mred");
        assert_eq!(shortened(&"é".repeat(100)).chars().count(), MAX_CELL + 1);
    }
}
