//! Real servers for tests, demo and bench, each on a free port of the loopback interface.
//!
//! Owns a file server that can be told to misbehave, and a paged JSON API. Must never be used by the host.

pub mod files;
pub mod pages;
