//! Look-ups in a table of zone files (RFC 1034, section 4.3.2), which answers as CoreDNS's `file`
//! does.
//!
//! `compile::zone` stores a whole response per name and type, and every name that exists, those
//! without records too. Names below a delegation or a DNAME are not stored. Invariant: the
//! ancestors of a stored name up to its zone's apex are stored, so the closest is found by halving.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::answer::Answer;
use crate::header::{TYPE_DS, TYPE_NS, TYPE_NSEC};
use crate::name::{NAME_LEN_MAX, Name};
use crate::segment::{ASTERISK, Entry, IS_DELEGATION, IS_DNAME, IS_EMPTY};

use super::{Denial, DenialKind, EVERY_TYPE, Found, Stored, Table, Wanted};

/// The type of the row at an apex that holds the zone's SOA for the authority section. No record
/// has it (RFC 6895, section 3.1).
pub(crate) const NEGATIVE_SOA: u16 = 0xFFFF;

/// Where a name lies: the zone that it belongs to, and what the client wants of it.
#[derive(Clone, Copy)]
struct Search<'t, 'n> {
    name: &'n Name,
    /// The zone's apex.
    apex: Entry<'t>,
    zone_index: usize,
    qtype: u16,
    /// The client wants signatures. Of an unsigned zone it gets none.
    is_signed: bool,
    rotation: usize,
}

impl Table {
    /// Looks up a name in the zone that it belongs to. `stored`: the entry under exactly this name.
    pub(super) fn look_up_in_zone<'t>(
        &'t self,
        stored: Option<Stored<'t>>,
        name: &Name,
        wanted: Wanted,
    ) -> Found<'t> {
        let Some((zone, labels_left)) = self.zones.find_below(name) else {
            return Found::Outside;
        };
        let Some(apex) = self.find(name.suffix_blocks(labels_left)) else {
            return Found::Unloaded;
        };
        let Wanted { qtype, dnssec_ok: is_signed, rotation } = wanted;
        let search = Search { name, apex, zone_index: zone.index, qtype, is_signed, rotation };
        match stored {
            Some(Stored(entry)) => self.at_name(entry, search),
            None => self.below(self.closest_encloser(name, labels_left), search),
        }
    }

    /// The longest stored ancestor of a name that is not stored, and the index of its first label.
    /// `labels_left`: labels in front of the apex, which is stored.
    fn closest_encloser(&self, name: &Name, labels_left: usize) -> (usize, Option<Entry<'_>>) {
        let find = |index| self.find(name.suffix_blocks(index));
        // Ancestors from `stored` on are stored, those before `absent` are not.
        let (mut absent, mut stored) = (1, labels_left);
        while absent < stored {
            let middle = absent.midpoint(stored);
            match find(middle) {
                Some(_) => stored = middle,
                None => absent = middle + 1,
            }
        }
        (stored, find(stored))
    }

    /// A name that is stored.
    fn at_name<'t>(&'t self, entry: Entry<'t>, search: Search<'t, '_>) -> Found<'t> {
        if entry.flags() & IS_DELEGATION != 0 && search.qtype != TYPE_DS {
            return self.referral(entry, search);
        }
        match search.answer(entry) {
            Some(answer) => Found::Answer(answer),
            None if entry.is_alias() => self.alias(entry, search),
            None if entry.flags() & IS_EMPTY != 0 => self.deny(DenialKind::Empty, search, None),
            None => self.deny(DenialKind::NoData, search, None),
        }
    }

    /// A name that is not stored, below its closest encloser.
    fn below<'t>(
        &'t self,
        (label_index, encloser): (usize, Option<Entry<'t>>),
        search: Search<'t, '_>,
    ) -> Found<'t> {
        let Some(encloser) = encloser else {
            debug_assert!(false, "the apex is stored");
            return Found::Unloaded;
        };
        if encloser.flags() & IS_DELEGATION != 0 {
            return self.referral(encloser, search);
        }
        if encloser.flags() & IS_DNAME != 0 {
            return self.alias(encloser, search);
        }
        let parent = search.name.suffix(label_index);
        let Some(entry) = self.find_wildcard_in(parent) else {
            return self.deny(DenialKind::NxDomain, search, Some(parent));
        };
        match search.answer(entry) {
            Some(answer) => match self.proof(search, search.name.bytes()) {
                Some(proof) => Found::Expanded(answer, proof),
                None => Found::Answer(answer),
            },
            None if entry.is_alias() => self.alias(entry, search),
            None => self.deny(DenialKind::NoData, search, Some(parent)),
        }
    }

    fn referral<'t>(&'t self, entry: Entry<'t>, search: Search<'t, '_>) -> Found<'t> {
        match entry.zone_answer(TYPE_NS, search.is_signed) {
            Some(servers) => Found::Referral(servers),
            None => self.deny(DenialKind::NoData, search, None),
        }
    }

    fn alias<'t>(&'t self, entry: Entry<'t>, search: Search<'t, '_>) -> Found<'t> {
        match entry.zone_answer(EVERY_TYPE, search.is_signed) {
            Some(records) => Found::Alias(records),
            None => self.deny(DenialKind::NoData, search, None),
        }
    }

    /// `wildcard_of`: the closest encloser, if a wildcard below it could have answered.
    fn deny<'t>(
        &'t self,
        kind: DenialKind,
        search: Search<'t, '_>,
        wildcard_of: Option<&[u8]>,
    ) -> Found<'t> {
        let Some(soa) = search.apex.zone_answer(NEGATIVE_SOA, search.is_signed) else {
            debug_assert!(false, "an apex has an SOA");
            return Found::Unloaded;
        };
        let of_name = self.proof(search, search.name.bytes());
        let of_wildcard = wildcard_of.and_then(|parent| {
            let mut wildcard = [0; NAME_LEN_MAX];
            let len = ASTERISK.len() + parent.len();
            let (asterisk, rest) = wildcard.get_mut(..len)?.split_at_mut(ASTERISK.len());
            asterisk.copy_from_slice(ASTERISK);
            rest.copy_from_slice(parent);
            self.proof(search, wildcard.get(..len)?)
        });
        let is_same = |one: &Answer<'_>| {
            of_name.is_some_and(|other| core::ptr::eq(one.body.as_ptr(), other.body.as_ptr()))
        };
        let proofs = [of_name, of_wildcard.filter(|one| !is_same(one))];
        Found::Denied(Denial { kind, soa, proofs })
    }

    /// The NSEC record that covers a name or belongs to it (RFC 4034, section 4), if the client
    /// wants it and the zone has one.
    fn proof<'t>(&'t self, search: Search<'t, '_>, name: &[u8]) -> Option<Answer<'t>> {
        let proofs = self.proofs.get(search.zone_index).filter(|_| search.is_signed)?;
        proofs.at_or_before(name)
    }
}

impl<'t> Search<'t, '_> {
    /// The records of the question's type at a name.
    fn answer(self, entry: Entry<'t>) -> Option<Answer<'t>> {
        match self.qtype {
            // No records have these types: the rows are for other purposes.
            EVERY_TYPE | NEGATIVE_SOA => None,
            qtype => {
                let answer = entry.zone_answer(qtype, self.is_signed)?;
                Some(entry.part_in_turn(answer, self.rotation))
            }
        }
    }
}

/// The NSEC records of one zone, in the canonical order of their owners.
#[derive(Clone, Default)]
pub(crate) struct Proofs {
    /// Sorted by key.
    pub(crate) rows: Arc<[Proof]>,
}

/// An owner's NSEC record with its signatures.
pub(crate) struct Proof {
    /// The owner's `CanonicalKey`.
    pub(crate) key: Box<[u8]>,
    /// An entry with a row for `TYPE_NSEC`.
    pub(crate) entry: Box<[u8]>,
}

impl Proofs {
    /// The record of the last owner that is not after the name.
    fn at_or_before(&self, name: &[u8]) -> Option<Answer<'_>> {
        let key = CanonicalKey::of(name);
        let behind = self.rows.partition_point(|row| *row.key <= *key.bytes());
        let row = self.rows.get(behind.checked_sub(1)?)?;
        Entry { bytes: &row.entry }.answer(TYPE_NSEC)
    }
}

/// Bytes whose order is that of the names (RFC 4034, section 6.1): the labels from the last to the
/// first, a zero byte after each. So the keys of the names below a name begin with its key.
pub(crate) struct CanonicalKey {
    bytes: [u8; KEY_LEN_MAX],
    len: usize,
}

/// Zeros and ones within a label take two bytes each.
const KEY_LEN_MAX: usize = 2 * NAME_LEN_MAX;

impl CanonicalKey {
    /// `name`: whole, lower case.
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut key = Self { bytes: [0; KEY_LEN_MAX], len: 0 };
        let mut starts = [0u8; crate::name::LABEL_COUNT_MAX];
        let (mut at, mut count) = (0, 0);
        while let Some(len) = name.get(at).filter(|len| **len > 0)
            && let Some(start) = starts.get_mut(count)
        {
            *start = at as u8;
            count += 1;
            at += 1 + usize::from(*len);
        }
        for start in starts.iter().take(count).rev().map(|start| usize::from(*start)) {
            let len = name.get(start).map_or(0, |len| usize::from(*len));
            for byte in name.get(start + 1..start + 1 + len).unwrap_or_default() {
                if *byte < 2 {
                    key.push(1);
                }
                key.push(*byte);
            }
            key.push(0);
        }
        key
    }

    fn push(&mut self, byte: u8) {
        if let Some(to) = self.bytes.get_mut(self.len) {
            *to = byte;
            self.len += 1;
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
