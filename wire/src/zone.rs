//! Which of a set of zones a name belongs to: the longest one, by whole labels (RFC 1034, section 4.3.2).

use alloc::vec::Vec;

use crate::name::Name;

/// Zones in wire format, found by the right end of a name.
///
/// A cluster has a handful of zones, or some hundred where CIDRs were expanded at label boundaries, but those are of few
/// different lengths. So: one comparison of a boundary a length, then a binary search among the zones of that length.
#[derive(Clone, Debug, Default)]
pub struct ZoneSet {
    /// The index of the root zone where there is no other, as in most Corefiles: it encloses every name.
    root_alone: Option<usize>,
    /// Longest first, no length twice.
    lengths: Vec<OneLength>,
}

#[derive(Clone, Debug)]
struct OneLength {
    name_len: usize,
    /// (zone, its index in the order of `new`), sorted.
    zones: Vec<(Vec<u8>, usize)>,
}

/// A zone that encloses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enclosing {
    /// Which zone, in the order that `ZoneSet::new` was given.
    pub index: usize,
    /// Where in the name the zone begins: 0 at the apex.
    pub name_offset: usize,
}

impl ZoneSet {
    /// `zones`: wire format, lower case. Of equal zones the first counts.
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
    pub fn find(&self, name: &Name) -> Option<Enclosing> {
        match self.root_alone {
            Some(index) => Some(Enclosing { index, name_offset: name.bytes().len() - 1 }),
            None => self.find_among_others(name),
        }
    }

    #[cold] // Said for the other way's sake: that one then keeps its registers.
    fn find_among_others(&self, name: &Name) -> Option<Enclosing> {
        self.find_below(name).map(|(enclosing, _)| enclosing)
    }

    /// As `find`, with the count of labels in front of the zone.
    #[must_use]
    pub fn find_below(&self, name: &Name) -> Option<(Enclosing, usize)> {
        let bytes = name.bytes();
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
                && let Some(labels_in_front) = name.label_starting_at(offset)
            {
                return Some((Enclosing { index, name_offset: offset }, labels_in_front));
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
        // The bytes of a zone inside a label are no zone.
        check(&[b"\x01a\0"], b"\x03b\x01a\0", None);
        check(&[], b"\0", None);
    }
}
