//! Values of API 0.1.0 to and from those of the host, where nothing can be wrong.

use thimble_record::{DataType, ErrorKind, Failure, Field, ReplicationMethod, Stream, StreamSchema};

use super::types as wit;
use crate::connector::{Partition, RawBatch, ReadRequest, StreamState};

pub(super) fn failure(error: wit::ConnectorError) -> Failure {
    let wit::ConnectorError { kind, message, retry_after_ms } = error;
    let kind = match kind {
        wit::ErrorKind::Config => ErrorKind::Config,
        wit::ErrorKind::Transient => ErrorKind::Transient,
        wit::ErrorKind::System => ErrorKind::System,
        wit::ErrorKind::Refused => ErrorKind::Refused,
    };
    Failure { kind, message, retry_after_ms }
}

pub(super) fn connector_error(failure: Failure) -> wit::ConnectorError {
    let Failure { kind, message, retry_after_ms } = failure;
    let kind = match kind {
        ErrorKind::Config => wit::ErrorKind::Config,
        ErrorKind::Transient => wit::ErrorKind::Transient,
        ErrorKind::System => wit::ErrorKind::System,
        ErrorKind::Refused => wit::ErrorKind::Refused,
    };
    wit::ConnectorError { kind, message, retry_after_ms }
}

/// The bytes are taken over, not copied.
pub(super) fn batch(batch: wit::Batch) -> RawBatch {
    match batch {
        wit::Batch::ArrowIpc(bytes) => RawBatch::ArrowIpc(bytes.into()),
        wit::Batch::Json(bytes) => RawBatch::Json(bytes.into()),
    }
}

pub(super) fn method(method: ReplicationMethod) -> wit::ReplicationMethod {
    match method {
        ReplicationMethod::FullTable => wit::ReplicationMethod::FullTable,
        ReplicationMethod::Incremental => wit::ReplicationMethod::Incremental,
        ReplicationMethod::LogBased => wit::ReplicationMethod::LogBased,
    }
}

pub(super) fn method_of(method: wit::ReplicationMethod) -> ReplicationMethod {
    match method {
        wit::ReplicationMethod::FullTable => ReplicationMethod::FullTable,
        wit::ReplicationMethod::Incremental => ReplicationMethod::Incremental,
        wit::ReplicationMethod::LogBased => ReplicationMethod::LogBased,
    }
}

fn data_type(data_type: DataType) -> wit::DataType {
    match data_type {
        DataType::Boolean => wit::DataType::Boolean,
        DataType::Int64 => wit::DataType::Int64,
        DataType::Float64 => wit::DataType::Float64,
        DataType::Decimal(precision, scale) => wit::DataType::Decimal((precision, scale)),
        DataType::Text => wit::DataType::Text,
        DataType::Bytes => wit::DataType::Bytes,
        DataType::Date => wit::DataType::Date,
        DataType::Time => wit::DataType::Time,
        DataType::Timestamp => wit::DataType::Timestamp,
        DataType::TimestampTz => wit::DataType::TimestampTz,
        DataType::Json => wit::DataType::Json,
    }
}

pub(super) fn data_type_of(data_type: wit::DataType) -> DataType {
    match data_type {
        wit::DataType::Boolean => DataType::Boolean,
        wit::DataType::Int64 => DataType::Int64,
        wit::DataType::Float64 => DataType::Float64,
        wit::DataType::Decimal((precision, scale)) => DataType::Decimal(precision, scale),
        wit::DataType::Text => DataType::Text,
        wit::DataType::Bytes => DataType::Bytes,
        wit::DataType::Date => DataType::Date,
        wit::DataType::Time => DataType::Time,
        wit::DataType::Timestamp => DataType::Timestamp,
        wit::DataType::TimestampTz => DataType::TimestampTz,
        wit::DataType::Json => DataType::Json,
    }
}

pub(super) fn stream(stream: &Stream) -> wit::Stream {
    let Stream { name, schema: StreamSchema { fields, children: _ }, key, methods, cursor } = stream;
    let field = |field: &Field| wit::Field {
        name: field.name.clone(),
        data_type: data_type(field.data_type),
        nullable: field.nullable,
    };
    wit::Stream {
        name: name.clone(),
        fields: fields.iter().map(field).collect(),
        key: key.clone(),
        methods: methods.iter().map(|of| method(*of)).collect(),
        cursor: cursor.clone(),
    }
}

pub(super) fn state(state: StreamState) -> wit::StreamState {
    let StreamState { completed, partitions } = state;
    wit::StreamState { completed, partitions }
}

pub(super) fn request(config: String, request: ReadRequest) -> wit::ReadRequest {
    let ReadRequest { stream: of, method: by, selected, partition, state } = request;
    let Partition { id, descriptor, estimated_records, estimated_bytes } = partition;
    wit::ReadRequest {
        config,
        stream: stream(&of),
        method: method(by),
        selected,
        partition: wit::Partition { id, descriptor, estimated_records, estimated_bytes },
        state,
    }
}
