//! `thimble plugin`.

use std::path::{Path, PathBuf};

use serde_json::json;
use thimble_pipeline::{Activate, InstalledVersion};
use thimble_plugin::egress::check_host;
use thimble_store::{Activated, PluginRow, Store};

use super::{
    canary::{self, Canary},
    permissions,
};
use crate::{
    cli::Global,
    context::{Context, now_ms, read_input, runtime, small_runtime},
    exit::{CliError, Exit},
    output::{Output, Table, instant},
    prompt,
    rest_component::RestComponent,
    wiring,
};

/// Install, inspect and grant plugins.
#[derive(Debug, clap::Subcommand)]
pub enum Plugin {
    /// Install a plugin from a component file or a declarative manifest, or replace it
    ///
    /// Shows what the plugin asks for. On a terminal it asks whether to grant that; elsewhere nothing is granted
    /// without --grant, and `thimble plugin grant` can do it later.
    #[command(
        after_help = "Examples:\n  thimble plugin install files.wasm --grant\n  thimble plugin install manifest.yaml --grant"
    )]
    Install {
        /// The component (.wasm), or a manifest (YAML or JSON) that becomes one.
        file: PathBuf,
        /// Grant what it asks for, without a question.
        #[arg(long)]
        grant: bool,
        /// Keep it beside the version in use, which runs go on using.
        #[arg(long, conflicts_with = "grant")]
        candidate: bool,
    },
    /// Have a version read again what a sync read, and compare
    Canary(Canary),
    /// List the installed plugins
    List,
    /// Show a plugin: what it asks for, what it was granted, its settings
    Inspect {
        /// Name of the plugin.
        name: String,
    },
    /// Remove a plugin and its grants
    Remove {
        /// Name of the plugin.
        name: String,
    },
    /// Let a plugin connect to hosts
    #[command(
        after_help = "Examples:\n  thimble plugin grant files data.example.com\n  thimble plugin grant files '*.example.com:8443'\n  thimble plugin grant files '{{ url }}'    the host in each connection's setting `url`"
    )]
    Grant {
        /// Name of the plugin.
        name: String,
        /// `name[:port]`, `*.name[:port]`, or a template that the plugin asks for.
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
    },
    /// Take grants back
    Revoke {
        /// Name of the plugin.
        name: String,
        /// As `thimble plugin inspect` shows it.
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
    },
}

/// Runs the subcommand.
pub fn run(command: Plugin, global: &Global, output: Output) -> Result<Exit, CliError> {
    let command = match command {
        Plugin::Install { file, grant, candidate } => {
            let context = Context::create(global, output, Some("warn"))?;
            return if candidate { keep(&context, &file) } else { install(&context, &file, grant) }.map(|()| Exit::Ok);
        }
        Plugin::Canary(arguments) => return canary::run(&arguments, global, output),
        command => command,
    };
    let context = Context::existing(global, output)?;
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        match command {
            Plugin::Install { .. } | Plugin::Canary(_) => Ok(()),
            Plugin::List => list(&store, output).await,
            Plugin::Inspect { name } => inspect(&store, &name, output).await,
            Plugin::Remove { name } => remove(&context, &store, &name).await,
            Plugin::Grant { name, hosts } => change(&store, &name, &hosts, true, output).await,
            Plugin::Revoke { name, hosts } => change(&store, &name, &hosts, false, output).await,
        }
    })?;
    Ok(Exit::Ok)
}

fn install(context: &Context, file: &Path, grant: bool) -> Result<(), CliError> {
    let limit = context.config.limits.plugin.component_bytes as u64;
    let wasm = read_input(file, limit)?;
    let output = context.output;
    runtime(context.threads())?.block_on(async {
        let worker = wiring::wire(context).await?.worker;
        let wasm = RestComponent::new(&context.config).installable(wasm, &worker.store, &worker.plugins).await?;
        let InstalledVersion { plugin, activated, .. } = worker.install(&wasm, Activate::Always).await?;
        let asked = permissions::of(&plugin)?;
        let before = worker.store.grants(&plugin.name).await?;
        if output.is_text() {
            // What is granted is told below; here stands what it asks for.
            let sentences = permissions::sentences(&asked, &asked.hosts);
            output.show(&plugin, |out| introduce(out, &plugin, &sentences))?;
        }
        let missing: Vec<&String> = asked.hosts.iter().filter(|host| !before.contains(host)).collect();
        let agreed = grant || (!missing.is_empty() && agree(output)?);
        if agreed {
            for host in &missing {
                worker.store.grant(&plugin.name, host, now_ms()).await?;
            }
        }
        let detail = json!({ "version": plugin.version, "digest": plugin.digest, "granted": agreed });
        worker.store.append_audit("cli", "plugin.install", &plugin.name, &detail, now_ms()).await?;
        let grants = worker.store.grants(&plugin.name).await?;
        let document = json!({ "plugin": plugin, "grants": grants, "activated": activated });
        output.show(&document, |out| {
            if activated == Activated::Pinned {
                writeln!(out, "\n{} is pinned to another version: runs do not use this one yet", plugin.name)?;
            }
            if missing.is_empty() || agreed {
                return writeln!(
                    out,
                    "\ninstalled {} {}; everything it asks for is granted",
                    plugin.name, plugin.version
                );
            }
            let quoted: Vec<String> = missing.iter().map(|host| format!("'{host}'")).collect();
            writeln!(out, "\ninstalled {} {}; nothing was granted", plugin.name, plugin.version)?;
            writeln!(out, "grant it with: thimble plugin grant {} {}", plugin.name, quoted.join(" "))
        })
    })
}

/// Installs a version that runs do not use yet, unless the plugin is new.
fn keep(context: &Context, file: &Path) -> Result<(), CliError> {
    let limit = context.config.limits.plugin.component_bytes as u64;
    let wasm = read_input(file, limit)?;
    runtime(context.threads())?.block_on(async {
        let worker = wiring::wire(context).await?.worker;
        let InstalledVersion { plugin, activated, upgrade } = worker.install(&wasm, Activate::Never).await?;
        let detail = json!({ "version": plugin.version, "digest": plugin.digest, "activated": activated });
        worker.store.append_audit("cli", "plugin.install", &plugin.name, &detail, now_ms()).await?;
        let document = json!({ "plugin": plugin, "activated": activated, "upgrade": upgrade });
        context.output.show(&document, |out| {
            let PluginRow { name, version, digest, .. } = &plugin;
            if activated == Activated::Active {
                return writeln!(out, "installed {name} {version}; nothing was granted");
            }
            writeln!(out, "kept {name} {version}; runs do not use it yet")?;
            writeln!(out, "try it with: thimble plugin canary {name} {digest} --connection CONNECTION")
        })
    })
}

fn agree(output: Output) -> Result<bool, CliError> {
    if !output.is_text() {
        return Ok(false);
    }
    let answer =
        prompt::confirm("Grant this?").map_err(|error| CliError::io("the question cannot be asked", &error))?;
    Ok(answer.unwrap_or(false))
}

fn introduce(out: &mut dyn std::io::Write, plugin: &PluginRow, sentences: &[String]) -> std::io::Result<()> {
    let PluginRow { name, version, digest, api_version, title, .. } = plugin;
    writeln!(out, "{name} {version}  {title}")?;
    writeln!(out, "  digest         sha256:{digest}")?;
    writeln!(out, "  connector API  {api_version}")?;
    writeln!(out, "It asks to:")?;
    sentences.iter().try_for_each(|sentence| writeln!(out, "  - {sentence}"))
}

async fn list(store: &Store, output: Output) -> Result<(), CliError> {
    let plugins = store.plugins().await?;
    let mut rows = Vec::new();
    for plugin in plugins {
        let grants = store.grants(&plugin.name).await?;
        rows.push((plugin, grants));
    }
    let document: Vec<_> = rows
        .iter()
        .map(|(plugin, grants)| {
            let PluginRow { name, version, digest, api_version, title, installed_at, permissions, .. } = plugin;
            json!({
                "name": name, "version": version, "digest": digest, "api_version": api_version, "title": title,
                "installed_at": installed_at, "permissions": permissions, "grants": grants,
            })
        })
        .collect();
    output.show(&json!({ "plugins": document }), |out| {
        let mut table = Table::new(&["name", "version", "title", "digest", "installed", "grants"]);
        for (plugin, grants) in &rows {
            table.row([
                plugin.name.clone(),
                plugin.version.clone(),
                plugin.title.clone(),
                plugin.digest.chars().take(12).collect(),
                instant(plugin.installed_at),
                if grants.is_empty() { "none".into() } else { grants.join(", ") },
            ]);
        }
        table.write(out)
    })
}

async fn inspect(store: &Store, name: &str, output: Output) -> Result<(), CliError> {
    let plugin = store.plugin(name).await?;
    let grants = store.grants(name).await?;
    let asked = permissions::of(&plugin)?;
    output.show(&json!({ "plugin": plugin, "grants": grants }), |out| {
        introduce(out, &plugin, &permissions::sentences(&asked, &grants))?;
        writeln!(out, "Grants: {}", if grants.is_empty() { "none".into() } else { grants.join(", ") })?;
        let settings = permissions::settings(&plugin.config_schema);
        if !settings.is_empty() {
            writeln!(out, "\nSettings of a connection:")?;
            let mut table = Table::new(&["setting", "type", "meaning"]);
            settings.into_iter().for_each(|row| table.row(row));
            table.write(out)?;
        }
        if !plugin.docs.trim().is_empty() {
            writeln!(out, "\n{}", plugin.docs.trim())?;
        }
        Ok(())
    })
}

async fn remove(context: &Context, store: &Store, name: &str) -> Result<(), CliError> {
    let removed = store.remove_plugin(name).await?;
    let detail = json!({ "version": removed.version, "digest": removed.digest });
    store.append_audit("cli", "plugin.remove", name, &detail, now_ms()).await?;
    let host = wiring::plugin_host(context)?;
    host.remove(&removed.digest).await.map_err(|error| error.failure())?;
    context.output.show(&json!({ "removed": name, "digest": removed.digest }), |out| writeln!(out, "removed {name}"))
}

async fn change(store: &Store, name: &str, hosts: &[String], grant: bool, output: Output) -> Result<(), CliError> {
    store.plugin(name).await?;
    if grant {
        for host in hosts {
            check_host(host).map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
        }
    }
    for host in hosts {
        if grant {
            store.grant(name, host, now_ms()).await?;
        } else {
            store.revoke(name, host).await?;
        }
    }
    let action = if grant { "plugin.grant" } else { "plugin.revoke" };
    store.append_audit("cli", action, name, &json!({ "hosts": hosts }), now_ms()).await?;
    let grants = store.grants(name).await?;
    output.show(&json!({ "plugin": name, "grants": grants }), |out| {
        writeln!(out, "{name} may connect to: {}", if grants.is_empty() { "nothing".into() } else { grants.join(", ") })
    })
}
