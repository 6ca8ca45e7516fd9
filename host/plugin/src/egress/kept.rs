//! A map by digest that holds so much and no more: what was not asked for the longest makes room.
//!
//! Must never hold what cannot be made anew.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// What entries are found by.
pub(super) type Key = [u8; 32];

/// The digest of several texts, none of which can run into the next.
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// See the module.
pub(super) struct Kept<V> {
    entries: HashMap<Key, (V, u64)>,
    asked: u64,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), asked: 0 }
    }
}

impl<V> Kept<V> {
    pub(super) fn get(&mut self, key: &Key) -> Option<&mut V> {
        self.asked += 1;
        let (value, asked) = self.entries.get_mut(key)?;
        *asked = self.asked;
        Some(value)
    }

    /// The entry, made where there is none.
    pub(super) fn entry(&mut self, key: &Key, most: usize, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) {
            self.make_room(most);
        }
        self.asked += 1;
        let asked = self.asked;
        let entry = self.entries.entry(*key).or_insert_with(|| (make(), asked));
        entry.1 = asked;
        &mut entry.0
    }

    fn make_room(&mut self, most: usize) {
        while self.entries.len() >= most.max(1) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, asked))| *asked).map(|(key, _)| *key);
            oldest.map(|key| self.entries.remove(&key));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
