//! The objects of one kind, and the new list that is being received.
//!
//! It implements the variants of `Change`. What an object means to others is in `cluster`.
//! Invariant: the objects change only by a complete list or by a single object, never by a partial
//! list.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::object::Change;

/// Objects by key, each reduced to what answers need.
#[derive(Debug)]
pub(super) struct Store<K, V> {
    held: BTreeMap<K, Held<V>>,
    /// While a list is being received: those of its objects that differ from the stored ones. The
    /// others are only marked.
    listed: Option<BTreeMap<K, V>>,
    /// Number of the current or last list.
    round: u32,
    synced: bool,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    /// The last list that contained this object.
    round: u32,
}

/// A changed object. `before` is its previous value; the current one is in the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<K, V> {
    pub(super) key: K,
    pub(super) before: Option<V>,
}

impl<K: Ord + Clone, V: PartialEq> Store<K, V> {
    pub(super) const fn new() -> Self {
        Self { held: BTreeMap::new(), listed: None, round: 0, synced: false }
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.held.get(key).map(|held| &held.value)
    }

    /// The stored key, to share its memory.
    pub(super) fn key<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        let held = self.held.get_key_value(key).map(|(key, _)| key);
        held.or_else(|| self.listed.as_ref()?.get_key_value(key).map(|(key, _)| key))
    }

    /// Objects from this key on, sorted by key.
    pub(super) fn from<Q: Ord + ?Sized>(&self, first: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let range = (Bound::Included(first), Bound::Unbounded);
        self.held.range::<Q, _>(range).map(|(key, held)| (key, &held.value))
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether a list has been completed.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Applies one step of this kind's history and returns the changed objects.
    pub(super) fn step(&mut self, change: Change<(K, V), K>) -> Vec<Difference<K, V>> {
        match change {
            Change::Init => {
                self.round += 1;
                self.listed = Some(BTreeMap::new());
                Vec::new()
            }
            Change::InitApply((key, value)) => match &mut self.listed {
                Some(listed) => {
                    match self.held.get_mut(&key) {
                        Some(held) if held.value == value => {
                            held.round = self.round;
                            listed.remove(&key);
                        }
                        _ => {
                            listed.insert(key, value);
                        }
                    }
                    Vec::new()
                }
                None => self.put(key, value).into_iter().collect(),
            },
            Change::InitDone => self.end_list(),
            Change::Apply((key, value)) => {
                // The list is older than this change.
                if let Some(listed) = &mut self.listed {
                    listed.remove(&key);
                }
                self.put(key, value).into_iter().collect()
            }
            Change::Delete(key) => {
                if let Some(listed) = &mut self.listed {
                    listed.remove(&key);
                }
                let gone = self.held.remove_entry(&key);
                gone.map(|(key, held)| Difference { key, before: Some(held.value) })
                    .into_iter()
                    .collect()
            }
        }
    }

    fn put(&mut self, key: K, value: V) -> Option<Difference<K, V>> {
        let round = self.round;
        match self.held.get_mut(&key) {
            Some(held) if held.value == value => {
                held.round = round;
                None
            }
            Some(held) => {
                let before = std::mem::replace(held, Held { value, round }).value;
                Some(Difference { key, before: Some(before) })
            }
            None => {
                self.held.insert(key.clone(), Held { value, round });
                Some(Difference { key, before: None })
            }
        }
    }

    /// Puts the list in place: changes what differs and removes what it does not contain.
    fn end_list(&mut self) -> Vec<Difference<K, V>> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        self.synced = true;
        let round = self.round;
        if self.held.is_empty() {
            // For the first list, build the map in order, so that it has no half-full nodes.
            let held = listed.into_iter().map(|(key, value)| (key, Held { value, round }));
            self.held = held.collect();
            let keys = self.held.keys().cloned();
            return keys.map(|key| Difference { key, before: None }).collect();
        }
        let mut differences = Vec::with_capacity(listed.len());
        for (key, value) in listed {
            differences.extend(self.put(key, value));
        }
        let gone = self.held.extract_if(.., |_, held| held.round != round);
        differences.extend(gone.map(|(key, held)| Difference { key, before: Some(held.value) }));
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change::{Apply, Delete, Init, InitApply, InitDone};

    type TestChange = Change<(u8, &'static str), u8>;

    /// The stored objects after the steps, and the changed keys of each step.
    fn check(steps: &[TestChange], held: &[(u8, &str)], differed: &[&[u8]]) {
        let mut store: Store<u8, &str> = Store::new();
        for (step, expected) in steps.iter().zip(differed) {
            let keys: Vec<u8> =
                store.step(step.clone()).into_iter().map(|difference| difference.key).collect();
            assert_eq!(keys, *expected, "{step:?} of {steps:?}");
        }
        assert_eq!(steps.len(), differed.len());
        let now: Vec<(u8, &str)> = store.from(&0).map(|(key, value)| (*key, *value)).collect();
        assert_eq!(now, held, "{steps:?}");
    }

    #[test]
    fn a_list_counts_once_it_is_complete() {
        check(&[Init, InitApply((1, "a"))], &[], &[&[], &[]]);
        check(&[Init, InitApply((1, "a")), InitDone], &[(1, "a")], &[&[], &[], &[1]]);
        // When the list starts over, its first part is discarded.
        check(
            &[Init, InitApply((1, "a")), Init, InitApply((2, "b")), InitDone],
            &[(2, "b")],
            &[&[], &[], &[], &[], &[2]],
        );
        check(&[InitDone], &[], &[&[]]);
        // The last of duplicates counts.
        check(
            &[Apply((1, "a")), Init, InitApply((1, "b")), InitApply((1, "a")), InitDone],
            &[(1, "a")],
            &[&[1], &[], &[], &[], &[]],
        );
    }

    #[test]
    fn a_second_list_reports_only_differences() {
        let first = [Init, InitApply((1, "a")), InitApply((2, "b")), InitApply((3, "c")), InitDone];
        let second =
            [Init, InitApply((1, "a")), InitApply((2, "B")), InitApply((4, "d")), InitDone];
        let steps: Vec<TestChange> = first.into_iter().chain(second).collect();
        check(
            &steps,
            &[(1, "a"), (2, "B"), (4, "d")],
            &[&[], &[], &[], &[], &[1, 2, 3], &[], &[], &[], &[], &[2, 4, 3]],
        );
    }

    #[test]
    fn single_objects() {
        check(
            &[Apply((1, "a")), Apply((1, "a")), Apply((1, "b")), Delete(1), Delete(1)],
            &[],
            &[&[1], &[], &[1], &[1], &[]],
        );
        // A change during a list applies at once, and the list does not undo it.
        check(
            &[Apply((1, "a")), Init, InitApply((2, "b")), Apply((1, "c")), Delete(2), InitDone],
            &[(1, "c")],
            &[&[1], &[], &[], &[1], &[], &[]],
        );
        check(
            &[Init, InitApply((1, "old")), Apply((1, "new")), InitDone],
            &[(1, "new")],
            &[&[], &[], &[1], &[]],
        );
        check(&[InitApply((1, "a"))], &[(1, "a")], &[&[1]]);
    }
}
