//! Every limit of the control plane, in one place.

use std::time::Duration;

/// Largest request body, except an uploaded component.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// Deepest nesting of arrays and objects in a request's JSON. The parser's own limit is twice that.
pub const MAX_JSON_DEPTH: usize = 64;

/// Longest path and query of a request.
pub const MAX_URI_BYTES: usize = 8 * 1024;

/// Requests without a good token that one address may send at once; how many later on is a setting.
pub(crate) const FAILED_LOGIN_BURST: u32 = 20;

/// How long the use of a token goes unnoted after it was noted.
pub(crate) const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// Addresses and tokens whose requests are counted at one time.
pub(crate) const MAX_RATE_KEYS: usize = 10_000;

/// Longest name of a token.
pub(crate) const MAX_TOKEN_NAME_BYTES: usize = 64;

/// Longest title of a workspace.
pub(crate) const MAX_TITLE_BYTES: usize = 200;

/// Most workspaces.
pub(crate) const MAX_WORKSPACES: usize = 1_000;

/// Largest uploaded component.
pub const MAX_COMPONENT_BYTES: u64 = 64 * 1024 * 1024;

/// Size of an uploaded manifest.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

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

/// Longest `Idempotency-Key`.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Largest answer that is kept for a repetition.
pub const MAX_KEPT_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// After how long the request of a key counts as abandoned by a process that ended.
pub(crate) const ABANDONED_KEY: Duration = Duration::from_secs(90);

/// How long answers are kept for repetitions.
pub(crate) const ANSWERS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Most clients that follow runs at once.
pub const MAX_FOLLOWERS: usize = 100;

/// Log lines that a following client is sent at once.
pub(crate) const LINES_FOLLOWED_AT_ONCE: u32 = 500;

/// Rejected records that one request looks through at most, whatever it filters by.
pub const MAX_REJECTS_LOOKED_AT: usize = 20_000;

/// Rejected records that are read from the destination at once.
pub(crate) const REJECTS_READ_AT_ONCE: usize = 1_000;

/// Most attempts of one delivery; the last ones are [`DELIVERY_MAX_WAIT`] apart.
pub(crate) const MAX_DELIVERY_ATTEMPTS: u32 = 24;

/// Wait before the second attempt of a delivery; doubles from then on.
pub(crate) const DELIVERY_BASE_WAIT: Duration = Duration::from_secs(5);

/// Longest wait between two attempts of a delivery.
pub(crate) const DELIVERY_MAX_WAIT: Duration = Duration::from_secs(3600);

/// Longest URL of a receiver, and longest value of a header that is sent to one.
pub(crate) const MAX_URL_BYTES: usize = 4 * 1024;

/// Most headers of one webhook that its owner chose.
pub(crate) const MAX_HOOK_HEADERS: usize = 16;

/// Most addresses of one e-mail notifier.
pub(crate) const MAX_RECIPIENTS: usize = 50;

/// Deliveries that one process sends at once, and claims at a time.
pub(crate) const MAX_DELIVERIES_AT_ONCE: u32 = 16;

/// How long a receiver may take.
pub(crate) const DELIVERY_DEADLINE: Duration = Duration::from_secs(30);

/// How long a claimed delivery is left alone: longer than it may take.
pub(crate) const DELIVERY_CLAIM: Duration = Duration::from_secs(90);

/// Attempts of a post-load hook.
pub(crate) const MAX_HOOK_ATTEMPTS: u32 = 6;

/// Most hooks of one connection.
pub(crate) const MAX_HOOKS: usize = 10;

/// Longest sentence that is kept of a failed delivery.
pub(crate) const MAX_STORED_ERROR_BYTES: usize = 500;

/// Longest name of a notifier or a hook.
pub(crate) const MAX_NAME_BYTES: usize = 64;

/// Longest delay of a notifier: a week.
pub(crate) const MAX_NOTIFIER_DELAY_MS: i64 = 7 * 86_400_000;

/// Most connections that one notifier names.
pub(crate) const MAX_FILTERED_CONNECTIONS: usize = 1_000;

/// Longest text that a log is searched for.
pub(crate) const MAX_SEARCH_BYTES: usize = 200;

/// Most connections that `/metrics` shows.
pub(crate) const MAX_METRIC_CONNECTIONS: u32 = 5_000;

/// Most streams that `/metrics` shows.
pub(crate) const MAX_METRIC_STREAMS: u32 = 20_000;

/// Most series of one answer of `/metrics`.
pub(crate) const MAX_METRIC_SERIES: usize = 200_000;

/// Longest value of a label.
pub(crate) const MAX_LABEL_BYTES: usize = 128;

/// Days that the figures of a connection go back.
pub(crate) const MAX_SUMMARY_DAYS: i64 = 400;

/// Workers that were not heard of for longer are not shown any more.
pub const WORKER_SILENCE: Duration = Duration::from_secs(60);

/// How long the control database may take to answer where somebody asks whether the process can work.
pub(crate) const HEALTH_DEADLINE: Duration = Duration::from_secs(3);
