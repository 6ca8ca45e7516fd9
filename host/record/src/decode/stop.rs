//! Why a record does not become a row, and what a contract says about data that its schema does not foresee.

use super::DecodeOptions;
use crate::{
    error::{ErrorKind, Failure},
    schema::DataType,
    selection::Contract,
};

/// Why a record cannot be a row.
#[derive(Debug)]
pub struct Reject {
    /// In kebab-case.
    pub reason: &'static str,
    pub message: String,
}

/// What ends the reading of a record, or of an element of an array in it.
#[derive(Debug)]
pub enum Stop {
    /// The record, or the element, is rejected.
    Reject(Reject),
    /// The whole record is rejected, also when an element asks for it.
    RejectRecord(Reject),
    /// The contract leaves it out.
    Filter,
    /// The batch, and with it the run, fails.
    Fail(Failure),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// Data that the stored schema does not foresee.
pub enum Unforeseen<'a> {
    NewField(&'a str, DataType),
    NewSubtable(&'a str),
    OtherType { field: &'a str, column: DataType, found: DataType },
}

impl DecodeOptions {
    /// Decides where the schema may not grow. `Ok`: the value is left out. Must not be asked under [`Contract::Evolve`].
    pub(super) fn decide(&self, stream: &str, unforeseen: &Unforeseen<'_>) -> Result<(), Stop> {
        match self.contract {
            Contract::Evolve | Contract::DiscardValue => Ok(()),
            Contract::DiscardRow => Err(Stop::Filter),
            Contract::Freeze => {
                let what = match unforeseen {
                    Unforeseen::NewField(name, found) => {
                        format!("expected no field `{name}`, found one that holds {}", found.short_name())
                    }
                    Unforeseen::NewSubtable(path) => format!("expected no array `{path}`, found one"),
                    Unforeseen::OtherType { field, column, found } => {
                        let (column, found) = (column.short_name(), found.short_name());
                        format!("expected {column} in the field `{field}`, found {found}")
                    }
                };
                Err(Stop::Fail(Failure::new(
                    ErrorKind::Config,
                    format!(
                        "stream {stream}: {what}, and its contract is `freeze`: correct the source, leave the field out \
                         of `columns`, or set `contract` to `evolve`, `discard-row` or `discard-value`"
                    ),
                )))
            }
        }
    }
}
