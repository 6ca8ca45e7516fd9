//! The control plane: an HTTP API that writes intent, and a reconciler that has it carried out.
//!
//! Owns the shapes of the API, its errors (problem+json), authentication and the queue's pace. Handlers
//! read the store and write rows to it; they never touch a plugin, so check and discover are runs too.
//! Must never hold SQL, know wasmtime, or see a secret after it was sealed.

mod access;
mod alerts;
mod audit;
mod auth;
mod backfills;
mod checkpoints;
mod clock;
mod component;
mod connections;
mod destinations;
mod etag;
mod extract;
mod follow;
mod grants;
mod guard;
mod health;
mod hooks;
mod idempotency;
mod limits;
mod metrics;
mod notifiers;
pub mod notify;
mod openapi;
mod page;
mod plugins;
mod problem;
mod reconcile;
mod rejects;
mod retention;
mod routes;
mod runs;
mod schedule;
mod settings;
mod signals;
mod sources;
mod state;

pub use access::{Access, access};
pub use auth::{Caller, Role};
pub use clock::{Clock, system_clock};
pub use limits::{
    MAX_BODY_BYTES, MAX_COMPONENT_BYTES, MAX_GRANTS, MAX_PATTERN_BYTES, MAX_PENDING_INSTALLS, MAX_STREAM_SCHEDULES,
    MAX_UNFINISHED_RUNS, MAX_WAIT,
};
pub use metrics::{Exposition, Histogram, Kind as MetricKind, Measures, MetricsSource};
pub use openapi::openapi;
pub use problem::Problem;
pub use reconcile::{Executor, ReconcileSettings, reconcile};
pub use retention::Retention;
pub use routes::{router, serve};
pub use schedule::{ScheduleSettings, schedules};
pub use settings::{ControlSettings, DEFAULT_ADDRESS, DestinationKinds, Observe, Rejects, SecretSealer};
pub use signals::Signals;
