//! Executes a run on a connection in this process.

use std::sync::Arc;

use serde_json::Value;
use thimble_pipeline::{EventSink, RunEvent};
use thimble_record::ConnectionId;
use thimble_store::{NewRun, RunKind, RunRow, RunStatus, Store, Trigger};
use tokio_util::sync::CancellationToken;

use super::{recording::Recording, stop};
use crate::{
    cli::Global,
    connections,
    context::{Context, connection_id, now_ms, runtime},
    exit::{CliError, Exit},
    output::Output,
    recorder::{self, Recorder, Which},
    wiring::{self, Wired},
};

/// A run that is over, and what it ran with.
pub struct Executed {
    pub wired: Wired,
    pub id: ConnectionId,
    pub run: RunRow,
}

/// What to run.
pub struct Asked<'a> {
    pub connection: &'a str,
    pub kind: RunKind,
    pub request: Value,
    /// Sees every event besides the recorder.
    pub watch: Arc<dyn EventSink>,
    pub recording: Recording,
}

/// Stores the connection as the configuration file has it, executes the run, and gives `then` its result. Ctrl-C
/// asks the run to stop at its next checkpoint.
pub fn run<T>(
    asked: Asked<'_>,
    global: &Global,
    output: Output,
    then: impl AsyncFnOnce(Executed) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let request = asked.request.clone();
    run_prepared(asked, global, output, async |_: &Store| Ok(request), then)
}

/// As [`run`], with a request that the control database has a say in.
pub fn run_prepared<T>(
    mut asked: Asked<'_>,
    global: &Global,
    output: Output,
    prepare: impl AsyncFnOnce(&Store) -> Result<Value, CliError>,
    then: impl AsyncFnOnce(Executed) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let context = Context::create(global, output, Some("warn"))?;
    runtime(context.threads())?.block_on(async {
        let id = connection_id(asked.connection)?;
        let mut wired = wiring::wire(&context).await?;
        wired.worker.rehearsal = asked.recording.open(&context.config.limits.plugin.egress)?;
        if let Some(wanted) = context.config.connections.get(asked.connection) {
            connections::apply(&wired.worker.store, &wired.keys, asked.connection, wanted, now_ms()).await?;
        }
        asked.request = prepare(&wired.worker.store).await?;
        let run = execute(&wired, &id, &asked).await?;
        then(Executed { wired, id, run }).await
    })
}

async fn execute(wired: &Wired, id: &ConnectionId, asked: &Asked<'_>) -> Result<RunRow, CliError> {
    let cancel = CancellationToken::new();
    stop::on_signals(cancel.clone())?;
    let recorder = Arc::new(Recorder::default());
    let (recording, watch) = (Arc::clone(&recorder), Arc::clone(&asked.watch));
    let events: Arc<dyn EventSink> = Arc::new(move |event: RunEvent| {
        recording.event(event.clone());
        watch.event(event);
    });
    let mut new = NewRun::on(id.clone(), asked.kind, Trigger::Manual);
    new.request = asked.request.clone();
    let worker = &wired.worker;
    let which = Which::HeldBy(worker.holder());
    let work = worker.run_now(new, events, cancel);
    Ok(recorder::record(recorder, worker.store.clone(), which, work).await?)
}

/// The error of a run that did not succeed.
pub fn failure_of(run: &RunRow) -> Option<CliError> {
    let message = |fallback: &str| run.failure.as_ref().map_or_else(|| fallback.to_owned(), |f| f.message.clone());
    let error = match run.status {
        RunStatus::Succeeded | RunStatus::Queued | RunStatus::Running => return None,
        RunStatus::Failed => {
            let exit = run.failure.as_ref().map_or(Exit::Failed, |failure| Exit::of(failure.kind));
            CliError::new(exit, message("the run failed"))
        }
        RunStatus::Cancelled | RunStatus::Interrupted => {
            CliError::new(Exit::Interrupted, message("the run was stopped; the next one goes on where it stopped"))
        }
    };
    Some(error.hint(format!("thimble runs logs {}", run.id)))
}
