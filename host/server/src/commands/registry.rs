//! `thimble registry`.

use std::{path::PathBuf, sync::Arc};

use serde_json::json;
use thimble_registry::{Index, Limits, Package, Permissions, Release};

use crate::{
    cli::Global,
    context::{Context, read_input, runtime},
    exit::{CliError, Exit},
    output::{Output, Table},
    registry::RegistryFolder,
    wiring,
};

/// What is checked before a component is taken in: it is a component, its imports are allowed, and it described itself
/// in the sandbox.
const VERIFIED: [&str; 3] = ["component", "imports", "spec"];

/// Keep a registry of connectors in a folder.
#[derive(Debug, clap::Subcommand)]
pub enum Registry {
    /// Check a component and take it into a registry folder
    #[command(after_help = "Example:\n  thimble registry add /srv/registry files.wasm --publisher 'Thimble project'")]
    Add {
        /// The folder; made when absent.
        folder: PathBuf,
        /// The component (.wasm).
        file: PathBuf,
        /// Who publishes it.
        #[arg(long, default_value = "", value_name = "NAME")]
        publisher: String,
        /// A stream that it always has; may be given several times.
        #[arg(long = "stream", value_name = "NAME")]
        streams: Vec<String>,
    },
    /// Find packages in a registry folder
    Search {
        /// The folder.
        folder: PathBuf,
        /// Words of a name, a title, a host or a stream; absent: all packages.
        words: Vec<String>,
    },
}

/// Runs the subcommand.
pub fn run(command: Registry, global: &Global, output: Output) -> Result<(), CliError> {
    match command {
        Registry::Add { folder, file, publisher, streams } => {
            let context = Context::create(global, output, Some("warn"))?;
            let bytes = read_input(&file, Limits::default().package_bytes as u64)?;
            add(&context, RegistryFolder::new(folder), &bytes, publisher, streams)
        }
        Registry::Search { folder, words } => {
            let index = RegistryFolder::new(folder).load()?;
            search(&index, &words.join(" "), output)
        }
    }
}

fn add(
    context: &Context,
    registry: RegistryFolder,
    bytes: &[u8],
    publisher: String,
    streams: Vec<String>,
) -> Result<(), CliError> {
    let described = Package::inspect(bytes).map_err(|error| error.failure())?;
    let host = wiring::plugin_host(context)?;
    let installed = runtime(1)?.block_on(host.install(bytes)).map_err(|error| error.failure())?;
    let spec = installed.spec;
    let version: semver::Version = spec.version.parse().map_err(|_| {
        let message = format!("the connector's version {:?} is not one such as 1.2.0", spec.version);
        CliError::new(Exit::Usage, message)
    })?;
    let permissions = Permissions {
        hosts: spec.permissions.hosts,
        memory_mib: spec.permissions.memory_mib,
        reads_secrets: spec.permissions.reads_secrets,
    };
    let release = Release {
        digest: described.digest,
        size: described.size,
        api_version: described.api_version,
        title: spec.title,
        docs: spec.docs,
        permissions,
        streams,
        publisher,
        verified: VERIFIED.map(str::to_owned).to_vec(),
    };
    let mut index = Arc::unwrap_or_clone(registry.load()?);
    index.add(&spec.name, version.clone(), release.clone(), &Limits::default()).map_err(|error| error.failure())?;
    registry.save(&index, &release, bytes)?;
    let document = json!({ "name": spec.name, "version": version.to_string(), "digest": release.digest });
    context.output.show(&document, |out| writeln!(out, "{} {version} is in the registry", spec.name))
}

fn search(index: &Index, words: &str, output: Output) -> Result<(), CliError> {
    let found = index.search(words, &Limits::default());
    let described: Vec<_> = found
        .iter()
        .map(|found| json!({ "name": found.name, "version": found.version.to_string(), "release": found.release }))
        .collect();
    output.show(&described, |out| {
        let mut table = Table::new(&["name", "version", "publisher", "title", "hosts"]);
        for found in &found {
            let release = found.release;
            table.row([
                found.name.to_owned(),
                found.version.to_string(),
                release.publisher.clone(),
                release.title.clone(),
                release.permissions.hosts.join(" "),
            ]);
        }
        table.write(out)
    })
}
