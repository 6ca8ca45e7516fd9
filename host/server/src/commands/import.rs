//! `thimble import`.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::{
    config::{self, MAX_CONFIG_BYTES},
    context::read_input,
    exit::{CliError, Exit},
    import::{airbyte, meltano},
    output::Output,
};

/// Turn the settings of another platform into a file for `thimble apply`
///
/// A start, not an end: what cannot be carried over is said on standard error, and secrets become variables of the
/// environment.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble import meltano meltano.yml > thimble.d/meltano.json\n  thimble import airbyte connection.json > thimble.d/shop.json"
)]
pub struct Import {
    /// Where it comes from.
    #[arg(value_enum)]
    from: Platform,
    /// `meltano.yml`, or a connection as Airbyte's API answers it (JSON or YAML); `-` is standard input.
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Platform {
    Meltano,
    Airbyte,
}

/// Imports.
pub fn run(arguments: &Import, output: Output) -> Result<(), CliError> {
    let Import { from, file } = arguments;
    let bytes = read_input(file, MAX_CONFIG_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| CliError::new(Exit::Usage, format!("{} is not UTF-8: {error}", file.display())))?;
    // JSON is YAML, too. Their variables are theirs: nothing is expanded.
    let document = config::plain_document(&file.with_extension("yaml"), &text)?;
    let imported = match from {
        Platform::Meltano => meltano(&document),
        Platform::Airbyte => airbyte(&document),
    };
    for note in &imported.notes {
        output.remark(note);
    }
    output.show(&imported.document, |out| writeln!(out, "{:#}", imported.document))
}
