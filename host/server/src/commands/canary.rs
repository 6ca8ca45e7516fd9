//! `thimble plugin canary`.

use std::sync::Arc;

use serde_json::{Value, json};
use thimble_engine::canary::{Figures, StreamCanary, Verdict};
use thimble_pipeline::{CanaryRequest, RunEvent};
use thimble_record::RunId;
use thimble_store::{RunKind, Store};

use super::{
    execute::{self, Asked, Executed, failure_of},
    recording::Recording,
};
use crate::{
    cli::Global,
    context::connection_id,
    exit::{CliError, Exit},
    output::{Output, Table, count},
};

/// Shortest beginning of a digest that names a version.
const MIN_DIGEST: usize = 8;

/// Have a version read again what a sync read, and compare
///
/// The version reads from the position that stood before the sync. Nothing is loaded and no position moves. Exits with 0
/// where it reads the same, with 1 where it does not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  thimble plugin install files-2.wasm --candidate\n  thimble plugin canary files 3f2a90c1 --connection flights"
)]
pub struct Canary {
    /// Name of the plugin.
    name: String,
    /// The version's digest, or its first characters.
    digest: String,
    /// A connection of the plugin.
    #[arg(long, value_name = "NAME")]
    connection: String,
    /// The sync to compare with [default: the last one that succeeded].
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Tries the version.
pub fn run(arguments: &Canary, global: &Global, output: Output) -> Result<Exit, CliError> {
    let asked = Asked {
        connection: &arguments.connection,
        kind: RunKind::Canary,
        request: Value::Null,
        watch: Arc::new(|_: RunEvent| {}),
        recording: Recording::default(),
    };
    let prepare = async |store: &Store| Ok(json!(request(store, arguments).await?));
    execute::run_prepared(asked, global, output, prepare, async |Executed { run, .. }| {
        if let Some(error) = failure_of(&run) {
            return Err(error);
        }
        let answer = run.report.get("answer").cloned().unwrap_or_default();
        show(&answer, output)
    })
}

async fn request(store: &Store, arguments: &Canary) -> Result<CanaryRequest, CliError> {
    let Canary { name, digest, connection, run } = arguments;
    let id = connection_id(connection)?;
    let used = store.connection(&id).await?.plugin;
    if used != *name {
        return Err(CliError::new(Exit::Usage, format!("connection {id} uses plugin {used}, not {name}")));
    }
    let versions = store.plugin_versions(name).await?;
    let mut named = versions.iter().filter(|version| version.plugin.digest.starts_with(digest.as_str()));
    let digest = match (named.next(), named.next()) {
        (Some(one), None) if digest.len() >= MIN_DIGEST => one.plugin.digest.clone(),
        _ => {
            let message = format!("{digest} names no version of {name}, or not one alone");
            return Err(CliError::new(Exit::NotFound, message)
                .hint(format!("give at least {MIN_DIGEST} characters of the digest that its installation printed")));
        }
    };
    let recorded = match run {
        Some(run) => Some(store.run(&RunId(run.clone())).await?),
        None => store.last_recording(&id).await?,
    };
    let recorded = recorded.filter(|run| run.is_recording() && run.connection.as_ref() == Some(&id));
    let recorded = recorded.ok_or_else(|| {
        let message = format!("connection {id} has no such sync that succeeded and read its source");
        CliError::new(Exit::Conflict, message).hint(format!("thimble sync {id}"))
    })?;
    Ok(CanaryRequest { digest, recorded: recorded.id })
}

fn show(answer: &Value, output: Output) -> Result<Exit, CliError> {
    let canary: thimble_engine::canary::Canary = serde_json::from_value(answer.clone())
        .map_err(|error| CliError::new(Exit::Failed, format!("the report cannot be read: {error}")))?;
    output.show(answer, |out| {
        let mut table = Table::new(&["stream", "records#", "recorded#", "rejected#", "recorded#"]);
        for (stream, StreamCanary { recorded, now, .. }) in &canary.streams {
            let figures = |Figures { records, rejected }: &Figures| (count(*records), count(*rejected));
            let ((records, rejected), (before, rejected_before)) = (figures(now), figures(recorded));
            table.row([stream.clone(), records, before, rejected, rejected_before]);
        }
        table.write(out)?;
        canary.sentences.iter().try_for_each(|sentence| writeln!(out, "{sentence}"))
    })?;
    // The report is the answer, also where it is bad news.
    Ok(if canary.verdict == Verdict::Same { Exit::Ok } else { Exit::Failed })
}
