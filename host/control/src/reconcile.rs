//! The reconciler: compares what is queued with what runs here, and has the difference carried out.
//!
//! It is woken by a signal and by a timer, reads nothing but the store, and may be stopped and started
//! at any moment: what it had claimed is kept alive by heartbeats and becomes Interrupted without them.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::Value;
use thimble_record::{ErrorKind, Failure, RunId};
use thimble_store::{RunOutcome, RunRow, RunStatus, Store, StoreError};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, Measures, Signals, clock,
    retention::{self, Retention},
};

/// Carries out claimed runs.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Executes a run that is Running, and stores its outcome by `Store::finish`. A run that is not
    /// finished when this returns, or panics, is stored as Failed. When `cancel` fires it should end soon.
    async fn execute(&self, run: RunRow, cancel: CancellationToken);
}

/// How the reconciler works.
#[derive(Clone)]
pub struct ReconcileSettings {
    /// Name of this process as a holder of runs; the same that its leases are taken under.
    pub holder: String,
    /// Most runs at once; 4.
    pub concurrency: usize,
    /// How often it looks without being woken; 1 s.
    pub tick: Duration,
    /// How long a run lives without a heartbeat; 10 s.
    pub ttl: Duration,
    /// How often running runs are heard of; 3 s.
    pub heartbeat: Duration,
    /// How long running runs may take to end when the process is to end; 10 s.
    pub grace: Duration,
    pub retention: Retention,
    /// Shared with the API, which shows them.
    pub measures: Arc<Measures>,
    pub clock: Clock,
}

impl ReconcileSettings {
    /// The defaults.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            concurrency: 4,
            tick: Duration::from_secs(1),
            ttl: Duration::from_secs(10),
            heartbeat: Duration::from_secs(3),
            grace: Duration::from_secs(10),
            retention: Retention::default(),
            measures: Arc::default(),
            clock: clock::system_clock(),
        }
    }
}

/// Carries out queued runs until `cancel` fires, then asks the running ones to stop and waits for them
/// for the time of grace; what is left is stored as Interrupted.
pub async fn reconcile(
    store: Store,
    executor: Arc<dyn Executor>,
    signals: Signals,
    settings: ReconcileSettings,
    cancel: CancellationToken,
) {
    let mut reconciler = Reconciler {
        store,
        executor,
        signals,
        next_heartbeat: Instant::now() + settings.heartbeat,
        next_prune: Instant::now(),
        settings,
        running: HashMap::new(),
        tasks: JoinSet::new(),
    };
    while !cancel.is_cancelled() {
        if let Err(error) = reconciler.step().await {
            tracing::warn!(error = %error.failure(), "the queue cannot be worked on; trying again");
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = reconciler.signals.woken() => {}
            () = tokio::time::sleep(reconciler.settings.tick.min(reconciler.settings.heartbeat)) => {}
            Some(ended) = reconciler.tasks.join_next() => reconciler.forget(ended),
        }
    }
    reconciler.stop().await;
}

struct Reconciler {
    store: Store,
    executor: Arc<dyn Executor>,
    signals: Signals,
    settings: ReconcileSettings,
    running: HashMap<RunId, CancellationToken>,
    tasks: JoinSet<RunId>,
    next_heartbeat: Instant,
    next_prune: Instant,
}

impl Reconciler {
    fn now_ms(&self) -> i64 {
        (self.settings.clock)()
    }

    fn ttl_ms(&self) -> i64 {
        i64::try_from(self.settings.ttl.as_millis()).unwrap_or(i64::MAX)
    }

    async fn step(&mut self) -> Result<(), StoreError> {
        // Own runs first: a step must not interrupt what it could have kept alive.
        if Instant::now() >= self.next_heartbeat {
            self.next_heartbeat = Instant::now() + self.settings.heartbeat;
            self.heartbeat().await?;
        }
        self.claim().await?;
        self.pass_cancels().await?;
        for run in self.store.interrupt_expired(self.now_ms()).await? {
            tracing::warn!(run = %run.id, holder = run.holder, "a run was interrupted: its holder is gone");
            if let Some(cancel) = self.running.get(&run.id) {
                cancel.cancel();
            }
            self.signals.changed();
        }
        if Instant::now() >= self.next_prune {
            self.next_prune = Instant::now() + self.settings.retention.every;
            retention::prune(&self.store, &self.settings.retention, self.now_ms()).await?;
        }
        Ok(())
    }

    async fn heartbeat(&self) -> Result<(), StoreError> {
        for (run, cancel) in &self.running {
            match self.store.heartbeat(run, self.ttl_ms(), self.now_ms()).await {
                Ok(false) => {}
                // It ended just now, or somebody took it for dead: nothing that it does may count.
                Ok(true) | Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => cancel.cancel(),
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    async fn claim(&mut self) -> Result<(), StoreError> {
        while self.running.len() < self.settings.concurrency {
            let claimed = self.store.claim_next(&self.settings.holder, self.ttl_ms(), self.now_ms()).await?;
            let Some(run) = claimed else { return Ok(()) };
            self.signals.changed();
            let cancel = CancellationToken::new();
            self.running.insert(run.id.clone(), cancel.clone());
            let (store, signals, clock) = (self.store.clone(), self.signals.clone(), self.settings.clock.clone());
            let executor = self.executor.clone();
            let measures = self.settings.measures.clone();
            measures.started(&run);
            self.tasks.spawn(async move {
                let id = run.id.clone();
                let ended = AssertUnwindSafe(executor.execute(run, cancel)).catch_unwind().await;
                if let Some(run) = close(&store, &id, ended.is_err(), clock()).await {
                    measures.ended(&run);
                }
                signals.changed();
                id
            });
        }
        Ok(())
    }

    /// Cancel requests of this process's runs, without waiting for the next heartbeat.
    async fn pass_cancels(&self) -> Result<(), StoreError> {
        if self.running.is_empty() {
            return Ok(());
        }
        for run in self.store.unfinished_runs().await? {
            if let Some(cancel) = self.running.get(&run.id).filter(|_| run.cancel_requested) {
                cancel.cancel();
            }
        }
        Ok(())
    }

    fn forget(&mut self, ended: Result<RunId, tokio::task::JoinError>) {
        if let Ok(run) = ended {
            self.running.remove(&run);
        }
    }

    async fn stop(mut self) {
        for cancel in self.running.values() {
            cancel.cancel();
        }
        let until = Instant::now() + self.settings.grace;
        while !self.tasks.is_empty() {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.forget(ended),
                () = tokio::time::sleep_until(until) => break,
                () = tokio::time::sleep(self.settings.heartbeat) => {
                    // Best effort: a run that expires meanwhile is interrupted by whoever comes next.
                    if let Err(error) = self.heartbeat().await {
                        tracing::warn!(error = %error.failure(), "running runs cannot be kept alive");
                    }
                }
            }
        }
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let failure = Failure::new(ErrorKind::Transient, "the server was stopped before the run ended; run it again");
        for run in self.running.keys() {
            let outcome = RunOutcome {
                status: RunStatus::Interrupted,
                report: self.report(run).await,
                failure: Some(failure.clone()),
            };
            if let Err(error) = self.store.finish(run, &outcome, self.now_ms()).await {
                tracing::warn!(%run, error = %error.failure(), "a stopped run cannot be stored as interrupted");
            }
        }
        self.signals.changed();
    }

    /// How far a run got, so that ending it keeps that.
    async fn report(&self, run: &RunId) -> Value {
        self.store.run(run).await.map_or(Value::Null, |run| run.report)
    }
}

/// Makes sure that a run which is no longer executed is not left running.
/// Answers the run as it ended, where that is known.
async fn close(store: &Store, run: &RunId, panicked: bool, now_ms: i64) -> Option<RunRow> {
    let row = match store.run(run).await {
        Ok(row) if row.status.finished() => return Some(row),
        Ok(row) => row,
        Err(error) => {
            tracing::error!(%run, error = %error.failure(), "the end of a run cannot be checked");
            return None;
        }
    };
    let message = if panicked {
        "the run met a defect of the host; the server's log says more"
    } else {
        "the run ended without an outcome; the server's log says more"
    };
    tracing::error!(%run, panicked, "a run ended without an outcome");
    let outcome = RunOutcome::failed(Failure::system(message), row.report);
    match store.finish(run, &outcome, now_ms).await {
        Ok(row) => Some(row),
        Err(error) => {
            tracing::error!(%run, error = %error.failure(), "a run cannot be stored as failed");
            None
        }
    }
}
