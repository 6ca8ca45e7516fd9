//! Schedules: from a connection's setting to queued runs.
//!
//! Owns the part of the reconciler that starts slots and follows up failed runs, the setting's checks, and its routes. What
//! is due is decided by `thimble_engine::schedule`; that a decision happens once is the store's business. Must never execute
//! anything: it queues runs.

mod after;
mod decide;
mod routes;
mod scheduler;
mod settings;

pub(crate) use after::follow_up;
pub(crate) use routes::routes;
pub(crate) use scheduler::Scheduler;
pub use settings::{ScheduleSettings, schedules};
