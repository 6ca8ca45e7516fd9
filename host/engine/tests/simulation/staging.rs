//! The staging store: objects that are created once and named by their content.

use std::collections::BTreeMap;

use thimble_record::{BatchSeq, Epoch, ErrorKind, Failure};

use crate::random::digest;

/// Name of an object: batch, the epoch that staged it, number, and what no other object has (it is encrypted under a key
/// of its own, and named by the digest of that).
pub type Name = (BatchSeq, Epoch, usize, u64);

/// What a load says about a segment that was collected.
pub const MISSING: &str = "a segment is missing";

/// An object as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub name: Name,
    pub sha: u64,
}

impl Object {
    pub fn new(seq: BatchSeq, epoch: Epoch, number: usize, unique: u64, rows: &[u64]) -> Self {
        Self { name: (seq, epoch, number, unique), sha: digest(rows.iter().copied()) }
    }
}

#[derive(Default)]
pub struct Staging {
    /// Content and time of writing.
    objects: BTreeMap<Name, (Vec<u64>, i64)>,
}

impl Staging {
    /// Create-only: the same content again is success.
    pub fn put(&mut self, object: &Object, rows: &[u64], now: i64) -> Result<(), Failure> {
        let (held, _) = self.objects.entry(object.name).or_insert_with(|| (rows.to_vec(), now));
        if held == rows { Ok(()) } else { Err(Failure::system("there is other content under the name")) }
    }

    /// The rows of an object that is what was sealed.
    pub fn get(&self, object: &Object) -> Result<Vec<u64>, Failure> {
        let Some((rows, _)) = self.objects.get(&object.name) else {
            return Err(Failure::system(MISSING));
        };
        if digest(rows.iter().copied()) != object.sha {
            return Err(Failure::new(ErrorKind::System, "the segment is not what was sealed"));
        }
        Ok(rows.clone())
    }

    /// What a collection after `committed` would delete: committed batches, and old orphans.
    pub fn disposable(&self, committed: BatchSeq, own: Option<Epoch>, now: i64, grace: i64) -> Vec<Name> {
        let dispensable = |name: &Name, written: i64| {
            let (seq, epoch, ..) = *name;
            let old = now - written > grace;
            own.is_none_or(|own| epoch <= own) && (seq <= committed || (seq > committed.next() && old))
        };
        let found = self.objects.iter().filter(|(name, (_, written))| dispensable(name, *written));
        found.map(|(name, _)| *name).collect()
    }

    pub fn delete(&mut self, names: &[Name]) {
        for name in names {
            self.objects.remove(name);
        }
    }
}
