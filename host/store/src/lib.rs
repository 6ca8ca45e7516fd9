//! The control database: what the operator asked for, who works on it, and how far it got.
//!
//! Owns every SQL statement of the control plane, one file per table, and the transactions of the
//! commit protocol (lease, seal, mirror). Must never read the clock (times are `now_ms` parameters,
//! milliseconds since the epoch), touch a plugin, or decide policy.
//!
//! Several processes may open the same file. Every writing transaction begins as `immediate`, so
//! that two writers queue up instead of failing when a reader becomes a writer.

mod audit;
mod batches;
mod checkpoints;
mod columns;
mod connections;
mod error;
mod grants;
mod ids;
mod leases;
mod limits;
mod logs;
mod open;
mod plugins;
mod positions;
mod queue;
mod runs;
mod schemas;

pub use audit::AuditRow;
pub use checkpoints::Checkpoint;
pub use connections::{ConnectionRow, SealedSecrets};
pub use error::StoreError;
pub use ids::run_id;
pub use leases::LeaseRow;
pub use limits::{MAX_BATCHES_REPLAYED, MAX_LOG_LINES_PER_RUN, MAX_LOG_MESSAGE_BYTES, MAX_PAGE};
pub use logs::{LogLevel, LogLine, LogRow};
pub use open::Store;
pub use plugins::PluginRow;
pub use positions::PositionEdit;
pub use runs::{NewRun, RunKind, RunOutcome, RunPage, RunRow, RunStatus, Trigger};
