//! `thimble config`.

use serde_json::json;

use crate::{
    cli::Global,
    config,
    context::load_config,
    exit::{CliError, Exit},
    output::Output,
    telemetry,
};

/// Check the configuration file, or print its schema.
#[derive(Debug, clap::Subcommand)]
pub enum Config {
    /// Read the configuration file and say what is wrong with it
    Check,
    /// Print the JSON Schema of the configuration file
    #[command(
        after_help = "For editors with a YAML language server, put this first into thimble.yaml:\n  # yaml-language-server: $schema=thimble.schema.json\nafter `thimble config schema > thimble.schema.json`."
    )]
    Schema,
}

/// Runs the subcommand.
pub fn run(command: &Config, global: &Global, output: Output) -> Result<(), CliError> {
    match command {
        Config::Check => check(global, output),
        Config::Schema => {
            let schema: serde_json::Value = serde_json::from_str(config::SCHEMA)
                .map_err(|error| CliError::new(Exit::Failed, format!("the built-in schema is damaged: {error}")))?;
            output.show(&schema, |out| out.write_all(config::SCHEMA.as_bytes()))
        }
    }
}

fn check(global: &Global, output: Output) -> Result<(), CliError> {
    let (config, file, data) = load_config(global)?;
    telemetry::check(&config.log)?;
    let name = file.as_ref().map(|file| file.display().to_string());
    let document = json!({
        "ok": true,
        "file": name,
        "data": data,
        "listen": config.listen.0.to_string(),
        "connections": config.connections.keys().collect::<Vec<_>>(),
    });
    output.show(&document, |out| {
        match name {
            Some(name) => writeln!(out, "{name} is valid")?,
            None => writeln!(out, "no configuration file: every setting has its default")?,
        }
        writeln!(out, "data folder: {}", data.display())?;
        writeln!(out, "connections: {}", config.connections.len())
    })
}
