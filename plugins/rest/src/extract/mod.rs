//! From an answer to records: decoders, extractors, filters, transformations.

pub mod record;

pub use record::Record;
