//! The commit protocol against a simulated world: crashes, lost and late answers, torn writes, stale reads, clocks that
//! jump, owners that sleep and are overtaken, databases restored from backups. All of it follows from a seed.
//!
//! `SIM_SEEDS=100000` runs so many seeds; `SIM_SEED=17` replays one and prints all that happened.
#![allow(clippy::unwrap_used)]

mod control;
mod destination;
mod oracle;
mod owner;
mod random;
mod schedule;
mod staging;
mod variant;
mod world;

use std::time::Instant;

use schedule::simulate;
use variant::{BROKEN, Variant};

const SEEDS: u64 = if cfg!(debug_assertions) { 15_000 } else { 100_000 };
/// Within how many seeds a broken variant must be caught.
const SEEDS_TO_CATCH: u64 = 50_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn replay(seed: u64, variant: Variant) {
    let outcome = simulate(seed, variant, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    if let Some(violation) = outcome.violation {
        panic!(
            "{violation:?}; replay: SIM_SEED={seed} cargo test --release -p thimble-engine --test simulation sound -- --nocapture"
        );
    }
}

#[test]
fn the_sound_protocol_loses_and_doubles_nothing() {
    if let Some(seed) = from_environment("SIM_SEED") {
        return replay(seed, Variant::Sound);
    }
    let seeds = from_environment("SIM_SEEDS").unwrap_or(SEEDS);
    let (started, mut runs) = (Instant::now(), 0);
    for seed in 0..seeds {
        let outcome = simulate(seed, Variant::Sound, false);
        runs += outcome.runs;
        if outcome.violation.is_some() {
            replay(seed, Variant::Sound);
        }
    }
    println!("{seeds} seeds, {runs} runs, {:.1} s", started.elapsed().as_secs_f64());
}

#[test]
fn every_broken_variant_is_caught() {
    for variant in BROKEN {
        let caught = (0..SEEDS_TO_CATCH).find_map(|seed| {
            let violation = simulate(seed, variant, false).violation?;
            variant.is_caught_by(&violation).then_some((seed, violation))
        });
        let (seed, violation) = caught.unwrap_or_else(|| panic!("{variant:?} went through {SEEDS_TO_CATCH} seeds"));
        println!("{variant:?} is caught after {} seeds: {violation:?}", seed + 1);
    }
}

#[test]
fn a_seed_says_everything_that_happens() {
    for seed in 0..50 {
        let [first, second] = [simulate(seed, Variant::Sound, true), simulate(seed, Variant::Sound, true)];
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
