//! What parts of a manifest add to a request, and how they are put together.

use crate::value::{Map, Value};

/// What one part (the requester itself, a paginator, a cursor, a partition router, an authenticator) asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestParts {
    pub params: Map,
    pub headers: Map,
    /// A form, or text as it is; null where there is none.
    pub body_data: Value,
    /// Null where there is none.
    pub body_json: Value,
    /// Replaces the URL (`RequestPath`).
    pub path: Option<String>,
}
