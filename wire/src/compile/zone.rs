//! Writes the names of a zone: of its records, whole responses as CoreDNS's `file` gives them.
//!
//! A response has the zone's name servers in its authority section and the addresses of its targets
//! in the additional section, so that the packet path copies it. `table::zone` finds it again.
//! Invariant: every name that exists is written, those without records too, up to the apex; names
//! below a delegation or a DNAME are not.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::entry::{EntryWriter, RowList, Section};
use crate::header::{
    TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_DNAME, TYPE_DS, TYPE_HTTPS, TYPE_MX, TYPE_NS, TYPE_NSEC,
    TYPE_RRSIG, TYPE_SOA, TYPE_SRV, TYPE_SVCB, u16_at,
};
use crate::name::Name;
use crate::record::owner_len;
use crate::reply::MESSAGE_LEN_MAX;
use crate::response::ALIAS_LEN_MAX;
use crate::segment::{ASTERISK, HAS_HIDDEN_ROWS, IS_ALIAS, IS_DELEGATION, IS_DNAME, IS_EMPTY};
use crate::table::{CanonicalKey, EVERY_TYPE, NEGATIVE_SOA, Proof, Proofs};

/// CNAMEs of a response that are followed within the zone.
const CHAIN_LEN_MAX: usize = 8;

/// Types of a name that are written, the lowest: an entry counts its rows in a byte.
const TYPE_COUNT_MAX: usize = 250;

/// More records than a response can hold: each has twelve bytes before its data.
const RECORD_COUNT_MAX: usize = MESSAGE_LEN_MAX / 12;

/// A record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Wire format, lower case, without zero bytes in labels.
    pub owner: Box<[u8]>,
    pub rtype: u16,
    pub ttl_secs: u32,
    /// Uncompressed.
    pub rdata: Box<[u8]>,
}

/// The records of one zone, by name and type.
pub struct ZoneRecords {
    origin: Box<[u8]>,
    /// By canonical key, so that the names below a name follow it.
    nodes: BTreeMap<Box<[u8]>, Node>,
    is_signed: bool,
}

/// A name with records.
struct Node {
    owner: Box<[u8]>,
    sets: BTreeMap<u16, RecordSet>,
}

/// The records of a type, and the signatures that cover them.
#[derive(Default)]
struct RecordSet {
    records: Vec<Data>,
    signatures: Vec<Data>,
}

#[derive(Clone, PartialEq, Eq)]
struct Data {
    ttl_secs: u32,
    rdata: Box<[u8]>,
}

impl ZoneRecords {
    /// Sorts the records of a zone. Records outside it are ignored, and of repeated ones the first
    /// counts (RFC 2181, section 5). `None` without an SOA.
    ///
    /// `origin`: wire format, lower case.
    #[must_use]
    pub fn new(origin: &[u8], records: impl IntoIterator<Item = ZoneRecord>) -> Option<Self> {
        let apex_key = key(origin);
        let mut zone = Self { origin: origin.into(), nodes: BTreeMap::new(), is_signed: false };
        for ZoneRecord { owner, rtype, ttl_secs, rdata } in records {
            let key = key(&owner);
            if !key.starts_with(&apex_key) {
                continue;
            }
            let node =
                zone.nodes.entry(key).or_insert_with(|| Node { owner, sets: BTreeMap::new() });
            let data = Data { ttl_secs, rdata };
            if rtype == TYPE_RRSIG {
                zone.is_signed = true;
                let covered = node.sets.entry(u16_at(&data.rdata, 0)).or_default();
                insert(&mut covered.signatures, data.clone());
            }
            let set = node.sets.entry(rtype).or_default();
            match rtype {
                // A zone has one SOA, and as in CoreDNS it is the last; a name has one CNAME and
                // one DNAME (RFC 2181, section 10.1; RFC 6672, section 2.4).
                TYPE_SOA => set.records = alloc::vec![data],
                TYPE_CNAME | TYPE_DNAME if !set.records.is_empty() => {}
                _ => insert(&mut set.records, data),
            }
        }
        let has_soa = zone.apex().is_some_and(|apex| apex.has(TYPE_SOA));
        has_soa.then_some(zone)
    }

    /// The zone's name.
    #[must_use]
    pub fn origin(&self) -> &[u8] {
        &self.origin
    }

    /// The SOA's serial number.
    #[must_use]
    pub fn serial(&self) -> u32 {
        let soa = self.apex().and_then(|apex| apex.set(TYPE_SOA)?.records.first());
        let timers = soa.and_then(|soa| soa.rdata.last_chunk::<20>());
        timers
            .and_then(|timers| timers.first_chunk())
            .map_or(0, |serial| u32::from_be_bytes(*serial))
    }

    fn apex(&self) -> Option<&Node> {
        self.nodes.get(&key(&self.origin))
    }

    fn node(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(&key(name))
    }

    /// Writes an entry for each name of the zone for which `is_here` is true; returns the proofs of
    /// absence.
    pub(super) fn write(
        &self,
        is_here: impl Fn(&Name) -> bool,
        mut insert: impl FnMut(&[u8]),
    ) -> Proofs {
        let mut writer = EntryWriter::new();
        let mut proofs = Vec::new();
        let mut written = BTreeSet::new();
        let mut hidden_behind: Option<&[u8]> = None;
        for (key, node) in &self.nodes {
            if hidden_behind.is_some_and(|above| key.starts_with(above)) {
                continue;
            }
            if node.is_delegation(self) || node.has(TYPE_DNAME) {
                hidden_behind = Some(key);
            }
            for name in self.ancestors_without_records(&node.owner, &mut written) {
                if Name::from_wire(name).is_some_and(|name| is_here(&name)) {
                    writer.begin(name);
                    insert(writer.finish_with(HAS_HIDDEN_ROWS | IS_EMPTY));
                }
            }
            if !Name::from_wire(&node.owner).is_some_and(|name| is_here(&name)) {
                continue;
            }
            written.insert(node.owner.to_vec());
            insert(self.write_node(node, &mut writer));
            if let Some(proof) = node.set(TYPE_NSEC).filter(|_| self.is_signed) {
                writer.begin(&[0]);
                writer.answer(TYPE_NSEC);
                proof.write(&mut writer, Section::Authority, &node.owner, TYPE_NSEC, true);
                let entry = writer.finish().into();
                proofs.push(Proof { key: key.clone(), entry });
            }
        }
        Proofs { rows: proofs.into() }
    }

    /// The names between a name and the apex that have no records and are not `known` yet.
    fn ancestors_without_records<'n>(
        &self,
        name: &'n [u8],
        known: &mut BTreeSet<Vec<u8>>,
    ) -> Vec<&'n [u8]> {
        let mut found = Vec::new();
        let mut rest = name;
        while rest.len() > self.origin.len() {
            rest = &rest[1 + usize::from(rest[0])..];
            if rest.len() <= self.origin.len() || !known.insert(rest.to_vec()) {
                break;
            }
            if self.node(rest).is_none() {
                found.push(rest);
            }
        }
        found
    }

    fn write_node<'w>(&self, node: &Node, writer: &'w mut EntryWriter) -> &'w [u8] {
        writer.begin(&node.owner);
        let mut flags = HAS_HIDDEN_ROWS;
        let is_apex = node.owner == self.origin;
        if is_apex {
            write_both(
                writer,
                RowList::Hidden,
                NEGATIVE_SOA,
                self.is_signed,
                |writer, is_signed| {
                    node.write(writer, Section::Authority, TYPE_SOA, is_signed);
                },
            );
        }
        if node.is_delegation(self) {
            flags |= IS_DELEGATION;
            // DS records go with signatures, though they are none; so does the proof that there is
            // none (RFC 4035, section 3.1.4.1).
            let has_more = self.is_signed || node.has(TYPE_DS);
            write_both(writer, RowList::Hidden, TYPE_NS, has_more, |writer, is_signed| {
                node.write(writer, Section::Authority, TYPE_NS, false);
                if is_signed {
                    let rtype = if node.has(TYPE_DS) { TYPE_DS } else { TYPE_NSEC };
                    node.write(writer, Section::Authority, rtype, true);
                }
                self.write_glue(writer, node, is_signed);
            });
            if node.has(TYPE_DS) {
                self.write_type(writer, node, TYPE_DS);
            }
        } else {
            let is_dname = node.has(TYPE_DNAME);
            if is_dname || node.has(TYPE_CNAME) {
                flags |= if is_dname { IS_DNAME } else { IS_ALIAS };
                let write = |writer: &mut EntryWriter, is_signed| {
                    if is_dname {
                        node.write_spelled(writer, TYPE_DNAME, is_signed);
                    } else {
                        self.write_chain(writer, node, is_signed);
                    }
                };
                write_both(writer, RowList::Hidden, EVERY_TYPE, self.is_signed, write);
            }
            let is_alias = flags & IS_ALIAS != 0;
            for rtype in node.types().take(TYPE_COUNT_MAX) {
                let at_apex = is_apex && matches!(rtype, TYPE_SOA | TYPE_NS);
                if !is_alias || at_apex || rtype == TYPE_CNAME {
                    self.write_type(writer, node, rtype);
                }
            }
            let is_bare = |rtype| matches!(rtype, TYPE_SOA | TYPE_NS);
            if is_apex && node.types().all(is_bare) {
                flags |= IS_EMPTY;
            }
        }
        writer.finish_with(flags)
    }

    /// Writes the response for a type that the name has.
    fn write_type(&self, writer: &mut EntryWriter, node: &Node, rtype: u16) {
        // The fast path does not know about signatures.
        let list = if self.is_signed { RowList::Hidden } else { RowList::Open };
        let is_apex = node.owner == self.origin;
        write_both(writer, list, rtype, self.is_signed, |writer, is_signed| {
            node.write(writer, Section::Answer, rtype, is_signed);
            if !(is_apex && rtype == TYPE_NS)
                && let Some(apex) = self.apex()
            {
                apex.write(writer, Section::Authority, TYPE_NS, is_signed);
            }
            match (is_apex, rtype) {
                (true, TYPE_NS) => self.write_glue(writer, node, is_signed),
                (_, TYPE_MX | TYPE_SVCB | TYPE_HTTPS) => {
                    self.write_addresses(writer, node.targets(rtype, 2), &self.origin, is_signed);
                }
                (_, TYPE_SRV) => {
                    self.write_addresses(writer, node.targets(rtype, 6), &self.origin, is_signed);
                }
                _ => {}
            }
        });
    }

    /// Writes the addresses of the name servers of a zone whose names lie in it.
    fn write_glue(&self, writer: &mut EntryWriter, node: &Node, is_signed: bool) {
        self.write_addresses(writer, node.targets(TYPE_NS, 0), &node.owner, is_signed);
    }

    /// Writes the addresses of the targets at or below this name, each once.
    fn write_addresses(
        &self,
        writer: &mut EntryWriter,
        targets: impl Iterator<Item = Box<[u8]>>,
        below: &[u8],
        is_signed: bool,
    ) {
        let below = key(below);
        let mut seen = BTreeSet::new();
        for target in targets {
            let key = key(&target);
            let Some(node) = self.nodes.get(&key).filter(|_| key.starts_with(&below)) else {
                continue;
            };
            if seen.insert(key) {
                node.write(writer, Section::Additional, TYPE_A, is_signed);
                node.write(writer, Section::Additional, TYPE_AAAA, is_signed);
            }
        }
    }

    /// Writes the CNAME of a name, and those that it leads to within the zone.
    fn write_chain(&self, writer: &mut EntryWriter, node: &Node, is_signed: bool) {
        let mut owner = node.owner.clone();
        let mut seen = Vec::new();
        let mut node = node;
        let mut room = ALIAS_LEN_MAX;
        for _ in 0..CHAIN_LEN_MAX {
            let Some(set) = node.set(TYPE_CNAME) else { return };
            let Some(cname) = set.records.first() else { return };
            let signatures = if is_signed { set.signatures.as_slice() } else { &[] };
            let parts = [cname].into_iter().chain(signatures);
            let len: usize = parts.map(|data| owner.len() + 10 + data.rdata.len()).sum();
            let is_first = seen.is_empty();
            if len > room && !is_first {
                return;
            }
            // Signatures that leave no room are left out.
            set.write(writer, Section::Answer, &owner, TYPE_CNAME, is_signed && len <= room);
            room = room.saturating_sub(len);
            seen.push(owner);
            let Some(target) = Name::from_wire(&cname.rdata) else { return };
            if seen.iter().any(|name| **name == *target.bytes()) {
                return;
            }
            let Some(next) = self.alias_at(target.bytes()) else { return };
            (owner, node) = (target.bytes().into(), next);
        }
    }

    /// The name whose CNAME answers for a name of the zone: itself, or a wildcard.
    fn alias_at(&self, name: &[u8]) -> Option<&Node> {
        if !key(name).starts_with(&key(&self.origin)) {
            return None;
        }
        let has_cname = |node: &&Node| node.has(TYPE_CNAME) && !node.has(TYPE_DNAME);
        let mut rest = name;
        let mut closest = None;
        // From the name up to the apex: the first that exists is the closest encloser, and none
        // may hide the names below it.
        loop {
            if let Some(node) = self.node(rest)
                && rest.len() < name.len()
                && (node.is_delegation(self) || node.has(TYPE_DNAME))
            {
                return None;
            }
            if closest.is_none() && self.exists(rest) {
                closest = Some(rest);
            }
            if rest.len() <= self.origin.len() {
                break;
            }
            rest = &rest[1 + usize::from(rest[0])..];
        }
        let closest = closest?;
        let answering = if closest.len() == name.len() {
            self.node(name).filter(|node| !node.is_delegation(self))
        } else {
            self.node(&[ASTERISK, closest].concat())
        };
        answering.filter(has_cname)
    }

    /// Whether the name, or one below it, has records.
    fn exists(&self, name: &[u8]) -> bool {
        let key = key(name);
        let next = self.nodes.range(key.clone()..).next();
        next.is_some_and(|(next, _)| next.starts_with(&key))
    }
}

impl Node {
    fn set(&self, rtype: u16) -> Option<&RecordSet> {
        self.sets.get(&rtype).filter(|set| !set.records.is_empty())
    }

    fn has(&self, rtype: u16) -> bool {
        self.set(rtype).is_some()
    }

    fn types(&self) -> impl Iterator<Item = u16> {
        self.sets.keys().copied().filter(|rtype| self.has(*rtype))
    }

    /// Whether another zone begins at this name. Name servers of a wildcard are no delegation (RFC
    /// 4592, section 4.2).
    fn is_delegation(&self, zone: &ZoneRecords) -> bool {
        self.has(TYPE_NS) && self.owner != zone.origin && !self.owner.starts_with(ASTERISK)
    }

    /// The names in the data of these records, lower case. `skip`: bytes before the name.
    fn targets(&self, rtype: u16, skip: usize) -> impl Iterator<Item = Box<[u8]>> {
        let records = self.set(rtype).map_or(&[][..], |set| &set.records);
        records.iter().filter_map(move |data| {
            let name = data.rdata.get(skip..)?;
            Some(name.get(..owner_len(name)?)?.to_ascii_lowercase().into())
        })
    }

    fn write(&self, writer: &mut EntryWriter, section: Section, rtype: u16, is_signed: bool) {
        if let Some(set) = self.set(rtype) {
            set.write(writer, section, &self.owner, rtype, is_signed);
        }
    }

    /// Writes records of the answer whose owner is not the question's name.
    fn write_spelled(&self, writer: &mut EntryWriter, rtype: u16, is_signed: bool) {
        let Some(set) = self.set(rtype) else { return };
        let signatures = if is_signed { set.signatures.as_slice() } else { &[] };
        let of_type = set.records.iter().map(|data| (rtype, data));
        for (rtype, Data { ttl_secs, rdata }) in
            of_type.chain(signatures.iter().map(|data| (TYPE_RRSIG, data)))
        {
            writer.spelled_record(&self.owner, rtype, *ttl_secs, rdata);
        }
    }
}

impl RecordSet {
    fn write(
        &self,
        writer: &mut EntryWriter,
        section: Section,
        owner: &[u8],
        rtype: u16,
        is_signed: bool,
    ) {
        for Data { ttl_secs, rdata } in &self.records {
            writer.record(section, owner, rtype, *ttl_secs, rdata);
        }
        for Data { ttl_secs, rdata } in self.signatures.iter().filter(|_| is_signed) {
            writer.record(section, owner, TYPE_RRSIG, *ttl_secs, rdata);
        }
    }
}

/// Writes a row of this list, and another one for clients that want signatures, if there are some.
fn write_both(
    writer: &mut EntryWriter,
    list: RowList,
    rtype: u16,
    has_signatures: bool,
    write: impl Fn(&mut EntryWriter, bool),
) {
    writer.answer_in(list, rtype);
    write(writer, false);
    if has_signatures {
        writer.answer_in(RowList::Signed, rtype);
        write(writer, true);
    }
}

/// Adds a record, unless the same one is there already, whatever its TTL.
fn insert(records: &mut Vec<Data>, data: Data) {
    if records.len() < RECORD_COUNT_MAX && !records.iter().any(|one| one.rdata == data.rdata) {
        records.push(data);
    }
}

fn key(name: &[u8]) -> Box<[u8]> {
    CanonicalKey::of(name).bytes().into()
}
