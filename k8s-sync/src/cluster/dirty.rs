//! The keys whose answers have to be made again, each once.
//!
//! Invariant: they stay in the order in which they became dirty, which is mostly that of the
//! objects in memory.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::fast::RandomState;

use super::AnswerKey;

#[derive(Debug)]
pub(super) struct DirtyKeys {
    keys: Vec<AnswerKey>,
    /// Indexes in `keys`, by key.
    indexes: HashTable<u32>,
    hasher: RandomState,
}

impl DirtyKeys {
    pub(super) fn new() -> Self {
        Self { keys: Vec::new(), indexes: HashTable::new(), hasher: RandomState::new() }
    }

    /// False if the key is dirty already.
    pub(super) fn insert(&mut self, key: AnswerKey) -> bool {
        let Self { keys, indexes, hasher } = self;
        let entry = indexes.entry(
            hasher.hash_one(&key),
            |index| keys[*index as usize] == key,
            |index| hasher.hash_one(&keys[*index as usize]),
        );
        let Entry::Vacant(vacant) = entry else { return false };
        vacant.insert(u32::try_from(keys.len()).expect("fewer than 4 billion keys"));
        keys.push(key);
        true
    }

    /// All of them. None is dirty from then on.
    pub(super) fn take(&mut self) -> Vec<AnswerKey> {
        self.indexes = HashTable::new();
        std::mem::take(&mut self.keys)
    }
}
