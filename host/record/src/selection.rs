//! What the operator chooses for a stream of a connection.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{schema::ReplicationMethod, system::SystemNaming};

/// Name of the selection that stands for every stream of the catalog that no other selection names.
pub const EVERY_STREAM: &str = "*";

/// What the stream's table is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// Every record that was ever read.
    Append,
    /// The records of the last full read; readers see the old ones until it is complete. Needs full-table.
    Replace,
    /// The last record of each key.
    Upsert,
    /// Every version of each key, with the time in which it held.
    History,
}

/// What becomes of objects and arrays inside a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Nesting {
    /// A JSON column.
    #[default]
    Json,
    /// Objects become columns `parent__child`, arrays become subtables `stream__array`.
    Flatten,
}

/// What becomes of data that differs from the stream's stored schema. A stream without a stored schema may grow until
/// the end of the first run that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Contract {
    /// New fields become columns, conflicting types widen the column or get one beside it.
    #[default]
    Evolve,
    /// The run fails, with the name of the field.
    Freeze,
    /// The record is left out, and counted as filtered.
    DiscardRow,
    /// The value is left out; the rest of the record is loaded.
    DiscardValue,
}

/// What a deleted record leaves behind in a table with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteMode {
    /// Its last values, and the time of its deletion.
    #[default]
    Soft,
    /// Nothing.
    Hard,
}

/// How many records may be rejected before the run fails. The batch that crosses a threshold is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaxRejected {
    /// More than so many in one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// More than so many of a hundred records of one run, looked at when a batch closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
}

/// One selected stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSelection {
    /// Name in the catalog, or `*` for every stream that no other selection names. `name` is accepted too.
    #[serde(alias = "name")]
    pub stream: String,
    /// How it is read. Absent: the stream's first method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<ReplicationMethod>,
    /// What its table is to hold. Absent: `replace` for full-table; else `upsert` where there is a key, `append` where not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Disposition>,
    /// Fields that identify a record; empty: those that the source names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Names of the fields wanted; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// New names of columns, by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// Fields whose values are replaced by a keyed digest before they are staged: equal values stay equal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<String>,
    /// Fields whose values are replaced by `***` before they are staged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<String>,
    /// What becomes of objects and arrays inside a record.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nested: Nesting,
    /// What becomes of data that differs from the stored schema, from the second run on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub contract: Contract,
    /// What a deleted record leaves behind in a table with a key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletes: DeleteMode,
    /// Records that a full read no longer meets count as deleted. Needs full-table with upsert or history.
    #[serde(default, skip_serializing_if = "is_default")]
    pub infer_deletes: bool,
    /// How many records may be rejected before the run fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_rejected: MaxRejected,
    /// Names of the columns that the host adds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub system_columns: SystemNaming,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl StreamSelection {
    /// All columns of a stream by its default method.
    pub fn of(stream: impl Into<String>) -> Self {
        Self { stream: stream.into(), ..Self::default() }
    }
}
