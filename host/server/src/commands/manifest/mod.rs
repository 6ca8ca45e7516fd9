//! `thimble manifest`: what can be done with a declarative manifest before it is installed.
//!
//! Everything that reads the manifest happens in the sandbox; no data folder is needed. Must never reach a host that
//! the manifest does not name.

mod about;
mod attempt;
mod printer;
mod sandbox;

use std::path::PathBuf;

use crate::{
    cli::Global,
    context::{load_config_from, runtime},
    exit::CliError,
    output::{Format, Output},
    telemetry,
};

use self::{attempt::Try, sandbox::Sandbox};

/// Check, describe, pack and try declarative manifests.
#[derive(Debug, clap::Subcommand)]
pub enum Manifest {
    /// Say what is wrong with a manifest; exits with 1 where it cannot run
    Lint(About),
    /// Show the streams, hosts and settings of a manifest
    About(About),
    /// List the hosts that a manifest asks for
    Hosts(About),
    /// Make a component of a manifest
    #[command(
        after_help = "Example:\n  thimble manifest pack manifest.yaml --out my-source.wasm && thimble plugin install my-source.wasm"
    )]
    Pack {
        #[command(flatten)]
        about: About,
        /// The component to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Read streams of a manifest, and show every request, record and state
    ///
    /// Here `--config` names the manifest's own configuration, JSON; Thimble's is `thimble.yaml`, or what
    /// THIMBLE_CONFIG names.
    #[command(
        after_help = "Examples:\n  thimble manifest try --manifest manifest.yaml --config config.json --stream users --limit 10\n  thimble manifest try --manifest m.yaml --config c.json --all --json --map https://api.example.com=http://127.0.0.1:8080"
    )]
    Try(Box<Try>),
}

/// A manifest, and what runs it.
#[derive(Debug, clap::Args)]
pub struct About {
    /// The manifest, YAML or JSON; `-` reads standard input.
    manifest: PathBuf,
    #[command(flatten)]
    with: With,
}

/// What every subcommand understands.
#[derive(Debug, clap::Args)]
pub struct With {
    /// The component that runs manifests [default: the setting rest_component, the installed plugin rest, rest.wasm
    /// beside the program].
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// JSON on standard output.
    #[arg(long)]
    json: bool,
}

impl With {
    fn output(&self, output: Output) -> Output {
        if self.json { Output { format: Format::Json, ..output } } else { output }
    }
}

/// Runs the subcommand.
pub fn run(mut command: Manifest, global: &Global, output: Output) -> Result<(), CliError> {
    let mut chosen = global.config.clone();
    if let Manifest::Try(arguments) = &mut command {
        let ours = std::env::var_os("THIMBLE_CONFIG").map(PathBuf::from);
        if chosen != ours {
            arguments.settings = std::mem::replace(&mut chosen, ours);
        }
    }
    let (config, _, data) = load_config_from(chosen.as_deref(), global)?;
    telemetry::start(&config.log, &config.telemetry, global.log_level.as_deref().or(Some("warn")))?;
    let with = match &command {
        Manifest::Lint(about) | Manifest::About(about) | Manifest::Hosts(about) | Manifest::Pack { about, .. } => {
            &about.with
        }
        Manifest::Try(arguments) => &arguments.with,
    };
    let (output, component) = (with.output(output), with.component.clone());
    runtime(2)?.block_on(async {
        let private = matches!(&command, Manifest::Try(arguments) if arguments.allow_private);
        let sandbox = Sandbox::open(&config, &data, component, private).await?;
        match command {
            Manifest::Lint(about) => about::lint(&sandbox, &about.manifest, output).await,
            Manifest::About(about) => about::about(&sandbox, &about.manifest, output).await,
            Manifest::Hosts(about) => about::hosts(&sandbox, &about.manifest, output).await,
            Manifest::Pack { about, out } => about::pack(&sandbox, &about.manifest, &out, output).await,
            Manifest::Try(arguments) => attempt::run(&sandbox, *arguments, output).await,
        }
    })
}
