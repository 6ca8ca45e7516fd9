//! What must hold, told without any knowledge of the protocol.

use std::collections::BTreeMap;

use crate::destination::{Tables, key_of};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    Lost(u64),
    Doubled(u64),
    /// The upsert table differs from the model at this key.
    WrongVersion(u64),
    WentBack,
    /// The position does not say what the rows are.
    PositionLies,
    LoadedUnsealed,
    CommittedWhenShutOut,
    /// An owner did not end within its bound of steps.
    NeverEnded,
    /// After all faults had stopped, a run did not complete.
    Stuck(String),
}

impl Violation {
    /// Whether a reader of the tables would find it.
    pub fn seen_by_readers(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Doubled(_) | Self::WrongVersion(_))
    }
}

/// The source's records are 1, 2, 3, …: up to the position each is there once, and nothing else is.
pub fn examine(tables: &Tables) -> Option<Violation> {
    if let Some((record, _)) = tables.append.iter().find(|(_, times)| **times != 1) {
        return Some(Violation::Doubled(*record));
    }
    let rows = tables.append.len() as u64;
    if rows < tables.position {
        let lost = (1..=tables.position).find(|record| !tables.append.contains_key(record));
        return Some(Violation::Lost(lost.expect("there are fewer rows than records, so one is missing")));
    }
    if rows != tables.position {
        return Some(Violation::PositionLies);
    }
    let model: BTreeMap<u64, u64> = (1..=tables.position).map(|record| (key_of(record), record)).collect();
    let wrong = (0..7).find(|key| model.get(key) != tables.upsert.get(key));
    wrong.map(Violation::WrongVersion)
}
