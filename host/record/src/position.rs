//! Replication positions: how far each stream of a connection was read and committed.
//!
//! A position is a value. It rides with the batch and is stored by the destination in the same
//! commit as the rows; the control database keeps a mirror.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{BatchSeq, Generation};

/// The position of a whole connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// By stream name.
    #[serde(default)]
    pub streams: BTreeMap<String, StreamPosition>,
    /// Backfills under way, by name, then by stream: they read in a lane of their own and leave `streams` alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backfills: BTreeMap<String, BTreeMap<String, StreamPosition>>,
}

/// The position of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamPosition {
    /// `plan.next-state` of the last plan that was read to its end; the connector's own text, ≤ 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<String>,
    /// The generation that records are written to.
    #[serde(default)]
    pub generation: Generation,
    /// Whether `generation` is a full refresh under way, invisible to readers until it ends.
    #[serde(default)]
    pub refreshing: bool,
    /// The first batch of `generation`: records rejected before it were read again with it.
    #[serde(default, skip_serializing_if = "is_start")]
    pub first_batch: BatchSeq,
    /// The first batch of a full read under way whose end tells which records are gone at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<BatchSeq>,
    /// Partitions of a plan under way. Emptied when the plan ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<String, PartitionPosition>,
}

impl StreamPosition {
    /// This position with what was read set back to `past`. The generation stays: partitions that were read into another
    /// one are read again.
    #[must_use]
    pub fn rewound(&self, past: &Self) -> Self {
        let same = self.generation == past.generation && self.refreshing == past.refreshing;
        Self {
            completed: past.completed.clone(),
            partitions: if same { past.partitions.clone() } else { BTreeMap::new() },
            ..self.clone()
        }
    }
}

impl Position {
    /// This position with its streams, or one of them, set back to `past`. A stream that `past` does not know starts over.
    #[must_use]
    pub fn rewound(&self, past: &Self, only: Option<&str>) -> Self {
        let start = StreamPosition::default();
        let mut position = self.clone();
        for (name, stream) in &mut position.streams {
            if only.is_none_or(|only| only == name) {
                *stream = stream.rewound(past.streams.get(name).unwrap_or(&start));
            }
        }
        position
    }
}

fn is_start(seq: &BatchSeq) -> bool {
    *seq == BatchSeq::default()
}

/// The position inside one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// The connector's last checkpoint; ≤ 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whether it was read to its end.
    #[serde(default)]
    pub done: bool,
}

impl Position {
    /// SHA-256 of the canonical JSON, in hex: what a batch names as the position it continues from.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).expect("a position is maps of strings, which always serialize");
        hex::encode(Sha256::digest(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewound_stream_stays_in_its_generation() {
        let partition = PartitionPosition { state: Some("7".into()), done: false };
        let past = StreamPosition {
            completed: Some("old".into()),
            partitions: [("p".to_owned(), partition)].into(),
            ..StreamPosition::default()
        };
        let now = StreamPosition { completed: Some("new".into()), ..StreamPosition::default() };
        assert_eq!(now.rewound(&past), past);
        let later = StreamPosition { generation: Generation(3), ..now };
        let rewound = later.rewound(&past);
        assert_eq!(
            (rewound.completed.as_deref(), rewound.generation, rewound.partitions.len()),
            (Some("old"), Generation(3), 0)
        );
        let position = Position {
            streams: [("a".to_owned(), later.clone()), ("b".to_owned(), later)].into(),
            ..Position::default()
        };
        let back = position.rewound(&Position::default(), Some("a"));
        assert_eq!(
            (back.streams["a"].completed.as_deref(), back.streams["b"].completed.as_deref()),
            (None, Some("new"))
        );
    }
}
