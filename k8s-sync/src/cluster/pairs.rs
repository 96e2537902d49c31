//! What belongs to what: pairs of a thing and an object's name, found by the thing.
//!
//! One ordered set instead of a map of lists: 24 bytes a pair, nothing to shrink, and an order that does not depend on the
//! order of events.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::object::ObjectKey;

#[derive(Debug)]
pub(super) struct Pairs<A> {
    pairs: BTreeSet<(A, Arc<ObjectKey>)>,
    /// Sorts before every object's name.
    lowest: Arc<ObjectKey>,
}

impl<A: Ord + Clone> Pairs<A> {
    pub(super) fn new() -> Self {
        let lowest = Arc::new(ObjectKey { namespace: "".into(), name: "".into() });
        Self { pairs: BTreeSet::new(), lowest }
    }

    pub(super) fn insert(&mut self, thing: A, object: &Arc<ObjectKey>) {
        self.pairs.insert((thing, Arc::clone(object)));
    }

    pub(super) fn remove(&mut self, thing: A, object: &Arc<ObjectKey>) {
        self.pairs.remove(&(thing, Arc::clone(object)));
    }

    pub(super) fn contains(&self, thing: A, object: &Arc<ObjectKey>) -> bool {
        self.pairs.contains(&(thing, Arc::clone(object)))
    }

    /// The objects paired with this thing, in the order of their names.
    pub(super) fn of(&self, thing: A) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let from = (thing.clone(), Arc::clone(&self.lowest));
        self.pairs.range(from..).take_while(move |pair| pair.0 == thing).map(|pair| &pair.1)
    }

    /// The thing as it is held, to share its memory.
    pub(super) fn thing(&self, thing: &A) -> Option<&A> {
        let from = (thing.clone(), Arc::clone(&self.lowest));
        self.pairs.range(from..).next().map(|pair| &pair.0).filter(|held| *held == thing)
    }
}
