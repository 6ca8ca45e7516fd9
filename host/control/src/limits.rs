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

/// Longest wait for a run that a client may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long a request may take, a wait that the client asked for apart.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long an upload may take.
pub(crate) const UPLOAD_DEADLINE: Duration = Duration::from_secs(300);

/// Rows of a page where the client does not say.
pub(crate) const DEFAULT_PAGE: u32 = 100;

/// Most queued and running runs; more are refused until some have ended.
pub const MAX_UNFINISHED_RUNS: usize = 500;

/// Most installations that wait or run; each holds an uploaded component on disk.
pub const MAX_PENDING_INSTALLS: usize = 16;

/// Most grants of one plugin.
pub const MAX_GRANTS: usize = 1_000;

/// Longest grant.
pub const MAX_PATTERN_BYTES: usize = 512;

/// How often a waiting client's run is looked at where another process executes it, which cannot signal.
pub(crate) const WAIT_POLL: Duration = Duration::from_millis(500);
