//! A writing transaction, and how long such transactions take.
//!
//! Measures by the machine's monotonic clock; must never know what time it is.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sqlx::{Any, AnyConnection, Transaction};

/// Upper bounds in seconds by which times are counted.
pub const WRITE_TIME_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The disk.
    Disk,
    /// Nothing on SQLite, the disk on PostgreSQL.
    Soon,
}

impl Durability {
    /// A label of its times.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Soon => "soon",
        }
    }
}

/// Times, counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Times {
    /// Of each bound of [`WRITE_TIME_BOUNDS`] by itself, and of what is beyond them.
    pub counts: [u64; WRITE_TIME_BOUNDS.len() + 1],
    pub sum_seconds: f64,
}

impl Times {
    fn count(&mut self, seconds: f64) {
        self.counts[WRITE_TIME_BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum_seconds += seconds;
    }
}

/// The times of one kind of writing transactions of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteTimes {
    pub durability: Durability,
    /// Until they could begin: on SQLite others write meanwhile.
    pub wait: Times,
    /// Of those that were committed, from their beginning to the end of the commit.
    pub work: Times,
}

/// Shared by all clones of a store.
#[derive(Debug, Clone)]
pub(crate) struct Stopwatch(Arc<Mutex<[WriteTimes; 2]>>);

impl Default for Stopwatch {
    fn default() -> Self {
        let none = |durability| WriteTimes { durability, wait: Times::default(), work: Times::default() };
        Self(Arc::new(Mutex::new([none(Durability::Disk), none(Durability::Soon)])))
    }
}

impl Stopwatch {
    pub(crate) fn times(&self) -> Vec<WriteTimes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).to_vec()
    }

    fn note(&self, durability: Durability, with: impl FnOnce(&mut WriteTimes)) {
        // Plain counters that no panic leaves half-changed.
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [disk, soon] = &mut *times;
        with(match durability {
            Durability::Disk => disk,
            Durability::Soon => soon,
        });
    }
}

/// A transaction for writing, rolled back unless it is committed.
pub(crate) struct Writing {
    tx: Transaction<'static, Any>,
    durability: Durability,
    begun: Instant,
    stopwatch: Stopwatch,
}

impl Writing {
    /// Wraps a transaction that began after a wait since `asked`.
    pub(crate) fn new(
        tx: Transaction<'static, Any>,
        durability: Durability,
        asked: Instant,
        stopwatch: Stopwatch,
    ) -> Self {
        let begun = Instant::now();
        stopwatch.note(durability, |times| times.wait.count((begun - asked).as_secs_f64()));
        Self { tx, durability, begun, stopwatch }
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { tx, durability, begun, stopwatch } = self;
        tx.commit().await?;
        stopwatch.note(durability, |times| times.work.count(begun.elapsed().as_secs_f64()));
        Ok(())
    }
}

impl Deref for Writing {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.tx
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }
}
