//! An executor that records runs and behaves as their request says, or the test for runs that nobody asked for:
//! `{"do": "hold" | "panic" | "forget" | "ignore" | "transient" | "config"}`.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use thimble_control::{Executor, system_clock};
use thimble_record::{ErrorKind, Failure};
use thimble_store::{LogLevel, LogLine, RunOutcome, RunRow, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub struct Recorder {
    store: Store,
    pub seen: Mutex<Vec<RunRow>>,
    /// What runs do whose request does not say.
    pub usual: Mutex<&'static str>,
    pub at_once: AtomicUsize,
    pub most_at_once: AtomicUsize,
    /// Each permit lets one held run end.
    pub release: Semaphore,
}

impl Recorder {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            seen: Mutex::default(),
            usual: Mutex::new(""),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            release: Semaphore::new(0),
        }
    }

    async fn behave(&self, run: &RunRow, cancel: CancellationToken) -> Option<RunOutcome> {
        let usual = *self.usual.lock().unwrap();
        let failed = |kind| Some(RunOutcome::failed(Failure::new(kind, "the source said no"), json!({"records": 0})));
        match Some(run.request.get("do").and_then(|verb| verb.as_str()).unwrap_or(usual)) {
            Some("transient") => failed(ErrorKind::Transient),
            Some("config") => failed(ErrorKind::Config),
            Some("hold") => tokio::select! {
                permit = self.release.acquire() => {
                    permit.unwrap().forget();
                    Some(RunOutcome::succeeded(json!({"records": 10})))
                }
                () = cancel.cancelled() => Some(RunOutcome::cancelled(json!({"records": 3}))),
            },
            Some("panic") => panic!("the executor met a defect"),
            Some("forget") => None,
            Some("ignore") => std::future::pending().await,
            _ => Some(RunOutcome::succeeded(json!({"records": 10}))),
        }
    }
}

#[async_trait::async_trait]
impl Executor for Recorder {
    async fn execute(&self, run: RunRow, cancel: CancellationToken) {
        self.seen.lock().unwrap().push(run.clone());
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let line = LogLine { at: 1, level: LogLevel::Info, source: "host".into(), message: "begun".into() };
        self.store.append_logs(&run.id, &[line]).await.unwrap();
        let outcome = self.behave(&run, cancel).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        if let Some(outcome) = outcome {
            self.store.finish(&run.id, &outcome, system_clock()()).await.unwrap();
        }
    }
}
