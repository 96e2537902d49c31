//! Which objects of one kind have been received, and in which versions: 16 bytes per object.
//!
//! Compared with the server's own list, it shows whether the watch has lost a change. Invariant: an
//! object that the watch mentions while a comparison runs is never counted as lost, because the
//! server's list may be older or newer than that.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rapidhash::quality::RandomState;

use crate::raw::RawMetadata;

/// Objects that the watch may mention while a comparison runs. With more of them there is no
/// result; the next comparison may find a quieter time.
const TOUCHED_MAX: usize = 65_536;

/// An object's name as a hash, and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectVersion {
    hash: u64,
    /// Zero if it is no number.
    version: u64,
}

impl ObjectVersion {
    /// `hasher`: the inventory's.
    pub(super) fn of(metadata: &RawMetadata, hasher: &RandomState) -> Self {
        let text = |field: &crate::raw::field::Field<String>| {
            hasher.hash_one(field.as_ref().map_or("", String::as_str))
        };
        let hash = text(&metadata.namespace).rotate_left(1) ^ text(&metadata.name);
        let version = metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
        Self { hash, version: version.unwrap_or_default() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Inventory {
    hasher: RandomState,
    objects: HashTable<ObjectVersion>,
    /// The objects of the list that is being received. It takes the place of `objects`.
    listing: HashTable<ObjectVersion>,
    /// What the watch has mentioned since the comparison began. `None`: none runs.
    touched: Option<Vec<u64>>,
}

impl Inventory {
    pub(super) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    pub(super) fn list_begins(&mut self) {
        (self.listing, self.touched) = (HashTable::new(), None);
    }

    pub(super) fn listed(&mut self, metadata: &RawMetadata) {
        insert(&mut self.listing, ObjectVersion::of(metadata, &self.hasher));
    }

    pub(super) fn list_complete(&mut self) {
        self.objects = std::mem::take(&mut self.listing);
    }

    pub(super) fn applied(&mut self, metadata: &RawMetadata) {
        let object = ObjectVersion::of(metadata, &self.hasher);
        self.touch(object);
        insert(&mut self.objects, object);
    }

    pub(super) fn deleted(&mut self, metadata: &RawMetadata) {
        let object = ObjectVersion::of(metadata, &self.hasher);
        self.touch(object);
        remove(&mut self.objects, object);
    }

    fn touch(&mut self, object: ObjectVersion) {
        if let Some(touched) = &mut self.touched
            && touched.len() <= TOUCHED_MAX
        {
            touched.push(object.hash);
        }
    }

    /// From now on, notes what the watch mentions.
    pub(super) fn comparison_begins(&mut self) {
        self.touched = Some(Vec::new());
    }

    /// The number of objects of which the watch has lost a change. `server`: its list, which was
    /// requested after the beginning, and which the watch has reached. `None`: too much has changed
    /// in between.
    pub(super) fn lost_count(&mut self, mut server: Vec<ObjectVersion>) -> Option<usize> {
        let mut touched = self.touched.take().filter(|touched| touched.len() <= TOUCHED_MAX)?;
        touched.sort_unstable();
        server.sort_unstable();
        let is_quiet = |object: &&ObjectVersion| touched.binary_search(&object.hash).is_err();
        let changed = server.iter().filter(is_quiet).filter(|object| {
            let known = self.objects.find(object.hash, |known| known.hash == object.hash);
            known.is_none_or(|known| known.version != object.version)
        });
        let gone = self.objects.iter().filter(is_quiet).filter(|object| {
            server.binary_search_by_key(&object.hash, |listed| listed.hash).is_err()
        });
        Some(changed.count() + gone.count())
    }
}

fn insert(objects: &mut HashTable<ObjectVersion>, object: ObjectVersion) {
    match objects.find_mut(object.hash, |known| known.hash == object.hash) {
        Some(known) => known.version = object.version,
        None => {
            objects.insert_unique(object.hash, object, |known| known.hash);
        }
    }
}

fn remove(objects: &mut HashTable<ObjectVersion>, object: ObjectVersion) {
    if let Ok(found) = objects.find_entry(object.hash, |known| known.hash == object.hash) {
        found.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::field::Field;

    /// Metadata in short form: `name@version`.
    fn metadata(short: &str) -> RawMetadata {
        let (name, version) = short.split_once('@').expect("name@version");
        let (name, resource_version) = (Field::Is(name.to_owned()), Some(version.to_owned()));
        RawMetadata { name, resource_version, ..RawMetadata::default() }
    }

    /// The objects of a list, what the watch says during the comparison, and the server's list.
    #[track_caller]
    fn check(listed: &[&str], during: &[&str], server: &[&str], expected: usize) {
        let mut inventory = Inventory::default();
        inventory.list_begins();
        listed.iter().for_each(|short| inventory.listed(&metadata(short)));
        inventory.list_complete();
        inventory.comparison_begins();
        for short in during {
            match short.strip_prefix('-') {
                Some(short) => inventory.deleted(&metadata(short)),
                None => inventory.applied(&metadata(short)),
            }
        }
        let of = |short: &&str| ObjectVersion::of(&metadata(short), inventory.hasher());
        let server = server.iter().map(of).collect();
        assert_eq!(inventory.lost_count(server), Some(expected), "{listed:?} {during:?}");
    }

    #[test]
    fn lost_changes_and_races() {
        check(&["a@1", "b@2"], &[], &["b@2", "a@1"], 0);
        check(&["a@1"], &[], &["a@1", "b@2"], 1);
        check(&["a@1", "b@2"], &[], &["a@1"], 1);
        check(&["a@1", "b@2"], &[], &["a@3", "c@4"], 3);
        check(&[], &[], &[], 0);
        // The watch was faster than the list, or slower.
        check(&["a@1", "b@2"], &["a@5"], &["a@1", "b@2"], 0);
        check(&["a@1", "b@2"], &["-b@6"], &["a@1", "b@2"], 0);
        check(&["a@1"], &["b@2", "b@7"], &["a@1", "b@2"], 0);
        check(&["a@1", "b@2"], &["-b@3", "b@4"], &["a@1"], 0);
    }

    #[test]
    fn too_much_has_changed() {
        let mut inventory = Inventory::default();
        inventory.comparison_begins();
        (0..=TOUCHED_MAX).for_each(|index| inventory.applied(&metadata(&format!("a{index}@1"))));
        assert_eq!(inventory.lost_count(Vec::new()), None);
    }
}
