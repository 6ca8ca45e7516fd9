//! Puts the crates together that do the work, from the configuration.

use std::{path::PathBuf, sync::Arc};

use thimble_engine::{cut::CutPolicy, retry::RetryPolicy};
use thimble_load::lake::Lake;
use thimble_pipeline::{Worker, WorkerSettings};
use thimble_plugin::{CompilerCommand, PluginHost, PluginSettings, egress::TlsRoots};
use thimble_record::envelope::HostKey;
use thimble_stage::Stage;

use crate::{
    config::{BatchLimits, Config, Limits, ObjectStore, RetryLimits, Workers},
    context::Context,
    exit::{CliError, Exit},
};

/// Purpose of the key that authenticates compiled code; hangs on the host key.
const CACHE_PURPOSE: &str = "authenticate compiled plugins";

/// Everything that executes runs.
pub struct Wired {
    pub worker: Worker,
    pub lake: Lake,
    pub key: Arc<HostKey>,
}

/// Opens staging, lake, plugin runtime and control database.
pub async fn wire(context: &Context) -> Result<Wired, CliError> {
    let key = Arc::new(context.data.host_key()?);
    // The engine takes milliseconds of computing; the database waits for the disk meanwhile.
    let settings = plugin_settings(context, &key)?;
    let host = tokio::task::spawn_blocking(move || PluginHost::new(settings));
    let store = context.store().await?;
    let lake = lake(context)?;
    let stage = stage(context, &key)?;
    let host = host.await.expect("starting the plugin runtime does not panic").map_err(|error| error.failure())?;
    let worker = Worker {
        store,
        plugins: Arc::new(host),
        stage: Arc::new(stage),
        destination: Arc::new(lake.clone()),
        key: Arc::clone(&key),
        settings: worker_settings(&context.config.limits),
    };
    Ok(Wired { worker, lake, key })
}

/// Starts the plugin runtime alone.
pub fn plugin_host(context: &Context) -> Result<PluginHost, CliError> {
    let key = context.data.host_key()?;
    Ok(PluginHost::new(plugin_settings(context, &key)?).map_err(|error| error.failure())?)
}

/// Opens the lake.
pub fn lake(context: &Context) -> Result<Lake, CliError> {
    let ObjectStore { url, options } = &context.config.destination.lake;
    let url = url.clone().map_or_else(|| context.data.lake_url(), Ok)?;
    Ok(Lake::open(&url, &options.0).map_err(|error| error.failure())?)
}

fn stage(context: &Context, key: &HostKey) -> Result<Stage, CliError> {
    let ObjectStore { url, options } = &context.config.staging;
    let url = url.clone().map_or_else(|| context.data.staging_url(), Ok)?;
    Ok(Stage::open(&url, &options.0, key.clone()).map_err(|error| error.failure())?)
}

fn plugin_settings(context: &Context, key: &HostKey) -> Result<PluginSettings, CliError> {
    let Config { limits, network, .. } = &context.config;
    let tls_roots = match &network.extra_ca_file {
        None => TlsRoots::default(),
        Some(file) => {
            let wrong = |reason: String| {
                CliError::new(Exit::Usage, format!("network.extra_ca_file {}: {reason}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            TlsRoots::with_pem(&pem).map_err(|error| wrong(error.to_string()))?
        }
    };
    Ok(PluginSettings {
        limits: limits.plugin.clone(),
        allow_private_networks: network.allow_private_networks.clone(),
        tls_roots,
        folder: context.data.plugins(),
        cache_key: key.derive(CACHE_PURPOSE),
        // This program, even where its file was replaced since it started.
        compiler: CompilerCommand { program: PathBuf::from("/proc/self/exe"), args: vec!["compile-plugin".into()] },
    })
}

fn worker_settings(limits: &Limits) -> WorkerSettings {
    let Limits { plugin: _, batch, retry, workers, retention: _ } = limits;
    let BatchLimits { max_bytes, max_rows, max_age, max_uncheckpointed, max_queued } = batch;
    let RetryLimits { max_attempts, base, max_wait, max_retry_after } = retry;
    let Workers { runs: _, partitions, lease, threads: _ } = workers;
    WorkerSettings {
        batch: CutPolicy { max_bytes: max_bytes.0, max_rows: *max_rows, max_age_ms: max_age.millis() },
        retry: RetryPolicy {
            max_attempts: *max_attempts,
            base_ms: base.millis(),
            max_wait_ms: max_wait.millis(),
            max_retry_after_ms: max_retry_after.millis(),
        },
        max_parallel_partitions: *partitions as usize,
        max_queued_bytes: max_queued.as_usize(),
        max_uncheckpointed_bytes: max_uncheckpointed.0,
        lease_ms: i64::try_from(lease.millis()).unwrap_or(i64::MAX),
    }
}
