//! What moves: names, schemas, batches, positions, sealed batches, outcomes.
//!
//! Owns the plain values that every other crate hands on, and the pure conversions between them.
//! Must never do I/O, wait, read the clock or decide policy.

pub mod checksum;
pub mod counts;
pub mod decode;
pub mod envelope;
pub mod error;
pub mod ids;
pub mod position;
pub mod rejected;
pub mod schema;
pub mod sealed;
pub mod selection;
pub mod system;

pub use checksum::Checksum;
pub use counts::Counts;
pub use error::{ErrorKind, Failure};
pub use ids::{BatchSeq, ConnectionId, Epoch, Generation, RunId};
pub use position::{PartitionPosition, Position, StreamPosition};
pub use rejected::{Rejected, RejectedRow};
pub use schema::{Catalog, DataType, Field, ReplicationMethod, Stream, StreamSchema};
pub use sealed::{LoadOutcome, SealedBatch, SegmentRef, StreamBatch, WriteMode};
pub use selection::{Contract, DeleteMode, Disposition, MaxRejected, Nesting, StreamSelection};
pub use system::{SystemColumn, SystemNaming};
