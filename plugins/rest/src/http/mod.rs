//! Requests: what goes into them, how they are sent, and what an answer means.

pub mod options;

pub use options::RequestParts;
