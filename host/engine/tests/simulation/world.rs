//! Everything outside of the owners: one clock, one control database, one staging store, one destination, one source,
//! and the wires to them, on which requests and answers get lost, come late or come twice.

use std::collections::BTreeSet;

use thimble_record::{BatchSeq, Epoch, Failure};

use crate::{
    control::{Batch, Control, Process},
    destination::{Begun, Destination, Fenced, Kind, Tables},
    oracle::Violation,
    random::Random,
    staging::{Name, Object, Staging},
    variant::Variant,
};

pub const LEASE_MS: i64 = 30_000;
pub const GRACE_MS: i64 = 3_600_000;

/// One piece of I/O.
#[derive(Debug, Clone)]
pub enum Request {
    Acquire,
    Renew,
    Release(Epoch),
    RaiseEpoch(Epoch, Epoch),
    ReadMirror,
    Mirror(Epoch, BatchSeq, u64),
    Rebase(Epoch, BatchSeq, u64),
    ListSealed(BatchSeq),
    Seal(Batch),
    MarkCommitted(BatchSeq),
    Put(Object, Vec<u64>),
    /// What a collection may delete: up to the batch, as the owner of the epoch.
    ListStaged(BatchSeq, Epoch),
    Delete(Vec<Name>),
    Read(u64),
    Fence(Epoch),
    AskCommitted,
    /// Read and verify the staged rows, and begin to load them.
    Begin(Epoch, Batch),
    CheckFence(Epoch),
    Commit(u64),
}

#[derive(Debug, Clone)]
pub enum Answer {
    Done,
    Failed(Failure),
    /// Another session holds the lock; ask again.
    Blocked,
    Epoch(Epoch),
    Mirrored(Option<(BatchSeq, u64)>),
    Sealed(Option<Batch>),
    Names(Vec<Name>),
    /// The source's records after a position.
    Rows(Vec<u64>),
    Committed(BatchSeq, u64),
    FencedBy(Epoch),
    Session(u64),
    AlreadyCommitted,
    HalfDone,
}

/// What a caller gets.
#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    /// It did not happen.
    Refused,
    /// Whether it happened, or will, nobody says.
    Lost,
}

/// What is restored from a backup.
#[derive(Debug, Clone, Copy)]
pub enum Backup {
    Control,
    Destination,
    /// The one or the other, at times both.
    Any,
}

pub struct World {
    pub random: Random,
    pub variant: Variant,
    pub now: i64,
    pub control: Control,
    /// The control database as a stale reader sees it.
    stale: Control,
    pub staging: Staging,
    pub destination: Destination,
    /// The source has the records 1 up to this one.
    pub records: u64,
    pub dead: BTreeSet<Process>,
    /// Requests whose sender has given up on them, or died; they arrive some time, or never.
    in_flight: Vec<(Process, Request)>,
    /// A fault at one in so many requests; none where it is 0.
    pub fault_every: u64,
    ever_sealed: BTreeSet<u64>,
    backups: (Option<Control>, Option<Tables>),
    trace: Option<Vec<String>>,
}

fn answered(result: Result<(), Failure>) -> Answer {
    result.map_or_else(Answer::Failed, |()| Answer::Done)
}

impl World {
    pub fn new(seed: u64, variant: Variant, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let sound = matches!(variant, Variant::Sound | Variant::CollectsForeign | Variant::KeepsForeign);
        // The broken ones are transactions gone wrong.
        let kind = if sound && random.one_in(2) { Kind::CreateOnly } else { Kind::Transaction };
        let fault_every = [0, 60, 25, 10][random.index(4)];
        Self {
            variant,
            now: 1_000_000,
            control: Control::default(),
            stale: Control::default(),
            staging: Staging::default(),
            destination: Destination::new(kind, variant),
            records: 5,
            dead: BTreeSet::new(),
            in_flight: Vec::new(),
            fault_every,
            ever_sealed: BTreeSet::new(),
            backups: (None, None),
            trace: traced.then(Vec::new),
            random,
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    pub fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub fn call(&mut self, by: Process, request: Request) -> Reply {
        let reply = self.transmit(by, &request);
        self.note(|| format!("  {by:?} {request:?} -> {reply:?}"));
        reply
    }

    fn transmit(&mut self, by: Process, request: &Request) -> Reply {
        if !self.random.one_in(self.fault_every) {
            return Reply::Answer(self.serve(by, request));
        }
        match (self.random.below(4), request) {
            (0, Request::Put(object, rows)) => {
                let half = &rows[..rows.len() / 2];
                let _ = self.staging.put(object, half, self.now);
                Reply::Refused
            }
            (0, Request::ReadMirror) => Reply::Answer(Answer::Mirrored(self.stale.mirror)),
            (0, Request::Begin(..)) => Reply::Answer(Answer::Failed(Failure::system("a staged byte flipped"))),
            (0 | 1, _) => Reply::Refused,
            (2, _) => {
                self.serve(by, request);
                Reply::Lost
            }
            _ => {
                self.in_flight.push((by, request.clone()));
                Reply::Lost
            }
        }
    }

    fn serve(&mut self, by: Process, request: &Request) -> Answer {
        match request {
            Request::Put(object, rows) => answered(self.staging.put(object, rows, self.now)),
            Request::ListStaged(committed, epoch) => {
                let own = (self.variant != Variant::CollectsForeign).then_some(*epoch);
                Answer::Names(self.staging.disposable(*committed, own, self.now, GRACE_MS))
            }
            Request::Delete(names) => {
                self.staging.delete(names);
                Answer::Done
            }
            Request::Read(after) => Answer::Rows((after + 1..=self.records).collect()),
            Request::Fence(_) | Request::AskCommitted | Request::Begin(..) | Request::CheckFence(_) => {
                self.serve_destination(by, request)
            }
            Request::Commit(session) => self.serve_commit(*session),
            _ => {
                let before = self.control.clone();
                let answer = self.serve_control(by, request);
                if self.random.one_in(3) {
                    self.stale = before;
                }
                answer
            }
        }
    }

    fn serve_control(&mut self, by: Process, request: &Request) -> Answer {
        let control = &mut self.control;
        match request {
            Request::Acquire => {
                let died = control.holder.is_some_and(|holder| self.dead.contains(&holder));
                control.acquire(by, LEASE_MS, self.now, died).map_or_else(Answer::Failed, Answer::Epoch)
            }
            Request::Renew => answered(control.renew(by, self.now + LEASE_MS)),
            Request::Release(epoch) => {
                control.release(*epoch);
                Answer::Done
            }
            Request::RaiseEpoch(epoch, known) => {
                control.raise_epoch(*epoch, *known).map_or_else(Answer::Failed, Answer::Epoch)
            }
            Request::ReadMirror => Answer::Mirrored(control.mirror),
            Request::Mirror(epoch, seq, position) => answered(control.mirror(*epoch, *seq, *position)),
            Request::Rebase(epoch, seq, position) => answered(control.rebase(*epoch, *seq, *position)),
            Request::ListSealed(after) => Answer::Sealed(control.left_over(*after)),
            Request::Seal(batch) => {
                let sealed = control.seal(batch);
                if sealed.is_ok() {
                    self.ever_sealed.insert(batch.sha());
                }
                answered(sealed)
            }
            Request::MarkCommitted(seq) => answered(control.mark_committed(*seq)),
            other => unreachable!("{other:?} does not go to the control database"),
        }
    }

    fn serve_destination(&mut self, by: Process, request: &Request) -> Answer {
        let destination = &mut self.destination;
        match request {
            Request::Fence(epoch) => match destination.fence(*epoch) {
                Fenced::Ours { seq, position } => Answer::Committed(seq, position),
                Fenced::Held(held) => Answer::FencedBy(held),
                Fenced::Blocked => Answer::Blocked,
            },
            Request::AskCommitted => Answer::Committed(destination.tables.seq, destination.tables.position),
            Request::CheckFence(epoch) => answered(destination.check_fence(*epoch)),
            Request::Begin(epoch, batch) => {
                let rows =
                    match batch.objects.iter().map(|object| self.staging.get(object)).collect::<Result<Vec<_>, _>>() {
                        Ok(rows) => rows,
                        Err(failure) => return Answer::Failed(failure),
                    };
                let rows = <[Vec<u64>; 2]>::try_from(rows).expect("a batch has a segment for each of two tables");
                match destination.begin(by, *epoch, batch, rows) {
                    Ok(Begun::Session(id)) => Answer::Session(id),
                    Ok(Begun::AlreadyCommitted) => Answer::AlreadyCommitted,
                    Ok(Begun::Blocked) => Answer::Blocked,
                    Err(failure) => Answer::Failed(failure),
                }
            }
            other => unreachable!("{other:?} does not go to the destination"),
        }
    }

    fn serve_commit(&mut self, session: u64) -> Answer {
        if let Some(sha) = self.destination.sealed(session)
            && !self.ever_sealed.contains(&sha)
        {
            self.destination.violation.get_or_insert(Violation::LoadedUnsealed);
        }
        match self.destination.commit(session) {
            Ok(true) => Answer::Done,
            Ok(false) => Answer::HalfDone,
            Err(failure) => Answer::Failed(failure),
        }
    }

    /// One of the requests in flight arrives.
    pub fn deliver_late(&mut self) -> bool {
        if self.in_flight.is_empty() {
            return false;
        }
        let index = self.random.index(self.in_flight.len());
        let (by, request) = self.in_flight.swap_remove(index);
        let answer = self.serve(by, &request);
        self.note(|| format!("late: {by:?} {request:?} -> {answer:?}"));
        if matches!(answer, Answer::Blocked) {
            self.in_flight.push((by, request));
        }
        true
    }

    /// The destination ends a session on its own account: its client is dead, or it was idle for too long.
    pub fn kill_session(&mut self) {
        let sessions = self.destination.sessions.len();
        if sessions > 0 {
            let index = self.random.index(sessions);
            let session = self.destination.sessions.remove(index);
            self.note(|| format!("session {} of {:?} is killed", session.id, session.by));
        }
    }

    pub fn crashed(&mut self, process: Process) {
        self.dead.insert(process);
        // What it had sent may still arrive; where nothing did, the server notices at once or later.
        let commits = |session: u64| {
            self.in_flight.iter().any(|(_, request)| matches!(request, Request::Commit(id) if *id == session))
        };
        let doomed: Vec<u64> = (self.destination.sessions.iter())
            .filter(|session| session.by == process && !commits(session.id))
            .map(|session| session.id)
            .collect();
        if self.random.one_in(2) {
            self.destination.sessions.retain(|session| !doomed.contains(&session.id));
        }
    }

    pub fn jump_clock(&mut self) {
        let jump = [LEASE_MS / 2, LEASE_MS * 2, GRACE_MS * 2, -LEASE_MS][self.random.index(4)];
        self.now += jump;
        self.note(|| format!("the clock jumps by {jump} ms"));
    }

    /// Takes a copy of the control database or of the destination, or puts the last copy back.
    pub fn back_up_or_restore(&mut self, which: Backup) {
        let restore = self.random.one_in(2);
        let control = match which {
            Backup::Control => true,
            Backup::Destination => false,
            Backup::Any => self.random.one_in(2),
        };
        match (control, restore) {
            (true, false) => self.backups.0 = Some(self.control.clone()),
            (false, false) => self.backups.1 = Some(self.destination.tables.clone()),
            (true, true) => {
                if let Some(control) = self.backups.0.clone() {
                    self.note(|| format!("the control database is restored: {control:?}"));
                    self.control = control;
                }
            }
            (false, true) => {
                if let Some(tables) = self.backups.1.take() {
                    self.note(|| format!("the destination is restored: {} at {}", tables.seq, tables.position));
                    self.destination.restore(tables);
                }
            }
        }
    }

    /// From now on everything works.
    pub fn heal(&mut self) {
        self.note(|| "faults stop".into());
        self.fault_every = 0;
    }
}
