//! A destination: fence, number and position of the last batch, and two tables, changed together.
//!
//! Two kinds. In one, a load is a transaction that locks the row of fence and number until it ends. In the other, rows
//! become visible by creating the record of a number, which only one writer can.

use std::collections::BTreeMap;

use thimble_record::{BatchSeq, Epoch, ErrorKind, Failure};

use crate::{
    control::{Batch, Process},
    oracle::{self, Violation},
    variant::Variant,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Transaction,
    CreateOnly,
}

/// What a backup of the destination holds.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub fence: Epoch,
    pub seq: BatchSeq,
    pub position: u64,
    /// Which batch each number was.
    pub committed: BTreeMap<BatchSeq, u64>,
    /// How often each record is there.
    pub append: BTreeMap<u64, u32>,
    /// The record by key.
    pub upsert: BTreeMap<u64, u64>,
}

/// A load under way.
pub struct Session {
    pub id: u64,
    pub by: Process,
    epoch: Epoch,
    batch: Batch,
    append: Vec<u64>,
    upsert: Vec<u64>,
    /// Of a load that a broken variant commits in two halves.
    half_done: bool,
}

pub enum Begun {
    Session(u64),
    AlreadyCommitted,
    /// Another session holds the lock.
    Blocked,
}

pub enum Fenced {
    Ours { seq: BatchSeq, position: u64 },
    Blocked,
    Held(Epoch),
}

pub struct Destination {
    pub kind: Kind,
    variant: Variant,
    pub tables: Tables,
    pub sessions: Vec<Session>,
    next_session: u64,
    pub violation: Option<Violation>,
}

/// Which key a record has: few, so that batches meet each other's.
pub fn key_of(record: u64) -> u64 {
    crate::random::digest([record]) % 7
}

impl Destination {
    pub fn new(kind: Kind, variant: Variant) -> Self {
        let tables = Tables::default();
        Self { kind, variant, tables, sessions: Vec::new(), next_session: 0, violation: None }
    }

    fn locked(&self) -> bool {
        self.kind == Kind::Transaction && self.variant != Variant::UnguardedCommit && !self.sessions.is_empty()
    }

    pub fn fence(&mut self, epoch: Epoch) -> Fenced {
        if self.locked() {
            return Fenced::Blocked;
        }
        let held = self.tables.fence;
        if held > epoch {
            return Fenced::Held(held);
        }
        self.tables.fence = epoch;
        Fenced::Ours { seq: self.tables.seq, position: self.tables.position }
    }

    pub fn check_fence(&self, epoch: Epoch) -> Result<(), Failure> {
        let held = self.tables.fence;
        if held == epoch || self.variant == Variant::NoFence {
            return Ok(());
        }
        Err(Failure::new(ErrorKind::Refused, format!("epoch {epoch} was shut out by {held}")))
    }

    /// `Ok(true)`: it is committed already. `Ok(false)`: it is the next one.
    fn admits(&self, batch: &Batch) -> Result<bool, Failure> {
        let tables = &self.tables;
        match (self.variant, tables.committed.get(&batch.seq)) {
            (Variant::MirrorTrusted, _) | (Variant::NewLabel, None) => return Ok(false),
            (_, Some(sha)) if *sha == batch.sha() => return Ok(true),
            (_, Some(_)) => return Err(Failure::system(format!("batch {} is another one here", batch.seq))),
            (_, None) => {}
        }
        if batch.seq != tables.seq.next() || batch.from != tables.position {
            return Err(Failure::system(format!("batch {} does not follow {}", batch.seq, tables.seq)));
        }
        Ok(false)
    }

    pub fn begin(&mut self, by: Process, epoch: Epoch, batch: &Batch, rows: [Vec<u64>; 2]) -> Result<Begun, Failure> {
        if self.locked() {
            return Ok(Begun::Blocked);
        }
        self.check_fence(epoch)?;
        if self.admits(batch)? {
            return Ok(Begun::AlreadyCommitted);
        }
        self.next_session += 1;
        let [append, upsert] = rows;
        let (id, batch) = (self.next_session, batch.clone());
        self.sessions.push(Session { id, by, epoch, batch, append, upsert, half_done: false });
        Ok(Begun::Session(id))
    }

    /// The commit of a session; `Ok(false)` where a broken variant has another half to do.
    pub fn commit(&mut self, id: u64) -> Result<bool, Failure> {
        let gone = || Failure::new(ErrorKind::Transient, "the session was killed");
        let index = self.sessions.iter().position(|session| session.id == id).ok_or_else(gone)?;
        let mut session = self.sessions.remove(index);
        // What the transaction's lock, or the create-only write of the record, makes sure of.
        if self.variant != Variant::UnguardedCommit && !session.half_done && self.admits(&session.batch)? {
            return Ok(true);
        }
        match (self.variant, session.half_done) {
            (Variant::PositionFirst, false) | (Variant::PositionLast, true) => self.move_on(&session),
            (Variant::PositionFirst, true) | (Variant::PositionLast, false) => self.insert(&session),
            _ => {
                self.insert(&session);
                self.move_on(&session);
                self.examine(&session);
                return Ok(true);
            }
        }
        if session.half_done {
            return Ok(true);
        }
        session.half_done = true;
        self.sessions.push(session);
        Ok(false)
    }

    fn insert(&mut self, session: &Session) {
        for record in &session.append {
            *self.tables.append.entry(*record).or_default() += 1;
        }
        for record in &session.upsert {
            self.tables.upsert.insert(key_of(*record), *record);
        }
        if let Some((record, _)) = self.tables.append.iter().find(|(_, times)| **times > 1) {
            self.violation.get_or_insert(Violation::Doubled(*record));
        }
    }

    fn move_on(&mut self, session: &Session) {
        let batch = &session.batch;
        if batch.to < self.tables.position || batch.seq < self.tables.seq {
            self.violation.get_or_insert(Violation::WentBack);
        }
        (self.tables.seq, self.tables.position) = (batch.seq, batch.to);
        self.tables.committed.insert(batch.seq, batch.sha());
    }

    /// Every commit leaves rows that are exactly what its position says, and is its owner's right.
    fn examine(&mut self, session: &Session) {
        // A record's creator may be overtaken between its look at the fence and the write; what it writes is sealed.
        if self.kind == Kind::Transaction && session.epoch < self.tables.fence {
            self.violation.get_or_insert(Violation::CommittedWhenShutOut);
        }
        if self.violation.is_none() {
            self.violation = oracle::examine(&self.tables);
        }
    }

    /// A copy from earlier takes this one's place; whoever was loading is gone.
    pub fn restore(&mut self, tables: Tables) {
        self.tables = tables;
        self.sessions.clear();
    }

    pub fn sealed(&self, id: u64) -> Option<u64> {
        self.sessions.iter().find(|session| session.id == id).map(|session| session.batch.sha())
    }
}
