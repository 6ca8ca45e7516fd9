//! Record counts, and the law that they obey.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Records of one stream in one batch (or summed over batches).
///
/// Conservation: `emitted = loaded + merged + rejected + filtered`. It is checked on every batch;
/// a mismatch stops the run and keeps the staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Handed over by the connector, the rejected ones included.
    pub emitted: u64,
    /// Written as new rows.
    pub loaded: u64,
    /// Folded into another row of the same key.
    pub merged: u64,
    /// In the rejected-records table.
    pub rejected: u64,
    /// Left out by the operator's choice.
    pub filtered: u64,
}

impl Counts {
    /// Whether every record is accounted for.
    pub fn conserved(&self) -> bool {
        self.emitted == self.loaded + self.merged + self.rejected + self.filtered
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { emitted, loaded, merged, rejected, filtered } = other;
        self.emitted += emitted;
        self.loaded += loaded;
        self.merged += merged;
        self.rejected += rejected;
        self.filtered += filtered;
    }
}
