//! Real servers for tests, demo and bench, each on a free port of the loopback interface.
//!
//! Owns a file server that can be told to misbehave, a paged JSON API, PostgreSQL, an S3 store, and a proxy that cuts and holds
//! connections. Must never be used by the host.

pub mod files;
pub mod objects;
pub mod pages;
pub mod postgres;
pub mod proxy;
