//! Loading: sealed batches become rows of a destination, each batch once.
//!
//! Owns the trait [`Destination`] and its implementations, one folder each, with the same file names in each.
//! Must never extract, never change a sealed batch, and never tell a commit that it has not asked the destination about.

mod conserve;
mod destination;
mod error;
pub mod lake;
mod limits;
mod objects;
pub mod postgres;

pub use destination::{Capabilities, Committed, Destination, Refusal, SegmentSource, TableInfo};
pub use error::{LoadError, Source};
pub use limits::{EAGER_FILES, LAKE_KEYS, LAKE_SWEEPS, SINGLE_PUT_BYTES, SNAPSHOT_EVERY, TABLE_NAME_BYTES};
