//! `thimble serve`.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::json;
use thimble_control::{ControlSettings, Packages, ReconcileSettings, Rejects, Signals};
use thimble_pipeline::Worker;
use thimble_record::{ConnectionId, Failure, RejectedRow};
use tokio_util::sync::CancellationToken;

use super::stop;
use crate::{
    cli::Global,
    connection_config::Sealer,
    connections,
    context::{Context, now_ms, runtime},
    destinations::Kinds,
    executing::{self, RunExecutor},
    exit::{CliError, Exit},
    first_token::{self, FIRST_TOKEN, FirstToken},
    grant_patterns::EgressPatterns,
    key_file::FileRotation,
    observing,
    output::Output,
    registry::RegistryFolder,
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
    /// Execute no runs: leave them to `thimble worker`.
    #[arg(long)]
    no_runs: bool,
}

/// Serves until it is asked to stop.
pub fn run(arguments: &Serve, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::create(global, output, None)?;
    let address = arguments.listen.unwrap_or(context.config.listen.0);
    runtime(context.threads())?.block_on(serve(&context, address, arguments.no_runs))
}

async fn serve(context: &Context, address: SocketAddr, no_runs: bool) -> Result<(), CliError> {
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
    executing::prepare(&wired).await?;
    warn_of_places(context, no_runs);
    apply_file(context, &wired).await;
    let token_file = context.config.api.token_file.as_deref();
    let token = first_token::prepare(&context.data, token_file, &wired.worker.store, &wired.keys, now_ms()).await?;
    let signals = Signals::default();
    let control = ControlSettings {
        store: wired.worker.store.clone(),
        keys: wired.keys.clone(),
        rotation: Arc::new(FileRotation(Arc::clone(&wired.key_file))),
        limits: (&context.config.limits.api).into(),
        blobs_dir: context.data.uploads()?,
        shared_uploads: wired.shared_uploads(),
        rejects: Arc::new(DestinationRejects(wired.worker.clone())),
        destination_kinds: Arc::new(Kinds { configured: context.config.destinations.keys().cloned().collect() }),
        grant_patterns: Arc::new(EgressPatterns),
        packages: packages(context),
        sealer: Arc::new(Sealer(wired.keys.clone())),
        signals: signals.clone(),
        clock: Arc::new(now_ms),
        observe: observing::observe(context, &wired, bound)?,
        shutdown: shutdown.clone(),
    };
    let courier = observing::courier(context, &wired, &control);
    let measures = Arc::clone(&control.observe.measures);
    let executor = Arc::new(RunExecutor::new(context, wired.worker.clone())?);
    let capacity = if no_runs { 0 } else { context.config.limits.workers.runs as usize };
    let reconciler = tokio::spawn(thimble_control::reconcile(
        wired.worker.store.clone(),
        executor,
        signals,
        ReconcileSettings {
            measures,
            uploads: wired.shared_uploads(),
            ..executing::settings(&context.config, &wired.worker, "serve", capacity)
        },
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

/// Another machine's worker could not load what lies in this machine's data folder.
fn warn_of_places(context: &Context, no_runs: bool) {
    for place in executing::places_of_this_machine(&context.config) {
        tracing::warn!(
            no_runs,
            "the control database can be shared, and other machines cannot reach all else: {place}"
        );
    }
    executing::warn_of_folders(&context.config);
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

fn packages(context: &Context) -> Option<Arc<dyn Packages>> {
    let folder = context.config.registry.clone()?;
    Some(Arc::new(RegistryFolder::new(folder)))
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
