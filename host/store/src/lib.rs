//! The control database: what the operator asked for, who works on it, and how far it got.
//!
//! Owns every SQL statement of the control plane, one file per table, and the transactions of the
//! commit protocol (lease, seal, mirror). Must never read the clock (times are `now_ms` parameters,
//! milliseconds since the epoch), touch a plugin, or decide policy.
//!
//! SQLite or PostgreSQL: SQL is written once, in the words that both understand. Several processes may open the same
//! database. On SQLite every writing transaction begins as `immediate`, so that two writers queue up instead of failing
//! when a reader becomes a writer; on PostgreSQL they go on together, and what must not is guarded row by row.

mod alerts;
mod answers;
mod audit;
mod batches;
mod checkpoints;
mod columns;
mod connections;
mod deliveries;
mod destinations;
mod error;
mod events;
mod grants;
mod hooks;
mod ids;
mod leases;
mod limits;
mod lock;
mod logs;
mod notifiers;
mod open;
mod plugins;
mod positions;
mod queue;
mod runs;
mod schemas;
mod secrets;
mod slots;
mod sources;
mod takeover;
mod tokens;
mod totals;
mod versions;
mod waiting;
mod workers;
mod workspaces;
mod writing;

pub use alerts::{AlertPage, AlertRow};
pub use answers::AnswerRow;
pub use audit::{AuditRow, Change};
pub use checkpoints::Checkpoint;
pub use connections::{ConnectionRow, SealedSecrets};
pub use deliveries::{DeliveryRow, DeliveryStatus, DeliveryTarget, Phase};
pub use destinations::DestinationRow;
pub use error::StoreError;
pub use events::{EventKind, EventPage, EventRow, NewEvent};
pub use ids::run_id;
pub use leases::LeaseRow;
pub use limits::{
    MAX_BATCHES_REPLAYED, MAX_LOG_LINES_PER_RUN, MAX_LOG_MESSAGE_BYTES, MAX_NOTIFIERS, MAX_PAGE,
    MAX_PENDING_DELIVERIES, MAX_PLUGIN_VERSIONS, MAX_TOKENS, SERVER_CONNECTIONS,
};
pub use logs::{LogFilter, LogLevel, LogLine, LogRow};
pub use notifiers::NotifierRow;
pub use open::{ServerSettings, Store};
pub use plugins::PluginRow;
pub use positions::PositionEdit;
pub use runs::{NewRun, RunKind, RunOutcome, RunPage, RunRow, RunStatus, Trigger};
pub use secrets::SealedRow;
pub use slots::{Claimed, DueSlot, NewSlot, SlotClaim, SlotMove, SlotRow, Unscheduled};
pub use sources::SourceRow;
pub use tokens::TokenRow;
pub use totals::{Backlog, ConnectionTotals, StreamDay, StreamTotals};
pub use versions::{Activated, PluginStanding, VersionRow};
pub use waiting::WaitingRun;
pub use workers::{WorkerRow, WorkerStanding};
pub use workspaces::{DEFAULT_WORKSPACE, WorkspaceRow};
pub use writing::{Durability, Times, WRITE_TIME_BOUNDS, WriteTimes};
