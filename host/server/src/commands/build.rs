//! `thimble build`.

use std::path::{Path, PathBuf};

use serde_json::json;
use thimble_xtask::{
    build,
    toolchain::{Preference, Toolchain},
};

use crate::{
    exit::{CliError, Exit},
    output::{Output, size},
};

/// Build a connector crate to a component.
///
/// Uses cargo with the target wasm32-wasip1. Where the target is missing, rustup adds it; where rustup cannot,
/// Debian's packages are used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  thimble build my-api\n  thimble plugin install my-api/my-api.wasm")]
pub struct Build {
    /// Folder of the crate.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Folder for the component [default: the crate's].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Builds.
pub fn run(arguments: &Build, output: Output) -> Result<(), CliError> {
    let dir = &arguments.dir;
    if !dir.join("Cargo.toml").is_file() {
        let message = format!("{} holds no Cargo.toml, so it is no connector crate", dir.display());
        return Err(CliError::new(Exit::NotFound, message).hint("thimble new NAME makes one"));
    }
    let out = arguments.out.as_deref().unwrap_or(dir);
    let say = |text: &str| output.remark(text);
    let toolchain = Toolchain::find(&work_folder(dir), Preference::Any, &say)
        .map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    let built = build::build(&toolchain, std::slice::from_ref(dir), out)
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    let Some(component) = built.first() else {
        return Err(CliError::new(Exit::Failed, format!("{} built nothing", dir.display())));
    };
    let document = json!({
        "name": component.name, "file": component.path, "bytes": component.bytes, "changed": component.changed,
    });
    output.show(&document, |out| {
        writeln!(out, "built {} ({})", component.path.display(), size(component.bytes))?;
        writeln!(out, "next: thimble plugin install {}", component.path.display())
    })
}

/// Where a toolchain is kept that had to be put together.
fn work_folder(dir: &Path) -> PathBuf {
    dir.join("target")
}
