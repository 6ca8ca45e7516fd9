//! Turns values into columns and back. A column that cannot be read is named, never skipped.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use crate::StoreError;

/// JSON text of a plain value.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("rows are plain data with text keys, which always serialize")
}

/// Reads JSON text; `what` names table and column.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt { what, source: Box::new(source) })
}

/// Reads a JSON column.
pub(crate) fn parse_column<T: DeserializeOwned>(
    row: &AnyRow,
    column: &'static str,
    what: &'static str,
) -> Result<T, StoreError> {
    parse(row.try_get::<&str, _>(column)?, what)
}

/// Reads a JSON column that may be null.
pub(crate) fn parse_optional<T: DeserializeOwned>(
    row: &AnyRow,
    column: &'static str,
    what: &'static str,
) -> Result<Option<T>, StoreError> {
    row.try_get::<Option<&str>, _>(column)?.map(|text| parse(text, what)).transpose()
}

/// The word that an enum of plain cases is stored as: its JSON without quotes.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    json(value).trim_matches('"').to_owned()
}

/// Reads such a word.
pub(crate) fn parse_word<T: DeserializeOwned>(
    row: &AnyRow,
    column: &'static str,
    what: &'static str,
) -> Result<T, StoreError> {
    let word: &str = row.try_get(column)?;
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|source| StoreError::Corrupt { what, source: Box::new(source) })
}

/// A counter as SQLite keeps it. Counters beyond 2^63 - 1 do not occur and would be refused as conflicts.
pub(crate) fn stored(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

/// A stored counter; negative ones do not occur.
pub(crate) fn counter(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
