//! Broken variants of the protocol. Each is a control: the simulation must catch it, else it proves nothing.

use crate::{oracle::Violation, staging::MISSING};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The protocol as it is.
    Sound,
    /// The destination does not look at the fence.
    NoFence,
    /// The destination looks at fence and number when a load begins, and not again under a lock when it commits.
    UnguardedCommit,
    /// The position is committed, then the rows.
    PositionFirst,
    /// The rows are committed, then the position.
    PositionLast,
    /// A commit of unknown outcome is tried again under a new number.
    NewLabel,
    /// The mirror in the control database says what is committed, not the destination.
    MirrorTrusted,
    /// An owner that was shut out may delete what its successors have staged.
    CollectsForeign,
    /// A sealed batch that does not continue from the destination's position, after a backup was put back, is kept.
    KeepsForeign,
}

/// All that must be caught.
pub const BROKEN: [Variant; 8] = [
    Variant::NoFence,
    Variant::UnguardedCommit,
    Variant::PositionFirst,
    Variant::PositionLast,
    Variant::NewLabel,
    Variant::MirrorTrusted,
    Variant::CollectsForeign,
    Variant::KeepsForeign,
];

impl Variant {
    /// Whether a violation is what this variant does wrong. Those that spoil data must be caught by it.
    pub fn is_caught_by(self, violation: &Violation) -> bool {
        match self {
            Self::Sound => false,
            // Number, position and digest are checked in the same transaction, so that rows stay right.
            Self::NoFence => *violation == Violation::CommittedWhenShutOut,
            Self::CollectsForeign => matches!(violation, Violation::Stuck(reason) if reason == MISSING),
            Self::KeepsForeign => matches!(violation, Violation::Stuck(reason) if reason.contains("follow")),
            _ => violation.seen_by_readers(),
        }
    }
}
