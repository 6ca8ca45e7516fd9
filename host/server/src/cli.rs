//! The command line: what can be typed, and what `--help` says.
//!
//! Must never do what a command does.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{commands, exit::EXIT_CODES, output::Format};

/// Moves data from sources to destinations with sandboxed connectors.
#[derive(Debug, Parser)]
#[command(
    name = "thimble",
    version,
    about,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    infer_subcommands = false
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file, YAML or TOML [default: thimble.yaml, if it is there].
    #[arg(long, global = true, value_name = "FILE", env = "THIMBLE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data folder; outranks the configuration file [default: thimble-data].
    #[arg(long, global = true, value_name = "DIR", env = "THIMBLE_DATA")]
    pub data: Option<PathBuf>,
    /// Form of standard output.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// What is logged to standard error: error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL", env = "THIMBLE_LOG")]
    pub log_level: Option<String>,
    /// No progress and no remarks on standard error.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: HTTP API, reconcilers and runs
    Serve(commands::serve::Serve),
    /// Execute runs of a control database that several machines share
    Worker(commands::worker::Worker),
    /// List the processes that execute runs
    Workers(commands::workers::Workers),
    /// Install, inspect and grant plugins
    #[command(subcommand)]
    Plugin(commands::plugin::Plugin),
    /// List, show, apply and delete connections
    #[command(subcommand)]
    Connection(commands::connection::Connection),
    /// Bring a server to what files say
    Apply(commands::apply::Apply),
    /// Turn the settings of another platform into a file for `thimble apply`
    Import(commands::import::Import),
    /// Prove that a connection's configuration works
    Check(commands::check::Check),
    /// List the streams that a connection's source offers
    Discover(commands::discover::Discover),
    /// Move what is new from a connection's source to the destination
    Sync(commands::sync::Sync),
    /// Read a part of the source again, beside the live position
    Backfill(commands::backfill::Backfill),
    /// List rejected records that wait for a replay
    Rejects(commands::rejects::Rejects),
    /// Try rejected records again, after what was wrong was put right
    Replay(commands::replay::Replay),
    /// List runs, show one, or print its log
    Runs(commands::runs::Runs),
    /// Show or set how far a connection was read
    #[command(subcommand)]
    State(commands::state::State),
    /// List the tables of a connection in the lake
    Tables(commands::tables::Tables),
    /// Print records of a table of the lake
    Read(commands::read::Read),
    /// Make a connector crate from the template
    New(commands::new::New),
    /// Build a connector crate to a component
    Build(commands::build::Build),
    /// Check, describe, pack and try declarative manifests
    #[command(subcommand)]
    Manifest(commands::manifest::Manifest),
    /// Serve a small JSON API to try a connector on
    DemoApi(commands::demo_api::DemoApi),
    /// Make, list and revoke tokens of the HTTP API
    #[command(subcommand)]
    Token(commands::token::Token),
    /// List, change and retire the host keys, which everything encrypted hangs on
    #[command(subcommand)]
    Key(commands::key::Key),
    /// Keep a registry of connectors in a folder
    #[command(subcommand)]
    Registry(commands::registry::Registry),
    /// Check the configuration file, or print its schema
    #[command(subcommand)]
    Config(commands::config::Config),
    /// Print a completion script for a shell
    Completion(commands::completion::Completion),
    /// Print versions
    Version,
    /// Compile a component from standard input; the host starts this in a child process
    #[command(hide = true)]
    CompilePlugin,
}

/// Commands under their headings, in the order of `--help`.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Move data", &["sync", "backfill", "check", "discover", "runs", "state"]),
    ("Read data", &["tables", "read", "rejects", "replay"]),
    ("Set up", &["serve", "worker", "workers", "plugin", "connection", "apply", "import", "token", "key", "config"]),
    ("Write connectors", &["new", "build", "manifest", "demo-api", "registry"]),
    ("More", &["completion", "version"]),
];

const EXAMPLES: &str = "\
Examples:
  thimble plugin install files.wasm --grant    install a connector, granting what it asks for
  thimble sync flights                         move what is new, with progress bars
  thimble read flights airports --limit 5      look at the result
  thimble serve --data /var/lib/thimble        run the server
  thimble new my-api && thimble build my-api   write a connector of your own
";

/// The command line with its commands grouped.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let mut groups = String::new();
    for (heading, names) in GROUPS {
        groups.push_str(&format!("{heading}:\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            groups.push_str(&format!("  {name:<12}{about}\n"));
        }
        groups.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}\n{{after-help}}\n"
    );
    command
        .help_template(template)
        .after_help(format!("{EXAMPLES}\n{EXIT_CODES}\n\n`thimble COMMAND --help` says more about a command."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_visible_command_is_in_exactly_one_group() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        grouped.sort_unstable();
        let command = command();
        let mut visible: Vec<&str> =
            command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(clap::Command::get_name).collect();
        visible.sort_unstable();
        assert_eq!(grouped, visible);
    }

    #[test]
    fn every_command_and_argument_says_what_it_is() {
        fn walk(command: &clap::Command, path: &str) {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {argument} has no help");
            }
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} has no description");
                walk(sub, &path);
            }
        }
        walk(&command(), "thimble");
    }
}
