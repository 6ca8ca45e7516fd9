//! Owners that are stopped, overtaken and woken: they end with an error, and each row is there once.

use std::time::{Duration, Instant};

use crate::harness::text;

use super::{
    bed::{Bed, Mode, Target, WAIT, signal, wait_until_stopped},
    failpoints,
};

/// Lets another run take over, once the lease of the stopped one has run out, and go to its end.
fn overtake(bed: &Bed) {
    let deadline = Instant::now() + WAIT;
    loop {
        let output = bed.thimble.run(&bed.sync_args());
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "nobody could take over: {}", text(&output));
        std::thread::sleep(Duration::from_millis(50));
    }
}

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
        let point = format!("{name}:{hit}:stop");
        let mut zombie = bed.spawn(Some(&point));
        wait_until_stopped(&mut zombie);
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
async fn sleepers_that_append_to_the_lake_are_shut_out() {
    zombies("zombies_lake_append", Target::Lake, Mode::Append).await;
}
