//! One binary for all tests that cross crates, against the real `thimble` binary and real servers.
#![allow(clippy::unwrap_used)]

mod alert_rules;
mod apply;
mod author;
mod bad_input;
mod bad_values;
mod canary;
mod catalogue;
mod crash;
mod formats;
mod harness;
mod hostile_api;
mod incremental;
mod manifest;
mod notify;
mod parity;
mod readers;
mod readme;
mod rest;
mod rotation;
mod schedule;
mod secrets;
mod semantics;
mod serve;
mod served;
mod servers;
mod takeover;
