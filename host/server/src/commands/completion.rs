//! `thimble completion`.

use std::io;

use clap_complete::Shell;

use crate::{cli, exit::CliError};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble completion bash > ~/.local/share/bash-completion/completions/thimble\n  thimble completion zsh > ~/.zfunc/_thimble\n  thimble completion fish > ~/.config/fish/completions/thimble.fish"
)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: &Completion) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::command(), "thimble", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(CliError::io("cannot write to standard output", &error)),
    })
}
