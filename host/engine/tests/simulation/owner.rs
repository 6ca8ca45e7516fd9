//! An owner: a process that runs the connection once, as `thimble-pipeline`'s worker and committer do. One call is one
//! piece of I/O, so that it can pause, crash or be overtaken between any two.

use thimble_engine::{
    commit::{self, Action, Input, State},
    retry::RetryPolicy,
};
use thimble_record::{BatchSeq, Epoch, ErrorKind, Failure};

use crate::{
    control::{Batch, Process},
    destination::{Kind, key_of},
    random::Random,
    staging::{Name, Object},
    variant::Variant,
    world::{Answer, Reply, Request, World},
};

/// Asking again this often for a lock that another session holds, a transaction gives up.
const LOCK_PATIENCE: u32 = 12;

/// What is to be done next within an action that takes several pieces of I/O.
enum Next {
    Acquire,
    /// The first piece of the state's action.
    Action,
    Raise(Epoch),
    FoundCommitted(BatchSeq, u64),
    RepairMirror(BatchSeq, u64, bool),
    /// What is sealed belongs to another history than the destination's: it is forgotten.
    Forget(BatchSeq),
    PutSecond,
    /// The rows of a load are there, not yet committed.
    Loaded(u64),
    Commit(u64),
    Delete(Vec<Name>),
    Release(Result<(), Failure>),
    Ended(Result<(), Failure>),
}

pub struct Owner {
    pub process: Process,
    pub steps: u32,
    pub paused: bool,
    epoch: Epoch,
    /// Under which the lease was taken.
    leased: Epoch,
    state: State,
    action: Action,
    next: Next,
    position: u64,
    current: Option<(Batch, [Vec<u64>; 2])>,
    lost_lease: Option<Failure>,
    blocked: u32,
}

fn unreachable_peer() -> Failure {
    Failure::new(ErrorKind::Transient, "no answer")
}

fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => Failure::system(format!("unexpected answer {other:?}")),
    }
}

impl Owner {
    pub fn new(process: Process) -> Self {
        let (action, state) = commit::start();
        Self {
            process,
            steps: 0,
            paused: false,
            epoch: Epoch::default(),
            leased: Epoch::default(),
            state,
            action,
            next: Next::Acquire,
            position: 0,
            current: None,
            lost_lease: None,
            blocked: 0,
        }
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<&Result<(), Failure>> {
        match &self.next {
            Next::Ended(result) => Some(result),
            _ => None,
        }
    }

    /// The renewal of the lease, which runs beside everything else.
    pub fn renew(&mut self, world: &mut World) {
        if self.leased == Epoch::default() || self.ended().is_some() {
            return;
        }
        if let Reply::Answer(Answer::Failed(failure)) = world.call(self.process, Request::Renew) {
            self.lost_lease = Some(failure);
        }
    }

    fn feed(&mut self, input: Input, random: &mut Random) {
        let state = std::mem::replace(&mut self.state, State::Stopped);
        (self.action, self.state) = state.step(&RetryPolicy::default(), random.fraction(), input);
        self.next = match &self.action {
            Action::Stop(failure) => Next::Release(Err(failure.clone())),
            _ => Next::Action,
        };
    }

    fn batch(&self) -> &Batch {
        &self.current.as_ref().expect("every state past Ready speaks of a batch").0
    }

    /// The request that comes next; `None` where there is nothing to ask anybody.
    fn request(&self, world: &World) -> Option<Request> {
        let staged = |number: usize| {
            let (batch, rows) = self.current.as_ref().expect("a batch is staged after it was extracted");
            Some(Request::Put(batch.objects[number].clone(), rows[number].clone()))
        };
        match &self.next {
            Next::Acquire => Some(Request::Acquire),
            Next::Raise(held) => Some(Request::RaiseEpoch(self.epoch, *held)),
            Next::FoundCommitted(..) => Some(Request::ReadMirror),
            Next::RepairMirror(seq, position, true) => Some(Request::Rebase(self.epoch, *seq, *position)),
            Next::RepairMirror(seq, position, false) => Some(Request::Mirror(self.epoch, *seq, *position)),
            Next::Forget(seq) => Some(Request::Rebase(self.epoch, *seq, self.position)),
            Next::PutSecond => staged(1),
            Next::Loaded(_) if world.destination.kind == Kind::CreateOnly => Some(Request::CheckFence(self.epoch)),
            Next::Loaded(session) => Some(Request::Commit(*session)),
            Next::Commit(session) => Some(Request::Commit(*session)),
            Next::Delete(names) => Some(Request::Delete(names.clone())),
            Next::Release(_) => Some(Request::Release(self.leased)),
            Next::Ended(_) => None,
            Next::Action => match &self.action {
                Action::RaiseFence => Some(Request::Fence(self.epoch)),
                Action::ListSealed { after } => Some(Request::ListSealed(*after)),
                Action::AwaitBatch => Some(Request::Read(self.position)),
                Action::PutSegments(_) => staged(0),
                Action::Seal(_) => Some(Request::Seal(self.batch().clone())),
                Action::Load(_) => Some(Request::Begin(self.epoch, self.batch().clone())),
                Action::AskDestination if world.variant == Variant::MirrorTrusted => Some(Request::ReadMirror),
                Action::AskDestination => Some(Request::AskCommitted),
                Action::Mirror(seq) => Some(Request::MarkCommitted(*seq)),
                Action::Collect(seq) => Some(Request::ListStaged(*seq, self.epoch)),
                Action::Wait { .. } | Action::Stop(_) => None,
            },
        }
    }

    /// One piece of I/O and what follows from it.
    pub fn step(&mut self, world: &mut World) {
        self.steps += 1;
        if let Next::Action = self.next
            && let Action::Wait { ms } = self.action
        {
            world.now += i64::try_from(ms).expect("a wait is at most minutes");
            return self.feed(Input::Done, &mut world.random);
        }
        if let (Next::Action, Action::AwaitBatch, Some(failure)) = (&self.next, &self.action, &self.lost_lease) {
            // Extraction is cancelled; what was closed is committed already.
            self.next = Next::Release(Err(failure.clone()));
        }
        let Some(request) = self.request(world) else { return };
        match world.call(self.process, request) {
            Reply::Answer(Answer::Blocked) if self.blocked < LOCK_PATIENCE => self.blocked += 1,
            Reply::Answer(Answer::Blocked) => {
                self.blocked = 0;
                self.fail(unreachable_peer(), world);
            }
            Reply::Answer(answer) => {
                self.blocked = 0;
                self.take(answer, world);
            }
            Reply::Refused => self.fail(unreachable_peer(), world),
            Reply::Lost => self.lost(world),
        }
    }

    fn lost(&mut self, world: &mut World) {
        let committing = match self.next {
            Next::Commit(_) => true,
            Next::Loaded(_) => world.destination.kind == Kind::Transaction,
            _ => false,
        };
        match (committing, world.variant) {
            (true, Variant::NewLabel) => self.relabel(world),
            (true, _) => self.feed(Input::Unknown, &mut world.random),
            (false, _) => self.fail(unreachable_peer(), world),
        }
    }

    fn fail(&mut self, failure: Failure, world: &mut World) {
        match &mut self.next {
            Next::Acquire => self.next = Next::Ended(Err(failure)),
            Next::Release(result) => {
                let result = std::mem::replace(result, Ok(()));
                self.next = Next::Ended(result.and(Err(failure)));
            }
            _ => match self.action {
                // The source does not answer: the run ends, with what it has committed.
                Action::AwaitBatch => self.next = Next::Release(Err(failure)),
                _ => self.feed(Input::Failed(failure), &mut world.random),
            },
        }
    }

    fn take(&mut self, answer: Answer, world: &mut World) {
        if let Answer::Failed(failure) = answer {
            return self.fail(failure, world);
        }
        match (std::mem::replace(&mut self.next, Next::Action), answer) {
            (Next::Acquire, Answer::Epoch(epoch)) => (self.epoch, self.leased) = (epoch, epoch),
            (Next::Raise(_), Answer::Epoch(epoch)) => self.epoch = epoch,
            (Next::FoundCommitted(seq, position), Answer::Mirrored(mirrored)) => {
                self.compare_mirror(seq, position, mirrored, world);
            }
            (Next::RepairMirror(seq, position, _), Answer::Done) => self.fenced(seq, position, world),
            (Next::Forget(_), Answer::Done) => self.feed(Input::LeftOver(None), &mut world.random),
            (Next::PutSecond, Answer::Done) => self.feed(Input::Done, &mut world.random),
            (Next::Loaded(session), Answer::Done) if world.destination.kind == Kind::CreateOnly => {
                self.next = Next::Commit(session);
            }
            (Next::Loaded(session), Answer::HalfDone) => self.next = Next::Commit(session),
            (Next::Loaded(_) | Next::Commit(_) | Next::Delete(_), Answer::Done) => {
                self.feed(Input::Done, &mut world.random);
            }
            (Next::Release(result), Answer::Done) => self.next = Next::Ended(result),
            (Next::Action, answer) => self.take_action(answer, world),
            (_, answer) => self.fail(unexpected(answer), world),
        }
    }

    /// The answer to the first piece of an action.
    fn take_action(&mut self, answer: Answer, world: &mut World) {
        match (&self.action, answer) {
            (Action::RaiseFence, Answer::Committed(seq, position)) => self.next = Next::FoundCommitted(seq, position),
            (Action::RaiseFence, Answer::FencedBy(held)) => self.next = Next::Raise(held),
            (Action::ListSealed { after }, Answer::Sealed(Some(batch)))
                if batch.from != self.position && world.variant != Variant::KeepsForeign =>
            {
                self.next = Next::Forget(*after);
            }
            (Action::ListSealed { .. }, Answer::Sealed(batch)) => {
                let seq = batch.as_ref().map(|batch| batch.seq);
                self.current = batch.map(|batch| (batch, Default::default()));
                self.feed(Input::LeftOver(seq), &mut world.random);
            }
            (Action::AwaitBatch, Answer::Rows(rows)) => self.extract(rows, world),
            (Action::PutSegments(_), Answer::Done) => self.next = Next::PutSecond,
            (Action::Load(_), Answer::Session(session)) => self.next = Next::Loaded(session),
            (Action::Load(_), Answer::AlreadyCommitted) => self.feed(Input::Done, &mut world.random),
            (Action::AskDestination, Answer::Committed(seq, _)) => {
                self.feed(Input::Committed(seq), &mut world.random);
            }
            (Action::AskDestination, Answer::Mirrored(mirrored)) => {
                self.feed(Input::Committed(mirrored.unwrap_or_default().0), &mut world.random);
            }
            (Action::Mirror(_), Answer::Done) => {
                self.position = self.batch().to;
                self.feed(Input::Done, &mut world.random);
            }
            (Action::Collect(_), Answer::Names(names)) => self.next = Next::Delete(names),
            (_, Answer::Done) => self.feed(Input::Done, &mut world.random),
            (_, answer) => self.fail(unexpected(answer), world),
        }
    }

    /// As `Committer::fence` does: the destination is right, the mirror follows.
    fn compare_mirror(&mut self, seq: BatchSeq, position: u64, mirrored: Option<(BatchSeq, u64)>, world: &mut World) {
        if world.variant == Variant::MirrorTrusted {
            let (seq, position) = mirrored.unwrap_or_default();
            return self.fenced(seq, position, world);
        }
        let ahead = mirrored.is_some_and(|(mirror, _)| mirror > seq);
        if ahead || seq > BatchSeq::default() && mirrored.is_none_or(|(mirror, _)| mirror < seq) {
            self.next = Next::RepairMirror(seq, position, ahead);
        } else {
            self.fenced(seq, position, world);
        }
    }

    fn fenced(&mut self, committed: BatchSeq, position: u64, world: &mut World) {
        self.position = position;
        self.feed(Input::Fenced { committed }, &mut world.random);
    }

    fn extract(&mut self, mut rows: Vec<u64>, world: &mut World) {
        let State::Ready { committed } = self.state else { unreachable!("a batch is awaited when all is loaded") };
        if rows.is_empty() {
            self.next = Next::Release(Ok(()));
            return;
        }
        rows.truncate(1 + world.random.index(4));
        let batch = self.close(committed.next(), rows, world.random.next());
        self.feed(Input::Closed(batch), &mut world.random);
    }

    fn close(&mut self, seq: BatchSeq, rows: Vec<u64>, unique: u64) -> BatchSeq {
        // Of the rows of a key the last one stays.
        let later = |row: &u64| rows.iter().any(|other| other > row && key_of(*other) == key_of(*row));
        let upsert: Vec<u64> = rows.iter().copied().filter(|row| !later(row)).collect();
        let object = |number, rows: &[u64]| Object::new(seq, self.epoch, number, unique, rows);
        let objects = vec![object(0, &rows), object(1, &upsert)];
        let to = *rows.last().expect("a batch that is closed has rows");
        let batch = Batch { epoch: self.epoch, seq, from: self.position, to, objects };
        self.current = Some((batch, [rows, upsert]));
        seq
    }

    /// What the broken variant does instead of asking: the same rows under the next number.
    fn relabel(&mut self, world: &mut World) {
        let mut batch = self.batch().clone();
        batch.seq = batch.seq.next();
        let _ = world.call(self.process, Request::Seal(batch.clone()));
        self.current = Some((batch, Default::default()));
        self.next = Next::Action;
    }
}
