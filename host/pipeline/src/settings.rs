//! What the operator may set about runs: every limit of this crate, by name.

use serde::{Deserialize, Serialize};
use thimble_engine::{cut::CutPolicy, retry::RetryPolicy};

use crate::canary::CanaryLimits;

/// Limits and policies of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// When a batch closes.
    pub batch: CutPolicy,
    /// When a failed step is tried again.
    pub retry: RetryPolicy,
    /// Partitions that one run reads at once, each in an instance of its own.
    pub max_parallel_partitions: usize,
    /// Bytes of batches that wait between the connectors of a run and the decoder.
    pub max_queued_bytes: usize,
    /// Bytes that one partition may send without a checkpoint: they are held in memory until then.
    pub max_uncheckpointed_bytes: u64,
    /// Milliseconds that a lease lasts without renewal: how soon another worker may take over.
    pub lease_ms: i64,
    /// What a canary may read.
    pub canary: CanaryLimits,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            batch: CutPolicy::default(),
            retry: RetryPolicy::default(),
            max_parallel_partitions: 4,
            max_queued_bytes: 16 * 1024 * 1024,
            max_uncheckpointed_bytes: 64 * 1024 * 1024,
            lease_ms: 6_000,
            canary: CanaryLimits::default(),
        }
    }
}
