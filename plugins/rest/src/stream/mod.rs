//! Streams: what a manifest's stream is made of, and how it is read.

pub mod env;

pub use env::Env;
