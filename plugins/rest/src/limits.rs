//! Every limit of the connector. Each is crossed by a test of the module that uses it.

/// Of a manifest's text.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Of one partition of one stream.
pub const MAX_WINDOWS: usize = 1_000_000;
/// With more partitions only one position over all of them is kept, as the reference does.
pub const MAX_PARTITIONS_WITH_STATE: usize = 10_000;
/// Of partitions whose positions are held while a stream is read.
pub const MAX_PARTITIONS_KEPT: usize = 25_000;
/// Of one router of several that are combined with each other.
pub const MAX_PRODUCT: usize = 100_000;
/// Pages of one piece that may wait for their turn.
pub const PAGES_AHEAD: usize = 2;
/// Of an answer's body, also after its content coding is undone.
pub const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// For each of: connecting, waiting for the first byte, waiting between bytes.
pub const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);
/// Pieces of a stream that are asked for at once, whatever the manifest says.
pub const MAX_AT_ONCE: usize = 32;
/// Of one manifest (`wit/v0.1`: of one catalog).
pub const MAX_STREAMS: usize = 10_000;
/// Results of one job of a source.
pub const MAX_DOWNLOADS: usize = 100_000;
/// Records of a stream that describes others: their names, their fields.
pub const MAX_DESCRIBING: usize = 100_000;
/// Levels of nesting in a manifest's text, and again with its references followed.
pub const MAX_MANIFEST_DEPTH: usize = 128;
/// Values in a manifest with its aliases and references written out.
pub const MAX_MANIFEST_NODES: usize = 1_000_000;
/// Findings that are told about one manifest.
pub const MAX_FINDINGS: usize = 200;
/// How deep JSON and XML may be nested; serde_json's own limit.
pub const MAX_DEPTH: usize = 127;
/// Members of a page's root whose places are kept.
pub const MAX_MEMBERS_KEPT: usize = 1_000;
/// Parts of one path into a record.
pub const MAX_PATH_PARTS: usize = 64;
/// Places of an array that a written field may fill up with nulls.
pub const MAX_ARRAY_PLACE: usize = 10_000;
/// What one answer may unpack to (gzip, zip).
pub const MAX_UNPACKED_BYTES: u64 = 1024 * 1024 * 1024;
/// One document that is read as a whole after it was unpacked.
pub const MAX_DOCUMENT_BYTES: u64 = 256 * 1024 * 1024;
/// Files in one zip archive.
pub const MAX_ARCHIVE_FILES: usize = 10_000;
/// One line of an answer of lines.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// How deep combined extractors may be nested.
pub const MAX_EXTRACTORS_NESTED: usize = 8;
/// Schema loaders of one stream.
pub const MAX_SCHEMA_LOADERS: usize = 32;
/// Properties of a schema that is inferred from records.
pub const MAX_INFERRED_PROPERTIES: usize = 10_000;
/// Steps into a JSON Schema by which a manifest checks a setting.
pub const MAX_SCHEMA_DEPTH: usize = 64;
/// Compiled size of one pattern in such a schema.
pub const MAX_SCHEMA_PATTERN_MEMORY: usize = 1024 * 1024;
/// Schemas that are looked at for one setting.
pub const MAX_SCHEMA_STEPS: usize = 100_000;
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
/// Pieces of a stream that may fail one after the other before the rest is not tried any more.
pub const MAX_FAILED_IN_A_ROW: usize = 20;
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
/// Compiled size of one pattern in such a schema.
pub const MAX_SETTING_PATTERN_BYTES: usize = 1024 * 1024;
/// Things that one template can become, as far as somebody wants to know without running it.
pub const MAX_TEMPLATE_VARIANTS: usize = 64;
/// Text in them.
pub const MAX_VARIANT_BYTES: usize = 256 * 1024;
/// Expressions that are looked at for them.
pub const MAX_LOOK_STEPS: usize = 10_000;
/// Of a connector's name in a registry.
pub const MAX_NAME_BYTES: usize = 64;
/// Of the page about a manifest.
pub const MAX_PAGE_BYTES: usize = 64 * 1024;
