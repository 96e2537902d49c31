//! What a fake API server stores: the objects, the events since, and the current version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prost::bytes::Bytes;

use super::object::{FakeObject, Resource, uid};

/// Events that a watch may still ask for; older ones are gone.
const EVENTS_MAX: usize = 100_000;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// An object and its protobuf.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) object: FakeObject,
    pub(super) protobuf: Bytes,
}

impl Stored {
    fn new(object: FakeObject) -> Arc<Self> {
        let protobuf = object.to_protobuf(false);
        Arc::new(Self { object, protobuf })
    }
}

#[derive(Clone, Debug)]
pub(super) struct StoredEvent {
    pub(super) version: u64,
    pub(super) kind: EventKind,
    pub(super) stored: Arc<Stored>,
}

type Key = (String, String);

#[derive(Clone)]
pub(super) struct Store {
    pub(super) version: u64,
    /// A watch from an older version is answered with 410 Gone.
    pub(super) oldest: u64,
    objects: [BTreeMap<Key, Arc<Stored>>; 4],
    events: VecDeque<StoredEvent>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { version: 1_000, oldest: 1_000, objects: Default::default(), events: VecDeque::new() }
    }

    /// Creates or changes an object. One made again gets a new uid.
    pub(super) fn put(&mut self, mut object: FakeObject) {
        self.version += 1;
        let of_kind = &mut self.objects[object.resource().index()];
        let before = of_kind.get(&object.key());
        let metadata = object.metadata_mut();
        metadata.resource_version = self.version.to_string();
        metadata.uid =
            before.map_or_else(|| uid(self.version), |before| before.object.metadata().uid.clone());
        let kind = if before.is_some() { EventKind::Modified } else { EventKind::Added };
        let stored = Stored::new(object);
        of_kind.insert(stored.object.key(), Arc::clone(&stored));
        self.note(kind, stored);
    }

    /// Deletes an object, if it exists.
    pub(super) fn delete(&mut self, resource: Resource, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(gone) = self.objects[resource.index()].remove(&key) else { return };
        self.version += 1;
        let mut object = gone.object.clone();
        object.metadata_mut().resource_version = self.version.to_string();
        self.note(EventKind::Deleted, Stored::new(object));
    }

    /// Forgets all events: watches from older versions are gone.
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.events.clear();
    }

    pub(super) fn objects(&self, resource: Resource) -> impl Iterator<Item = &Arc<Stored>> {
        self.objects[resource.index()].values()
    }

    /// The events of a kind after a version.
    pub(super) fn events_after(&self, version: u64, resource: Resource) -> Vec<StoredEvent> {
        let from = self.events.partition_point(|event| event.version <= version);
        let later = self.events.range(from..);
        later.filter(|event| event.stored.object.resource() == resource).cloned().collect()
    }

    fn note(&mut self, kind: EventKind, stored: Arc<Stored>) {
        if self.events.len() == EVENTS_MAX {
            self.oldest = self.events.pop_front().map_or(self.oldest, |event| event.version);
        }
        self.events.push_back(StoredEvent { version: self.version, kind, stored });
    }
}
