//! What a command works with: configuration, data folder, control database, and the runtime.
//!
//! Opens things; must never decide what is done with them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use thimble_record::{ConnectionId, envelope::Keys};
use thimble_store::{ServerSettings, Store, StoreError};

use crate::{
    cli::Global,
    config::{self, Config, DEFAULT_DATA},
    data_folder::DataFolder,
    exit::{CliError, Exit},
    key_file::KeyFile,
    output::Output,
    telemetry,
};

/// Names the file with the host keys; outranks the configuration file.
pub const KEY_FILE_VARIABLE: &str = "THIMBLE_HOST_KEY_FILE";

/// Everything that a command starts from.
pub struct Context {
    pub config: Config,
    pub config_file: Option<PathBuf>,
    pub data: DataFolder,
    pub output: Output,
}

impl Context {
    /// Reads the configuration, starts logging, and makes the data folder where it is absent. `default_level` is
    /// the log level where nobody chose one.
    pub fn create(global: &Global, output: Output, default_level: Option<&str>) -> Result<Self, CliError> {
        let (config, config_file, data) = load_config(global)?;
        let chosen = config.log != config::Log::default();
        let level = global.log_level.as_deref().or(if chosen { None } else { default_level });
        telemetry::start(&config.log, &config.telemetry, level)?;
        Ok(Self { config, config_file, data: DataFolder::open(&data)?, output })
    }

    /// The same for commands that only look: a data folder that is not there is not found.
    pub fn existing(global: &Global, output: Output) -> Result<Self, CliError> {
        let (_, _, data) = load_config(global)?;
        if !data.is_dir() {
            let message = format!("there is no data folder {}", data.display());
            return Err(CliError::new(Exit::NotFound, message).hint(
                "name it with --data or THIMBLE_DATA, or in the configuration file; installing a plugin makes it",
            ));
        }
        Self::create(global, output, Some("warn"))
    }

    /// The file with the host keys: the one that the configuration names must be there, the data folder's is made.
    pub fn key_file(&self) -> Result<KeyFile, CliError> {
        let chosen =
            std::env::var_os(KEY_FILE_VARIABLE).map(PathBuf::from).or_else(|| self.config.host_key_file.clone());
        match chosen {
            Some(file) => KeyFile::open(&file, false),
            None => KeyFile::open(&self.data.key_file(), true),
        }
    }

    /// The host keys, as that file has them at each use.
    pub fn keys(&self) -> Result<Keys, CliError> {
        Ok(Keys::new(Arc::new(self.key_file()?)))
    }

    /// Opens the control database: the one that the configuration names, or the data folder's.
    pub async fn store(&self) -> Result<Store, CliError> {
        let config::ControlStore { url, password, ca_file, max_connections } = &self.config.store;
        let Some(url) = url else { return Ok(Store::open(&self.data.database()).await?) };
        let settings = ServerSettings {
            url: url.clone(),
            password: password.clone(),
            ca_file: ca_file.clone(),
            max_connections: *max_connections,
        };
        Ok(Store::connect(&settings).await?)
    }

    /// Threads for the runtime.
    pub fn threads(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        self.config.limits.workers.threads.unwrap_or_else(|| cores.min(8))
    }
}

/// Reads the configuration; gives it with the file it came from and the data folder that holds.
pub fn load_config(global: &Global) -> Result<(Config, Option<PathBuf>, PathBuf), CliError> {
    load_config_from(global.config.as_deref(), global)
}

/// The same where the configuration is another file than the command line says.
pub fn load_config_from(
    chosen: Option<&Path>,
    global: &Global,
) -> Result<(Config, Option<PathBuf>, PathBuf), CliError> {
    let lookup = |name: &str| std::env::var(name).ok();
    let (config, file) = config::load(chosen, &lookup)?;
    let data = global.data.clone().or_else(|| config.data.clone()).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    Ok((config, file, data))
}

/// A runtime of `threads` worker threads.
pub fn runtime(threads: u32) -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1) as usize)
        .thread_name("thimble")
        .enable_all()
        .build()
        .map_err(|error| CliError::io("the runtime cannot start", &error))
}

/// A runtime without threads of its own, for commands that only ask the database.
pub fn small_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("the runtime cannot start", &error))
}

/// Milliseconds since the epoch, now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The name of a connection as it was typed.
pub fn connection_id(name: &str) -> Result<ConnectionId, CliError> {
    ConnectionId::new(name).map_err(|error| CliError::new(Exit::Usage, error.to_string()))
}

/// Reads a file that was named on the command line, or standard input for `-`.
pub fn read_input(file: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    use std::io::Read;
    let failed = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        CliError::new(exit, format!("cannot read {}: {error}", file.display()))
    };
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes)
    };
    if read.map_err(failed)? as u64 > limit {
        return Err(CliError::new(Exit::Refused, format!("{} is larger than {limit} bytes", file.display())));
    }
    Ok(bytes)
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let failure = error.failure();
        let exit = match &error {
            StoreError::NotFound { .. } => Exit::NotFound,
            StoreError::Conflict { .. }
            | StoreError::Changed { .. }
            | StoreError::AlreadyRunning { .. }
            | StoreError::Fenced { .. }
            | StoreError::InUse { .. } => Exit::Conflict,
            StoreError::Corrupt { .. } | StoreError::Layout { .. } => Exit::Failed,
            StoreError::Unavailable(_) => Exit::Transient,
        };
        let hint = match &error {
            StoreError::NotFound { what: "plugin", .. } => Some("thimble plugin list; thimble plugin install FILE"),
            StoreError::NotFound { what: "connection", .. } => Some("thimble connection list"),
            StoreError::NotFound { what: "run", .. } => Some("thimble runs list"),
            _ => None,
        };
        Self { exit, message: failure.message, hint: hint.map(str::to_owned) }
    }
}
