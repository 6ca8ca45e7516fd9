//! SIGKILL at any moment of a sync, then start again. `TORTURE_KILLS` says how often, for each of the six.

use std::time::{Duration, Instant};

use super::bed::{Bed, Mode, Target};

const KILLS: u32 = 200;
const KILLS_BETWEEN_CHECKS: u32 = 20;

async fn torture(name: &str, target: Target, mode: Mode) {
    let kills = std::env::var("TORTURE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut bed = Bed::new(name, target, mode).await;
    bed.sync();
    bed.change();
    let mut whole = bed.sync();
    let (started, mut living) = (Instant::now(), 0);
    for kill in 0..kills {
        // Mostly new work; at times the rest of an interrupted run. A refresh goes on with the files it began with.
        let first = kill % KILLS_BETWEEN_CHECKS == 0;
        if if mode == Mode::Refresh { first } else { kill % 3 != 2 } {
            bed.change();
        }
        let moment = whole.mul_f64(bed.random(1_000) as f64 / 1_000.0);
        let mut child = bed.thimble.spawn(&bed.sync_args());
        std::thread::sleep(moment.max(Duration::from_millis(1)));
        living += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        if kill % KILLS_BETWEEN_CHECKS == KILLS_BETWEEN_CHECKS - 1 || kill + 1 == kills {
            if mode == Mode::Refresh {
                bed.assert_old_or_new(&format!("kill {kill}")).await;
            }
            bed.sync();
            bed.assert_exact(&format!("kill {kill}")).await;
            // What a sync takes now: other tests share the machine, and the folder has grown.
            if mode != Mode::Refresh {
                bed.change();
            }
            whole = bed.sync();
        }
    }
    assert!(living * 2 >= kills, "only {living} of {kills} kills met a living sync");
    println!("{name}: {kills} kills, {living} of them met a living sync, {:.0} s", started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_appending_to_the_lake() {
    torture("torture_lake_append", Target::Lake, Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_upserting_into_the_lake() {
    torture("torture_lake_upsert", Target::Lake, Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_refreshing_the_lake() {
    torture("torture_lake_refresh", Target::Lake, Mode::Refresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_appending_to_postgres() {
    torture("torture_postgres_append", Target::Postgres, Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_upserting_into_postgres() {
    torture("torture_postgres_upsert", Target::Postgres, Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_refreshing_postgres() {
    torture("torture_postgres_refresh", Target::Postgres, Mode::Refresh).await;
}
