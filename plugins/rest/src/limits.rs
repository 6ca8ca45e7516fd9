//! Every limit of the connector. Each is crossed by a test of the module that uses it.

/// Of a manifest's text.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Levels of nesting in a manifest's text, and again with its references followed.
pub const MAX_MANIFEST_DEPTH: usize = 128;
/// Values in a manifest with its aliases and references written out.
pub const MAX_MANIFEST_NODES: usize = 1_000_000;
/// Findings that are told about one manifest.
pub const MAX_FINDINGS: usize = 200;
