//! `thimble worker`.

use std::{net::SocketAddr, sync::Arc};

use serde_json::json;
use thimble_control::Signals;
use tokio_util::sync::CancellationToken;

use super::stop;
use crate::{
    cli::Global,
    context::{Context, runtime},
    executing::{self, RunExecutor, keep_warm},
    exit::{CliError, Exit},
    output::Output,
    wiring,
};

/// Execute runs of a control database that several machines share.
///
/// Needs `store.url` (PostgreSQL), staging and destinations that all machines reach, and the same host key as `thimble
/// serve`. A worker that dies is replaced: another one goes on where it stopped, within seconds.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  THIMBLE_HOST_KEY_FILE=/etc/thimble/host.key thimble worker --config thimble.yaml --capacity 8"
)]
pub struct Worker {
    /// Most runs at once [default: limits.workers.runs of the configuration].
    #[arg(long, value_name = "RUNS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    capacity: Option<u32>,
    /// Address and port of /livez and /readyz [default: none].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Works until it is asked to stop.
pub fn run(arguments: &Worker, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::create(global, output, None)?;
    runtime(context.threads())?.block_on(work(&context, arguments))
}

async fn work(context: &Context, arguments: &Worker) -> Result<(), CliError> {
    refuse_lonely(context)?;
    let shutdown = CancellationToken::new();
    stop::on_signals(shutdown.clone())?;
    let listener = match arguments.listen {
        None => None,
        Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(|error| {
            CliError::new(Exit::Conflict, format!("cannot listen on {address}: {error}"))
                .hint("choose another address with --listen")
        })?),
    };
    let wired = wiring::wire(context).await?;
    executing::prepare(&wired).await?;
    executing::warn_of_folders(&context.config);
    let capacity = arguments.capacity.unwrap_or(context.config.limits.workers.runs) as usize;
    let settings = executing::settings(&context.config, &wired.worker, "worker", capacity);
    let bound = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let store = wired.worker.store.clone();
    let health =
        listener.map(|listener| tokio::spawn(thimble_control::serve_health(listener, store.clone(), shutdown.clone())));
    let document = json!({
        "holder": wired.worker.holder(), "capacity": capacity, "health": bound.map(|bound| format!("http://{bound}")),
        "pid": std::process::id(),
    });
    context.output.line(&document, &format!("Thimble works on {} with {capacity} runs at once", store.place()))?;
    let executor = Arc::new(RunExecutor::new(context, wired.worker.clone())?);
    let warming = tokio::spawn(keep_warm(wired.worker.clone(), shutdown.clone()));
    thimble_control::reconcile(store.clone(), executor, Signals::default(), settings, shutdown).await;
    if let Some(health) = health {
        // Nobody waits for an answer of it any more.
        health.abort();
    }
    warming.abort();
    store.close().await;
    Ok(())
}

/// A worker whose places are its own could load what nobody else sees.
fn refuse_lonely(context: &Context) -> Result<(), CliError> {
    if context.config.store.url.is_none() {
        return Err(CliError::new(Exit::Usage, "a worker shares a control database, and the configuration names none")
            .hint("set `store: {url: postgres://…}`, or run everything in one process with `thimble serve`"));
    }
    match executing::places_of_this_machine(&context.config).first() {
        None => Ok(()),
        Some(place) => {
            Err(CliError::new(Exit::Usage, format!("other machines cannot reach what this worker writes: {place}")))
        }
    }
}
