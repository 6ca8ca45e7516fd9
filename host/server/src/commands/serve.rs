//! `thimble serve`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::json;
use thimble_control::{ControlSettings, Executor, ReconcileSettings, Rejects, Retention, Signals};
use thimble_pipeline::Worker;
use thimble_record::{ConnectionId, Failure, RejectedRow};
use thimble_store::{RunKind, RunRow};
use tokio_util::sync::CancellationToken;

use super::stop;
use crate::{
    cli::Global,
    config::{Config, Workers},
    connection_config::Sealer,
    connections,
    context::{Context, now_ms, runtime},
    destinations::Kinds,
    exit::{CliError, Exit},
    first_token::{self, FIRST_TOKEN, FirstToken},
    key_file::FileRotation,
    memory, observing,
    output::Output,
    recorder::{self, Recorder, Which},
    wiring::{self, Wired},
};

/// Run the server: HTTP API, reconcilers and runs.
///
/// SIGINT and SIGTERM stop it: running syncs end at their next checkpoint, and go on there after the next start.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  thimble serve --data /var/lib/thimble --listen 127.0.0.1:8642\n  curl -H \"authorization: Bearer $(cat /var/lib/thimble/api-token)\" http://127.0.0.1:8642/api/v1/runs"
)]
pub struct Serve {
    /// Address and port; outranks the configuration file.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Serves until it is asked to stop.
pub fn run(arguments: &Serve, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::create(global, output, None)?;
    let address = arguments.listen.unwrap_or(context.config.listen.0);
    runtime(context.threads())?.block_on(serve(&context, address))
}

async fn serve(context: &Context, address: SocketAddr) -> Result<(), CliError> {
    refuse_remote(address, context.config.api.allow_remote)?;
    let shutdown = CancellationToken::new();
    stop::on_signals(shutdown.clone())?;
    // The address first: a second server on the same data ends here, before it touches anything.
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        CliError::new(Exit::Conflict, format!("cannot listen on {address}: {error}"))
            .hint("choose another address with --listen or the setting `listen`")
    })?;
    let bound = listener.local_addr().map_err(|error| CliError::io("the socket has no address", &error))?;
    let wired = wiring::wire(context).await?;
    apply_file(context, &wired).await;
    let token_file = context.config.api.token_file.as_deref();
    let token = first_token::prepare(&context.data, token_file, &wired.worker.store, &wired.keys, now_ms()).await?;
    let signals = Signals::default();
    let blobs_dir = context.data.uploads()?;
    let control = ControlSettings {
        store: wired.worker.store.clone(),
        keys: wired.keys.clone(),
        rotation: Arc::new(FileRotation(Arc::clone(&wired.key_file))),
        limits: (&context.config.limits.api).into(),
        blobs_dir: blobs_dir.clone(),
        rejects: Arc::new(DestinationRejects(wired.worker.clone())),
        destination_kinds: Arc::new(Kinds { configured: context.config.destinations.keys().cloned().collect() }),
        sealer: Arc::new(Sealer(wired.keys.clone())),
        signals: signals.clone(),
        clock: Arc::new(now_ms),
        observe: observing::observe(context, &wired, bound)?,
        shutdown: shutdown.clone(),
    };
    let courier = observing::courier(context, &wired, &control);
    let measures = Arc::clone(&control.observe.measures);
    let executor = Arc::new(RunExecutor { worker: wired.worker.clone(), blobs_dir });
    let reconciler = tokio::spawn(thimble_control::reconcile(
        wired.worker.store.clone(),
        executor,
        signals,
        ReconcileSettings { measures, ..reconcile_settings(&context.config, &wired.worker) },
        shutdown.clone(),
    ));
    announce(context, bound, &token)?;
    let served = thimble_control::serve(listener, control).await;
    tracing::info!("stopping: running syncs end at their next checkpoint");
    shutdown.cancel();
    let reconciled = reconciler.await;
    // What it was sending is claimed again by whoever comes next.
    courier.abort();
    wired.worker.store.close().await;
    served.map_err(|error| CliError::io("the HTTP API stopped", &error))?;
    reconciled.map_err(|error| CliError::new(Exit::Failed, format!("the reconciler stopped: {error}")))
}

/// Stores the connections of the file. One that cannot be stored (its plugin is not installed yet, for one) must
/// not keep the others from running.
async fn apply_file(context: &Context, wired: &Wired) {
    for (name, connection) in &context.config.connections {
        match connections::apply(&wired.worker.store, &wired.keys, name, connection, now_ms()).await {
            Ok(applied) => tracing::debug!(connection = name, ?applied, "connection of the configuration file"),
            Err(error) => tracing::warn!(connection = name, error = %error, "connection of the file not applied"),
        }
    }
}

/// The token itself is shown once, to a person at the start that made it.
fn announce(context: &Context, bound: SocketAddr, token: &FirstToken) -> Result<(), CliError> {
    let url = format!("http://{bound}");
    let FirstToken { file, made } = token;
    let document = json!({ "url": url, "token_file": file, "data": context.data.root(), "pid": std::process::id() });
    let mut text = format!("Thimble listens on {url}\n  data   {}", context.data.root().display());
    if let Some(file) = file {
        text.push_str(&format!("\n  token  {}", file.display()));
    }
    if let Some(token) = made {
        text.push_str(&format!(
            "\n         {} (an admin's, shown this once)\n         make others with `thimble token create`, then revoke \
             this one with `thimble token revoke {FIRST_TOKEN}` and remove its file",
            token.expose_secret()
        ));
    }
    context.output.line(&document, &text)
}

/// Tokens cross the network as they are; so this machine alone is listened to unless the operator says otherwise.
fn refuse_remote(address: SocketAddr, allowed: bool) -> Result<(), CliError> {
    if allowed || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let message = format!("other machines reach {address}, and the setting api.allow_remote does not allow that");
    Err(CliError::new(Exit::Usage, message)
        .hint("listen on 127.0.0.1 behind a proxy with TLS, or set `api: {allow_remote: true}`"))
}

fn reconcile_settings(config: &Config, worker: &Worker) -> ReconcileSettings {
    let Workers { runs, memory, partitions: _, lease, threads: _ } = &config.limits.workers;
    let retention = &config.limits.retention;
    let mut settings = ReconcileSettings::new(worker.holder());
    settings.concurrency = *runs as usize;
    settings.memory_bytes = memory.map_or_else(memory::for_runs, |bytes| bytes.0);
    settings.ttl = lease.0;
    settings.heartbeat = lease.0 / 3;
    settings.retention = Retention { logs: retention.logs.0, runs: retention.runs.0, ..Retention::default() };
    settings
}

/// Reads rejected records where they are.
struct DestinationRejects(Worker);

#[async_trait]
impl Rejects for DestinationRejects {
    async fn rejected(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, Failure> {
        self.0.rejected(connection, after, limit).await
    }
}

/// Executes what the reconciler claimed.
struct RunExecutor {
    worker: Worker,
    blobs_dir: PathBuf,
}

impl RunExecutor {
    /// The uploaded component of an install run. Only names that the API gives its uploads are followed.
    fn upload(&self, run: &RunRow) -> Option<PathBuf> {
        let name = run.request.get("blob")?.as_str()?;
        let digest = name.strip_suffix(".wasm")?;
        let valid = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        (run.kind == RunKind::Install && valid).then(|| self.blobs_dir.join(name))
    }
}

#[async_trait]
impl Executor for RunExecutor {
    async fn execute(&self, mut run: RunRow, cancel: CancellationToken) {
        let upload = self.upload(&run);
        if let Some(file) = &upload {
            run.subject = Some(file.display().to_string());
        }
        let id = run.id.clone();
        let recorder = Arc::new(Recorder::default());
        let work = self.worker.execute(run, Arc::clone(&recorder) as _, cancel);
        let ended = recorder::record(recorder, self.worker.store.clone(), Which::Known(id.clone()), work).await;
        match ended {
            Ok(run) => tracing::info!(run = %id, status = ?run.status, "run ended"),
            Err(error) => tracing::warn!(run = %id, error = %error.failure(), "the outcome of a run cannot be stored"),
        }
        if let Some(file) = upload
            && let Err(error) = tokio::fs::remove_file(&file).await
        {
            tracing::warn!(file = %file.display(), %error, "an uploaded component cannot be removed");
        }
        // Off the async threads; nobody needs to wait for it.
        drop(tokio::task::spawn_blocking(memory::give_back));
    }
}
