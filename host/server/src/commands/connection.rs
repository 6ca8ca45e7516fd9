//! `thimble connection`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::json;
use thimble_store::{ConnectionRow, Store};

use crate::{
    cli::Global,
    config::{self, MAX_CONFIG_BYTES},
    connections,
    context::{Context, connection_id, now_ms, read_input, small_runtime},
    exit::{CliError, Exit},
    output::{Output, Table, instant},
};

/// List, show, apply and delete connections.
#[derive(Debug, clap::Subcommand)]
pub enum Connection {
    /// List the connections
    List,
    /// Show a connection; secrets are masked
    Show {
        /// Name of the connection.
        name: String,
    },
    /// Create or change connections from a file, or those of the configuration file
    ///
    /// The file has the form of the configuration file; only its key `connections` is used.
    #[command(
        after_help = "Examples:\n  thimble connection apply                  those of thimble.yaml\n  thimble connection apply more.yaml\n  generate | thimble connection apply -     YAML or JSON"
    )]
    Apply {
        /// YAML or TOML file, `-` for YAML or JSON from standard input [default: the configuration file].
        file: Option<PathBuf>,
    },
    /// Delete a connection with its state; what it loaded stays in the lake
    Delete {
        /// Name of the connection.
        name: String,
    },
}

/// Runs the subcommand.
pub fn run(command: Connection, global: &Global, output: Output) -> Result<(), CliError> {
    let context = match &command {
        Connection::Apply { .. } => Context::create(global, output, Some("warn"))?,
        _ => Context::existing(global, output)?,
    };
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        match command {
            Connection::List => list(&context, &store).await,
            Connection::Show { name } => show(&store, &name, output).await,
            Connection::Apply { file } => apply(&context, &store, file.as_deref()).await,
            Connection::Delete { name } => delete(&context, &store, &name).await,
        }
    })
}

async fn list(context: &Context, store: &Store) -> Result<(), CliError> {
    let stored: BTreeMap<String, ConnectionRow> =
        store.connections().await?.into_iter().map(|row| (row.id.to_string(), row)).collect();
    let starts = store.next_starts().await?;
    let in_file = &context.config.connections;
    let names: BTreeSet<&String> = stored.keys().chain(in_file.keys()).collect();
    let described: Vec<_> = names
        .iter()
        .map(|name| {
            let row = stored.get(*name);
            let wanted = in_file.get(*name);
            json!({
                "name": name,
                "plugin": row.map(|row| &row.plugin).or(wanted.map(|wanted| &wanted.plugin)),
                "streams": row.map(|row| row.streams.iter().map(|stream| &stream.stream).collect::<Vec<_>>()),
                "applied": row.is_some(),
                "in_file": wanted.is_some(),
                "updated_at": row.map(|row| row.updated_at),
                "next_start": starts.get(*name),
                "paused": row.map(|row| row.paused),
            })
        })
        .collect();
    context.output.show(&json!({ "connections": described }), |out| {
        let mut table = Table::new(&["name", "plugin", "streams", "from", "updated", "next start"]);
        for name in &names {
            let (row, wanted) = (stored.get(*name), in_file.get(*name));
            let plugin = row.map(|row| &row.plugin).or(wanted.map(|wanted| &wanted.plugin));
            let streams = row.map(|row| row.streams.iter().map(|stream| stream.stream.as_str()).collect::<Vec<_>>());
            table.row([
                (*name).clone(),
                plugin.cloned().unwrap_or_default(),
                streams.filter(|streams| !streams.is_empty()).map_or_else(|| "all".into(), |all| all.join(", ")),
                if wanted.is_some() { "file".into() } else { "database".into() },
                row.map_or_else(|| "not applied yet".into(), |row| instant(row.updated_at)),
                next_start(row, starts.get(*name).copied()),
            ]);
        }
        table.write(out)
    })
}

/// When it runs by itself, as people read it.
fn next_start(row: Option<&ConnectionRow>, at: Option<i64>) -> String {
    match (row, at) {
        (Some(row), _) if row.paused => "paused".into(),
        (_, Some(at)) => instant(at),
        _ => "-".into(),
    }
}

async fn show(store: &Store, name: &str, output: Output) -> Result<(), CliError> {
    let row = store.connection(&connection_id(name)?).await?;
    let starts = store.next_starts().await?;
    output.show(&row, |out| {
        writeln!(out, "connection  {}", row.id)?;
        writeln!(out, "plugin      {}", row.plugin)?;
        let streams: Vec<&str> = row.streams.iter().map(|stream| stream.stream.as_str()).collect();
        writeln!(out, "streams     {}", if streams.is_empty() { "all".into() } else { streams.join(", ") })?;
        writeln!(out, "next start  {}", next_start(Some(&row), starts.get(name).copied()))?;
        if let Some(why) = &row.paused_why {
            writeln!(out, "paused for  {why}")?;
        }
        writeln!(out, "created     {}", instant(row.created_at))?;
        writeln!(out, "updated     {}", instant(row.updated_at))?;
        writeln!(out, "config      {:#}", row.config)
    })
}

async fn apply(context: &Context, store: &Store, file: Option<&Path>) -> Result<(), CliError> {
    let parsed;
    let wanted = match file {
        None => &context.config.connections,
        Some(file) => {
            let bytes = read_input(file, MAX_CONFIG_BYTES)?;
            let text = String::from_utf8(bytes)
                .map_err(|error| CliError::new(Exit::Usage, format!("{} is not UTF-8: {error}", file.display())))?;
            // Standard input has no extension; JSON is YAML, too.
            let name = if file.as_os_str() == "-" { Path::new("stdin.yaml") } else { file };
            parsed = config::parse(name, &text, &|name| std::env::var(name).ok())?.connections;
            &parsed
        }
    };
    if wanted.is_empty() {
        let message = "there are no connections to apply: the key `connections` is missing or empty";
        return Err(CliError::new(Exit::Usage, message));
    }
    let keys = context.keys()?;
    let mut applied = BTreeMap::new();
    for (name, connection) in wanted {
        applied.insert(name.clone(), connections::apply(store, &keys, name, connection, now_ms()).await?);
    }
    context.output.show(&json!({ "applied": applied }), |out| {
        applied.iter().try_for_each(|(name, what)| writeln!(out, "{name}: {}", super::runs::word(what)))
    })
}

async fn delete(context: &Context, store: &Store, name: &str) -> Result<(), CliError> {
    if context.config.connections.contains_key(name) {
        let file = context.config_file.as_deref().unwrap_or(Path::new("the configuration file"));
        let message = format!("connection {name} stands in {}: remove it there first", file.display());
        return Err(CliError::new(Exit::Conflict, message));
    }
    let id = connection_id(name)?;
    store.delete_connection(&id).await?;
    store.append_audit("cli", "connection.delete", name, &json!({}), now_ms()).await?;
    context.output.show(&json!({ "deleted": name }), |out| writeln!(out, "deleted {name}"))
}
