//! A kill at each named step of the protocol, at its first and at a later hit.

use crate::harness::{root, text};

use super::bed::{Bed, Mode, Target};

/// The names, in the order of the protocol, from where they are defined.
pub fn names() -> Vec<String> {
    let source = std::fs::read_to_string(root().join("host/pipeline/src/failpoints.rs")).unwrap();
    let constant =
        |line: &str| Some(line.strip_prefix("pub const ")?.split_once(": &str = \"")?.1.split_once('"')?.0.to_owned());
    let names: Vec<String> = source.lines().filter_map(constant).filter(|name| name.contains('-')).collect();
    assert!(names.len() >= 12, "failpoints.rs is not written as it was: {names:?}");
    names
}

async fn matrix(name: &str, target: Target, mode: Mode) {
    let mut bed = Bed::new(name, target, mode).await;
    bed.sync();
    for name in names() {
        for hit in [1, 3] {
            let point = format!("{name}:{hit}");
            bed.change();
            let killed = bed.sync_with(&point);
            let reached = !killed.status.success();
            assert!(reached || hit > 1, "{point} was never reached: {}", text(&killed));
            if mode == Mode::Refresh {
                bed.assert_old_or_new(&format!("{point}, before the refresh was ended")).await;
            }
            if mode == Mode::Refresh && name == "after-seal" && hit == 3 {
                // A plain sync ends an interrupted refresh too.
                bed.thimble.json(&["sync", "c"]);
            } else {
                bed.sync();
            }
            bed.assert_exact(&point).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_of_an_append_to_the_lake() {
    matrix("points_lake_append", Target::Lake, Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_of_an_upsert_into_the_lake() {
    matrix("points_lake_upsert", Target::Lake, Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_of_a_refresh_of_the_lake() {
    matrix("points_lake_refresh", Target::Lake, Mode::Refresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_of_an_append_to_postgres() {
    matrix("points_postgres_append", Target::Postgres, Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_of_an_upsert_into_postgres() {
    matrix("points_postgres_upsert", Target::Postgres, Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_named_step_of_a_refresh_of_postgres() {
    matrix("points_postgres_refresh", Target::Postgres, Mode::Refresh).await;
}
