//! The actor: carries out what `thimble-engine` decides, by exactly one piece of I/O on plugin, stage, load or store.
//!
//! Owns a run from its lease to its report:
//! ```text
//! lease → fence → recover → plan → read partitions in parallel ─▶ collect (decode, cut) ─▶ commit (stage, seal, load, mirror)
//! ```
//! Recovery is the normal start. Must never decide policy, hold SQL, or know wasmtime.

mod batch;
mod canary;
mod collect;
mod commit;
mod conserve;
mod destinations;
mod events;
pub mod failpoints;
mod keeper;
mod lease;
mod part;
mod plan;
mod portion;
mod probe;
mod read;
mod replay;
mod report;
mod request;
mod secrets;
mod session;
mod settings;
mod tables;
mod worker;

pub use canary::{CanaryLimits, CanaryRequest};
pub use destinations::{Destinations, StoredDestinations};
pub use events::{EventSink, RunEvent};
pub use probe::{Activate, InstalledVersion};
pub use replay::ReplayReport;
pub use report::{Bookmark, RunReport, StreamReport, TableReport};
pub use request::{Backfill, Replay, SyncRequest};
pub use secrets::{SECRET_MARK, join_secrets, split_secrets};
pub use settings::WorkerSettings;
pub use worker::Worker;
