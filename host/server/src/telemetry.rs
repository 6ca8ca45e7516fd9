//! Logs of the process on standard error, and traces and logs to a collector where the operator names one.
//!
//! Must never let what watches the work hold it up: a collector that is away costs a warning.

mod json;
mod otlp;

use std::{io::IsTerminal, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Layer, Registry, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use self::{json::JsonLines, otlp::Exporter};
use crate::{
    config::{self, Log, LogFormat},
    exit::{CliError, Exit},
};

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Starts logging, and exporting where it is configured. `level` outranks the configuration.
pub fn start(log: &Log, telemetry: &config::Telemetry, level: Option<&str>) -> Result<(), CliError> {
    let directives = level.unwrap_or(&log.level);
    let exporter = Exporter::start(&telemetry.otlp, &|name| std::env::var(name).ok())?;
    let mut layers = vec![standard_error(log.format, filter(directives)?, exporter.is_some())];
    if let Some(exporter) = &exporter {
        layers.extend(exported(exporter, directives)?);
    }
    let started = tracing_subscriber::registry().with(layers).try_init();
    started.map_err(|error| CliError::new(Exit::Failed, format!("logging cannot start: {error}")))?;
    if let Some(exporter) = exporter {
        // A process starts logging once.
        let _ = EXPORTER.set(exporter);
    }
    Ok(())
}

/// Sends what waits to the collector; for the end of the process.
pub fn stop() {
    if let Some(exporter) = EXPORTER.get() {
        exporter.stop();
    }
}

fn standard_error(format: LogFormat, filter: EnvFilter, traced: bool) -> Boxed {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match format {
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
            lines.with_target(false).with_filter(filter).boxed()
        }
        LogFormat::Json => JsonLines::new(std::io::stderr, traced).with_filter(filter).boxed(),
    }
}

/// Spans of our own crates whatever is logged, and the log lines that standard error gets.
fn exported(exporter: &Exporter, directives: &str) -> Result<Vec<Boxed>, CliError> {
    let own = Targets::new().with_target("thimble", tracing::Level::INFO);
    // What is said about the export is not exported.
    let mut lines = filter(directives)?;
    for target in ["thimble_server::telemetry=off", "opentelemetry=off", "hyper=off"] {
        lines = lines.add_directive(target.parse().expect("a target and a level"));
    }
    Ok(vec![exporter.spans().with_filter(own).boxed(), exporter.lines().with_filter(lines).boxed()])
}

/// Whether the configured level can be used.
pub fn check(log: &Log) -> Result<(), CliError> {
    filter(&log.level).map(drop)
}

fn filter(directives: &str) -> Result<EnvFilter, CliError> {
    EnvFilter::try_new(directives)
        .map_err(|error| CliError::new(Exit::Usage, format!("the log level `{directives}` is not valid: {error}")))
}
