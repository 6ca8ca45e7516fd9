//! The columns that the host adds to every table, and their two sets of names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prefix of the columns that the host adds; fields of connectors may not use it, but for [`DELETED_FIELD`].
pub const SYSTEM_PREFIX: &str = "_thimble_";

/// The one field of this prefix that a connector may send: the moment at which the source deleted the record. Every
/// field of such a record but the key may be absent.
pub const DELETED_FIELD: &str = "_thimble_deleted_at";

/// Prefix of the names that Stitch gives its columns.
pub const SDC_PREFIX: &str = "_sdc_";

/// A column that the host adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SystemColumn {
    /// Instant at which the host took the record from the connector.
    ExtractedAt,
    /// The same instant under Stitch's second name; staged only by [`SystemNaming::Sdc`].
    ReceivedAt,
    /// Instant of the load; written by destinations that write rows themselves.
    LoadedAt,
    /// The batch's number in its connection.
    Batch,
    /// Order of extraction within a stream: batch number × 2³² + place in the batch.
    Sequence,
    /// Instant at which the record was deleted at the source, or was found missing there.
    DeletedAt,
    /// History: the instants between which this version held, and whether it holds.
    ValidFrom,
    ValidTo,
    Current,
    /// Subtables: the sequence of the record that the row was taken out of.
    RootSequence,
}

/// Which names the host's columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SystemNaming {
    /// `_thimble_extracted_at`, …
    #[default]
    Thimble,
    /// Stitch's: `_sdc_extracted_at`, `_sdc_batched_at`, …
    Sdc,
}

impl SystemNaming {
    /// The column's name.
    pub fn name(self, column: SystemColumn) -> &'static str {
        use SystemColumn as C;
        match (self, column) {
            (Self::Thimble, C::ExtractedAt) => "_thimble_extracted_at",
            (Self::Thimble, C::ReceivedAt) => "_thimble_received_at",
            (Self::Thimble, C::LoadedAt) => "_thimble_loaded_at",
            (Self::Thimble, C::Batch) => "_thimble_batch",
            (Self::Thimble, C::Sequence) => "_thimble_sequence",
            (Self::Thimble, C::DeletedAt) => DELETED_FIELD,
            (Self::Thimble, C::ValidFrom) => "_thimble_valid_from",
            (Self::Thimble, C::ValidTo) => "_thimble_valid_to",
            (Self::Thimble, C::Current) => "_thimble_current",
            (Self::Thimble, C::RootSequence) => "_thimble_root_sequence",
            (Self::Sdc, C::ExtractedAt) => "_sdc_extracted_at",
            (Self::Sdc, C::ReceivedAt) => "_sdc_received_at",
            (Self::Sdc, C::LoadedAt) => "_sdc_batched_at",
            (Self::Sdc, C::Batch) => "_sdc_batch",
            (Self::Sdc, C::Sequence) => "_sdc_sequence",
            (Self::Sdc, C::DeletedAt) => "_sdc_deleted_at",
            (Self::Sdc, C::ValidFrom) => "_sdc_valid_from",
            (Self::Sdc, C::ValidTo) => "_sdc_valid_to",
            (Self::Sdc, C::Current) => "_sdc_current",
            (Self::Sdc, C::RootSequence) => "_sdc_root_sequence",
        }
    }

    /// In a subtable, the column that repeats a key column of the record that the row was taken out of.
    pub fn root_key(self, key: &str) -> String {
        match self {
            Self::Thimble => format!("_thimble_root_key_{key}"),
            Self::Sdc => format!("_sdc_source_key_{key}"),
        }
    }

    /// In a subtable, the place of the row in its array, counted from 0; `level` 0 is the outermost array.
    pub fn level(self, level: usize) -> String {
        match self {
            Self::Thimble => format!("_thimble_level_{level}_id"),
            Self::Sdc => format!("_sdc_level_{level}_id"),
        }
    }
}
