//! `thimble tables`.

use serde_json::json;

use crate::{
    cli::Global,
    context::{Context, connection_id, runtime},
    exit::CliError,
    output::{Output, Table, count, size},
    wiring::{self, Opened},
};
use thimble_load::{
    Destination, TableInfo,
    lake::{Lake, Table as LakeTable},
};
use thimble_record::ConnectionId;

/// List the tables of a connection in its destination.
#[derive(Debug, clap::Args)]
pub struct Tables {
    /// The connection.
    connection: String,
}

/// Lists them.
pub fn run(arguments: &Tables, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::existing(global, output)?;
    let id = connection_id(&arguments.connection)?;
    runtime(1)?.block_on(async {
        match wiring::destination_of(&context, &id).await? {
            Opened::Lake(lake) => {
                let tables = lake.tables(&id).await.map_err(|error| error.failure())?;
                refuse_unknown(&context, &id, tables.is_empty()).await?;
                show_lake(&lake, &id, &tables, output)
            }
            Opened::Postgres(postgres) => {
                let tables = postgres.tables(&id).await.map_err(|error| error.failure())?;
                refuse_unknown(&context, &id, tables.is_empty()).await?;
                show(&id, &tables, output)
            }
        }
    })
}

/// Tells a connection without tables from a name that does not exist.
async fn refuse_unknown(context: &Context, id: &ConnectionId, empty: bool) -> Result<(), CliError> {
    if empty {
        context.store().await?.connection(id).await?;
    }
    Ok(())
}

fn show(id: &ConnectionId, tables: &[TableInfo], output: Output) -> Result<(), CliError> {
    let described: Vec<_> = tables
        .iter()
        .map(|TableInfo { stream, location, rows, bytes }| {
            json!({ "stream": stream, "location": location, "rows": rows, "bytes": bytes })
        })
        .collect();
    output.show(&json!({ "connection": id, "tables": described }), |out| {
        let mut shown = Table::new(&["stream", "rows#", "size#", "table"]);
        for TableInfo { stream, location, rows, bytes } in tables {
            shown.row([stream.clone(), count(*rows), bytes.map_or_else(String::new, size), location.clone()]);
        }
        shown.write(out)
    })
}

fn show_lake(lake: &Lake, id: &ConnectionId, tables: &[LakeTable], output: Output) -> Result<(), CliError> {
    let place = |table: &str| lake.location(&format!("{id}/{table}/current"));
    let described: Vec<_> = tables
        .iter()
        .map(|table| {
            json!({
                "stream": table.stream,
                "location": place(&table.table),
                "generation": table.generation,
                "rows": table.rows,
                "bytes": table.bytes,
                "files": table.files,
                "fields": table.schema.fields,
            })
        })
        .collect();
    output.show(&json!({ "connection": id, "tables": described }), |out| {
        let mut shown = Table::new(&["stream", "rows#", "columns#", "files#", "size#", "parquet"]);
        for table in tables {
            shown.row([
                table.stream.clone(),
                count(table.rows),
                table.schema.fields.len().to_string(),
                table.files.to_string(),
                size(table.bytes),
                place(&table.table),
            ]);
        }
        shown.write(out)
    })
}
