//! What `serve` and `worker` have in common: the process as an executor of runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use thimble_control::{Executor, ReconcileSettings, Retention};
use thimble_pipeline::Worker;
use thimble_record::{Failure, envelope::Purpose};
use thimble_store::{RunKind, RunOutcome, RunRow, WorkerRow};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config, Workers},
    context::{Context, now_ms},
    exit::{CliError, Exit},
    memory,
    recorder::{self, Recorder, Which},
    rest_component::RestComponent,
    wiring::Wired,
};

/// Under which the control database holds what tells one host key from another.
const HOST_KEY_CHECK: &str = "host-key";

/// Most that the clocks of two machines may differ, well below the time of a lease.
const MAX_CLOCK_DIFFERENCE_MS: u64 = 2_000;

/// Makes sure that this process may work on the database, and takes over at once what dead processes of this machine held.
pub async fn prepare(wired: &Wired) -> Result<(), CliError> {
    let Wired { worker, keys, .. } = wired;
    let check: String = keys.stable(Purpose::Installation).iter().map(|byte| format!("{byte:02x}")).collect();
    if worker.store.agree(HOST_KEY_CHECK, &check).await? != check {
        let message =
            format!("the host key is not the one that the control database {} is used with", worker.store.place());
        return Err(CliError::new(Exit::Refused, message).hint(
            "give every process the same key file: host_key_file in the configuration, or THIMBLE_HOST_KEY_FILE",
        ));
    }
    refuse_other_time(worker).await?;
    for run in worker.release_dead().await? {
        if let Some(next) = worker.store.hand_over(&run, now_ms()).await? {
            tracing::info!(%run, %next, "a sync of a process that died is queued again");
        }
    }
    worker.share_plugins().await;
    Ok(())
}

/// Leases end by the clocks of those who look at them: a machine whose clock is far off would take over from the living.
async fn refuse_other_time(worker: &Worker) -> Result<(), CliError> {
    let Some(theirs) = worker.store.clock_ms().await? else { return Ok(()) };
    let apart = now_ms().abs_diff(theirs);
    if apart > MAX_CLOCK_DIFFERENCE_MS {
        let message = format!("the clock of this machine and that of the control database are {apart} ms apart");
        return Err(CliError::new(Exit::Refused, message).hint("let both follow the same time server (NTP)"));
    }
    Ok(())
}

/// Tells where places of this machine stand for places that all machines must reach. `worker` refuses them.
pub fn places_of_this_machine(config: &Config) -> Vec<String> {
    if config.store.url.is_none() {
        return Vec::new();
    }
    let local = |what: String, place: &config::ObjectStore| match &place.url {
        None => Some(format!("{what} is a folder in the data folder of this machine: give `{what}.url`")),
        Some(_) => None,
    };
    let mut places: Vec<String> = local("staging".into(), &config.staging).into_iter().collect();
    let named = config.destinations.iter().map(|(name, kind)| (format!("destinations.{name}"), kind));
    for (name, kind) in std::iter::once(("destination".to_owned(), &config.destination)).chain(named) {
        if kind.postgres.is_none() {
            places.extend(local(format!("{name}.lake"), &kind.lake.clone().unwrap_or_default()));
        }
    }
    places
}

/// Warns of folders, which other machines must have mounted at the same place.
pub fn warn_of_folders(config: &Config) {
    let places = [("staging", &config.staging.url)];
    let lake = config.destination.lake.as_ref().and_then(|lake| lake.url.as_ref());
    for (what, url) in
        places.into_iter().filter_map(|(what, url)| Some((what, url.as_ref()?))).chain(lake.map(|url| ("lake", url)))
    {
        if url.starts_with("file:") {
            tracing::warn!(
                what,
                url,
                "a folder: every machine that works on the database must have it at the same place"
            );
        }
    }
}

/// How this process carries out runs.
pub fn settings(config: &Config, worker: &Worker, role: &str, capacity: usize) -> ReconcileSettings {
    let Workers { runs: _, memory, partitions: _, lease, threads: _ } = &config.limits.workers;
    let retention = &config.limits.retention;
    let mut settings = ReconcileSettings::new(worker.holder());
    settings.concurrency = capacity;
    settings.memory_bytes = memory.map_or_else(memory::for_runs, |bytes| bytes.0);
    settings.ttl = lease.0;
    settings.heartbeat = lease.0 / 3;
    settings.retention = Retention { logs: retention.logs.0, runs: retention.runs.0, ..Retention::default() };
    settings.announce = Some(WorkerRow {
        holder: worker.holder(),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").into(),
        role: role.into(),
        capacity: i64::try_from(capacity).unwrap_or(i64::MAX),
        started_at: now_ms(),
        heartbeat_at: now_ms(),
    });
    settings
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Executes what the reconciler claimed.
pub struct RunExecutor {
    worker: Worker,
    blobs_dir: PathBuf,
    rest_component: RestComponent,
}

impl RunExecutor {
    pub fn new(context: &Context, worker: Worker) -> Result<Self, CliError> {
        let rest_component = RestComponent::new(&context.config);
        Ok(Self { worker, blobs_dir: context.data.uploads()?, rest_component })
    }

    /// The uploaded component of an install run. Only names that the API gives its uploads are followed.
    fn upload(&self, run: &RunRow) -> Option<(String, PathBuf)> {
        let name = run.request.get("blob")?.as_str()?;
        let digest = name.strip_suffix(".wasm")?;
        let valid = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        (run.kind == RunKind::Install && valid).then(|| (digest.to_owned(), self.blobs_dir.join(name)))
    }

    /// Fetches an upload that another host took.
    async fn fetch(&self, digest: &str, file: &Path) -> Result<(), Failure> {
        if tokio::fs::try_exists(file).await.unwrap_or(false) {
            return Ok(());
        }
        let Some(wasm) = self.worker.plugins.shelved(digest).await.map_err(|error| error.failure())? else {
            return Ok(());
        };
        tokio::fs::write(file, wasm).await.map_err(|error| Failure::system(format!("{}: {error}", file.display())))
    }

    /// Makes an upload that is a manifest the component that runs it.
    async fn pack(&self, file: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::system(format!("{}: {error}", file.display()));
        let upload = tokio::fs::read(file).await.map_err(failed)?;
        let length = upload.len();
        let component = self.rest_component.installable(upload, &self.worker.store, &self.worker.plugins).await?;
        if component.len() == length {
            return Ok(());
        }
        tokio::fs::write(file, component).await.map_err(failed)
    }

    /// The upload as it can be installed.
    async fn prepare(&self, digest: &str, file: &Path) -> Result<(), Failure> {
        self.fetch(digest, file).await?;
        self.pack(file).await
    }
}

#[async_trait]
impl Executor for RunExecutor {
    async fn execute(&self, mut run: RunRow, cancel: CancellationToken) {
        let upload = self.upload(&run);
        if let Some((digest, file)) = &upload {
            run.subject = Some(file.display().to_string());
            if let Err(failure) = self.prepare(digest, file).await {
                let outcome = RunOutcome::failed(failure, serde_json::Value::Null);
                if let Err(error) = self.worker.store.finish(&run.id, &outcome, now_ms()).await {
                    tracing::warn!(run = %run.id, error = %error.failure(), "the outcome of a run cannot be stored");
                }
                return;
            }
        }
        let id = run.id.clone();
        let recorder = Arc::new(Recorder::default());
        let work = self.worker.execute(run, Arc::clone(&recorder) as _, cancel);
        let ended = recorder::record(recorder, self.worker.store.clone(), Which::Known(id.clone()), work).await;
        if let Err(error) = ended {
            tracing::warn!(run = %id, error = %error.failure(), "the outcome of a run cannot be stored");
        }
        if let Some((_, file)) = upload
            && let Err(error) = tokio::fs::remove_file(&file).await
        {
            tracing::warn!(file = %file.display(), %error, "an uploaded component cannot be removed");
        }
        memory::give_back_soon();
    }
}

/// How often installed plugins are looked for that are not compiled here yet.
const WARM_EVERY: Duration = Duration::from_secs(15);

/// Compiles the plugins that runs use before a run needs them: whoever takes a lost sync over must not begin with a
/// compilation. Ends with `cancel`.
pub async fn keep_warm(worker: Worker, cancel: CancellationToken) {
    while !cancel.is_cancelled() {
        let plugins = worker.store.plugins().await.unwrap_or_default();
        for plugin in plugins {
            // A run that needs it says what is wrong with it.
            if let Err(error) = worker.plugins.load(&plugin.digest).await {
                tracing::debug!(plugin = plugin.name, error = %error, "a plugin cannot be compiled ahead of its use");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(WARM_EVERY) => {}
        }
    }
}
