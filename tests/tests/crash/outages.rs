//! Peers that go away and come back: the control database locked, PostgreSQL stopped or cut off in the middle of a commit.

use std::time::Duration;

use super::bed::{Bed, ControlLock, Mode, Target, signal};
use crate::harness::text;

/// Where the database is locked, and for how long: longer than it is waited for only once, since that takes its time.
const LOCKED: [(&str, Duration); 5] = [
    ("after-lease:1", Duration::from_secs(2)),
    ("before-seal:2", Duration::from_secs(2)),
    ("before-seal:2", Duration::from_secs(11)),
    ("before-mirror:2", Duration::from_secs(2)),
    ("before-finish:1", Duration::from_secs(2)),
];

/// While nobody can write to the control database, a run waits or fails with a sentence; the next one is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_control_database_costs_time_and_nothing_else() {
    let mut bed = Bed::new("outages_control", Target::Lake, Mode::Append).await;
    bed.sync();
    for (point, locked) in LOCKED {
        bed.change();
        let child = bed.stop_at(point).await;
        let lock = ControlLock::take(&bed.thimble, Duration::from_secs(1)).await.unwrap();
        signal(&child, "CONT");
        tokio::time::sleep(locked).await;
        lock.release().await;
        let output = child.wait_with_output().unwrap();
        let said = text(&output);
        assert!(output.status.success() || said.contains("error: "), "{point}: {said}");
        assert!(!said.contains("panicked"), "{point}: {said}");
        bed.sync();
        bed.assert_exact(&format!("{point}, locked for {locked:?}")).await;
    }
}
