//! The `thimble` command: command line, configuration, telemetry, and the wiring of the crates that do the work.
//!
//! Must never decide anything about data: that is the engine's and the pipeline's.

mod api_client;
mod apply;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connection_config;
pub mod connections;
pub mod context;
pub mod data_folder;
mod destinations;
pub mod executing;
pub mod exit;
pub mod first_token;
mod grant_patterns;
mod import;
pub mod key_file;
pub mod memory;
pub mod metrics;
pub mod observing;
pub mod outbound;
pub mod output;
pub mod progress;
pub mod prompt;
pub mod recorder;
mod registry;
pub mod rest_component;
pub mod shelf;
pub mod telemetry;
pub mod wiring;

use std::{ffi::OsString, process::ExitCode};

use clap::FromArgMatches;

use crate::{cli::Cli, exit::Exit, output::Output};

/// Runs the command that `arguments` (the program's name first) spell, and gives the process's exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    memory::bound_arenas();
    let parsed = cli::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output or error may be closed; the code still tells.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let output = Output { format: cli.global.output, quiet: cli.global.quiet };
    let ended = commands::dispatch(cli.command, &cli.global, output);
    telemetry::stop();
    match ended {
        Ok(exit) => exit,
        Err(error) => {
            output.error(&error);
            error.exit.into()
        }
    }
}
