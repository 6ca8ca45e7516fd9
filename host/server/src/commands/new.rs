//! `thimble new`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use thimble_xtask::template::{self, Sdk};

use crate::{
    exit::{CliError, Exit},
    output::Output,
};

/// Make a connector crate from the template.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  thimble new my-api\n  cd my-api && thimble build")]
pub struct New {
    /// Name of the connector: lower-case letters, digits and `-`.
    name: String,
    /// Folder to make [default: the name].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Longest name of a connector, as the connector interface has it.
const MAX_NAME: usize = 64;

/// Makes the crate.
pub fn run(arguments: &New, output: Output) -> Result<(), CliError> {
    check_name(&arguments.name)?;
    let folder = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(&arguments.name));
    let occupied = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || folder.is_file() {
        let message = format!("{} is already there and is not an empty folder", folder.display());
        return Err(CliError::new(Exit::Conflict, message).hint("choose another name, or another folder with --dir"));
    }
    let files = template::render(&arguments.name, &Sdk::nearest());
    for (name, content) in &files {
        write(&folder.join(name), content)?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let document = json!({ "name": arguments.name, "folder": folder, "files": names });
    output.show(&document, |out| {
        writeln!(out, "made the connector `{}` in {}", arguments.name, folder.display())?;
        writeln!(out, "next: thimble build {}", folder.display())
    })
}

fn check_name(name: &str) -> Result<(), CliError> {
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let valid = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if starts_well && valid && !name.ends_with('-') && name.len() <= MAX_NAME {
        return Ok(());
    }
    let message = format!(
        "connector name {name:?} is not allowed: use lower-case letters, digits and `-`, start with a letter, and \
         stay within {MAX_NAME} characters"
    );
    Err(CliError::new(Exit::Usage, message))
}

fn write(file: &Path, content: &str) -> Result<(), CliError> {
    let failed = |error| CliError::io(format_args!("cannot write {}", file.display()), &error);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(file, content).map_err(failed)
}
