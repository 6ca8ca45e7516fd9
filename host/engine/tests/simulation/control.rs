//! The control database: lease, sealed batches, mirrored position. The rules of `thimble-store`, in memory.

use std::collections::BTreeMap;

use thimble_record::{BatchSeq, Epoch, ErrorKind, Failure};

use crate::{random::digest, staging::Object};

/// One process that runs the connection once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub usize);

/// A sealed batch: the records after `from`, up to `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub epoch: Epoch,
    pub seq: BatchSeq,
    pub from: u64,
    pub to: u64,
    /// Of the append table and of the upsert table.
    pub objects: Vec<Object>,
}

impl Batch {
    pub fn sha(&self) -> u64 {
        let own = [self.epoch.0, self.seq.0, self.from, self.to];
        digest(own.into_iter().chain(self.objects.iter().flat_map(|object| [object.name.3, object.sha])))
    }
}

#[derive(Debug, Clone, Default)]
pub struct Control {
    pub epoch: Epoch,
    pub holder: Option<Process>,
    pub expires_at: i64,
    pub batches: BTreeMap<BatchSeq, Batch>,
    pub mirror: Option<(BatchSeq, u64)>,
}

fn fenced(epoch: Epoch, current: Epoch) -> Failure {
    Failure::new(ErrorKind::Refused, format!("epoch {epoch} lost its lease to {current}"))
}

impl Control {
    /// Takes the lease where it is free, expired, or its holder is known to be dead.
    pub fn acquire(&mut self, by: Process, ttl: i64, now: i64, holder_died: bool) -> Result<Epoch, Failure> {
        if self.holder.is_some() && self.expires_at > now && !holder_died {
            return Err(Failure::new(ErrorKind::Refused, "somebody holds the lease"));
        }
        self.epoch = self.epoch.next();
        self.holder = Some(by);
        self.expires_at = now + ttl;
        Ok(self.epoch)
    }

    pub fn check(&self, epoch: Epoch) -> Result<(), Failure> {
        if self.holder.is_some() && self.epoch == epoch { Ok(()) } else { Err(fenced(epoch, self.epoch)) }
    }

    pub fn renew(&mut self, by: Process, expires_at: i64) -> Result<(), Failure> {
        if self.holder != Some(by) {
            return Err(fenced(Epoch(0), self.epoch));
        }
        self.expires_at = expires_at;
        Ok(())
    }

    pub fn release(&mut self, epoch: Epoch) {
        if self.epoch == epoch {
            self.holder = None;
        }
    }

    pub fn raise_epoch(&mut self, epoch: Epoch, known: Epoch) -> Result<Epoch, Failure> {
        self.check(epoch)?;
        self.epoch = epoch.max(known).next();
        Ok(self.epoch)
    }

    pub fn seal(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.check(batch.epoch)?;
        match self.batches.get(&batch.seq) {
            Some(sealed) if sealed.sha() == batch.sha() => return Ok(()),
            Some(_) => return Err(Failure::system("the number is sealed already with another manifest")),
            None => {}
        }
        let sealed = self.batches.keys().next_back().copied().unwrap_or_default();
        let last = sealed.max(self.mirror.map_or(BatchSeq::default(), |(seq, _)| seq));
        if batch.seq != last.next() {
            return Err(Failure::system(format!("batch {} does not follow {last}", batch.seq)));
        }
        self.batches.insert(batch.seq, batch.clone());
        Ok(())
    }

    pub fn left_over(&self, after: BatchSeq) -> Option<Batch> {
        self.batches.range(after.next()..).next().map(|(_, batch)| batch.clone())
    }

    /// Moves the mirror forward; a position that is not ahead changes nothing.
    fn advance(&mut self, seq: BatchSeq, position: u64) {
        if self.mirror.is_none_or(|(mirrored, _)| seq > mirrored) {
            self.mirror = Some((seq, position));
        }
    }

    pub fn mirror(&mut self, epoch: Epoch, seq: BatchSeq, position: u64) -> Result<(), Failure> {
        self.check(epoch)?;
        self.advance(seq, position);
        Ok(())
    }

    pub fn mark_committed(&mut self, seq: BatchSeq) -> Result<(), Failure> {
        let Some(batch) = self.batches.get(&seq) else { return Err(Failure::system("no such batch")) };
        self.advance(seq, batch.to);
        Ok(())
    }

    pub fn rebase(&mut self, epoch: Epoch, seq: BatchSeq, position: u64) -> Result<(), Failure> {
        self.check(epoch)?;
        self.batches.clear();
        self.mirror = Some((seq, position));
        Ok(())
    }
}
