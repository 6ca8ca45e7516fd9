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

/// Bytes of a name in PostgreSQL.
pub(crate) const IDENTIFIER_BYTES: usize = 63;

/// Columns of one table in PostgreSQL, the host's included. The server takes 1,600, dropped ones included, and queries
/// that merge rows name some more.
pub const POSTGRES_COLUMNS: usize = 1_500;

/// Plaintext bytes of one segment that is loaded into a database: it is held in memory, for its footer is at its end.
pub(crate) const SEGMENT_BYTES: u64 = 512 * 1024 * 1024;

/// Plaintext bytes of two segments up to which the second is fetched while the first is copied.
pub(crate) const FETCH_AHEAD_BYTES: u64 = 24 * 1024 * 1024;

/// Rows that are decoded from a segment at once.
pub(crate) const DECODE_ROWS: usize = 8 * 1024;

/// Bytes of encoded rows that are sent at once. A single row may make it longer.
pub(crate) const COPY_CHUNK_BYTES: usize = 128 * 1024;

/// Encoded chunks that wait to be sent.
pub(crate) const COPY_CHUNKS_AHEAD: usize = 2;

/// Kibibytes that the server may use for a step of a merge before it writes to disk, where its own setting is smaller.
pub(crate) const MERGE_MEMORY_KIB: u32 = 32 * 1024;

/// Wait for the answer to a commit, after which its outcome is unknown.
pub(crate) const COMMIT_WAIT: Duration = Duration::from_secs(300);

/// Wait for the answer to a rollback, after which the connection is closed instead.
pub(crate) const ROLLBACK_WAIT: Duration = Duration::from_secs(5);

/// The oldest server that is loaded into: the first whose unique indexes can hold one null.
pub(crate) const POSTGRES_VERSION: i32 = 150_000;

/// Bytes of a table up to which its rows are counted; those of a larger one are the server's estimate.
pub(crate) const COUNTED_BYTES: i64 = 64 * 1024 * 1024;

/// Bytes of one value. The server takes just below 1 GiB for a whole row in memory, all its values together.
pub(crate) const VALUE_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of all values of one row.
pub(crate) const ROW_BYTES: usize = 768 * 1024 * 1024;

/// Bytes of one row's values on its page when each long value is stored elsewhere. The server takes 8,160, with its own
/// header and the host's columns.
pub(crate) const PAGE_ROW_BYTES: usize = 7_700;

/// Bytes of the values of a key, all its columns together. An index entry takes 2,704.
pub(crate) const KEY_BYTES: usize = 2_600;

/// Levels of a JSON document. The server parses with its stack, of which the default is 2 MB.
pub(crate) const JSON_DEPTH: usize = 1_000;

/// Digits of a number in a JSON document before its point, its exponent applied. `numeric` takes 131,072.
pub(crate) const JSON_WHOLE_DIGITS: i64 = 131_072;

/// Digits of a number in a JSON document after its point, its exponent applied. `numeric` takes 16,383.
pub(crate) const JSON_FRACTION_DIGITS: i64 = 16_383;

/// Bytes of a JSON document as `jsonb`, by an upper bound. The server takes 2²⁸.
pub(crate) const JSONB_BYTES: usize = 250 * 1024 * 1024;

/// Bytes of one value in `jsonb` beside its text.
pub(crate) const JSONB_VALUE_BYTES: usize = 16;
