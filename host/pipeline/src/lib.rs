//! The actor: carries out what `thimble-engine` decides, by exactly one piece of I/O on plugin, stage, load or store.
//!
//! Owns a run from its lease to its report:
//! ```text
//! lease → fence → recover → plan → read partitions in parallel ─▶ collect (decode, cut) ─▶ commit (stage, seal, load, mirror)
//! ```
//! Recovery is the normal start. Must never decide policy, hold SQL, or know wasmtime.

mod batch;
mod collect;
mod commit;
mod events;
pub mod failpoints;
mod lease;
mod plan;
mod probe;
mod read;
mod report;
mod session;
mod settings;
mod worker;

pub use events::{EventSink, RunEvent};
pub use report::{RunReport, StreamReport};
pub use session::{SECRET_MARK, split_secrets};
pub use settings::WorkerSettings;
pub use worker::Worker;
