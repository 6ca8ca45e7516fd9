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

/// Of one template's text.
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;

/// How deep expressions and statements of a template may be nested; macros may call each other as deeply.
pub const MAX_TEMPLATE_DEPTH: usize = 64;

/// Steps of one evaluation of a template: nodes visited, items looped over.
pub const MAX_TEMPLATE_STEPS: usize = 1_000_000;

/// Of what one template renders to.
pub const MAX_RENDERED_BYTES: usize = 16 * 1024 * 1024;

/// Of one text that a template makes on its way.
pub const MAX_TEMPLATE_TEXT: usize = 16 * 1024 * 1024;

/// Of one list or object that a template makes on its way.
pub const MAX_TEMPLATE_ITEMS: usize = 1_000_000;

/// How deep values are followed when they are written or compared; JSON from outside is never deeper.
pub const MAX_VALUE_DEPTH: usize = 200;

/// Values visited in one comparison, after which they count as different; more are needed only where containers hold each other many times over.
pub const MAX_VALUE_VISITS: usize = 1_000_000;

/// Brackets within brackets of a literal; CPython has the same limit.
pub const MAX_LITERAL_DEPTH: usize = 200;

/// Digits of an integer in text; CPython has the same limit.
pub const MAX_INTEGER_DIGITS: usize = 4300;

/// Of a regular expression in a template.
pub const MAX_PATTERN_BYTES: usize = 16 * 1024;

/// Memory of one compiled regular expression.
pub const MAX_PATTERN_MEMORY: usize = 2 * 1024 * 1024;

/// Compiled regular expressions that are kept.
pub const MAX_PATTERNS: usize = 200;

/// Tries of one date against one format.
pub const MAX_DATE_STEPS: usize = 10_000;
