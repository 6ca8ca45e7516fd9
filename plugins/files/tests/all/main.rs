//! Reads whole files, broken files and files over HTTP.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod http;
mod limits;
mod making;
mod resume;
mod server;
mod speed;
mod taking;
