//! Peers that go away and come back: the control database locked, PostgreSQL stopped or cut off in the middle of a commit.

use std::time::{Duration, Instant};

use sqlx::{Connection, SqliteConnection};

use super::bed::{Bed, Mode, Target, signal, wait_until_stopped};
use crate::harness::text;

/// Where the database is locked, and for how long: longer than it is waited for only once, since that takes its time.
const LOCKED: [(&str, Duration); 5] = [
    ("after-lease:1:stop", Duration::from_secs(2)),
    ("before-seal:2:stop", Duration::from_secs(2)),
    ("before-seal:2:stop", Duration::from_secs(11)),
    ("before-mirror:2:stop", Duration::from_secs(2)),
    ("before-finish:1:stop", Duration::from_secs(2)),
];

/// Takes the control database's write lock.
async fn lock(bed: &Bed) -> SqliteConnection {
    let file = bed.thimble.data().join("thimble.db");
    assert!(file.exists(), "the control database has another name now");
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("begin immediate").execute(&mut connection).await.unwrap();
    connection
}

async fn unlock(mut connection: SqliteConnection) {
    sqlx::query("rollback").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// While nobody can write to the control database, a run waits or fails with a sentence; the next one is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_control_database_costs_time_and_nothing_else() {
    let mut bed = Bed::new("outages_control", Target::Lake, Mode::Append).await;
    bed.sync();
    for (point, locked) in LOCKED {
        bed.change();
        let mut child = bed.spawn(Some(point));
        wait_until_stopped(&mut child);
        let connection = lock(&bed).await;
        signal(&child, "CONT");
        let started = Instant::now();
        tokio::time::sleep(locked).await;
        unlock(connection).await;
        let output = child.wait_with_output().unwrap();
        let said = text(&output);
        assert!(output.status.success() || said.contains("error: "), "{point}: {said}");
        assert!(!said.contains("panicked"), "{point}: {said}");
        println!("{point}, locked for {:?}: {} {}", started.elapsed(), output.status, said.trim());
        bed.sync();
        bed.assert_exact(&format!("{point}, locked for {locked:?}")).await;
    }
}
