//! An index from keys to objects, as a set of pairs.
//!
//! One ordered set instead of a map of lists: a few bytes per pair, and nothing to shrink.

use std::collections::BTreeSet;

use super::store::ObjectId;

#[derive(Debug)]
pub(super) struct Pairs<K> {
    pairs: BTreeSet<(K, ObjectId)>,
}

impl<K: Ord + Clone> Pairs<K> {
    pub(super) const fn new() -> Self {
        Self { pairs: BTreeSet::new() }
    }

    pub(super) fn insert(&mut self, key: K, object: ObjectId) {
        self.pairs.insert((key, object));
    }

    pub(super) fn remove(&mut self, key: K, object: ObjectId) {
        self.pairs.remove(&(key, object));
    }

    pub(super) fn contains(&self, key: K, object: ObjectId) -> bool {
        self.pairs.contains(&(key, object))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The objects of this key, in no particular order.
    pub(super) fn of(&self, key: K) -> impl Iterator<Item = ObjectId> {
        let from = (key.clone(), ObjectId::LOWEST);
        self.pairs.range(from..).take_while(move |pair| pair.0 == key).map(|pair| pair.1)
    }

    /// Every key, once.
    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        let mut last = None;
        self.pairs.iter().filter_map(move |(key, _)| {
            let is_new = last.as_ref() != Some(key);
            is_new.then(|| last.insert(key.clone()).clone())
        })
    }
}
