//! What the rest of the host sees of a connector: one trait, and the plain values it takes and gives.
//!
//! Owns the shape that every API version is brought to. Must never name a type of wasmtime or of one WIT version.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thimble_record::{Catalog, Failure, Rejected, ReplicationMethod, Stream};

use crate::{
    egress::{HostPattern, Rehearsal, RunServices},
    error::PluginError,
    log::LogSink,
    secrets::Secrets,
};

/// One batch as the guest handed it over, not decoded.
#[derive(Clone, PartialEq, Eq)]
pub enum RawBatch {
    /// One Arrow IPC stream, uncompressed.
    ArrowIpc(Bytes),
    /// One JSON array of objects, or JSON lines; meant to be UTF-8.
    Json(Bytes),
}

impl RawBatch {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::ArrowIpc(bytes) | Self::Json(bytes) => bytes.len(),
        }
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// Records may be personal data: their bytes stay out of debug prints.
impl fmt::Debug for RawBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, len) = match self {
            Self::ArrowIpc(bytes) => ("ArrowIpc", bytes.len()),
            Self::Json(bytes) => ("Json", bytes.len()),
        };
        write!(f, "{kind}({len} bytes)")
    }
}

/// Where the records of one `read` go: the host's side of the WIT's `sink`.
///
/// The guest waits for as long as a call waits (backpressure). An error is handed to the guest, which is to return it;
/// stream names and sizes were checked against the limits before.
#[async_trait]
pub trait RecordSink: Send + Sync {
    /// Takes one batch of `stream`.
    async fn emit(&self, stream: &str, batch: RawBatch) -> Result<(), Failure>;
    /// Takes records that cannot be loaded.
    async fn reject(&self, stream: &str, records: Vec<Rejected>) -> Result<(), Failure>;
    /// Notes that `state` resumes after everything emitted so far.
    async fn checkpoint(&self, stream: &str, state: String) -> Result<(), Failure>;
}

/// What one run may do. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    /// The configuration object, checked against the schema, with placeholders where secrets stand.
    pub config: serde_json::Value,
    /// Placeholder to value; used at egress and by the scrubber.
    pub secrets: Secrets,
    /// Hosts that the operator granted, already expanded over the configuration.
    pub grants: Vec<HostPattern>,
    /// Where log lines of the guest go, after the rate limit and the scrubber.
    pub log: Arc<dyn LogSink>,
    /// What the host does for the requests of all instances of the run.
    pub services: RunServices,
    /// How this run's traffic differs from that of every day: watched, recorded, answered again.
    pub rehearsal: Rehearsal,
}

/// What a connector says of itself. Same shape as the WIT's `spec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Registry name: lower-case letters, digits, `-`; at most 64 bytes.
    pub name: String,
    /// Semantic version of the connector.
    pub version: String,
    pub title: String,
    /// Markdown.
    pub docs: String,
    /// JSON Schema (draft 2020-12) of the configuration object.
    pub config_schema: serde_json::Value,
    pub permissions: Permissions,
}

/// What a connector asks for; nothing of it is granted by asking.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permissions {
    /// Host patterns, or templates over the configuration such as `{{ url }}`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Linear memory of one instance in MiB; the host's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Secret settings whose value the connector must see itself.
    #[serde(default)]
    pub reads_secrets: Vec<String>,
}

/// What is new in a stream, divided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub partitions: Vec<Partition>,
    /// Becomes [`StreamState::completed`] when the last partition was read to its end.
    pub next_state: Option<String>,
}

/// A piece of a stream that can be read alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Stable between runs, unique within the plan.
    pub id: String,
    /// For the connector alone.
    pub descriptor: String,
    pub estimated_records: Option<u64>,
    pub estimated_bytes: Option<u64>,
}

/// How far a stream was read and committed before this run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamState {
    /// `next_state` of the last plan that was read to its end.
    pub completed: Option<String>,
    /// (partition id, last committed checkpoint, whether it was read to its end).
    pub partitions: Vec<(String, Option<String>, bool)>,
}

/// What one `read` is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    pub stream: Stream,
    pub method: ReplicationMethod,
    /// Names of the wanted fields; empty means all.
    pub selected: Vec<String>,
    pub partition: Partition,
    /// The last committed checkpoint of this partition.
    pub state: Option<String>,
}

/// A loaded plugin. Every call runs in an instance of its own; dropping the future of a call ends its guest.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What the connector says of itself. Answered from memory after the first call.
    async fn spec(&self) -> Result<Spec, PluginError>;
    /// Proves that the configuration works; a sentence saying what was reached.
    async fn check(&self, session: &Session) -> Result<String, PluginError>;
    /// Lists the streams.
    async fn discover(&self, session: &Session) -> Result<Catalog, PluginError>;
    /// Divides what is new in `stream` since `state`.
    async fn plan(
        &self,
        session: &Session,
        stream: &Stream,
        method: ReplicationMethod,
        state: StreamState,
    ) -> Result<Plan, PluginError>;
    /// Reads one partition to its end.
    async fn read(&self, session: &Session, request: ReadRequest, sink: Arc<dyn RecordSink>)
    -> Result<(), PluginError>;
}
