//! Every limit of the connector. Each is crossed by a test of the module that uses it.

/// Of a manifest's text.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
