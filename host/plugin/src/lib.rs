//! Runs connectors: WebAssembly components that may only do what the operator granted.
//!
//! Owns everything that knows wasmtime: inspecting, compiling (in a child process), caching, limits, egress,
//! secrets at egress, guest logs, and one [`Connector`] per version of the WIT. Must never decide what to replicate
//! or where records go: records leave through [`RecordSink`].

mod api;
mod cache;
mod call;
mod compile;
mod connector;
pub mod egress;
mod engine;
mod error;
mod files;
mod guest;
mod host;
mod inspect;
mod limits;
pub mod log;
mod memory;
mod meter;
mod reading;
mod secret_fields;
pub mod secrets;
mod shelf;
mod stats;
mod wasi;

pub use compile::{CompilerCommand, compile_child_main};
pub use connector::{
    Connector, Partition, Permissions, Plan, RawBatch, ReadRequest, RecordSink, Session, Spec, StreamState,
};
pub use egress::{EgressLimits, HostPattern};
pub use error::{Call, PluginError};
pub use host::{Installed, PluginHost, PluginSettings};
pub use limits::Limits;
pub use log::{LogLevel, LogSink};
pub use secrets::Secrets;
pub use shelf::Shelf;
pub use stats::PluginStats;
