//! The configuration file: one YAML or TOML document, its settings, its limits and its errors.
//!
//! Owns the reading of that file. Must never act on a setting.

mod api;
mod error;
mod reader;
mod settings;
mod tree;
mod units;

#[cfg(test)]
mod schema;

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thimble_record::ConnectionId;

pub use api::{Api, ApiLimits};
pub use error::{ConfigError, Problem};
pub use settings::{
    BatchLimits, CanaryLimits, Config, Connection, ControlStore, Destination, Limits, Listen, Log, LogFormat, Network,
    ObjectStore, Options, Otlp, PostgresDestination, Retention, RetryLimits, Telemetry, Workers,
};
pub use thimble_plugin::Limits as PluginLimits;
pub use units::{ByteSize, Span};

/// Read where neither `--config` nor `THIMBLE_CONFIG` names a file, if it is there.
pub const DEFAULT_FILE: &str = "thimble.yaml";

/// The data folder where nothing names one.
pub const DEFAULT_DATA: &str = "thimble-data";

/// Largest configuration file.
pub const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// The published JSON Schema of the file. A test keeps it equal to the settings.
pub const SCHEMA: &str = include_str!("../../thimble.schema.json");

/// Reads `file`, or [`DEFAULT_FILE`] where it is present, or gives the defaults.
///
/// Gives the settings, with relative paths made relative to the file's folder, and the file read.
pub fn load(
    file: Option<&Path>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Option<PathBuf>), ConfigError> {
    let file = match file {
        Some(file) => file.to_owned(),
        None if Path::new(DEFAULT_FILE).is_file() => PathBuf::from(DEFAULT_FILE),
        None => return Ok((Config::default(), None)),
    };
    let text = read(&file)?;
    let mut config = parse(&file, &text, lookup)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    for path in [
        &mut config.data,
        &mut config.host_key_file,
        &mut config.api.token_file,
        &mut config.network.extra_ca_file,
        &mut config.store.ca_file,
    ]
    .into_iter()
    .flatten()
    {
        *path = folder.join(&*path);
    }
    if config.data.is_none() {
        config.data = Some(folder.join(DEFAULT_DATA));
    }
    Ok((config, Some(file)))
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    let mut text = String::new();
    let opened = File::open(file).map_err(unreadable)?;
    let read = opened.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { file: file.to_owned(), limit: MAX_CONFIG_BYTES });
    }
    Ok(text)
}

/// Reads a document of any form, variables replaced; the extension tells the language.
pub fn document(
    file: &Path,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<serde_json::Value, ConfigError> {
    let invalid = |problem| ConfigError::Invalid { file: file.to_owned(), problem: Box::new(problem) };
    let mut tree = tree_of(file, text)?;
    tree::expand(&mut tree, lookup).map_err(invalid)?;
    serde_json::Value::deserialize(tree).map_err(invalid)
}

/// The same with every text as it stands.
pub fn plain_document(file: &Path, text: &str) -> Result<serde_json::Value, ConfigError> {
    let invalid = |problem| ConfigError::Invalid { file: file.to_owned(), problem: Box::new(problem) };
    serde_json::Value::deserialize(tree_of(file, text)?).map_err(invalid)
}

fn tree_of(file: &Path, text: &str) -> Result<tree::Node, ConfigError> {
    let invalid = |problem| ConfigError::Invalid { file: file.to_owned(), problem: Box::new(problem) };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => tree::parse_yaml(text),
        Some("toml") => tree::parse_toml(text),
        _ => return Err(ConfigError::Extension(file.to_owned())),
    }
    .map_err(invalid)
}

/// Reads the text of `file`; the extension tells the language.
pub fn parse(file: &Path, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let invalid = |problem| ConfigError::Invalid { file: file.to_owned(), problem: Box::new(problem) };
    let mut tree = tree_of(file, text)?;
    tree::expand(&mut tree, lookup).map_err(invalid)?;
    let config = Config::deserialize(tree.clone()).map_err(invalid)?;
    validate(&config, &tree).map_err(invalid)?;
    Ok(config)
}

/// What is wrong with a connection's schedules, and under which setting.
fn check_schedules(connection: &Connection) -> Result<(), (&'static str, String)> {
    if let Some(schedule) = &connection.schedule {
        schedule.validate().map_err(|error| ("schedule", error.to_string()))?;
    }
    for (stream, schedule) in &connection.stream_schedules {
        schedule.validate().map_err(|error| ("stream_schedules", format!("stream `{stream}`: {error}")))?;
    }
    match &connection.retry {
        Some(retry) => retry.validate().map_err(|error| ("retry", error.to_string())),
        None => Ok(()),
    }
}

/// What the types cannot say.
fn validate(config: &Config, tree: &tree::Node) -> Result<(), Problem> {
    let wrong = |path: &[&str], message: String| Problem {
        path: path.iter().rev().map(|part| (*part).to_owned()).collect(),
        ..Problem::at(tree.line_of(path), message)
    };
    if !(2..=1000).contains(&config.store.max_connections) {
        return Err(wrong(&["store", "max_connections"], "must be between 2 and 1000".into()));
    }
    let own = std::iter::once((&["destination"][..], &config.destination));
    let named: Vec<_> =
        config.destinations.iter().map(|(name, kind)| (["destinations", name.as_str()], kind)).collect();
    for (path, Destination { lake, postgres }) in own.chain(named.iter().map(|(path, kind)| (&path[..], *kind))) {
        if lake.is_some() && postgres.is_some() {
            return Err(wrong(path, "a destination is of one kind: give either `lake` or `postgres`".into()));
        }
    }
    for (name, connection) in &config.connections {
        let at = ["connections", name.as_str()];
        ConnectionId::new(name.clone()).map_err(|error| wrong(&at, error.to_string()))?;
        if !connection.config.is_object() {
            return Err(wrong(&["connections", name, "config"], "expected a map of settings".into()));
        }
        if let Some(chosen) = connection.destination.as_ref().filter(|name| !config.destinations.contains_key(*name)) {
            let known: Vec<_> = config.destinations.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "nothing".into() } else { known.join(", ") };
            let message = format!("there is no destination `{chosen}`: `destinations` holds {known}");
            return Err(wrong(&["connections", name, "destination"], message));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = connection.streams.iter().find(|stream| !seen.insert(&stream.stream)) {
            let message = format!("the stream `{}` is listed twice", twice.stream);
            return Err(wrong(&["connections", name, "streams"], message));
        }
        check_schedules(connection).map_err(|(setting, message)| wrong(&["connections", name, setting], message))?;
    }
    let Workers { runs, memory: _, partitions, lease: _, threads } = &config.limits.workers;
    for (name, value, most) in
        [("runs", Some(*runs), 1024), ("partitions", Some(*partitions), 256), ("threads", *threads, 256)]
    {
        if value.is_some_and(|value| value == 0 || value > most) {
            return Err(wrong(&["limits", "workers", name], format!("must be between 1 and {most}")));
        }
    }
    Ok(())
}
