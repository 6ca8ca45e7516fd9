//! Runs components, honest and hostile, through the whole runtime. One binary, so that it links once.
#![allow(clippy::unwrap_used)]

#[path = "main/answers.rs"]
mod answers;
#[path = "main/fixture.rs"]
mod fixture;
#[path = "main/honest.rs"]
mod honest;
#[path = "main/hostile.rs"]
mod hostile;
#[path = "main/install.rs"]
mod install;
