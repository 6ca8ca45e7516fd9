//! From an answer to records: decoders, extractors, filters, transformations.
//!
//! An answer's way: [`decode`] makes values of its bytes, an extractor finds the records in them, [`selector`] filters,
//! transforms and normalizes them. Where nobody has to look inside, [`split`] cuts the page into raw records without
//! parsing it. Must never do I/O.

pub mod decode;
pub mod dpath;
mod expander;
mod extractor;
mod json;
mod normalize;
pub mod page;
pub mod parts;
pub mod record;
mod scan;
pub mod selector;
mod split;
#[cfg(test)]
pub mod stage;
pub mod transform;

pub use decode::Decoder;
pub use extractor::Extractor;
pub use page::{Look, Page};
pub use record::{Record, within};
pub use selector::{Around, Context, Selector};
