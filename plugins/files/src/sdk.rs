//! The SDK's values to ours and back. No decisions.

use std::time::Duration;

use arrow_array::RecordBatch;
use thimble_sdk::{DataType, Error, ErrorKind, Sink};

use crate::{
    error::{FilesError, Kind as Can},
    kind::Kind,
    progress::{Output, Position},
};

/// What the SDK or the host said, as it is.
pub fn from_sdk(error: Error) -> FilesError {
    let kind = match error.kind {
        ErrorKind::Config => Can::Config,
        ErrorKind::Transient => Can::Transient,
        ErrorKind::System => Can::System,
        ErrorKind::Refused => Can::Refused,
    };
    let retry_after_ms = error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    FilesError::Host { kind, message: error.message, retry_after_ms }
}

/// For the host.
pub fn to_sdk(error: FilesError) -> Error {
    let kind = match error.kind() {
        Can::Config => ErrorKind::Config,
        Can::Transient => ErrorKind::Transient,
        Can::System => ErrorKind::System,
        Can::Refused => ErrorKind::Refused,
    };
    let told = Error::new(kind, error.to_string());
    match error.retry_after_ms() {
        Some(ms) => told.retry_after(Duration::from_millis(ms)),
        None => told,
    }
}

pub fn to_data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Int64 => DataType::Int64,
        Kind::Float64 => DataType::Float64,
        Kind::Decimal(precision, scale) => DataType::Decimal(precision, scale),
        Kind::Text => DataType::Text,
        Kind::Bytes => DataType::Bytes,
        Kind::Date => DataType::Date,
        Kind::Time => DataType::Time,
        Kind::Timestamp => DataType::Timestamp,
        Kind::TimestampTz => DataType::TimestampTz,
        Kind::Json => DataType::Json,
    }
}

pub fn from_data_type(data_type: DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Boolean,
        DataType::Int64 => Kind::Int64,
        DataType::Float64 => Kind::Float64,
        DataType::Decimal(precision, scale) => Kind::Decimal(precision, scale),
        DataType::Text => Kind::Text,
        DataType::Bytes => Kind::Bytes,
        DataType::Date => Kind::Date,
        DataType::Time => Kind::Time,
        DataType::Timestamp => Kind::Timestamp,
        DataType::TimestampTz => Kind::TimestampTz,
        DataType::Json => Kind::Json,
    }
}

/// The host's end of a read.
pub struct ToSink<'a>(pub &'a mut Sink);

impl Output for ToSink<'_> {
    fn arrow(&mut self, batch: &RecordBatch) -> Result<(), FilesError> {
        self.0.arrow(batch).map_err(from_sdk)
    }

    fn json(&mut self, page: &[u8]) -> Result<(), FilesError> {
        self.0.json_page(page).map_err(from_sdk)
    }

    fn reject(&mut self, reason: &str, message: &str, raw: &[u8]) -> Result<(), FilesError> {
        self.0.reject(reason, message, raw).map_err(from_sdk)
    }

    fn checkpoint(&mut self, position: &Position) -> Result<(), FilesError> {
        self.0.checkpoint(position).map_err(from_sdk)
    }

    fn info(&mut self, line: &str) {
        thimble_sdk::info!("{line}");
    }
}
