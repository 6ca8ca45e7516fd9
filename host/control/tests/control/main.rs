//! The API on a real server with a real control database, and an executor that records what it is given.
#![allow(clippy::unwrap_used)]

mod access;
mod bounds;
mod catalogue;
mod executor;
mod notices;
mod queue;
mod requests;
mod resources;
mod roles;
mod runs;
mod schedule;
mod server;
mod tokens;

pub use executor::Recorder;
pub use server::{Answer, Server, TOKEN};
