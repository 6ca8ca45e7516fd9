//! The reconciler: compares what is queued with what runs here, and has the difference carried out.
//!
//! It is woken by a signal, by a timer and when a slot of a schedule is due, reads nothing but the store, and may be stopped
//! and started at any moment: what it had claimed is kept alive by heartbeats and becomes Interrupted without them.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::Value;
use thimble_engine::admission::{self, Budget, Urgency, Waiting};
use thimble_record::{ErrorKind, Failure, RunId};
use thimble_store::{RunOutcome, RunRow, RunStatus, Store, StoreError, Trigger, WaitingRun, WorkerRow};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, Measures, SharedUploads, Signals, clock,
    limits::MAX_WAITING_AT_ONCE,
    retention::{self, Retention},
    schedule::{self, Scheduler},
};

const MIB: u64 = 1024 * 1024;

/// Longest step: a statement that waits for longer waits for a database that is gone.
const STEP_DEADLINE: Duration = Duration::from_secs(30);

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
    /// What the runs may take together, in bytes; no bound.
    pub memory_bytes: u64,
    /// What a run is expected to take where its plugin asks for no memory of its own, in MiB; 128.
    pub run_memory_mib: u64,
    /// Whether slots of schedules are started here; yes. Any number of processes may.
    pub schedules: bool,
    /// How often it looks without being woken; 0.5 s.
    pub tick: Duration,
    /// How long a run lives without a heartbeat; 6 s.
    pub ttl: Duration,
    /// How often running runs are heard of; 2 s.
    pub heartbeat: Duration,
    /// How long running runs may take to end when the process is to end; 10 s.
    pub grace: Duration,
    pub retention: Retention,
    /// Shared with the API, which shows them.
    pub measures: Arc<Measures>,
    pub clock: Clock,
    /// What is told of this process to whoever lists the workers; nothing.
    pub announce: Option<WorkerRow>,
    /// Where uploads lie that all processes share; none.
    pub uploads: Option<Arc<dyn SharedUploads>>,
}

impl ReconcileSettings {
    /// The defaults.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            concurrency: 4,
            memory_bytes: u64::MAX,
            run_memory_mib: 128,
            schedules: true,
            tick: Duration::from_millis(500),
            ttl: Duration::from_secs(6),
            heartbeat: Duration::from_secs(2),
            grace: Duration::from_secs(10),
            retention: Retention::default(),
            measures: Arc::default(),
            clock: clock::system_clock(),
            announce: None,
            uploads: None,
        }
    }
}

/// Carries out queued runs until `cancel` fires, then asks the running ones to stop and waits for them
/// for the time of grace; what is left is stored as Interrupted. Syncs that were given up so are queued again.
pub async fn reconcile(
    store: Store,
    executor: Arc<dyn Executor>,
    signals: Signals,
    settings: ReconcileSettings,
    cancel: CancellationToken,
) {
    let mut reconciler = Reconciler {
        scheduler: settings.schedules.then(|| Scheduler::new(store.clone(), settings.holder.clone())),
        store,
        executor,
        signals,
        next_heartbeat: Instant::now(),
        sweeps_from: Instant::now(),
        next_prune: Instant::now(),
        settings,
        running: HashMap::new(),
        tasks: JoinSet::new(),
    };
    while !cancel.is_cancelled() {
        // A database that was cut off may never answer.
        let stepped = tokio::time::timeout(STEP_DEADLINE, reconciler.step()).await;
        let wait = match stepped.unwrap_or_else(|_| Err(StoreError::no_answer())) {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(error = %error.failure(), "the queue cannot be worked on; trying again");
                // Nobody could be heard of while the database was away: they get the time to be.
                reconciler.sweeps_from = Instant::now() + reconciler.settings.ttl;
                reconciler.settings.tick
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = reconciler.signals.woken() => {}
            () = tokio::time::sleep(wait) => {}
            Some(ended) = reconciler.tasks.join_next() => reconciler.forget(ended),
        }
        // Those that ended at the same time make room together.
        while let Some(ended) = reconciler.tasks.try_join_next() {
            reconciler.forget(ended);
        }
    }
    reconciler.stop().await;
}

struct Reconciler {
    store: Store,
    executor: Arc<dyn Executor>,
    signals: Signals,
    settings: ReconcileSettings,
    scheduler: Option<Scheduler>,
    running: HashMap<RunId, Running>,
    tasks: JoinSet<RunId>,
    next_heartbeat: Instant,
    /// Until then it cannot be told who is dead.
    sweeps_from: Instant,
    next_prune: Instant,
}

/// A run that this process executes.
struct Running {
    cancel: CancellationToken,
    memory_bytes: u64,
    /// When it has lasted too long, and how long that is in milliseconds.
    deadline: Option<(Instant, i64)>,
}

impl Reconciler {
    fn now_ms(&self) -> i64 {
        (self.settings.clock)()
    }

    fn ttl_ms(&self) -> i64 {
        i64::try_from(self.settings.ttl.as_millis()).unwrap_or(i64::MAX)
    }

    /// Does what is to be done, and answers how long nothing more is, unless something happens.
    async fn step(&mut self) -> Result<Duration, StoreError> {
        let begun = Instant::now();
        // Own runs first: a step must not interrupt what it could have kept alive.
        if Instant::now() >= self.next_heartbeat {
            self.next_heartbeat = Instant::now() + self.settings.heartbeat;
            self.heartbeat().await?;
        }
        let mut wait = self.settings.tick.min(self.settings.heartbeat);
        if let Some(scheduler) = &mut self.scheduler {
            let (_, next) = scheduler.step((self.settings.clock)()).await?;
            wait = wait.min(next.unwrap_or(wait));
        }
        self.claim().await?;
        self.pass_cancels().await?;
        self.stop_overrun().await;
        if begun.elapsed() > self.settings.ttl / 2 {
            // The database was away until now.
            self.sweeps_from = Instant::now() + self.settings.ttl;
        }
        self.sweep().await?;
        if Instant::now() >= self.next_prune {
            self.next_prune = Instant::now() + self.settings.retention.every;
            retention::prune(&self.store, &self.settings.retention, self.now_ms()).await?;
            self.prune_uploads();
        }
        Ok(wait)
    }

    /// Beside the steps, which the place of uploads must not hold up.
    fn prune_uploads(&self) {
        let Some(uploads) = self.settings.uploads.clone() else { return };
        let (store, now_ms) = (self.store.clone(), self.now_ms());
        tokio::spawn(async move {
            if let Err(failure) = retention::prune_uploads(&store, uploads.as_ref(), now_ms).await {
                tracing::warn!(error = failure.message, "uploaded components cannot be cleared away");
            }
        });
    }

    /// Ends the runs whose holders are gone; what can be queued again is claimed at the next step, which comes at once.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        if Instant::now() < self.sweeps_from {
            return Ok(());
        }
        for run in self.store.interrupt_expired(self.now_ms()).await? {
            tracing::warn!(run = %run.id, holder = run.holder, "a run was interrupted: its holder is gone");
            if let Some(running) = self.running.get(&run.id) {
                running.cancel.cancel();
            }
            self.signals.changed();
            self.signals.wake();
        }
        Ok(())
    }

    async fn heartbeat(&self) -> Result<(), StoreError> {
        if let Some(worker) = &self.settings.announce {
            self.store.announce(&WorkerRow { heartbeat_at: self.now_ms(), ..worker.clone() }).await?;
        }
        let runs: Vec<RunId> = self.running.keys().cloned().collect();
        // It ended just now, or somebody took it for dead or asked for its end: nothing more that it does may count.
        for run in self.store.heartbeats(&runs, self.ttl_ms(), self.now_ms()).await? {
            if let Some(running) = self.running.get(&run) {
                running.cancel.cancel();
            }
        }
        Ok(())
    }

    async fn claim(&mut self) -> Result<(), StoreError> {
        if self.running.len() >= self.settings.concurrency {
            return Ok(());
        }
        let waiting = self.store.waiting_runs(self.now_ms(), MAX_WAITING_AT_ONCE).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let admitted = self.admit(&waiting);
        let ids: Vec<RunId> = admitted.iter().map(|(run, _)| run.id.clone()).collect();
        let claimed = self.store.begin_all(&ids, &self.settings.holder, self.ttl_ms(), self.now_ms()).await?;
        for run in claimed {
            let Some((waited, memory_bytes)) = admitted.iter().find(|(waiting, _)| waiting.id == run.id) else {
                continue;
            };
            self.execute(run, *memory_bytes, waited.max_duration_ms);
        }
        Ok(())
    }

    /// The runs that may start now, and what each is expected to take.
    fn admit<'a>(&self, waiting: &'a [WaitingRun]) -> Vec<(&'a WaitingRun, u64)> {
        let Self { settings, .. } = self;
        let needs: Vec<Waiting> = waiting
            .iter()
            .map(|run| Waiting {
                urgency: match run.trigger {
                    Trigger::Manual | Trigger::Api => Urgency::Asked,
                    Trigger::Schedule | Trigger::Retry => Urgency::Planned,
                },
                since_ms: run.since_ms,
                memory_bytes: run.memory_mib.unwrap_or(settings.run_memory_mib).saturating_mul(MIB),
            })
            .collect();
        let running: Vec<u64> = self.running.values().map(|running| running.memory_bytes).collect();
        let budget = Budget { memory_bytes: settings.memory_bytes, runs: settings.concurrency };
        let admitted = admission::admit(budget, &running, &needs, self.now_ms());
        admitted.into_iter().map(|index| (&waiting[index], needs[index].memory_bytes)).collect()
    }

    fn execute(&mut self, run: RunRow, memory_bytes: u64, max_duration_ms: Option<i64>) {
        self.signals.changed();
        let cancel = CancellationToken::new();
        let deadline = max_duration_ms.and_then(|limit| {
            let limit_duration = Duration::from_millis(u64::try_from(limit).ok()?);
            Some((Instant::now() + limit_duration, limit))
        });
        self.running.insert(run.id.clone(), Running { cancel: cancel.clone(), memory_bytes, deadline });
        let (store, signals, clock) = (self.store.clone(), self.signals.clone(), self.settings.clock.clone());
        let executor = self.executor.clone();
        let measures = Arc::clone(&self.settings.measures);
        measures.started(&run);
        self.tasks.spawn(async move {
            let id = run.id.clone();
            let ended = AssertUnwindSafe(executor.execute(run, cancel)).catch_unwind().await;
            if let Some(run) = close(&store, &id, ended.is_err(), &clock).await {
                measures.ended(&run);
            }
            signals.changed();
            id
        });
    }

    /// Cancel requests of this process's runs, without waiting for the next heartbeat.
    async fn pass_cancels(&self) -> Result<(), StoreError> {
        if self.running.is_empty() {
            return Ok(());
        }
        for run in self.store.cancelled_runs(&self.settings.holder).await? {
            if let Some(running) = self.running.get(&run) {
                running.cancel.cancel();
            }
        }
        Ok(())
    }

    /// Ends runs that last longer than their connection allows.
    async fn stop_overrun(&mut self) {
        let now = Instant::now();
        for (run, running) in &mut self.running {
            let Some((_, limit_ms)) = running.deadline.filter(|(deadline, _)| *deadline <= now) else { continue };
            match self.store.note_overrun(run, limit_ms).await {
                Ok(()) => {
                    running.deadline = None;
                    running.cancel.cancel();
                }
                Err(error) => {
                    tracing::warn!(%run, error = %error.failure(), "a run that lasts too long cannot be stopped")
                }
            }
        }
    }

    fn forget(&mut self, ended: Result<RunId, tokio::task::JoinError>) {
        if let Ok(run) = ended {
            self.running.remove(&run);
        }
    }

    async fn stop(mut self) {
        let given_up: Vec<RunId> = self.running.keys().cloned().collect();
        for running in self.running.values() {
            running.cancel.cancel();
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
        self.hand_over(&given_up).await;
        self.signals.changed();
    }

    /// Somebody else goes on at once, or this host after its next start.
    async fn hand_over(&self, given_up: &[RunId]) {
        for run in given_up {
            match self.store.hand_over(run, self.now_ms()).await {
                Ok(Some(next)) => tracing::info!(%run, %next, "a sync that was stopped is queued again"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%run, error = %error.failure(), "a stopped sync cannot be queued again"),
            }
        }
        if self.settings.announce.is_some()
            && let Err(error) = self.store.leave(&self.settings.holder).await
        {
            tracing::debug!(error = %error.failure(), "this worker stays on the list until it is missed");
        }
    }

    /// How far a run got, so that ending it keeps that.
    async fn report(&self, run: &RunId) -> Value {
        self.store.run(run).await.map_or(Value::Null, |run| run.report)
    }
}

/// Makes sure that a run which is no longer executed is not left running, and that what follows from its end follows.
/// Answers the run as it ended, where that is known.
async fn close(store: &Store, run: &RunId, panicked: bool, clock: &Clock) -> Option<RunRow> {
    let ended = match store.run(run).await {
        Ok(row) if row.status.finished() => Ok(row),
        Ok(row) => end(store, row, panicked, clock()).await,
        Err(error) => Err(error),
    };
    let followed = match &ended {
        Ok(row) => schedule::follow_up(store, row, clock()).await,
        Err(_) => Ok(()),
    };
    if let Some(error) = ended.as_ref().err().or(followed.as_ref().err()) {
        tracing::error!(%run, error = %error.failure(), "the end of a run cannot be followed up");
    }
    ended.ok()
}

/// Stores a run without an outcome as failed.
async fn end(store: &Store, row: RunRow, panicked: bool, now_ms: i64) -> Result<RunRow, StoreError> {
    let message = if panicked {
        "the run met a defect of the host; the server's log says more"
    } else {
        "the run ended without an outcome; the server's log says more"
    };
    tracing::error!(run = %row.id, panicked, "a run ended without an outcome");
    let outcome = RunOutcome::failed(Failure::system(message), row.report);
    store.finish(&row.id, &outcome, now_ms).await
}
