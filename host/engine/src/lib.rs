//! How we decide: when a batch closes, whether to try again, which step of the commit protocol comes next, what of a record
//! may be kept.
//!
//! Owns pure functions over plain values. Time and randomness are parameters. Must never do I/O or wait;
//! `thimble-pipeline` carries out what is decided here.

pub mod commit;
pub mod cut;
pub mod reject;
pub mod retry;
pub mod shape;
