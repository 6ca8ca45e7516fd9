//! One life of a connection: owners come, pause, crash and are overtaken in an order that the seed chooses; then the
//! faults stop, every sleeper wakes, and one more run has to complete.

use crate::{
    control::Process,
    oracle::{self, Violation},
    owner::Owner,
    staging::MISSING,
    variant::Variant,
    world::{Backup, LEASE_MS, World},
};

/// At most so many owners at a time.
const OWNERS: usize = 3;
/// What an owner may need once nobody disturbs it, and what it may need at all.
const STEPS: u32 = 3_000;

struct Schedule {
    world: World,
    owners: Vec<Owner>,
    processes: usize,
    finished: u64,
}

/// What one seed did.
pub struct Outcome {
    pub violation: Option<Violation>,
    pub trace: Vec<String>,
    /// Runs that came to their end, well or not.
    pub runs: u64,
}

/// Runs the life of one seed.
pub fn simulate(seed: u64, variant: Variant, traced: bool) -> Outcome {
    let world = World::new(seed, variant, traced);
    let mut schedule = Schedule { world, owners: Vec::new(), processes: 0, finished: 0 };
    let violation = schedule.live().err();
    Outcome { violation, runs: schedule.finished, trace: schedule.world.into_trace() }
}

impl Schedule {
    fn live(&mut self) -> Result<(), Violation> {
        let ticks = 100 + self.world.random.below(500);
        // Some seeds bring back backups: in the others nothing excuses a step back.
        let backups = [None, None, None, Some(Backup::Control), Some(Backup::Destination), Some(Backup::Any)];
        let backups = backups[self.world.random.index(backups.len())];
        for _ in 0..ticks {
            self.tick(backups);
            self.examine()?;
        }
        self.world.heal();
        self.wake_all()?;
        match self.complete() {
            // Both databases from before a commit, the staging store from after it: the run says so and stops. Nothing is
            // lost or doubled, and a person must look.
            Err(Violation::Stuck(reason)) if matches!(backups, Some(Backup::Any)) && reason == MISSING => {
                oracle::examine(&self.world.destination.tables).map_or(Ok(()), Err)
            }
            completed => completed,
        }
    }

    fn examine(&mut self) -> Result<(), Violation> {
        if let Some(owner) = self.owners.iter().find(|owner| owner.steps > STEPS) {
            let process = owner.process;
            self.world.note(|| format!("{process:?} does not end"));
            return Err(Violation::NeverEnded);
        }
        self.world.destination.violation.take().map_or(Ok(()), Err)
    }

    fn tick(&mut self, backups: Option<Backup>) {
        self.world.now += 100;
        match self.world.random.below(100) {
            0..5 => self.start(),
            5..7 => self.crash(),
            7..11 => self.pause_or_wake(),
            11 => self.world.jump_clock(),
            12..16 => self.world.records += 1 + self.world.random.below(3),
            16..19 => {
                self.world.deliver_late();
            }
            19 => self.world.kill_session(),
            20..23 if let Some(backup) = backups => self.world.back_up_or_restore(backup),
            23..26 => {
                if let Some(owner) = self.chosen() {
                    self.owners[owner].renew(&mut self.world);
                }
            }
            _ => self.step(),
        }
    }

    fn start(&mut self) {
        // No end to the source would be no end to a run.
        if self.owners.len() < OWNERS && self.world.records < 120 {
            self.processes += 1;
            let process = Process(self.processes);
            self.world.note(|| format!("{process:?} starts"));
            self.owners.push(Owner::new(process));
        }
    }

    fn chosen(&mut self) -> Option<usize> {
        (!self.owners.is_empty()).then(|| self.world.random.index(self.owners.len()))
    }

    fn crash(&mut self) {
        if let Some(owner) = self.chosen() {
            let process = self.owners.swap_remove(owner).process;
            self.world.note(|| format!("{process:?} crashes"));
            self.world.crashed(process);
        }
    }

    fn pause_or_wake(&mut self) {
        if let Some(owner) = self.chosen() {
            let owner = &mut self.owners[owner];
            owner.paused = !owner.paused;
            let (process, what) = (owner.process, if owner.paused { "pauses" } else { "wakes" });
            self.world.note(|| format!("{process:?} {what}"));
        }
    }

    fn step(&mut self) {
        let Some(owner) = self.chosen() else { return };
        if !self.owners[owner].paused {
            self.owners[owner].step(&mut self.world);
        }
        if let Some(result) = self.owners[owner].ended() {
            let process = self.owners[owner].process;
            self.world.note(|| format!("{process:?} ends: {result:?}"));
            self.owners.swap_remove(owner);
            self.finished += 1;
        }
    }

    /// Whoever slept goes on, and what was under way arrives, in any order.
    fn wake_all(&mut self) -> Result<(), Violation> {
        for owner in &mut self.owners {
            owner.paused = false;
            owner.steps = 0;
        }
        loop {
            let late = self.world.random.one_in(4) && self.world.deliver_late();
            if self.world.random.one_in(20) {
                self.world.kill_session();
            }
            if !late && self.owners.is_empty() {
                break;
            }
            self.step();
            self.examine()?;
        }
        loop {
            // Nobody is left who could end these.
            while !self.world.destination.sessions.is_empty() {
                self.world.kill_session();
            }
            if !self.world.deliver_late() {
                return self.examine();
            }
        }
    }

    /// One undisturbed run: it must complete, and then everything is there once.
    fn complete(&mut self) -> Result<(), Violation> {
        // A lease that somebody took and forgot runs out.
        self.world.now = self.world.now.max(self.world.control.expires_at) + 2 * LEASE_MS;
        let mut owner = Owner::new(Process(self.processes + 1));
        while owner.ended().is_none() {
            if owner.steps > STEPS {
                return Err(Violation::NeverEnded);
            }
            owner.step(&mut self.world);
            if let Some(violation) = self.world.destination.violation.take() {
                return Err(violation);
            }
        }
        if let Some(Err(failure)) = owner.ended() {
            return Err(Violation::Stuck(failure.message.clone()));
        }
        let tables = &self.world.destination.tables;
        match oracle::examine(tables) {
            Some(violation) => Err(violation),
            None if tables.position != self.world.records => Err(Violation::Lost(tables.position + 1)),
            None => Ok(()),
        }
    }
}
