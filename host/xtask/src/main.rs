//! `cargo run --release -p thimble-xtask -- …`: the command line over the library.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use thimble_xtask::{build, component, order, tidy, toolchain};

#[derive(Parser)]
#[command(about = "Builds connectors to components and checks the house rules")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build every crate below plugins/ to target/plugins/<name>.wasm, and any other folder given.
    Plugins {
        /// Folders of further connector crates.
        folders: Vec<PathBuf>,
        /// Build only the folders given, not plugins/.
        #[arg(long, requires = "folders")]
        only: bool,
        /// Where to write; target/plugins by default.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Which toolchain to use.
        #[arg(long, value_enum, default_value_t = Choice::Any)]
        toolchain: Choice,
    },
    /// Turn a core module into a component.
    Component { module: PathBuf, out: PathBuf },
    /// Check the one-way order of the crates and the house rules; prints each violation.
    Check,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    Any,
    Debian,
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Plugins { folders, only, out, toolchain } => plugins(folders, only, out, toolchain),
        Task::Component { module, out } => one_component(&module, &out),
        Task::Check => check(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        let mut cause = error.source();
        while let Some(source) = cause {
            eprintln!("  because: {source}");
            cause = source.source();
        }
        ExitCode::FAILURE
    })
}

fn plugins(given: Vec<PathBuf>, only: bool, out: Option<PathBuf>, choice: Choice) -> Outcome {
    let workspace = workspace()?;
    let mut folders = if only { Vec::new() } else { build::plugin_folders(&workspace)? };
    folders.extend(given);
    let target = workspace.join("target");
    let preference = match choice {
        Choice::Any => toolchain::Preference::Any,
        Choice::Debian => toolchain::Preference::Debian,
    };
    let found = toolchain::Toolchain::find(&target, preference, &|line| eprintln!("{line}"))?;
    for built in build::build(&found, &folders, &out.unwrap_or_else(|| target.join("plugins")))? {
        let note = if built.changed { "" } else { " (unchanged)" };
        println!("{}: {} ({} KiB){note}", built.name, built.path.display(), built.bytes.div_ceil(1024));
    }
    Ok(ExitCode::SUCCESS)
}

fn one_component(module: &Path, out: &Path) -> Outcome {
    let wasm = std::fs::read(module).map_err(|source| build::BuildError::Read { path: module.to_owned(), source })?;
    build::write_if_changed(out, &component::componentize(&wasm)?)?;
    Ok(ExitCode::SUCCESS)
}

fn check() -> Outcome {
    let workspace = workspace()?;
    let metadata = metadata(&workspace)?;
    let mut found = order::violations(&metadata);
    let folders = ["host", "plugins", "registry", "sdk", "tests"].map(|name| workspace.join(name));
    let folders: Vec<PathBuf> = folders.into_iter().filter(|folder| folder.exists()).collect();
    found.extend(tidy::violations(&workspace, &folders)?);
    found.iter().for_each(|violation| println!("{violation}"));
    match found.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            eprintln!("{count} violation{} of the house rules", if count == 1 { "" } else { "s" });
            Ok(ExitCode::FAILURE)
        }
    }
}

fn metadata(workspace: &Path) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1"]).current_dir(workspace).output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The workspace that this was built in, so that the working folder does not matter.
fn workspace() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .filter(|root| root.join("Cargo.toml").exists())
        .map(Path::to_owned)
        .ok_or_else(|| format!("the workspace of {} is gone: build this tool again", here.display()).into())
}
