//! Puts the crates together that do the work, from the configuration.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use thimble_control::SharedUploads;
use thimble_engine::{cut::CutPolicy, retry::RetryPolicy};
use thimble_load::{
    Destination,
    lake::Lake,
    postgres::{Password, Postgres, PostgresSettings},
};
use thimble_pipeline::{CanaryLimits, Destinations, Worker, WorkerSettings};
use thimble_plugin::{
    CompilerCommand, PluginHost, PluginSettings,
    egress::{Rehearsal, TlsRoots},
};
use thimble_record::{
    ConnectionId,
    envelope::{Keys, Purpose},
};
use thimble_stage::Stage;
use thimble_store::StoreError;

use crate::{
    config::{self, BatchLimits, Config, Limits, ObjectStore, PostgresDestination, RetryLimits, Workers},
    context::Context,
    destinations::{self, StoredInDatabase},
    exit::{CliError, Exit},
    key_file::KeyFile,
    shelf::StagedComponents,
};

/// Everything that executes runs.
pub struct Wired {
    pub worker: Worker,
    pub keys: Keys,
    pub key_file: Arc<KeyFile>,
}

impl Wired {
    /// Where uploads go that any host may install, where hosts share a control database.
    pub fn shared_uploads(&self) -> Option<Arc<dyn SharedUploads>> {
        let shared = self.worker.store.is_shared();
        shared.then(|| Arc::new(StagedComponents(Arc::clone(&self.worker.stage))) as _)
    }
}

/// A destination of the configuration, by its kind: some commands can do more with a lake.
pub enum Opened {
    Lake(Lake),
    Postgres(Postgres),
}

impl Opened {
    /// What the pipeline needs of it.
    pub fn destination(&self) -> Arc<dyn Destination> {
        match self {
            Self::Lake(lake) => Arc::new(lake.clone()),
            Self::Postgres(postgres) => postgres.for_owner(),
        }
    }
}

/// Opens staging, lake, plugin runtime and control database.
pub async fn wire(context: &Context) -> Result<Wired, CliError> {
    let key_file = Arc::new(context.key_file()?);
    let keys = Keys::new(Arc::clone(&key_file) as _);
    // The engine takes milliseconds of computing; the database waits for the disk meanwhile.
    let settings = plugin_settings(context, &keys)?;
    let host = tokio::task::spawn_blocking(move || PluginHost::new(settings));
    let store = context.store().await?;
    let mut destinations = configured(context)?;
    destinations.stored = Some(Arc::new(StoredInDatabase::new(store.clone(), keys.clone())));
    let stage = Arc::new(stage(context, &keys)?);
    let mut host = host.await.expect("starting the plugin runtime does not panic").map_err(|error| error.failure())?;
    if store.is_shared() {
        host = host.with_shelf(Arc::new(StagedComponents(Arc::clone(&stage))));
    }
    let worker = Worker {
        store,
        plugins: Arc::new(host),
        stage,
        destinations,
        keys: keys.clone(),
        settings: worker_settings(&context.config.limits),
        rehearsal: Rehearsal::default(),
    };
    Ok(Wired { worker, keys, key_file })
}

/// Starts the plugin runtime alone.
pub fn plugin_host(context: &Context) -> Result<PluginHost, CliError> {
    let keys = context.keys()?;
    Ok(PluginHost::new(plugin_settings(context, &keys)?).map_err(|error| error.failure())?)
}

fn configured(context: &Context) -> Result<Destinations, CliError> {
    let Config { destination, destinations, .. } = &context.config;
    let mut named = BTreeMap::new();
    for (name, kind) in destinations {
        named.insert(name.clone(), open(context, kind)?.destination());
    }
    Ok(Destinations { default: open(context, destination)?.destination(), named, stored: None })
}

/// Opens the destination of a connection; of one that is not stored, the default, which may still hold its tables.
pub async fn destination_of(context: &Context, id: &ConnectionId) -> Result<Opened, CliError> {
    let Config { destination, destinations, .. } = &context.config;
    let store = context.store().await?;
    let connection = match store.connection(id).await {
        Ok(connection) => connection,
        Err(StoreError::NotFound { .. }) => return open(context, destination),
        Err(error) => return Err(error.into()),
    };
    let name = connection.destination.as_ref().and_then(|choice| choice.get("name")?.as_str());
    let Some(name) = name else { return open(context, destination) };
    if let Some(kind) = destinations.get(name) {
        return open(context, kind);
    }
    match store.destination(name).await {
        Ok(row) if row.workspace == connection.workspace => Ok(destinations::open(row, &context.keys()?)?),
        Ok(_) | Err(StoreError::NotFound { .. }) => {
            Err(CliError::new(Exit::Usage, format!("connection {id}: its destination `{name}` does not exist")))
        }
        Err(error) => Err(error.into()),
    }
}

fn open(context: &Context, kind: &config::Destination) -> Result<Opened, CliError> {
    let config::Destination { lake, postgres } = kind;
    if let Some(postgres) = postgres {
        return Ok(Opened::Postgres(Postgres::new(postgres_settings(postgres)?)));
    }
    let ObjectStore { url, options } = lake.clone().unwrap_or_default();
    let url = url.map_or_else(|| context.data.lake_url(), Ok)?;
    Ok(Opened::Lake(Lake::open(&url, &options.0).map_err(|error| error.failure())?))
}

/// Opens a destination that names nothing of this machine; `ca_pem` stands in for a file of certificates.
pub fn open_stored(kind: &config::Destination, ca_pem: Option<String>) -> Result<Opened, CliError> {
    let config::Destination { lake, postgres } = kind;
    if let Some(postgres) = postgres {
        let mut settings = postgres_settings(postgres)?;
        settings.ca_pem = ca_pem;
        return Ok(Opened::Postgres(Postgres::new(settings)));
    }
    let ObjectStore { url, options } = lake.clone().unwrap_or_default();
    let url = url.ok_or_else(|| CliError::new(Exit::Usage, "its configuration lacks the key `url`"))?;
    Ok(Opened::Lake(Lake::open(&url, &options.0).map_err(|error| error.failure())?))
}

fn postgres_settings(wanted: &PostgresDestination) -> Result<PostgresSettings, CliError> {
    let PostgresDestination { url, password, schema, ca_file, connect_timeout, statement_timeout, lock_timeout } =
        wanted;
    let settings = PostgresSettings::from_url(url, password.clone().map(Password::new));
    let mut settings = settings.map_err(|error| error.failure())?;
    if let Some(file) = ca_file {
        let pem = std::fs::read_to_string(file).map_err(|error| {
            CliError::new(Exit::Usage, format!("the destination's ca_file {}: {error}", file.display()))
        })?;
        settings.ca_pem = Some(pem);
    }
    settings.schema = schema.clone().or(settings.schema);
    settings.connect_timeout = Duration::from_millis(connect_timeout.millis());
    settings.statement_timeout = Duration::from_millis(statement_timeout.millis());
    settings.lock_timeout = Duration::from_millis(lock_timeout.millis());
    Ok(settings)
}

fn stage(context: &Context, keys: &Keys) -> Result<Stage, CliError> {
    let ObjectStore { url, options } = &context.config.staging;
    let url = url.clone().map_or_else(|| context.data.staging_url(), Ok)?;
    Ok(Stage::open(&url, &options.0, keys.clone()).map_err(|error| error.failure())?)
}

fn plugin_settings(context: &Context, keys: &Keys) -> Result<PluginSettings, CliError> {
    let Config { limits, network, .. } = &context.config;
    Ok(PluginSettings {
        limits: limits.plugin.clone(),
        allow_private_networks: network.allow_private_networks.clone(),
        tls_roots: tls_roots(&context.config)?,
        folder: context.data.plugins(),
        cache_key: keys.stable(Purpose::PluginCache),
        compiler: compiler(),
    })
}

/// This program, even where its file was replaced since it started.
pub fn compiler() -> CompilerCommand {
    CompilerCommand { program: PathBuf::from("/proc/self/exe"), args: vec!["compile-plugin".into()] }
}

/// The authorities that traffic to others trusts.
pub fn tls_roots(config: &Config) -> Result<TlsRoots, CliError> {
    let Some(file) = &config.network.extra_ca_file else { return Ok(TlsRoots::default()) };
    let wrong =
        |reason: String| CliError::new(Exit::Usage, format!("network.extra_ca_file {}: {reason}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    TlsRoots::with_pem(&pem).map_err(|error| wrong(error.to_string()))
}

fn worker_settings(limits: &Limits) -> WorkerSettings {
    let Limits { plugin: _, batch, retry, workers, canary, retention: _, api: _ } = limits;
    let BatchLimits { max_bytes, max_rows, max_age, max_uncheckpointed, max_queued } = batch;
    let RetryLimits { max_attempts, base, max_wait, max_retry_after } = retry;
    let Workers { runs: _, memory: _, partitions, lease, threads: _ } = workers;
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
        canary: CanaryLimits {
            max_records: canary.max_records,
            max_bytes: canary.max_bytes.0,
            max_time_ms: canary.max_time.millis(),
        },
    }
}
