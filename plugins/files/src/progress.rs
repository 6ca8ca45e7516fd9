//! Where records go, and how far a read has come.
//!
//! Owns the resume position and when a checkpoint is due. Knows no format; never does I/O itself.

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::{
    config::FormatSetting,
    decompress::Compression,
    error::FilesError,
    kind::Kind,
    limits::{CHECKPOINT_BYTES, MAX_RAW_BYTES},
};

/// Takes what a read produces: the SDK's sink, or a test.
pub trait Output {
    /// Typed columns.
    fn arrow(&mut self, batch: &RecordBatch) -> Result<(), FilesError>;
    /// JSON objects one after the other, none over the boundary's limit.
    fn json(&mut self, page: &[u8]) -> Result<(), FilesError>;
    /// A record that cannot be loaded.
    fn reject(&mut self, reason: &str, message: &str, raw: &[u8]) -> Result<(), FilesError>;
    /// Everything so far is before `position`, and everything to come is behind it.
    fn checkpoint(&mut self, position: &Position) -> Result<(), FilesError>;
    /// A line for the operator.
    fn info(&mut self, line: &str);
}

/// The format of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Json,
    Jsonl,
    Parquet,
}

impl Format {
    /// What the setting says; `None` for auto.
    pub fn of(setting: FormatSetting) -> Option<Self> {
        match setting {
            FormatSetting::Auto => None,
            FormatSetting::Csv => Some(Self::Csv),
            FormatSetting::Json => Some(Self::Json),
            FormatSetting::Jsonl => Some(Self::Jsonl),
            FormatSetting::Parquet => Some(Self::Parquet),
        }
    }
}

/// Where to go on in a file: the state of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub format: Format,
    #[serde(default)]
    pub compression: Compression,
    /// Uncompressed bytes before the next record. Unused for Parquet.
    #[serde(default)]
    pub offset: u64,
    /// Lines before the next record. Unused for Parquet and JSON documents.
    #[serde(default)]
    pub line: u64,
    /// Records before the next one, the rejected ones included.
    #[serde(default)]
    pub records: u64,
    /// CSV: the names of the columns. Empty before the header was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// JSON: the records are elements of an array that is open at `offset`; else they stand one after the other.
    #[serde(default)]
    pub in_array: bool,
    /// Parquet: the row group that goes on.
    #[serde(default)]
    pub row_group: usize,
    /// Parquet: rows of it that were read.
    #[serde(default)]
    pub row: u64,
}

impl Position {
    /// The start of a file.
    pub fn start(format: Format, compression: Compression) -> Self {
        Self {
            format,
            compression,
            offset: 0,
            line: 0,
            records: 0,
            header: Vec::new(),
            in_array: false,
            row_group: 0,
            row: 0,
        }
    }
}

/// What one read is to do, whatever the format.
#[derive(Debug, Clone)]
pub struct Task {
    /// Name of the file in messages.
    pub file: String,
    /// The stream's fields as they are in the catalog.
    pub fields: Vec<(String, Kind)>,
    /// Names of the fields wanted; empty means all.
    pub selected: Vec<String>,
    /// Columns without types come as text, for a sample to look at.
    pub as_text: bool,
}

impl Task {
    /// Whether a field was selected.
    pub fn wants(&self, name: &str) -> bool {
        self.selected.is_empty() || self.selected.iter().any(|selected| selected == name)
    }

    /// The type that a field has in the catalog.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        let known = self.fields.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
        known.or(self.as_text.then_some(Kind::Text))
    }
}

/// One read under way: hands records on and takes care of checkpoints.
pub struct Progress<'a> {
    pub task: &'a Task,
    pub output: &'a mut dyn Output,
    pub position: Position,
    /// Input since the last checkpoint.
    since: u64,
    changed: bool,
}

impl<'a> Progress<'a> {
    /// Goes on at `position`.
    pub fn new(task: &'a Task, output: &'a mut dyn Output, position: Position) -> Self {
        Self { task, output, position, since: 0, changed: false }
    }

    /// Rejects the record that is at `place` (a line, a byte, a record number) of the file.
    pub fn reject(&mut self, place: &str, reason: &str, what: &str, raw: &[u8]) -> Result<(), FilesError> {
        let message = format!("{}:{place}: {what}", self.task.file);
        self.output.reject(reason, &message, &raw[..raw.len().min(MAX_RAW_BYTES)])
    }

    /// Counts input that was dealt with; checkpoints where enough came together.
    pub fn advance(&mut self, bytes: u64) -> Result<(), FilesError> {
        self.since += bytes;
        self.changed |= bytes > 0;
        if self.since >= CHECKPOINT_BYTES { self.checkpoint() } else { Ok(()) }
    }

    /// Checkpoints unless nothing happened since the last one.
    pub fn checkpoint(&mut self) -> Result<(), FilesError> {
        if self.changed {
            self.output.checkpoint(&self.position)?;
        }
        self.since = 0;
        self.changed = false;
        Ok(())
    }
}
