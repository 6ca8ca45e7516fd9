//! Effectively once, proved on the real binary: whatever is killed, stopped, cut off or locked, and wherever, each
//! destination holds exactly what the source had.

mod backups;
pub mod bed;
mod controls;
mod failpoints;
mod outages;
mod postgres_outages;
mod torture;
mod zombies;
