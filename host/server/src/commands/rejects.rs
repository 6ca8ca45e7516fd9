//! `thimble rejects`.

use serde_json::json;
use thimble_record::RejectedRow;

use crate::{
    cli::Global,
    context::{Context, connection_id, runtime},
    exit::CliError,
    output::{Output, Table},
    wiring,
};

/// Rejected records that are read at a time.
const PAGE: usize = 1_000;

/// Longest message and raw record of a text table, in characters.
const MAX_CELL: usize = 80;

/// List rejected records that wait for a replay.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble rejects flights\n  thimble replay flights --reason type-conflict    try them again, after the fix"
)]
pub struct Rejects {
    /// The connection.
    connection: String,
    /// Only this stream.
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

/// Lists them.
pub fn run(arguments: &Rejects, global: &Global, output: Output) -> Result<(), CliError> {
    let Rejects { connection, stream, limit } = arguments;
    let context = Context::existing(global, output)?;
    let id = connection_id(connection)?;
    let found = runtime(1)?.block_on(async {
        let destination = wiring::destination_of(&context, &id).await?.destination();
        let mut found: Vec<RejectedRow> = Vec::new();
        let mut after = None;
        loop {
            let page = destination.rejected(&id, after.clone(), PAGE).await.map_err(|error| error.failure())?;
            let Some(last) = page.last() else { break };
            after = Some((last.rejected.stream.clone(), last.sequence));
            found
                .extend(page.into_iter().filter(|row| stream.as_ref().is_none_or(|only| row.rejected.stream == *only)));
            if found.len() >= *limit {
                break;
            }
        }
        found.truncate(*limit);
        Ok::<_, CliError>(found)
    })?;
    show(&found, output)
}

fn show(found: &[RejectedRow], output: Output) -> Result<(), CliError> {
    let described: Vec<_> = found
        .iter()
        .map(|row| {
            json!({
                "stream": row.rejected.stream,
                "record_sequence": row.sequence,
                "reason": row.rejected.reason,
                "message": row.rejected.message,
                "raw": row.rejected.raw,
                "truncated": row.rejected.truncated,
                "plugin_digest": row.plugin_digest,
            })
        })
        .collect();
    output.show(&described, |out| {
        let mut table = Table::new(&["stream", "reason", "message", "record"]);
        for RejectedRow { rejected, .. } in found {
            let printable = |c: char| if c.is_control() { ' ' } else { c };
            let short = |text: &str| text.chars().take(MAX_CELL).map(printable).collect::<String>();
            table.row([
                rejected.stream.clone(),
                rejected.reason.clone(),
                short(&rejected.message),
                short(&rejected.raw),
            ]);
        }
        table.write(out)
    })
}
