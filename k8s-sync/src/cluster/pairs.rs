//! An index from keys to objects.
//!
//! Most keys have one object, which a hash table finds. The others of a key are in an ordered set,
//! so that no number of them makes a step slow. Invariant: a key in the set is in the table too.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::fast::RandomState;

use super::store::ObjectId;

#[derive(Debug)]
pub(super) struct Pairs<K> {
    /// One object of each key.
    first: HashTable<(K, ObjectId)>,
    others: BTreeSet<(K, ObjectId)>,
    hasher: RandomState,
}

impl<K: Hash + Ord + Clone> Pairs<K> {
    pub(super) fn new() -> Self {
        Self { first: HashTable::new(), others: BTreeSet::new(), hasher: RandomState::new() }
    }

    /// Makes room for so many keys.
    pub(super) fn reserve(&mut self, count: usize) {
        self.first.reserve(count, |(known, _)| self.hasher.hash_one(known));
    }

    pub(super) fn insert(&mut self, key: K, object: ObjectId) {
        let Self { first, others, hasher } = self;
        let entry = first.entry(
            hasher.hash_one(&key),
            |(known, _)| *known == key,
            |(known, _)| hasher.hash_one(known),
        );
        match entry {
            Entry::Vacant(vacant) => {
                vacant.insert((key, object));
            }
            Entry::Occupied(known) => {
                if known.get().1 != object {
                    others.insert((key, object));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, key: K, object: ObjectId) {
        if self.others.remove(&(key.clone(), object)) {
            return;
        }
        let other = self.others_of(key.clone()).next();
        let hash = self.hasher.hash_one(&key);
        let is_pair = |(known, first): &(K, ObjectId)| *known == key && *first == object;
        let Ok(mut entry) = self.first.find_entry(hash, is_pair) else { return };
        match other {
            Some(other) => {
                entry.get_mut().1 = other;
                self.others.remove(&(key, other));
            }
            None => {
                entry.remove();
            }
        }
    }

    pub(super) fn contains(&self, key: &K, object: ObjectId) -> bool {
        self.first_of(key) == Some(object) || self.others.contains(&(key.clone(), object))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The objects of this key, in no particular order.
    pub(super) fn of(&self, key: K) -> impl Iterator<Item = ObjectId> {
        let first = self.first_of(&key);
        let others = first.filter(|_| !self.others.is_empty()).map(|_| self.others_of(key));
        first.into_iter().chain(others.into_iter().flatten())
    }

    /// Every key, once.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.first.iter().map(|(key, _)| key)
    }

    /// Whether this one of the key's objects is the one that `of` gives first.
    pub(super) fn is_first(&self, key: &K, object: ObjectId) -> bool {
        self.others.is_empty() || self.first_of(key) == Some(object)
    }

    fn first_of(&self, key: &K) -> Option<ObjectId> {
        let found = self.first.find(self.hasher.hash_one(key), |(known, _)| known == key);
        found.map(|(_, object)| *object)
    }

    fn others_of(&self, key: K) -> impl Iterator<Item = ObjectId> {
        let from = (key.clone(), ObjectId::LOWEST);
        self.others.range(from..).take_while(move |pair| pair.0 == key).map(|pair| pair.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::{KeyParts, Store};
    use super::*;

    #[test]
    fn pairs_are_those_of_a_set() {
        let mut store: Store<()> = Store::new();
        let names = ["a", "b", "c", "d"];
        let objects = names.map(|name| store.number(KeyParts { namespace: "", name }));
        let mut random = fastrand::Rng::with_seed(7);
        let (mut pairs, mut expected) = (Pairs::new(), BTreeSet::new());
        for _ in 0..20_000 {
            let (key, object) = (random.u8(..20), objects[random.usize(..4)]);
            if random.bool() {
                pairs.insert(key, object);
                expected.insert((key, object));
            } else {
                pairs.remove(key, object);
                expected.remove(&(key, object));
            }
            assert_eq!(pairs.contains(&key, object), expected.contains(&(key, object)));
            let found: BTreeSet<_> = pairs.of(key).map(|object| (key, object)).collect();
            assert!(found.iter().eq(expected.range((key, objects[0])..=(key, objects[3]))));
            assert_eq!(pairs.of(key).count(), found.len());
        }
        let keys: BTreeSet<u8> = pairs.keys().copied().collect();
        assert!(keys.len() == pairs.keys().count() && keys.len() > 10);
        assert_eq!(keys, expected.iter().map(|(key, _)| *key).collect());
    }
}
