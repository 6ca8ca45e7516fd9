//! Every limit of this crate.

use std::time::Duration;

/// Plaintext bytes of an encrypted chunk: what a reader must hold to verify anything.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Encoded bytes after which a row group is closed: bounds the memory of a writer. Large enough that
/// readers scan well (about 100,000 rows of 1 KB JSON).
pub const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Rows after which a row group is closed.
pub const ROW_GROUP_ROWS: usize = 1024 * 1024;

/// Bytes of distinct values in a column's dictionary before the writer gives up on it. Small, because a
/// column that passes it has paid for hashing in vain.
pub(crate) const DICTIONARY_BYTES: usize = 256 * 1024;

/// Bytes of an uncompressed Parquet page.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;

/// Values that the Parquet writer encodes before it looks at the page's size.
pub(crate) const WRITE_BATCH_ROWS: usize = 1024;

/// Bytes of a text that are kept as a column's minimum or maximum.
pub(crate) const STATISTICS_BYTES: usize = 64;

/// How often a segment is put before the answer is given up on. Each attempt is create-only under the
/// same content-derived name.
pub const PUT_ATTEMPTS: u32 = 4;

/// Wait before the second attempt; doubled for each one after.
pub(crate) const PUT_BACKOFF: Duration = Duration::from_millis(100);

/// Most bytes that are read from a local file at a time.
pub(crate) const READ_BYTES: usize = 1024 * 1024;
