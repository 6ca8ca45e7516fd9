//! `thimble tables`.

use serde_json::json;

use crate::{
    cli::Global,
    context::{Context, connection_id, runtime},
    exit::CliError,
    output::{Output, Table, count, size},
    wiring,
};

/// List the tables of a connection in the lake.
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
        let lake = wiring::lake(&context)?;
        let tables = lake.tables(&id).await.map_err(|error| error.failure())?;
        if tables.is_empty() {
            // Tells a connection without tables from a name that does not exist.
            context.store().await?.connection(&id).await?;
        }
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
            for table in &tables {
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
    })
}
