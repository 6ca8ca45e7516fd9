//! One record, parsed only where somebody looks inside.

use bytes::Bytes;

use crate::value::Value;

#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The text of one JSON value, as it stood in the page.
    Raw(Bytes),
    Parsed(Value),
}

impl Record {
    /// The whole record.
    pub fn value(&self) -> Value {
        match self {
            Self::Raw(text) => Value::from_json(text).unwrap_or_default(),
            Self::Parsed(value) => value.clone(),
        }
    }
}
