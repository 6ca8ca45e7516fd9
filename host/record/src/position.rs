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
