//! Requests: what goes into them, how they are sent, and what an answer means.
//!
//! A requester's way: [`input`] evaluates its templates, [`options`] puts the parts of several together, [`prepare`]
//! writes them down as a request; [`sending`] sends it, asks [`handler`] what the answer means and [`retry`] whether
//! to send it again; [`budget`] keeps to what the source allows. Never knows records, pages or states.

pub mod backoff;
pub mod budget;
pub mod error_text;
pub mod filter;
pub mod handler;
pub mod inject;
pub mod input;
pub mod look;
pub mod matcher;
pub mod options;
pub mod prepare;
pub mod rate;
pub mod requester;
pub mod resolution;
pub mod retry;
#[cfg(test)]
pub mod script;
pub mod sending;
#[cfg(test)]
mod tests;
pub mod text;
pub mod url;

pub use budget::Budget;
pub use inject::RequestOption;
pub use look::ResponseUse;
pub use options::RequestParts;
pub use requester::{Outcome, RequestContext, Requester};
