//! `thimble runs`.

use std::time::Duration;

use serde_json::json;
use thimble_record::RunId;
use thimble_store::{LogRow, RunKind, RunPage, RunRow, RunStatus, Store};

use crate::{
    cli::Global,
    context::{Context, connection_id, small_runtime},
    exit::CliError,
    output::{Output, Table, count, instant, seconds},
};

/// How often a followed log is read.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);

/// Lines read at a time.
const LOG_PAGE: u32 = 500;

/// List runs, show one, or print its log.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  thimble runs\n  thimble runs --connection flights --limit 5\n  thimble runs logs 01JD... --follow"
)]
pub struct Runs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List runs, newest first
    List(List),
    /// Show one run
    Show {
        /// The run.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Print the log of a run
    Logs {
        /// The run.
        #[arg(value_name = "ID")]
        id: String,
        /// Go on until the run ends.
        #[arg(long, short)]
        follow: bool,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only runs of this connection.
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only runs older than this one.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

/// Runs the subcommand.
pub fn run(arguments: Runs, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::existing(global, output)?;
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        match arguments.command.unwrap_or(Command::List(arguments.list)) {
            Command::List(list) => show_list(&store, list, output).await,
            Command::Show { id } => show(&store.run(&RunId(id)).await?, output),
            Command::Logs { id, follow } => logs(&store, &RunId(id), follow, output).await,
        }
    })
}

async fn show_list(store: &Store, list: List, output: Output) -> Result<(), CliError> {
    let connection = list.connection.as_deref().map(connection_id).transpose()?;
    let page = RunPage { limit: list.limit, before: list.before.map(RunId), connection, ..RunPage::default() };
    let runs = store.runs(&page).await?;
    output.show(&json!({ "runs": runs }), |out| {
        let mut table = Table::new(&["run", "kind", "connection", "status", "queued", "took#", "records#"]);
        for run in &runs {
            table.row([
                run.id.to_string(),
                word(&run.kind),
                run.connection.as_ref().map_or_else(|| "-".into(), ToString::to_string),
                word(&run.status),
                instant(run.queued_at),
                took(run).map_or_else(|| "-".into(), seconds),
                records(run).map_or_else(|| "-".into(), count),
            ]);
        }
        table.write(out)
    })
}

fn show(run: &RunRow, output: Output) -> Result<(), CliError> {
    output.show(run, |out| {
        writeln!(out, "run         {}", run.id)?;
        writeln!(out, "kind        {}", word(&run.kind))?;
        if let Some(connection) = &run.connection {
            writeln!(out, "connection  {connection}")?;
        }
        if let Some(subject) = &run.subject {
            writeln!(out, "subject     {subject}")?;
        }
        writeln!(out, "status      {}", word(&run.status))?;
        writeln!(out, "trigger     {}", word(&run.trigger))?;
        writeln!(out, "queued      {}", instant(run.queued_at))?;
        if let Some(slot) = run.slot {
            writeln!(out, "slot        {}", instant(slot))?;
        }
        if run.attempt > 1 {
            writeln!(out, "attempt     {}", run.attempt)?;
        }
        if let Some(at) = run.not_before.filter(|_| run.status == RunStatus::Queued) {
            writeln!(out, "not before  {}", instant(at))?;
        }
        if let Some(took) = took(run) {
            writeln!(out, "took        {}", seconds(took))?;
        }
        if let Some(failure) = &run.failure {
            writeln!(out, "failure     {}", failure.message)?;
        }
        if !run.report.is_null() {
            writeln!(out, "report      {:#}", run.report)?;
        }
        Ok(())
    })
}

async fn logs(store: &Store, id: &RunId, follow: bool, output: Output) -> Result<(), CliError> {
    let mut after = 0;
    loop {
        // The status is read before the lines, so that the last ones are not missed.
        let ended = store.run(id).await?.status.finished();
        loop {
            let page = store.logs(id, after, LOG_PAGE).await?;
            for row in &page {
                after = row.seq;
                output.line(row, &line(row))?;
            }
            if page.len() < LOG_PAGE as usize {
                break;
            }
        }
        if ended || !follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

fn line(row: &LogRow) -> String {
    let LogRow { seq: _, line } = row;
    format!("{} {:5} {}: {}", instant(line.at), word(&line.level).to_uppercase(), line.source, line.message)
}

/// The word that the store writes for a kind, status or level.
pub(super) fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".into(),
    }
}

fn took(run: &RunRow) -> Option<i64> {
    Some(run.finished_at? - run.started_at?)
}

fn records(run: &RunRow) -> Option<u64> {
    if run.kind != RunKind::Sync {
        return None;
    }
    let streams = run.report.get("streams")?.as_object()?;
    let number =
        |stream: &serde_json::Value, name: &str| stream.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    Some(streams.values().map(|stream| number(stream, "loaded") + number(stream, "merged")).sum())
}
