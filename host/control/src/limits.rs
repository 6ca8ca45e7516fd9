//! Every limit of the control plane, in one place.

use std::time::Duration;

/// Largest request body, except an uploaded component.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// Largest uploaded component.
pub const MAX_COMPONENT_BYTES: u64 = 64 * 1024 * 1024;

/// Longest wait for a run that a client may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long a request may take, a wait that the client asked for apart.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long an upload may take.
pub(crate) const UPLOAD_DEADLINE: Duration = Duration::from_secs(300);

/// Rows of a page where the client does not say.
pub(crate) const DEFAULT_PAGE: u32 = 100;

/// Most queued and running runs that were asked for; more are refused until some have ended. Schedules do not count: they
/// have at most one run for each connection.
pub const MAX_UNFINISHED_RUNS: u64 = 500;

/// Most installations that wait or run; each holds an uploaded component on disk.
pub const MAX_PENDING_INSTALLS: usize = 16;

/// Most grants of one plugin.
pub const MAX_GRANTS: usize = 1_000;

/// Longest grant.
pub const MAX_PATTERN_BYTES: usize = 512;

/// How often a waiting client's run is looked at where another process executes it, which cannot signal.
pub(crate) const WAIT_POLL: Duration = Duration::from_millis(500);

/// Most streams of a connection with schedules of their own.
pub const MAX_STREAM_SCHEDULES: usize = 200;

/// Shortest `max_duration` of a connection.
pub const MIN_RUN_DURATION: Duration = Duration::from_secs(10);

/// Longest `max_duration` of a connection.
pub const MAX_RUN_DURATION: Duration = Duration::from_secs(31 * 86_400);

/// Due slots that are read at once; the others follow at once after them.
pub(crate) const MAX_DUE_AT_ONCE: u32 = 512;

/// Connections whose slots are claimed in one transaction: a writer that waits for it does not wait long.
pub(crate) const MAX_CLAIMS_AT_ONCE: usize = 32;

/// Queued runs that are looked at when places are free.
pub(crate) const MAX_WAITING_AT_ONCE: u32 = 256;

/// How far the wall clock may differ from the machine's own before it counts as a jump.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
