//! Joins an author's [`Source`] to the generated exports: translates values, decides nothing.

use std::marker::PhantomData;

use crate::bindings::exports::thimble::connector::source as exported;
use crate::bindings::thimble::connector::types as wit;
use crate::error::to_host;
use crate::{
    Catalog, DataType, Error, Field, Method, Partition, PartitionState, Plan, ReadRequest, Result, Sink, Source, Spec,
    Stream, StreamState,
};

/// What `register_source!` exports.
pub struct Component<S>(PhantomData<S>);

impl<S: Source> Component<S> {
    /// Names the source's spec, so that a native build of a connector uses what it defines.
    pub fn spec() -> Spec {
        S::spec()
    }
}

fn config<S: Source>(json: &str) -> Result<S::Config> {
    serde_json::from_str(json).map_err(|error| Error::config(format!("the configuration does not fit: {error}")))
}

impl<S: Source> exported::Guest for Component<S> {
    fn spec() -> wit::Spec {
        spec_out(S::spec())
    }

    fn check(json: String) -> Result<String, wit::ConnectorError> {
        config::<S>(&json).and_then(|config| S::check(&config)).map_err(to_host)
    }

    fn discover(json: String) -> Result<wit::Catalog, wit::ConnectorError> {
        config::<S>(&json).and_then(|config| S::discover(&config)).map(catalog_out).map_err(to_host)
    }

    fn plan(
        json: String,
        stream: wit::Stream,
        method: wit::ReplicationMethod,
        state: wit::StreamState,
    ) -> Result<wit::Plan, wit::ConnectorError> {
        config::<S>(&json)
            .and_then(|config| S::plan(&config, &stream_in(stream), method_in(method), &state_in(state)))
            .map(plan_out)
            .map_err(to_host)
    }

    fn read(request: wit::ReadRequest) -> Result<(), wit::ConnectorError> {
        let (json, request) = request_in(request);
        read::<S>(&json, &request).map_err(to_host)
    }
}

fn read<S: Source>(json: &str, request: &ReadRequest) -> Result<()> {
    let config = config::<S>(json)?;
    let mut sink = Sink::to_host(&request.stream.name);
    S::read(&config, request, &mut sink)?;
    sink.flush()
}

fn spec_out(spec: Spec) -> wit::Spec {
    let Spec { name, version, title, docs, config_schema, hosts, memory_mib, reads_secrets } = spec;
    let permissions = wit::Permissions { hosts, memory_mib, reads_secrets };
    wit::Spec { name, version, title, docs, config_schema, permissions }
}

fn catalog_out(catalog: Catalog) -> wit::Catalog {
    wit::Catalog { streams: catalog.streams.into_iter().map(stream_out).collect() }
}

fn stream_out(stream: Stream) -> wit::Stream {
    let Stream { name, fields, key, methods, cursor } = stream;
    let fields = fields
        .into_iter()
        .map(|Field { name, data_type, nullable }| wit::Field { name, data_type: type_out(data_type), nullable })
        .collect();
    wit::Stream { name, fields, key, methods: methods.into_iter().map(method_out).collect(), cursor }
}

fn stream_in(stream: wit::Stream) -> Stream {
    let wit::Stream { name, fields, key, methods, cursor } = stream;
    let fields = fields
        .into_iter()
        .map(|wit::Field { name, data_type, nullable }| Field { name, data_type: type_in(data_type), nullable })
        .collect();
    Stream { name, fields, key, methods: methods.into_iter().map(method_in).collect(), cursor }
}

fn type_out(data_type: DataType) -> wit::DataType {
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

fn type_in(data_type: wit::DataType) -> DataType {
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

fn method_out(method: Method) -> wit::ReplicationMethod {
    match method {
        Method::FullTable => wit::ReplicationMethod::FullTable,
        Method::Incremental => wit::ReplicationMethod::Incremental,
        Method::LogBased => wit::ReplicationMethod::LogBased,
    }
}

fn method_in(method: wit::ReplicationMethod) -> Method {
    match method {
        wit::ReplicationMethod::FullTable => Method::FullTable,
        wit::ReplicationMethod::Incremental => Method::Incremental,
        wit::ReplicationMethod::LogBased => Method::LogBased,
    }
}

fn state_in(state: wit::StreamState) -> StreamState {
    let wit::StreamState { completed, partitions } = state;
    let partitions = partitions.into_iter().map(|(id, state, done)| PartitionState { id, state, done }).collect();
    StreamState { completed, partitions }
}

fn plan_out(plan: Plan) -> wit::Plan {
    let Plan { partitions, next_state } = plan;
    let partitions = partitions
        .into_iter()
        .map(|Partition { id, descriptor, estimated_records, estimated_bytes }| wit::Partition {
            id,
            descriptor,
            estimated_records,
            estimated_bytes,
        })
        .collect();
    wit::Plan { partitions, next_state }
}

fn request_in(request: wit::ReadRequest) -> (String, ReadRequest) {
    let wit::ReadRequest { config, stream, method, selected, partition, state } = request;
    let wit::Partition { id, descriptor, estimated_records, estimated_bytes } = partition;
    let partition = Partition { id, descriptor, estimated_records, estimated_bytes };
    (config, ReadRequest { stream: stream_in(stream), method: method_in(method), selected, partition, state })
}
