//! Logs of the process, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    exit::{CliError, Exit},
};

/// Starts logging. `level` outranks the configuration.
pub fn start(log: &Log, level: Option<&str>) -> Result<(), CliError> {
    let directives = level.unwrap_or(&log.level);
    let filter = filter(directives)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| CliError::new(Exit::Failed, format!("logging cannot start: {error}")))
}

/// Whether the configured level can be used.
pub fn check(log: &Log) -> Result<(), CliError> {
    filter(&log.level).map(drop)
}

fn filter(directives: &str) -> Result<EnvFilter, CliError> {
    EnvFilter::try_new(directives)
        .map_err(|error| CliError::new(Exit::Usage, format!("the log level `{directives}` is not valid: {error}")))
}
