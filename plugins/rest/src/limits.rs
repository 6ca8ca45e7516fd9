//! Every limit of the connector. Each is crossed by a test of the module that uses it.

/// Of a manifest's text.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// How often an error handler may have a request repeated.
pub const MAX_RETRIES: u32 = 100;

/// Attempts of one request, all of its retry loops together.
pub const MAX_ATTEMPTS: u32 = 500;

/// The longest wait before a request is sent again, one hour. A source that asks for more ends the run, which the host
/// begins again later.
pub const MAX_WAIT_US: i64 = 3_600_000_000;

/// Of a source's words in an error.
pub const MAX_ERROR_LETTERS: usize = 500;

/// How often a page's token may be the same as the one before it.
pub const MAX_REPEATED_TOKENS: u32 = 100_000;

/// Attempts to get a token from a source.
pub const MAX_TOKEN_ATTEMPTS: u32 = 6;

/// How deep a token is searched for in a source's answer.
pub const MAX_TOKEN_DEPTH: usize = 5;

/// Temporary.
pub const MAX_DATE_STEPS: usize = 10_000;
