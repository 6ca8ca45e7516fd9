//! Owners that are stopped, overtaken and woken: they end with an error, and each row is there once.

use crate::harness::text;

use super::{
    bed::{Bed, Mode, Target, overtake, signal},
    failpoints,
};

/// Which hit of a step is in the middle of a sync; `None` where a run that stops there has nothing left to lose.
fn hit_of(name: &str) -> Option<u32> {
    match name {
        "after-lease" | "after-fence" => Some(1),
        "before-finish" => None,
        _ => Some(2),
    }
}

async fn zombies(name: &str, target: Target, mode: Mode) {
    let mut bed = Bed::new(name, target, mode).await;
    bed.sync();
    for name in failpoints::names() {
        let Some(hit) = hit_of(&name) else { continue };
        bed.change();
        let point = format!("{name}:{hit}");
        let zombie = bed.stop_at(&point).await;
        overtake(&bed);
        bed.assert_exact(&format!("{point}, before it woke")).await;
        signal(&zombie, "CONT");
        let output = zombie.wait_with_output().unwrap();
        assert!(
            !output.status.success(),
            "{point}: a run that was overtaken says that it succeeded: {}",
            text(&output)
        );
        let said = text(&output);
        assert!(said.contains("shut out") || said.contains("lease"), "{point}: it does not say why it ended: {said}");
        bed.assert_exact(&format!("{point}, after it woke")).await;
        bed.change();
        bed.sync();
        bed.assert_exact(&format!("{point}, one run later")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sleepers_are_shut_out_of_an_append_to_the_lake() {
    zombies("zombies_lake_append", Target::Lake, Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleepers_are_shut_out_of_an_upsert_into_the_lake() {
    zombies("zombies_lake_upsert", Target::Lake, Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleepers_are_shut_out_of_a_refresh_of_the_lake() {
    zombies("zombies_lake_refresh", Target::Lake, Mode::Refresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleepers_are_shut_out_of_an_append_to_postgres() {
    zombies("zombies_postgres_append", Target::Postgres, Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleepers_are_shut_out_of_an_upsert_into_postgres() {
    zombies("zombies_postgres_upsert", Target::Postgres, Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleepers_are_shut_out_of_a_refresh_of_postgres() {
    zombies("zombies_postgres_refresh", Target::Postgres, Mode::Refresh).await;
}
