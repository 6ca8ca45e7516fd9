//! What a run tells while it goes.

use serde::Serialize;
use thimble_record::{BatchSeq, Failure};

use crate::report::RunReport;

/// One event. Counts are of this run alone.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The lease is held, the destination fenced, leftovers loaded.
    Started { epoch: u64, recovered_batches: u64 },
    /// What is to be read of a stream.
    Planned { stream: String, partitions: u64, estimated_bytes: Option<u64>, estimated_records: Option<u64> },
    /// Records taken from the connector so far, not yet committed.
    Progress { stream: String, records: u64, bytes: u64, rejected: u64 },
    /// A batch is in the destination.
    Committed { seq: BatchSeq, records: u64, rejected: u64 },
    /// A partition failed and is tried again.
    Retrying { stream: String, partition: String, wait_ms: u64, failure: Failure },
    /// A line of the connector's log.
    Log { level: String, message: String },
    /// The policy refused traffic of the connector.
    EgressDenied {
        host: String,
        /// One sentence, free of secrets.
        message: String,
    },
    Finished {
        report: RunReport,
        /// Why it failed: the first of the report's failures, or what ended the run before its streams were read.
        failure: Option<Failure>,
    },
}

/// Where events go. Called from several threads; must not block.
pub trait EventSink: Send + Sync {
    fn event(&self, event: RunEvent);
}

impl<F: Fn(RunEvent) + Send + Sync> EventSink for F {
    fn event(&self, event: RunEvent) {
        self(event);
    }
}
