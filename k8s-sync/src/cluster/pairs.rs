//! An index from keys to object names, as a set of pairs.
//!
//! One ordered set instead of a map of lists: 24 bytes per pair, nothing to shrink, and an order
//! that does not depend on the order of events.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::object::ObjectKey;

#[derive(Debug)]
pub(super) struct Pairs<K> {
    pairs: BTreeSet<(K, Arc<ObjectKey>)>,
    /// Sorts before all object names.
    lowest: Arc<ObjectKey>,
}

impl<K: Ord + Clone> Pairs<K> {
    pub(super) fn new() -> Self {
        let lowest = Arc::new(ObjectKey { namespace: "".into(), name: "".into() });
        Self { pairs: BTreeSet::new(), lowest }
    }

    pub(super) fn insert(&mut self, key: K, object: &Arc<ObjectKey>) {
        self.pairs.insert((key, Arc::clone(object)));
    }

    pub(super) fn remove(&mut self, key: K, object: &Arc<ObjectKey>) {
        self.pairs.remove(&(key, Arc::clone(object)));
    }

    pub(super) fn contains(&self, key: K, object: &Arc<ObjectKey>) -> bool {
        self.pairs.contains(&(key, Arc::clone(object)))
    }

    /// The objects of this key, sorted by name.
    pub(super) fn of(&self, key: K) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let from = (key.clone(), Arc::clone(&self.lowest));
        self.pairs.range(from..).take_while(move |pair| pair.0 == key).map(|pair| &pair.1)
    }

    /// Every key, once.
    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        let mut last = None;
        self.pairs.iter().filter_map(move |(key, _)| {
            let is_new = last.as_ref() != Some(key);
            is_new.then(|| last.insert(key.clone()).clone())
        })
    }

    /// The stored key, to share its memory.
    pub(super) fn key(&self, key: &K) -> Option<&K> {
        let from = (key.clone(), Arc::clone(&self.lowest));
        self.pairs.range(from..).next().map(|pair| &pair.0).filter(|held| *held == key)
    }
}
