//! How a stream is divided: lists, parents' records, groups of them.

pub mod slice;

pub use slice::Slice;
