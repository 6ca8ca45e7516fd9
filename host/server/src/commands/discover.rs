//! `thimble discover`.

use std::sync::Arc;

use thimble_pipeline::RunEvent;
use thimble_record::{Catalog, Stream};
use thimble_store::RunKind;

use super::{
    execute::{self, Asked, Executed, failure_of},
    recording::Recording,
    runs::word,
};
use crate::{
    cli::Global,
    exit::{CliError, Exit},
    output::{Output, Table},
};

/// List the streams that a connection's source offers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble discover flights\n  thimble discover flights --stream airports    its fields"
)]
pub struct Discover {
    /// The connection.
    connection: String,
    /// Show the fields of this stream.
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
}

/// Discovers.
pub fn run(arguments: &Discover, global: &Global, output: Output) -> Result<(), CliError> {
    let asked = Asked {
        connection: &arguments.connection,
        kind: RunKind::Discover,
        request: serde_json::Value::Null,
        watch: Arc::new(|_: RunEvent| {}),
        recording: Recording::default(),
    };
    execute::run(asked, global, output, async |Executed { id, run, .. }| {
        if let Some(error) = failure_of(&run) {
            return Err(error);
        }
        let answer = run.report.get("answer").cloned().unwrap_or_default();
        let catalog: Catalog = serde_json::from_value(answer)
            .map_err(|error| CliError::new(Exit::Failed, format!("the catalog cannot be read: {error}")))?;
        match &arguments.stream {
            None => show_catalog(&catalog, output),
            Some(name) => {
                let stream = catalog.stream(name).ok_or_else(|| {
                    CliError::new(Exit::NotFound, format!("the source of {id} has no stream {name}"))
                        .hint(format!("thimble discover {id}"))
                })?;
                show_stream(stream, output)
            }
        }
    })
}

fn show_catalog(catalog: &Catalog, output: Output) -> Result<(), CliError> {
    output.show(catalog, |out| {
        let mut table = Table::new(&["stream", "fields#", "key", "methods", "cursor"]);
        for Stream { name, schema, key, methods, cursor } in &catalog.streams {
            table.row([
                name.clone(),
                schema.fields.len().to_string(),
                if key.is_empty() { "-".into() } else { key.join(", ") },
                methods.iter().map(word).collect::<Vec<_>>().join(", "),
                cursor.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
        table.write(out)
    })
}

fn show_stream(stream: &Stream, output: Output) -> Result<(), CliError> {
    output.show(stream, |out| {
        let mut table = Table::new(&["field", "type", "null"]);
        for field in &stream.schema.fields {
            let nullable = if field.nullable { "yes" } else { "no" };
            table.row([field.name.clone(), field.data_type.short_name().into(), nullable.into()]);
        }
        table.write(out)
    })
}
