//! `thimble check`.

use std::sync::Arc;

use serde_json::json;
use thimble_pipeline::RunEvent;
use thimble_store::RunKind;

use super::{
    execute::{self, Asked, Executed, failure_of},
    recording::Recording,
};
use crate::{cli::Global, exit::CliError, output::Output};

/// Prove that a connection's configuration works.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The connection.
    connection: String,
}

/// Checks.
pub fn run(arguments: &Check, global: &Global, output: Output) -> Result<(), CliError> {
    let asked = Asked {
        connection: &arguments.connection,
        kind: RunKind::Check,
        request: serde_json::Value::Null,
        watch: Arc::new(|_: RunEvent| {}),
        recording: Recording::default(),
    };
    execute::run(asked, global, output, async |Executed { id, run, .. }| {
        if let Some(error) = failure_of(&run) {
            return Err(error);
        }
        let message = run.report.pointer("/answer/message").and_then(serde_json::Value::as_str).unwrap_or("it works");
        let document = json!({ "ok": true, "connection": id, "message": message, "run": run.id });
        output.show(&document, |out| writeln!(out, "{id}: {message}"))
    })
}
