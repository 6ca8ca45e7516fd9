//! `thimble replay`.

use serde_json::json;

use super::{recording::Recording, sync};
use crate::{cli::Global, exit::CliError, output::Output};

/// Try rejected records again, after what was wrong was put right
///
/// The source is not asked: the records are those that the rejected-records table holds. Each that becomes a row leaves
/// that table in the same commit. In a table with a key it does not overwrite what came after it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble replay flights\n  thimble replay flights --stream airports --reason type-conflict"
)]
pub struct Replay {
    /// The connection.
    connection: String,
    /// Only this stream; may be given several times.
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Only records rejected for this reason; may be given several times.
    #[arg(long = "reason", value_name = "CODE")]
    reasons: Vec<String>,
}

/// Replays.
pub fn run(arguments: Replay, global: &Global, output: Output) -> Result<(), CliError> {
    let Replay { connection, streams, reasons } = arguments;
    let request = json!({ "streams": streams, "replay": { "reasons": reasons } });
    sync::execute(&connection, request, Recording::default(), global, output)
}
