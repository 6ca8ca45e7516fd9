//! Every limit of this crate.

use std::time::Duration;

/// Commits after which the whole state of a connection is written down again, so that a reader needs at most one
/// snapshot and this many commits. Part of the lake's format: never change it.
pub const SNAPSHOT_EVERY: u64 = 64;

/// Plaintext bytes up to which a data file is put with one request from memory. Larger files go in parts.
pub const SINGLE_PUT_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of one part of a large file.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// Bytes at the end of a data file in which its Parquet footer must lie.
pub(crate) const FOOTER_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a commit record or another small object that are read into memory.
pub(crate) const RECORD_BYTES: u64 = 256 * 1024 * 1024;

/// Data files that are written at the same time.
pub(crate) const FILES_AT_ONCE: usize = 4;

/// Most commit records that are read at the same time.
pub(crate) const RECORDS_AT_ONCE: usize = 16;

/// How often a small object is put before the answer is given up on. Always create-only, under the same name.
pub(crate) const PUT_ATTEMPTS: u32 = 4;

/// Wait before the second attempt; doubled for each one after.
pub(crate) const PUT_BACKOFF: Duration = Duration::from_millis(100);

/// Live files of a table up to which its manifest and its view are rewritten after every commit that touches it.
pub const EAGER_FILES: usize = 2_000;

/// Beyond [`EAGER_FILES`], a table's manifest is rewritten in every commit whose number this divides, and its view
/// reads the folder of its generation instead of naming each file.
pub(crate) const LAZY_EVERY: u64 = 32;

/// Bytes of a table's folder name. File systems take 255.
pub const TABLE_NAME_BYTES: usize = 200;

/// Columns of one table of the lake, the host's included.
pub const LAKE_COLUMNS: usize = 2_020;

/// Rows of one batch that a scan hands out.
pub(crate) const SCAN_ROWS: usize = 8 * 1024;

/// Bytes of one data file that a scan reads into memory where the store is not a local folder.
pub(crate) const SCAN_BYTES: u64 = 1024 * 1024 * 1024;

/// Sweeps of one generation of a table that are told apart. Part of the lake's format: never change it.
pub const LAKE_SWEEPS: usize = 1_000;

/// Keys of an upserted table that a scan or a count of the lake holds in memory, some 150 bytes each. DuckDB, over
/// `views.sql`, knows no such limit.
pub const LAKE_KEYS: usize = 10_000_000;
