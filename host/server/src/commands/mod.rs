//! One file per command. A command reads its arguments, calls the crate that does the work, and shows the result.

pub mod apply;
pub mod backfill;
pub mod build;
mod canary;
pub mod check;
pub mod completion;
pub mod config;
pub mod connection;
pub mod demo_api;
pub mod discover;
pub mod import;
pub mod key;
pub mod manifest;
pub mod new;
pub mod plugin;
pub mod read;
pub mod registry;
pub mod rejects;
pub mod replay;
pub mod runs;
pub mod serve;
pub mod state;
pub mod sync;
pub mod tables;
pub mod token;
pub mod version;
pub mod worker;
pub mod workers;

mod execute;
mod permissions;
mod recording;
mod stop;

use std::process::ExitCode;

use crate::{
    cli::{Command, Global},
    exit::{CliError, Exit},
    output::Output,
};

/// Runs a command.
pub fn dispatch(command: Command, global: &Global, output: Output) -> Result<ExitCode, CliError> {
    match command {
        Command::CompilePlugin => return Ok(thimble_plugin::compile_child_main()),
        Command::Serve(arguments) => serve::run(&arguments, global, output),
        Command::Worker(arguments) => worker::run(&arguments, global, output),
        Command::Workers(arguments) => workers::run(&arguments, global, output),
        Command::Plugin(command) => return plugin::run(command, global, output).map(ExitCode::from),
        Command::Connection(command) => connection::run(command, global, output),
        Command::Apply(arguments) => apply::run(&arguments, global, output),
        Command::Import(arguments) => import::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, global, output),
        Command::Discover(arguments) => discover::run(&arguments, global, output),
        Command::Sync(arguments) => sync::run(arguments, global, output),
        Command::Backfill(arguments) => backfill::run(arguments, global, output),
        Command::Rejects(arguments) => rejects::run(&arguments, global, output),
        Command::Replay(arguments) => replay::run(arguments, global, output),
        Command::Runs(arguments) => runs::run(arguments, global, output),
        Command::State(command) => state::run(command, global, output),
        Command::Tables(arguments) => tables::run(&arguments, global, output),
        Command::Read(arguments) => read::run(&arguments, global, output),
        Command::New(arguments) => new::run(&arguments, output),
        Command::Build(arguments) => build::run(&arguments, output),
        Command::DemoApi(arguments) => demo_api::run(&arguments, output),
        Command::Token(command) => token::run(command, global, output),
        Command::Key(command) => key::run(&command, global, output),
        Command::Registry(command) => registry::run(command, global, output),
        Command::Manifest(command) => manifest::run(command, global, output),
        Command::Config(command) => config::run(&command, global, output),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Version => version::run(output),
    }
    .map(|()| Exit::Ok.into())
}
