//! When a batch closes.

use serde::{Deserialize, Serialize};

/// The size that a batch may reach. A batch closes only at a checkpoint, so it may be larger by what a
/// connector sends between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CutPolicy {
    /// Bytes of decoded columns in memory.
    pub max_bytes: u64,
    /// Records, rejected ones included.
    pub max_rows: u64,
    /// Milliseconds since the first record of the batch: bounds how stale the destination can be.
    pub max_age_ms: u64,
}

impl Default for CutPolicy {
    fn default() -> Self {
        Self { max_bytes: 64 * 1024 * 1024, max_rows: 1_000_000, max_age_ms: 60_000 }
    }
}

/// What the open batch holds, measured at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CutInputs {
    pub bytes: u64,
    pub rows: u64,
    /// Milliseconds since its first record or position.
    pub age_ms: u64,
    /// Whether the position moved since the last batch.
    pub moved: bool,
    /// Whether extraction has ended (or is to stop), so that nothing else will come.
    pub ended: bool,
}

/// Why a batch closed, or that it stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Keep,
    Bytes,
    Rows,
    Age,
    End,
}

impl CutPolicy {
    /// Decides at a checkpoint. In this order: nothing moved keeps the batch open, whatever its age;
    /// the end of extraction closes it; then bytes, rows, age.
    pub fn evaluate(&self, inputs: CutInputs) -> Cut {
        let Self { max_bytes, max_rows, max_age_ms } = *self;
        let CutInputs { bytes, rows, age_ms, moved, ended } = inputs;
        if !moved && rows == 0 {
            Cut::Keep
        } else if ended {
            Cut::End
        } else if bytes >= max_bytes {
            Cut::Bytes
        } else if rows >= max_rows {
            Cut::Rows
        } else if age_ms >= max_age_ms {
            Cut::Age
        } else {
            Cut::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_closes_a_batch_and_an_empty_one_stays_open() {
        let policy = CutPolicy { max_bytes: 100, max_rows: 10, max_age_ms: 1_000 };
        let open = CutInputs { bytes: 99, rows: 9, age_ms: 999, moved: true, ended: false };
        let cases = [
            (open, Cut::Keep),
            (CutInputs { bytes: 100, ..open }, Cut::Bytes),
            (CutInputs { rows: 10, ..open }, Cut::Rows),
            (CutInputs { age_ms: 1_000, ..open }, Cut::Age),
            (CutInputs { ended: true, ..open }, Cut::End),
            (CutInputs { ended: true, rows: 0, bytes: 0, ..open }, Cut::End),
            (CutInputs { ended: true, age_ms: 9_999, ..CutInputs::default() }, Cut::Keep),
        ];
        for (inputs, expected) in cases {
            assert_eq!(policy.evaluate(inputs), expected, "{inputs:?}");
        }
    }
}
