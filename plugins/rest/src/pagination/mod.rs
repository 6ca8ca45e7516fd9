//! Paginators: what to ask for next, and when there is nothing more.
//!
//! Owns tokens and page sizes. Never sends anything; keeps nothing of a page: what tells an endless loop is with
//! whoever goes from page to page.

pub mod links;
pub mod paginator;
pub mod reduction;
pub mod strategy;
#[cfg(test)]
mod tests;

pub use crate::http::ResponseUse;
pub use paginator::{Page, Paginator, Repeated};
pub use reduction::{PageSizeReducer, PageSizeReduction};
