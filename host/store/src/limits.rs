//! Every limit of the control database, in one place.

use std::time::Duration;

/// Most rows that one page of a list holds, whatever the caller asks for.
pub const MAX_PAGE: u32 = 1_000;

/// Most log lines kept for one run; the last kept line says that the rest was dropped.
pub const MAX_LOG_LINES_PER_RUN: i64 = 100_000;

/// Longest kept log message, in bytes; the rest is cut at a character boundary.
pub const MAX_LOG_MESSAGE_BYTES: usize = 8 * 1024;

/// Most tokens that are not revoked.
pub const MAX_TOKENS: i64 = 1_000;

/// Most versions kept of one plugin.
pub const MAX_PLUGIN_VERSIONS: i64 = 100;

/// Most sealed batches handed out for replay at once.
pub const MAX_BATCHES_REPLAYED: u32 = 1_000;

/// How long a statement waits for another process's transaction.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a task waits for a free database connection of this process.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reading connections of one process.
pub(crate) const MAX_READERS: u32 = 4;

/// Connections of one process to a PostgreSQL database, unless the operator says otherwise.
pub const SERVER_CONNECTIONS: u32 = 10;

/// Longest statement on a PostgreSQL database.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest pause inside of a transaction on a PostgreSQL database: after that its process is cut off or stopped, and others
/// wait for its locks. Ours go from one statement to the next without a pause.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for a row that another process has locked on a PostgreSQL database.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Takeovers of a sync in a row without a committed batch: after them it waits for the next trigger.
pub(crate) const MAX_TAKEOVERS_WITHOUT_PROGRESS: i64 = 5;

/// Log lines stored by one statement; SQLite takes 32766 values.
pub(crate) const LOG_LINES_PER_INSERT: usize = 500;

/// How often opening is tried while another process creates or migrates the same file.
pub(crate) const OPEN_ATTEMPTS: u32 = 100;

/// Pause between two such tries.
pub(crate) const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// Most streams of one run whose totals are kept.
pub(crate) const MAX_COUNTED_STREAMS: usize = 10_000;

/// Most fields that the event of a changed schema looks at.
pub(crate) const MAX_TOLD_FIELDS: usize = 2_000;

/// Rejected records of one stream in one run, in number and in percent, that are told.
pub(crate) const TOLD_REJECTS: (i64, i64) = (10, 1);

/// Most notifiers of one workspace.
pub const MAX_NOTIFIERS: u32 = 100;

/// Most notices that wait for one notifier before those are left out that are no condition.
pub const MAX_PENDING_DELIVERIES: u32 = 1_000;
