//! `thimble workers`.

use serde_json::json;
use thimble_control::WORKER_SILENCE;

use crate::{
    cli::Global,
    context::{Context, now_ms, small_runtime},
    exit::CliError,
    output::{Output, Table, instant},
};

/// List the processes that execute runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  thimble workers")]
pub struct Workers {}

/// Lists them.
pub fn run(_: &Workers, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::existing(global, output)?;
    small_runtime()?.block_on(async {
        let silence = i64::try_from(WORKER_SILENCE.as_millis()).unwrap_or(i64::MAX);
        let workers = context.store().await?.workers(now_ms().saturating_sub(silence)).await?;
        output.show(&json!({ "workers": workers }), |out| {
            let mut table = Table::new(&["host", "role", "version", "running#", "capacity#", "started", "holder"]);
            for standing in &workers {
                let worker = &standing.worker;
                table.row([
                    worker.host.clone(),
                    worker.role.clone(),
                    worker.version.clone(),
                    standing.running.to_string(),
                    worker.capacity.to_string(),
                    instant(worker.started_at),
                    worker.holder.clone(),
                ]);
            }
            table.write(out)
        })
    })
}
