//! The API on a real server with a real control database, and an executor that records what it is given.
#![allow(clippy::unwrap_used)]

mod access;
mod catalogue;
mod executor;
mod queue;
mod requests;
mod runs;
mod schedule;
mod server;

pub use executor::Recorder;
pub use server::{Answer, Server, TOKEN};
