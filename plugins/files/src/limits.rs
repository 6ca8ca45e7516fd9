//! Every limit of the connector, in one place.
//!
//! Owns numbers and what they are for. Must never hold behaviour.

/// Most streams in a configuration.
pub const MAX_STREAMS: usize = 100;
/// Most URLs or globs of one stream.
pub const MAX_URLS: usize = 1_000;
/// Longest URL or glob, in bytes.
pub const MAX_URL_BYTES: usize = 4 * 1024;
/// Most alternatives that the `{a,b}` groups of one glob may stand for.
pub const MAX_GLOB_ALTERNATIVES: usize = 1_000;

/// Most bytes of one directory page or one answer of ListObjectsV2.
pub const MAX_LISTING_BYTES: usize = 16 * 1024 * 1024;
/// Most answers of ListObjectsV2 read for one glob: 1,000 keys each.
pub const MAX_LISTING_PAGES: usize = 1_000;
/// Most directory pages read for one glob with `**` or with globs in folder names.
pub const MAX_LISTING_FOLDERS: usize = 1_000;
/// Most entries looked at while one glob is listed.
pub const MAX_LISTED: usize = 1_000_000;

/// Most partitions of a plan; the WIT's limit. What is over waits for the next plan.
pub const MAX_PARTITIONS: usize = 100_000;
/// Longest partition id, in bytes; the WIT's limit.
pub const MAX_PARTITION_ID: usize = 1024;
/// Most bytes of a state; a little under the WIT's limit of 1 MiB.
pub const MAX_STATE_BYTES: usize = 1_000_000;

/// Files of a stream that are looked into to find its fields.
pub const SAMPLE_FILES: usize = 5;
/// Uncompressed bytes of each file that are looked at.
pub const SAMPLE_BYTES: u64 = 1024 * 1024;
/// Records of each file that are looked at.
pub const SAMPLE_RECORDS: usize = 10_000;

/// Most fields of a record, header or schema; the host's limit on columns.
pub const MAX_FIELDS: usize = 2_000;
/// Longest name of a field, in bytes; the host's limit.
pub const MAX_FIELD_NAME: usize = 255;
/// Most bytes of a CSV header: it travels in each checkpoint.
pub const MAX_HEADER_BYTES: usize = 512 * 1024;
/// Deepest nesting of a JSON record.
pub const MAX_JSON_DEPTH: usize = 512;
/// Most names in the path to the records of a JSON document.
pub const MAX_JSON_PATH: usize = 32;
/// Longest key of a JSON object on the way to the records.
pub const MAX_JSON_KEY: usize = 64 * 1024;

/// Largest record. One over it is rejected as `record-too-large` without being held. A record crosses to the
/// host in one batch of at most 4 MiB, which needs room for the frame and the padding of its columns.
pub const MAX_RECORD_BYTES: usize = 3 * 1024 * 1024;
/// As much of a rejected record as is kept; the WIT's limit.
pub const MAX_RAW_BYTES: usize = 64 * 1024;

/// Uncompressed bytes read at once; about the size of a batch.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// Records of one Arrow batch.
pub const BATCH_RECORDS: usize = 16 * 1024;
/// Bytes of input between two checkpoints.
pub const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// Largest file that is held where Parquet is read from a server without range requests.
pub const MAX_WHOLE_FILE: usize = 32 * 1024 * 1024;

/// Largest window of a zstd frame, in bytes (`--long=27` is 128 MiB, which an instance cannot hold).
pub const MAX_ZSTD_WINDOW: u64 = 64 * 1024 * 1024;
/// Largest footer of a Parquet file.
pub const MAX_PARQUET_FOOTER: usize = 64 * 1024 * 1024;
/// Largest page of a Parquet file, compressed or not.
pub const MAX_PARQUET_PAGE: usize = 64 * 1024 * 1024;
/// Bytes of Parquet read ahead, over all columns of a row group.
pub const PARQUET_READ_AHEAD: usize = 32 * 1024 * 1024;
/// Read-ahead of one column: between these two.
pub const PARQUET_COLUMN_READ_AHEAD: (usize, usize) = (64 * 1024, 4 * 1024 * 1024);
/// Records of one Parquet batch.
pub const PARQUET_BATCH_RECORDS: usize = 4 * 1024;
