//! `thimble backfill`.

use serde_json::{Map, Value, json};

use super::{recording::Recording, sync};
use crate::{
    cli::Global,
    exit::{CliError, Exit},
    output::Output,
};

/// Read a part of the source again, beside the live position
///
/// Settings of the connector that bound the read, such as its start and end dates, are given by `--set`. The backfill
/// has a position of its own, so that the next sync goes on where the last one ended. One that was interrupted goes on
/// when it is started again by the same name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  thimble backfill shop year-2024 --stream orders --set start_date=2024-01-01 --set end_date=2025-01-01"
)]
pub struct Backfill {
    /// The connection.
    connection: String,
    /// Name of the backfill: lower-case letters, digits, `-` and `_`.
    name: String,
    /// Only this stream; may be given several times.
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// A setting that differs for this read: JSON, or else text; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Reads it.
pub fn run(arguments: Backfill, global: &Global, output: Output) -> Result<(), CliError> {
    let Backfill { connection, name, streams, settings } = arguments;
    let mut config = Map::new();
    for setting in &settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| CliError::new(Exit::Usage, format!("--set {setting}: expected KEY=VALUE")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        config.insert(key.to_owned(), value);
    }
    let request = json!({ "streams": streams, "backfill": { "name": name, "config": config } });
    sync::execute(&connection, request, Recording::default(), global, output)
}
