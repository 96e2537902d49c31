//! Writes the model out in pieces, while it changes.
//!
//! Objects that may have changed behind the walk are written again at its end, or taken back.
//! Invariant: once the walk is complete, its lines describe the model as it is at that moment: the
//! last line about an object counts.

use std::collections::BTreeSet;

use super::{END_MARK, End, line};
use crate::cluster::{Cluster, KeyParts, Numbered, ObjectId};
use crate::object::{Change, Event, ObjectKey};
use crate::raw::Kind;

/// Objects and bytes per piece, which delays the events that arrive meanwhile by its cost: some
/// 0.1 ms.
const PIECE_OBJECTS_MAX: usize = 64;
const PIECE_LEN_MAX: usize = 32 << 10;

/// A walk through all objects, by kind and number.
#[derive(Debug)]
pub(super) struct Walk {
    /// The kind that is being written, and the number to go on from. `None` after the last one.
    next: Option<(Kind, ObjectId)>,
    /// Those that have changed since their kind was begun. Numbers are used again, so it is not
    /// known whether they have been written.
    changed: BTreeSet<(Kind, ObjectKey)>,
    line_count: u64,
}

/// What an event means for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Kept,
    /// A list is about to replace all objects of its kind: begin again.
    Replaced,
}

/// How far the walk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Underway,
    Complete,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            next: Some((Kind::ALL[0], ObjectId::LOWEST)),
            changed: BTreeSet::new(),
            line_count: 0,
        }
    }

    /// Notes a change before the model applies it.
    pub(super) fn note(&mut self, event: &Event) -> Noted {
        let (kind, keys) = changed_keys(event);
        match keys {
            ChangedKeys::None => {}
            ChangedKeys::All => return Noted::Replaced,
            ChangedKeys::One(key) => {
                if self.next.is_none_or(|(current, _)| kind <= current) {
                    self.changed.insert((kind, key));
                }
            }
        }
        Noted::Kept
    }

    /// Appends the next piece.
    pub(super) fn write(&mut self, cluster: &Cluster, into: &mut Vec<u8>) -> Progress {
        if let Some((kind, first)) = self.next {
            let piece = write_from(cluster, kind, first, PIECE_OBJECTS_MAX, into);
            self.line_count += piece.count;
            let next_kind = Kind::ALL.into_iter().find(|other| *other > kind);
            self.next = match piece.next {
                Some(next) => Some((kind, next)),
                None => next_kind.map(|kind| (kind, ObjectId::LOWEST)),
            };
            return Progress::Underway;
        }
        for _ in 0..PIECE_OBJECTS_MAX {
            let Some((kind, key)) = self.changed.pop_first() else {
                let snapshot = END_MARK.to_owned();
                line::line(&End { snapshot, lines: self.line_count }, into);
                return Progress::Complete;
            };
            self.line_count += 1;
            match cluster.object_id(kind, &key) {
                Some(id) => {
                    write_from(cluster, kind, id, 1, into);
                }
                None => line::deleted(kind, &key, into),
            }
        }
        Progress::Underway
    }
}

/// Which objects of its kind an event changes.
enum ChangedKeys {
    None,
    One(ObjectKey),
    All,
}

fn changed_keys(event: &Event) -> (Kind, ChangedKeys) {
    match event {
        Event::Namespace(change) => {
            let key = |name: &str| ObjectKey { namespace: "".into(), name: name.into() };
            (Kind::Namespace, keys_of(change, |one| key(&one.name), |name| key(name)))
        }
        Event::Service(change) => {
            (Kind::Service, keys_of(change, |one| one.key.clone(), ObjectKey::clone))
        }
        Event::EndpointSlice(change) => {
            (Kind::EndpointSlice, keys_of(change, |one| one.key.clone(), ObjectKey::clone))
        }
        Event::Pod(change) => (Kind::Pod, keys_of(change, |one| one.key.clone(), ObjectKey::clone)),
    }
}

fn keys_of<T, K>(
    change: &Change<T, K>,
    of_object: impl FnOnce(&T) -> ObjectKey,
    of_deleted: impl FnOnce(&K) -> ObjectKey,
) -> ChangedKeys {
    match change {
        Change::Init | Change::InitApply(_) | Change::InitDropped => ChangedKeys::None,
        Change::Apply(object) => ChangedKeys::One(of_object(object)),
        Change::Delete(key) => ChangedKeys::One(of_deleted(key)),
        Change::InitDone | Change::Remembered(_) => ChangedKeys::All,
    }
}

/// A part of the objects of a kind.
struct WalkPiece {
    count: u64,
    /// The number of the first object that is left.
    next: Option<ObjectId>,
}

/// Writes at most so many objects, from this number on.
fn write_from(
    cluster: &Cluster,
    kind: Kind,
    first: ObjectId,
    count_max: usize,
    into: &mut Vec<u8>,
) -> WalkPiece {
    match kind {
        Kind::Namespace => write_objects(cluster.namespaces_from(first), count_max, |key, ()| {
            line::namespace(key.name, into)
        }),
        Kind::Service => write_objects(cluster.services_from(first), count_max, |key, one| {
            line::service(key, one, into)
        }),
        Kind::EndpointSlice => write_objects(cluster.slices_from(first), count_max, |key, one| {
            line::slice(key, cluster.service_name(one), one, into)
        }),
        Kind::Pod => {
            write_objects(cluster.pods_from(first), count_max, |key, one| line::pod(key, one, into))
        }
    }
}

/// `write` returns the length of the piece so far.
fn write_objects<'c, V: 'c>(
    objects: impl Iterator<Item = Numbered<'c, V>>,
    count_max: usize,
    mut write: impl FnMut(KeyParts<'c>, &'c V) -> usize,
) -> WalkPiece {
    let (mut count, mut len) = (0, 0);
    for (id, key, object) in objects {
        if count == count_max || len >= PIECE_LEN_MAX {
            return WalkPiece { count: count as u64, next: Some(id) };
        }
        len = write(key, object);
        count += 1;
    }
    WalkPiece { count: count as u64, next: None }
}
