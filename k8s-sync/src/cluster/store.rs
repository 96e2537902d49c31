//! The objects of one kind, and the new list that is being received.
//!
//! It implements the variants of `Change`, and gives each key a number. What an object means to
//! others is in `cluster`. New objects of a list are stored where they stay, but count only once it
//! is complete. Invariant: the objects change only by a complete list or by a single object, never
//! by a partial list.

use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::fast::RandomState;

use crate::object::{Change, ObjectKey};

/// Stands for an object's key in one store. After `free` the number may stand for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(u32);

impl ObjectId {
    pub(crate) const LOWEST: Self = Self(0);

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An object's key in one piece: less memory than an `ObjectKey`.
#[derive(Debug)]
struct StoredKey {
    /// The namespace, then the name.
    text: Box<str>,
    namespace_len: usize,
}

impl StoredKey {
    fn new(namespace: &str, name: &str) -> Self {
        Self { text: [namespace, name].concat().into(), namespace_len: namespace.len() }
    }

    fn parts(&self) -> KeyParts<'_> {
        let (namespace, name) = self.text.split_at(self.namespace_len);
        KeyParts { namespace, name }
    }
}

/// An object's key, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyParts<'k> {
    pub namespace: &'k str,
    pub name: &'k str,
}

impl<'k> From<&'k ObjectKey> for KeyParts<'k> {
    fn from(key: &'k ObjectKey) -> Self {
        Self { namespace: &key.namespace, name: &key.name }
    }
}

/// An object with its number and key.
pub(crate) type Numbered<'s, V> = (ObjectId, KeyParts<'s>, &'s V);

/// Objects by key, each reduced to what answers need.
#[derive(Debug)]
pub(super) struct Store<V> {
    /// By number. `None`: the number is free.
    slots: Vec<Option<Slot<V>>>,
    free: Vec<ObjectId>,
    by_key: HashTable<ObjectId>,
    hasher: RandomState,
    /// Keys that have an object.
    len: usize,
    /// While a list is being received: those of its objects that differ from the one that the key
    /// has.
    differing: Option<HashMap<ObjectId, V, RandomState>>,
    /// Number of the current or last list.
    round: u32,
    synced: bool,
}

#[derive(Debug)]
struct Slot<V> {
    key: StoredKey,
    /// `None`: others only refer to the key.
    value: Option<V>,
    /// The value is of the list that is being received, and does not count yet.
    is_early: bool,
    /// The last list that contained this object.
    round: u32,
}

impl<V> Slot<V> {
    fn object(&self) -> Option<&V> {
        self.value.as_ref().filter(|_| !self.is_early)
    }

    /// Takes the value out if it does not count yet.
    fn take_early(&mut self) -> Option<V> {
        std::mem::take(&mut self.is_early).then(|| self.value.take()).flatten()
    }
}

/// A changed object. `before` is its previous value; the current one is in the store. If there is
/// neither, a list that broke off has given the key a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<V> {
    pub(super) id: ObjectId,
    pub(super) before: Option<V>,
}

impl<V: PartialEq> Store<V> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::new(),
            len: 0,
            differing: None,
            round: 0,
            synced: false,
        }
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<&V> {
        self.slot(id)?.object()
    }

    /// Whether the key has an object, or the list that is being received has one for it.
    pub(super) fn has_value(&self, id: ObjectId) -> bool {
        self.slot(id).is_some_and(|slot| slot.value.is_some())
    }

    /// `None` if the number is free.
    pub(super) fn key(&self, id: ObjectId) -> Option<KeyParts<'_>> {
        Some(self.slot(id)?.key.parts())
    }

    /// The number of a key that has an object, or that others refer to.
    pub(super) fn find(&self, key: KeyParts<'_>) -> Option<ObjectId> {
        let is_key = |id: &ObjectId| self.key(*id) == Some(key);
        self.by_key.find(self.hasher.hash_one(key), is_key).copied()
    }

    /// The number of a key, which it keeps until `free`.
    pub(super) fn number(&mut self, key: KeyParts<'_>) -> ObjectId {
        let Self { slots, free, by_key, hasher, .. } = self;
        let parts = |id: ObjectId| slots[id.index()].as_ref().map(|slot| slot.key.parts());
        let entry = by_key.entry(
            hasher.hash_one(key),
            |id| parts(*id) == Some(key),
            |id| parts(*id).map_or(0, |key| hasher.hash_one(key)),
        );
        let vacant = match entry {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let next = || ObjectId(u32::try_from(slots.len()).expect("fewer than 4 billion objects"));
        let id = free.pop().unwrap_or_else(next);
        vacant.insert(id);
        let key = StoredKey::new(key.namespace, key.name);
        let slot = Some(Slot { key, value: None, is_early: false, round: 0 });
        match slots.get_mut(id.index()) {
            Some(freed) => *freed = slot,
            None => slots.push(slot),
        }
        id
    }

    /// Frees the number of a key without an object. Nothing may refer to it any more.
    pub(super) fn free(&mut self, id: ObjectId) {
        let Some(slot) = self.slots.get_mut(id.index()) else { return };
        if let Some(Slot { key, value: None, .. }) = slot {
            let hash = self.hasher.hash_one(key.parts());
            if let Ok(entry) = self.by_key.find_entry(hash, |known| *known == id) {
                entry.remove();
            }
            *slot = None;
            self.free.push(id);
        }
    }

    /// All objects, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = Numbered<'_, V>> {
        self.iter_from(ObjectId::LOWEST)
    }

    /// Those from this number on.
    pub(super) fn iter_from(&self, first: ObjectId) -> impl Iterator<Item = Numbered<'_, V>> {
        let slots = self.slots.iter().zip(0..).skip(first.index());
        slots.filter_map(|(slot, id)| {
            let slot = slot.as_ref()?;
            Some((ObjectId(id), slot.key.parts(), slot.object()?))
        })
    }

    /// The number of an object. `None` if the key has none.
    pub(super) fn object_id(&self, key: KeyParts<'_>) -> Option<ObjectId> {
        self.find(key).filter(|id| self.get(*id).is_some())
    }

    /// The number of objects.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a list has been completed.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether a list is being received.
    pub(super) const fn is_listing(&self) -> bool {
        self.differing.is_some()
    }

    /// Applies one step of this kind's history and returns the changed objects. The caller frees
    /// the numbers of those that are gone.
    pub(super) fn step(&mut self, change: Change<(ObjectKey, V), ObjectKey>) -> Vec<Difference<V>> {
        match change {
            Change::Init => {
                let differences = self.drop_list();
                self.round += 1;
                self.differing = Some(HashMap::default());
                differences
            }
            Change::InitApply((key, value)) => {
                let id = self.number((&key).into());
                if self.differing.is_some() {
                    self.list(id, value);
                    return Vec::new();
                }
                self.put(id, value).into_iter().collect()
            }
            Change::InitDone => self.end_list(),
            Change::InitDropped => self.drop_list(),
            Change::Remembered(all) => self.remember(all),
            // The list is older than this change.
            Change::Apply((key, value)) => {
                let id = self.number((&key).into());
                self.unlist(id);
                self.put(id, value).into_iter().collect()
            }
            Change::Delete(key) => {
                let id = self.find((&key).into());
                id.and_then(|id| self.take(id)).into_iter().collect()
            }
        }
    }

    /// Notes an object of the list that is being received.
    fn list(&mut self, id: ObjectId, value: V) {
        self.unlist(id);
        let Some(slot) = &mut self.slots[id.index()] else { return };
        slot.round = self.round;
        match &slot.value {
            None => (slot.value, slot.is_early) = (Some(value), true),
            Some(stored) if *stored == value => {}
            Some(_) => {
                self.differing.as_mut().and_then(|differing| differing.insert(id, value));
            }
        }
    }

    /// Drops what the list that is being received has said about a key.
    fn unlist(&mut self, id: ObjectId) -> Option<V> {
        let early = self.slots[id.index()].as_mut().and_then(Slot::take_early);
        early.or_else(|| self.differing.as_mut()?.remove(&id))
    }

    /// Forgets the list that is being received, if there is one: it broke off.
    fn drop_list(&mut self) -> Vec<Difference<V>> {
        if self.differing.take().is_none() {
            return Vec::new();
        }
        let slots = self.slots.iter_mut().zip(0..);
        let early = slots.filter_map(|(slot, id)| slot.as_mut()?.take_early().map(|_| id));
        early.map(|id| Difference { id: ObjectId(id), before: None }).collect()
    }

    /// Puts an old list in place, unless there is a newer one. The next list to be completed, which
    /// may be the one that is being received, removes what it does not contain.
    fn remember(&mut self, all: Vec<(ObjectKey, V)>) -> Vec<Difference<V>> {
        if self.synced || self.len > 0 {
            return Vec::new();
        }
        self.synced = true;
        let round = self.round;
        let mut differences = Vec::with_capacity(all.len());
        for (key, value) in all {
            let id = self.number((&key).into());
            let newer = self.unlist(id);
            self.round = round.wrapping_sub(1);
            differences.extend(self.put(id, value));
            self.round = round;
            if let Some(newer) = newer {
                self.list(id, newer);
            }
        }
        differences
    }

    fn put(&mut self, id: ObjectId, value: V) -> Option<Difference<V>> {
        let slot = self.slots[id.index()].as_mut()?;
        slot.round = self.round;
        if slot.value.as_ref() == Some(&value) {
            return None;
        }
        let before = slot.value.replace(value);
        self.len += usize::from(before.is_none());
        Some(Difference { id, before })
    }

    /// Removes the object of a key, also from the list that is being received.
    fn take(&mut self, id: ObjectId) -> Option<Difference<V>> {
        let was_listed = self.unlist(id).is_some();
        let before = self.slots.get_mut(id.index())?.as_mut()?.value.take();
        self.len -= usize::from(before.is_some());
        (before.is_some() || was_listed).then_some(Difference { id, before })
    }

    /// Puts the list in place: changes what differs and removes what it does not contain.
    fn end_list(&mut self) -> Vec<Difference<V>> {
        let Some(differing) = self.differing.take() else { return Vec::new() };
        self.synced = true;
        let mut differences = Vec::new();
        for (id, value) in differing {
            differences.extend(self.put(id, value));
        }
        for (slot, id) in self.slots.iter_mut().zip(0..) {
            let Some(slot) = slot else { continue };
            if std::mem::take(&mut slot.is_early) {
                self.len += 1;
                differences.push(Difference { id: ObjectId(id), before: None });
            } else if slot.round != self.round && slot.value.is_some() {
                self.len -= 1;
                differences.push(Difference { id: ObjectId(id), before: slot.value.take() });
            }
        }
        differences
    }

    fn slot(&self, id: ObjectId) -> Option<&Slot<V>> {
        self.slots.get(id.index())?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change::{Apply, Delete, Init, InitApply, InitDone, InitDropped};

    type TestChange = Change<(u8, &'static str), u8>;

    fn key(number: u8) -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: number.to_string().into() }
    }

    fn number(store: &Store<&str>, id: ObjectId) -> u8 {
        store.key(id).expect("it has not been freed").name.parse().expect("a number")
    }

    /// The stored objects after the steps, and the changed keys of each step.
    fn check(steps: &[TestChange], held: &[(u8, &str)], differed: &[&[u8]]) {
        let mut store: Store<&str> = Store::new();
        for (step, expected) in steps.iter().zip(differed) {
            let change = match step.clone() {
                Init => Init,
                InitApply((number, value)) => InitApply((key(number), value)),
                InitDone => InitDone,
                InitDropped => InitDropped,
                Apply((number, value)) => Apply((key(number), value)),
                Delete(number) => Delete(key(number)),
                Change::Remembered(all) => {
                    let all = all.into_iter().map(|(number, value)| (key(number), value));
                    Change::Remembered(all.collect())
                }
            };
            let differences = store.step(change);
            let mut keys: Vec<u8> =
                differences.iter().map(|difference| number(&store, difference.id)).collect();
            keys.sort_unstable();
            assert_eq!(keys, *expected, "{step:?} of {steps:?}");
            differences.iter().for_each(|difference| store.free(difference.id));
        }
        assert_eq!(steps.len(), differed.len());
        let now = store.iter().map(|(id, _, value)| (number(&store, id), *value));
        let mut now: Vec<(u8, &str)> = now.collect();
        now.sort_unstable();
        assert_eq!(now, held, "{steps:?}");
        assert_eq!(store.len(), held.len(), "{steps:?}");
    }

    #[test]
    fn a_list_counts_once_it_is_complete() {
        check(&[Init, InitApply((1, "a"))], &[], &[&[], &[]]);
        check(&[Init, InitApply((1, "a")), InitDone], &[(1, "a")], &[&[], &[], &[1]]);
        // When the list starts over, its first part is discarded.
        check(
            &[Init, InitApply((1, "a")), Init, InitApply((2, "b")), InitDone],
            &[(2, "b")],
            &[&[], &[], &[1], &[], &[2]],
        );
        check(&[InitDone], &[], &[&[]]);
        // A list that broke off, and changes after it.
        check(
            &[Apply((1, "a")), Init, InitApply((1, "b")), InitApply((2, "b")), InitDropped],
            &[(1, "a")],
            &[&[1], &[], &[], &[], &[2]],
        );
        check(
            &[Init, InitApply((1, "a")), InitDropped, Apply((1, "a")), InitDone, InitDropped],
            &[(1, "a")],
            &[&[], &[], &[1], &[1], &[], &[]],
        );
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
            &[&[], &[], &[], &[], &[1, 2, 3], &[], &[], &[], &[], &[2, 3, 4]],
        );
    }

    #[test]
    fn a_remembered_list_counts_until_one_is_complete() {
        let old = || Change::Remembered(vec![(1, "a"), (2, "b"), (3, "c")]);
        check(&[old()], &[(1, "a"), (2, "b"), (3, "c")], &[&[1, 2, 3]]);
        check(&[Change::Remembered(vec![]), old()], &[], &[&[], &[]]);
        let new = [InitApply((1, "a")), InitApply((2, "B")), InitApply((4, "d")), InitDone];
        let [first, second, third, done] = new;
        let expected = [(1, "a"), (2, "B"), (4, "d")];
        // Before the list, in its middle, after it.
        check(
            &[old(), Init, first.clone(), second.clone(), third.clone(), done.clone()],
            &expected,
            &[&[1, 2, 3], &[], &[], &[], &[], &[2, 3, 4]],
        );
        check(
            &[Init, first.clone(), second.clone(), old(), third.clone(), done.clone()],
            &expected,
            &[&[], &[], &[], &[1, 2, 3], &[], &[2, 3, 4]],
        );
        check(
            &[Init, first, second, third, done, old()],
            &expected,
            &[&[], &[], &[], &[], &[1, 2, 4], &[]],
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
            &[&[1], &[], &[], &[1], &[2], &[]],
        );
        check(
            &[Init, InitApply((1, "old")), Apply((1, "new")), InitDone],
            &[(1, "new")],
            &[&[], &[], &[1], &[]],
        );
        check(&[InitApply((1, "a"))], &[(1, "a")], &[&[1]]);
    }

    #[test]
    fn numbers_are_kept_until_they_are_freed() {
        let mut store: Store<&str> = Store::new();
        let (one, two) = (key(1), key(2));
        let id = store.number((&one).into());
        assert_eq!(store.get(id), None, "the key is only referred to");
        assert_eq!(store.step(Apply((one.clone(), "a"))), [Difference { id, before: None }]);
        store.free(id);
        assert_eq!(store.get(id), Some(&"a"), "an object keeps its number");
        store.step(Delete(one.clone()));
        assert_eq!(store.find((&one).into()), Some(id));
        store.free(id);
        assert_eq!((store.find((&one).into()), store.key(id)), (None, None));
        assert_eq!(store.number((&two).into()), id, "a free number is used again");
    }
}
