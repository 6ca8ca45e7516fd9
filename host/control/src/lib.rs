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
mod canary;
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
mod json_depth;
mod keys;
mod limits;
mod listener;
mod metrics;
mod notifiers;
pub mod notify;
mod openapi;
mod page;
mod plugins;
mod problem;
mod rate;
mod reconcile;
mod registry;
mod rejects;
mod retention;
mod rewrap;
mod routes;
mod runs;
mod schedule;
mod secret_token;
mod settings;
mod signals;
mod sources;
mod state;
mod tokens;
mod versions;
mod workers;
mod workspaced;
mod workspaces;

pub use access::{Access, Rule, access, roles_markdown};
pub use auth::{Caller, Role};
pub use clock::{Clock, system_clock};
pub use health::serve_health;
pub use limits::{
    MAX_BODY_BYTES, MAX_COMPONENT_BYTES, MAX_FOLLOWERS, MAX_GRANTS, MAX_IDEMPOTENCY_KEY_BYTES, MAX_JSON_DEPTH,
    MAX_KEPT_ANSWER_BYTES, MAX_PATTERN_BYTES, MAX_PENDING_INSTALLS, MAX_REJECTS_LOOKED_AT, MAX_STREAM_SCHEDULES,
    MAX_UNFINISHED_RUNS, MAX_URI_BYTES, MAX_WAIT, WORKER_SILENCE,
};
pub use metrics::{Exposition, Histogram, Kind as MetricKind, Measures, MetricsSource};
pub use openapi::openapi;
pub use problem::Problem;
pub use reconcile::{Executor, ReconcileSettings, reconcile};
pub use registry::Packages;
pub use retention::Retention;
pub use rewrap::{KeyRotation, RETIRE_AFTER, Rewrapped, is_unfinished, needs_old_keys, rewrap_all};
pub use routes::{router, serve};
pub use schedule::{ScheduleSettings, schedules};
pub use secret_token::{SecretToken, TOKEN_PREFIX, check_token_name, token_digest, token_id};
pub use settings::{
    ApiLimits, ControlSettings, DestinationKinds, GrantPatterns, Observe, Rejects, SecretSealer, SharedUploads,
};
pub use signals::Signals;
