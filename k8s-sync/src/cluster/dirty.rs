//! The keys whose answers have to be made again, each once.
//!
//! A first list touches every answer, so that a set of keys would only cost time. Invariant: keys
//! stay in the order in which they became dirty, which is mostly that of the objects in memory.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::fast::RandomState;

use super::AnswerKey;

/// The answers that have to be made again.
#[derive(Debug)]
pub enum Dirty {
    /// All that there are. Nothing else is left of the earlier ones.
    Everything,
    Keys(Vec<AnswerKey>),
}

#[derive(Debug)]
pub(super) struct DirtyKeys {
    is_everything: bool,
    /// Empty if everything is dirty.
    keys: Vec<AnswerKey>,
    /// Indexes in `keys`, by key.
    indexes: HashTable<u32>,
    hasher: RandomState,
}

impl DirtyKeys {
    pub(super) fn everything() -> Self {
        let hasher = RandomState::new();
        Self { is_everything: true, keys: Vec::new(), indexes: HashTable::new(), hasher }
    }

    pub(super) const fn is_everything(&self) -> bool {
        self.is_everything
    }

    pub(super) fn insert_everything(&mut self) {
        *self = Self::everything();
    }

    /// False if the key is dirty already. Do not call it if everything is.
    pub(super) fn insert(&mut self, key: AnswerKey) -> bool {
        debug_assert!(!self.is_everything, "it is dirty already");
        let Self { keys, indexes, hasher, .. } = self;
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

    /// All of them. Nothing is dirty from then on.
    pub(super) fn take(&mut self) -> Dirty {
        self.indexes = HashTable::new();
        let keys = std::mem::take(&mut self.keys);
        if std::mem::take(&mut self.is_everything) { Dirty::Everything } else { Dirty::Keys(keys) }
    }
}
