//! How we decide: when a batch closes, whether to try again, which step of the commit protocol comes next, what of a record
//! may be kept, when a connection runs and which of the waiting runs may start.
//!
//! Owns pure functions over plain values. Time and randomness are parameters. Must never do I/O or wait;
//! `thimble-pipeline` carries out what is decided here.

pub mod admission;
pub mod canary;
pub mod commit;
pub mod cut;
pub mod limits;
pub mod reject;
pub mod retry;
pub mod schedule;
pub mod shape;
pub mod span;
pub mod upgrade;
