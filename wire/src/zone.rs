//! The zone that a name belongs to: of a set, the longest that encloses it, by whole labels (RFC
//! 1034, section 4.3.2).
//!
//! Invariant: `find` and `find_below` find the same zone.

use alloc::vec::Vec;

use crate::name::{Name, label_starting_at};

/// A set of zones in wire format, searched by the end of a name.
///
/// A cluster has a handful of zones, or some hundred if CIDRs were expanded at label boundaries,
/// but of few different lengths. So the search does one comparison per length, then a binary search
/// among the zones of that length.
#[derive(Clone, Debug, Default)]
pub struct ZoneSet {
    /// The index of the root zone if it is the only zone, as in most Corefiles: it encloses every
    /// name.
    root_alone: Option<usize>,
    /// Longest first. Each length occurs once.
    lengths: Vec<OneLength>,
}

#[derive(Clone, Debug)]
struct OneLength {
    name_len: usize,
    /// Each zone, and its index in the order of `new`. Sorted.
    zones: Vec<(Vec<u8>, usize)>,
}

/// A zone that encloses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclosingZone {
    /// Index of the zone, in the order of `ZoneSet::new`.
    pub index: usize,
    /// Offset of the zone in the name: 0 at the apex.
    pub name_offset: usize,
}

impl ZoneSet {
    /// `zones`: wire format, lower case. The first of equal zones counts.
    #[must_use]
    pub fn new<Z: AsRef<[u8]>>(zones: &[Z]) -> Self {
        let mut set = Self::default();
        for (index, zone) in zones.iter().map(AsRef::as_ref).enumerate() {
            let zones = match set.lengths.iter_mut().find(|one| one.name_len == zone.len()) {
                Some(one) => &mut one.zones,
                None => {
                    set.lengths.push(OneLength { name_len: zone.len(), zones: Vec::new() });
                    &mut set.lengths.last_mut().expect("just pushed").zones
                }
            };
            if let Err(at) = zones.binary_search_by(|(other, _)| other.as_slice().cmp(zone)) {
                zones.insert(at, (zone.to_vec(), index));
            }
        }
        set.lengths.sort_by_key(|one| core::cmp::Reverse(one.name_len));
        if let [OneLength { name_len: 1, zones }] = set.lengths.as_slice() {
            set.root_alone = zones.first().map(|(_, index)| *index);
        }
        set
    }

    /// The longest zone that encloses `name`.
    #[must_use]
    #[inline(always)]
    pub fn find(&self, name: &Name) -> Option<EnclosingZone> {
        match self.root_alone {
            Some(index) => Some(EnclosingZone { index, name_offset: name.bytes().len() - 1 }),
            None => self.find_among_others(name),
        }
    }

    #[cold] // Keeps the other branch's values in registers.
    fn find_among_others(&self, name: &Name) -> Option<EnclosingZone> {
        self.find_below(name).map(|(enclosing, _)| enclosing)
    }

    /// The same, with the number of labels in front of the zone.
    #[must_use]
    pub fn find_below(&self, name: &Name) -> Option<(EnclosingZone, usize)> {
        self.find_in_wire(name.bytes())
    }

    /// The same for a name in wire format and lower case.
    #[must_use]
    #[inline(always)]
    pub(crate) fn find_in_wire(&self, bytes: &[u8]) -> Option<(EnclosingZone, usize)> {
        for one in &self.lengths {
            let Some(offset) = bytes.len().checked_sub(one.name_len) else { continue };
            let suffix = bytes.get(offset..).unwrap_or_default();
            let found = match one.zones.as_slice() {
                [(only, index)] if only == suffix => Some(*index),
                [_] => None,
                many => many
                    .binary_search_by(|(zone, _)| zone.as_slice().cmp(suffix))
                    .ok()
                    .and_then(|at| many.get(at))
                    .map(|(_, index)| *index),
            };
            if let Some(index) = found
                && let Some(labels_in_front) = label_starting_at(bytes, offset)
            {
                return Some((EnclosingZone { index, name_offset: offset }, labels_in_front));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn check(zones: &[&[u8]], name: &[u8], expected: Option<(usize, usize)>) {
        let mut read = Name::default();
        read.read(name).unwrap();
        let found = ZoneSet::new(zones).find(&read);
        assert_eq!(
            found.map(|zone| (zone.index, read.label_starting_at(zone.name_offset).unwrap())),
            expected,
            "{name:?}"
        );
    }

    #[test]
    fn longest_zone_by_whole_labels() {
        let zones: &[&[u8]] = &[
            b"\x07cluster\x05local\0",
            b"\0",
            b"\x03svc\x07cluster\x05local\0",
            b"\x0210\x07in-addr\x04arpa\0",
            b"\x0211\x07in-addr\x04arpa\0",
        ];
        check(zones, b"\x07cluster\x05local\0", Some((0, 0)));
        check(zones, b"\x01a\x07cluster\x05local\0", Some((0, 1)));
        check(zones, b"\x01a\x03svc\x07CLUSTER\x05local\0", Some((2, 1)));
        check(zones, b"\x05local\0", Some((1, 1)));
        check(zones, b"\0", Some((1, 0)));
        check(zones, b"\x011\x0211\x07in-addr\x04arpa\0", Some((4, 1)));
        check(zones, b"\x011\x0212\x07in-addr\x04arpa\0", Some((1, 4)));
        // Bytes inside a label do not count.
        check(&[b"\x01a\0"], b"\x03b\x01a\0", None);
        check(&[], b"\0", None);
    }
}
