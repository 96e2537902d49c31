//! Builds tables: records to entries, entries to segments, segments to generations. The control plane's side of `table`.
//!
//! Invariant: a generation that has been published is never changed; the next one shares every segment that holds no
//! changed name.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::apex::{ApexRecords, soa_record};
use crate::hash::{HashSeed, NameHash};
use crate::header::{CLASS_IN, HEADER_LEN, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_SRV};
use crate::kubernetes::PodMode;
use crate::name::{BLOCK_LEN, NAME_LEN_MAX, Name, block_count};
use crate::reply::MESSAGE_LEN_MAX;
use crate::table::{
    ASTERISK, ENTRY_HEAD_LEN, EVERY_TYPE, Entry, HAS_NO_SOA, IN_REVERSE_ZONE, IS_ALIAS,
    IS_WILDCARD, NameRules, ROW_LEN, SLOT_LEN, Segment, Table, segment_index, slot_and_tag, u32_le,
};
use crate::zone::ZoneSet;

/// Most bytes of a body: a message less its header, its question and an OPT.
const BODY_LEN_MAX: usize = MESSAGE_LEN_MAX - HEADER_LEN - (NAME_LEN_MAX + 4) - 11;
/// A compression pointer has 14 bits (RFC 1035, section 4.1.4).
const POINTER_MAX: usize = 0x3FFF;
/// Names per segment that a table is laid out for: a change rebuilds about this many entries for each name it touches.
const SEGMENT_NAMES: usize = 16;
const SEGMENT_COUNT_MIN: usize = 64;

/// Which section of the answer a record stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Answer,
    Additional,
}

/// Writes the answers of one owner name, record by record, in wire format.
///
/// Use: `begin(name)`, then for each type that has an answer `answer(type)` followed by its `record(…)`s, then `finish()`.
/// A name without an answer exists with no data (NODATA for every type); so is a type that is not named. CNAMEs answer every type:
/// they go under `answer(EVERY_TYPE)`, and what is behind them is looked for when it is asked for.
#[derive(Default)]
pub struct EntryWriter {
    name: Vec<u8>,
    rows: Vec<Row>,
    /// The bodies of all rows, one behind the other.
    bodies: Vec<u8>,
    /// Names of the message being written and where they stand in it, apart from the question's.
    targets: Vec<Target>,
    /// The target that was pointed at last: additional records follow the order of the targets, so the next is near.
    target_cursor: usize,
    entry: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    rtype: u16,
    body_at: usize,
    body_len: usize,
    answers: u16,
    additionals: u16,
    rotate_at: usize,
    rotate_count: u16,
    rotate_stride: u16,
    is_full: bool,
}

/// A name inside the record data of this message, which later owners can point at.
#[derive(Clone, Copy)]
struct Target {
    /// Where the name stands in `bodies`.
    at: usize,
    len: usize,
}

impl EntryWriter {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `name`: wire format, lower case, uncompressed, 1 to 255 bytes.
    pub fn begin(&mut self, name: &[u8]) {
        assert!((1..=NAME_LEN_MAX).contains(&name.len()), "a name of {} bytes", name.len());
        self.name.clear();
        self.name.extend_from_slice(name);
        self.rows.clear();
        self.bodies.clear();
        self.targets.clear();
    }

    /// The answer to questions of this type (or `EVERY_TYPE`) begins.
    pub fn answer(&mut self, rtype: u16) {
        self.targets.clear();
        self.target_cursor = 0;
        self.rows.push(Row { rtype, body_at: self.bodies.len(), ..Row::default() });
    }

    /// One record of the answer begun last, of class IN. All `Answer` records come before all `Additional` ones.
    ///
    /// `owner` is written as a pointer where the name has occurred before; `rdata` is written as it is, uncompressed. Records
    /// past the longest possible message are left out: an answer over TCP is then as full as can be.
    pub fn record(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: u16,
        ttl_secs: u32,
        rdata: &[u8],
    ) {
        let row = self.rows.last_mut().expect("answer() comes before record()");
        let owner_pointer = if owner == self.name {
            Some(0xC000 | HEADER_LEN as u16)
        } else {
            find_target(&self.targets, &self.bodies, self.target_cursor, owner).and_then(|index| {
                self.target_cursor = index;
                let in_body = self.targets[index].at - row.body_at;
                pointer_to(HEADER_LEN + self.name.len() + 4 + in_body)
            })
        };
        let owner_len = if owner_pointer.is_some() { 2 } else { owner.len() };
        row.is_full |= row.body_len + owner_len + 10 + rdata.len() > BODY_LEN_MAX;
        if row.is_full {
            return;
        }
        let start = self.bodies.len();
        match owner_pointer {
            Some(pointer) => self.bodies.extend_from_slice(&pointer.to_be_bytes()),
            None => self.bodies.extend_from_slice(owner),
        }
        for word in [rtype, CLASS_IN] {
            self.bodies.extend_from_slice(&word.to_be_bytes());
        }
        self.bodies.extend_from_slice(&ttl_secs.to_be_bytes());
        self.bodies.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        let rdata_at = self.bodies.len();
        self.bodies.extend_from_slice(rdata);
        let name_in_rdata = match rtype {
            TYPE_CNAME => Some(0),
            TYPE_SRV => Some(6),
            _ => None,
        };
        if let Some(skip) = name_in_rdata {
            self.targets.push(Target { at: rdata_at + skip, len: rdata.len() - skip });
        }
        match section {
            Section::Answer => {
                row.note_address(rtype, start - row.body_at, self.bodies.len() - start);
                row.answers += 1;
            }
            Section::Additional => row.additionals += 1,
        }
        row.body_len = self.bodies.len() - row.body_at;
    }

    /// The finished entry: opaque bytes that hold the name and its answers, to be handed to `TableBuilder::insert`.
    pub fn finish(&mut self) -> &[u8] {
        let rows_at = ENTRY_HEAD_LEN + block_count(self.name.len()) * BLOCK_LEN;
        let bodies_at = rows_at + self.rows.len() * ROW_LEN;
        let entry = &mut self.entry;
        entry.clear();
        entry.extend_from_slice(&0u64.to_le_bytes());
        entry.extend_from_slice(&((bodies_at + self.bodies.len()) as u32).to_le_bytes());
        entry.push(self.name.len() as u8);
        entry.push(u8::try_from(self.rows.len()).expect("few types a name"));
        // Where its zone begins is the builder's business.
        let is_alias = self.rows.iter().any(|row| row.rtype == EVERY_TYPE);
        let alias = if is_alias { IS_ALIAS } else { 0 };
        let wildcard = if self.name.starts_with(ASTERISK) { IS_WILDCARD } else { 0 };
        entry.extend_from_slice(&[0, alias | wildcard]);
        entry.extend_from_slice(&self.name);
        entry.resize(rows_at, 0);
        for row in &self.rows {
            for number in [
                row.rtype,
                row.body_len as u16,
                row.answers,
                row.additionals,
                row.rotate_at as u16,
                row.rotate_count,
                row.rotate_stride,
            ] {
                entry.extend_from_slice(&number.to_le_bytes());
            }
            entry.extend_from_slice(&((bodies_at + row.body_at) as u32).to_le_bytes());
        }
        entry.extend_from_slice(&self.bodies);
        entry
    }
}

impl Row {
    /// Addresses that stand together with one length make the run that is rotated; a CNAME may stand before it.
    fn note_address(&mut self, rtype: u16, at: usize, len: usize) {
        if !matches!(rtype, TYPE_A | TYPE_AAAA) {
            return;
        }
        let run_end = self.rotate_at + usize::from(self.rotate_count * self.rotate_stride);
        if self.rotate_count == 0 {
            (self.rotate_at, self.rotate_count, self.rotate_stride) = (at, 1, len as u16);
        } else if at == run_end && len == usize::from(self.rotate_stride) {
            self.rotate_count += 1;
        }
    }
}

/// The target that is this name, looked for from the cursor on and then from the front.
fn find_target(targets: &[Target], bodies: &[u8], cursor: usize, owner: &[u8]) -> Option<usize> {
    let order = (cursor..targets.len()).chain(0..cursor);
    order.into_iter().find(|index| {
        let target = targets[*index];
        &bodies[target.at..target.at + target.len] == owner
    })
}

/// A compression pointer, if the offset is in its reach: with slack for a question that spells the name a little longer,
/// behind which all offsets move.
fn pointer_to(offset: usize) -> Option<u16> {
    (offset + NAME_LEN_MAX <= POINTER_MAX).then_some(0xC000 | offset as u16)
}

/// What is to become of names, in the order in which it was said. One piece of memory for all entries: a first sync brings
/// a hundred thousand.
#[derive(Default)]
struct Changes {
    entries: Vec<u8>,
    /// By name hash: the entry to put in place, as a range of `entries`, or `None` to remove it.
    said: Vec<(u64, Option<(usize, usize)>)>,
}

impl Changes {
    fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.said
            .iter()
            .map(|(hash, range)| (*hash, range.map(|(start, end)| &self.entries[start..end])))
    }
}

/// A name's hash, and its entry or `None`.
type Change<'e> = (u64, Option<&'e [u8]>);

/// Everything about a table that is not a name.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Wire format, lower case.
    pub zones: Vec<Vec<u8>>,
    pub rules: NameRules,
    pub apex: ApexRecords,
    /// Of the SOA, and of records that are made from a name. Stored records bring their own.
    pub ttl_secs: u32,
    /// Whether another source is asked for every name that the table lacks.
    pub falls_through_everywhere: bool,
}

impl TableOptions {
    /// Of a cluster's table. Its names fall through by zone, if at all.
    #[must_use]
    pub fn kubernetes(zones: Vec<Vec<u8>>, pods: PodMode, ttl_secs: u32) -> Self {
        let rules = NameRules::Kubernetes { pods };
        let apex = ApexRecords::Kubernetes;
        Self { zones, rules, apex, ttl_secs, falls_through_everywhere: false }
    }

    /// Of a list of hosts. `zones`: of the hosts; reverse names need none.
    #[must_use]
    pub fn hosts(zones: Vec<Vec<u8>>, falls_through_everywhere: bool) -> Self {
        let (rules, apex) = (NameRules::Exact, ApexRecords::None);
        Self { zones, rules, apex, ttl_secs: 0, falls_through_everywhere }
    }
}

/// Holds the newest generation and makes the next: only segments that a changed name hashes to are rebuilt.
pub struct TableBuilder {
    seed: HashSeed,
    zones: Arc<ZoneSet>,
    reverse_zones: Arc<[bool]>,
    rules: NameRules,
    apex: ApexRecords,
    ttl_secs: u32,
    falls_through_everywhere: bool,
    spine: Vec<Segment>,
    name_count: usize,
    /// Those of the names that are wildcards.
    wildcard_count: usize,
    changes: Changes,
    synced: bool,
    generation: u64,
}

impl TableBuilder {
    /// An empty, unsynced table: absent names are SERVFAIL until `set_synced` has been called and published.
    ///
    /// `seed`: the process's.
    #[must_use]
    pub fn new(options: TableOptions, seed: HashSeed) -> Self {
        assert!(
            options.rules == NameRules::Exact || options.apex != ApexRecords::None,
            "a cluster's zones have an apex"
        );
        let reverse_zones = match options.rules {
            NameRules::Exact => Arc::default(),
            NameRules::Kubernetes { pods: _ } => are_reverse(&options.zones),
        };
        Self {
            seed,
            reverse_zones,
            zones: Arc::new(ZoneSet::new(&options.zones)),
            rules: options.rules,
            apex: options.apex,
            ttl_secs: options.ttl_secs,
            falls_through_everywhere: options.falls_through_everywhere,
            spine: empty_spine(SEGMENT_COUNT_MIN),
            name_count: 0,
            wildcard_count: 0,
            changes: Changes::default(),
            synced: false,
            generation: 0,
        }
    }

    /// Puts the finished entry in place, replacing one of the same name. The hash is what removes it again.
    pub fn insert(&mut self, entry: &[u8]) -> NameHash {
        let name = Name::from_wire(Entry { bytes: entry }.name()).expect("a whole name was begun");
        let hash = self.seed.hash(name.blocks());
        let Some((zone_at, flags)) = self.zone_of(&name) else {
            debug_assert!(false, "a name of no zone of the table is never asked for");
            return NameHash(hash);
        };
        let start = self.changes.entries.len();
        self.changes.entries.extend_from_slice(&hash.to_le_bytes());
        self.changes.entries.extend_from_slice(&entry[size_of::<u64>()..]);
        self.changes.entries[start + ENTRY_HEAD_LEN - 2] = zone_at;
        self.changes.entries[start + ENTRY_HEAD_LEN - 1] |= flags;
        self.changes.said.push((hash, Some((start, self.changes.entries.len()))));
        NameHash(hash)
    }

    /// Where in a name its zone begins, and the flags of its entry; `None` for a name that no question leads to.
    fn zone_of(&self, name: &Name) -> Option<(u8, u8)> {
        let zone = self.zones.find(name);
        match self.apex {
            ApexRecords::None => Some((zone.map_or(0, |zone| zone.name_offset as u8), HAS_NO_SOA)),
            ApexRecords::Kubernetes => {
                let zone = zone?;
                let is_reverse = self.reverse_zones.get(zone.index) == Some(&true);
                Some((zone.name_offset as u8, if is_reverse { IN_REVERSE_ZONE } else { 0 }))
            }
        }
    }

    /// Removes the entry inserted under this hash, if there is one. Within one generation the last call for a name counts.
    pub fn remove(&mut self, name: NameHash) {
        self.changes.said.push((name.0, None));
    }

    /// From the next generation on the table is whole: an absent name does not exist.
    pub fn set_synced(&mut self) {
        self.synced = true;
    }

    /// Names in the newest generation.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.name_count
    }

    /// Bytes of all segments of the newest generation.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.spine.iter().map(|segment| segment.bytes.len()).sum()
    }

    /// Applies all inserts and removals since the last call and returns the next generation.
    ///
    /// `serial`: the SOA's, unix seconds of the change.
    pub fn publish(&mut self, serial: u32) -> Arc<Table> {
        let changes = core::mem::take(&mut self.changes);
        let segments_wanted = (self.name_count + changes.said.len()) / SEGMENT_NAMES;
        if segments_wanted > self.spine.len() * 2 {
            // The table has outgrown its spine, at the first sync most of all: every segment anew.
            let segment_count = segments_wanted.next_power_of_two();
            let old = core::mem::replace(&mut self.spine, empty_spine(segment_count));
            (self.name_count, self.wildcard_count) = (0, 0);
            let kept = old.iter().flat_map(entries);
            let kept = kept.map(|entry| (entry.hash(), Some(entry.bytes)));
            self.write_segments(kept.chain(changes.iter()).collect());
        } else {
            self.write_segments(changes.iter().collect());
        }
        self.generation += 1;
        let has_wildcards = self.rules == NameRules::Exact && self.wildcard_count > 0;
        Arc::new(Table {
            seed: self.seed,
            spine: self.spine.clone().into_boxed_slice(),
            zones: Arc::clone(&self.zones),
            reverse_zones: Arc::clone(&self.reverse_zones),
            rules: self.rules,
            apex: self.apex,
            ttl_secs: self.ttl_secs,
            soa: soa_record(serial, self.ttl_secs),
            synced: self.synced,
            has_wildcards,
            passes_unstored: self.falls_through_everywhere
                && self.rules == NameRules::Exact
                && self.apex == ApexRecords::None
                && !has_wildcards,
            generation: self.generation,
        })
    }

    /// Writes the segments that these changes touch; of several for one name the last counts.
    fn write_segments(&mut self, mut changes: Vec<Change<'_>>) {
        let segment_count = self.spine.len();
        let segment_of = |change: &Change<'_>| segment_index(change.0, segment_count);
        // Stable, and then the later of two equals is kept.
        changes.sort_by_key(|change| (segment_of(change), change.0));
        let mut kept: Vec<Change<'_>> = Vec::with_capacity(changes.len());
        for change in changes {
            match kept.last_mut() {
                Some(last) if last.0 == change.0 => *last = change,
                _ => kept.push(change),
            }
        }
        for changes in kept.chunk_by(|one, next| segment_of(one) == segment_of(next)) {
            let segment = &mut self.spine[segment_of(&changes[0])];
            let old: Vec<Entry<'_>> = entries(segment).collect();
            let untouched = old.iter().copied().filter(|entry| {
                changes.binary_search_by_key(&entry.hash(), |(hash, _)| *hash).is_err()
            });
            let changed =
                changes.iter().filter_map(|(_, change)| change.map(|bytes| Entry { bytes }));
            let new: Vec<Entry<'_>> = untouched.chain(changed).collect();
            let wildcards =
                |entries: &[Entry<'_>]| entries.iter().filter(|entry| entry.is_wildcard()).count();
            self.name_count = self.name_count + new.len() - old.len();
            self.wildcard_count = self.wildcard_count + wildcards(&new) - wildcards(&old);
            *segment = write_segment(&new);
        }
    }
}

/// Which zones lie under in-addr.arpa or ip6.arpa.
fn are_reverse(zones: &[Vec<u8>]) -> Arc<[bool]> {
    let reverse = ZoneSet::new(&[&b"\x07in-addr\x04arpa\0"[..], b"\x03ip6\x04arpa\0"]);
    let is_reverse = |zone: &Vec<u8>| {
        let name = Name::from_wire(zone).expect("a zone is a whole name");
        reverse.find(&name).is_some()
    };
    zones.iter().map(is_reverse).collect()
}

fn empty_spine(segment_count: usize) -> Vec<Segment> {
    let empty = write_segment(&[]);
    alloc::vec![empty; segment_count]
}

fn write_segment(entries: &[Entry<'_>]) -> Segment {
    // At most half full, so that chains are short and always end.
    let slot_count = (entries.len() * 2).next_power_of_two().max(2);
    let entries_at = slot_count * SLOT_LEN;
    let len = entries_at + entries.iter().map(|entry| entry.len()).sum::<usize>();
    let mut segment = Vec::with_capacity(len);
    segment.resize(entries_at, 0);
    for entry in entries {
        let (mut slot, tag) = slot_and_tag(entry.hash(), slot_count - 1);
        while u32_le(&segment, slot * SLOT_LEN + 4) != 0 {
            slot = (slot + 1) & (slot_count - 1);
        }
        let at = slot * SLOT_LEN;
        let offset = segment.len() as u32;
        segment[at..at + 4].copy_from_slice(&tag.to_le_bytes());
        segment[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
        segment.extend_from_slice(&entry.bytes[..entry.len()]);
    }
    debug_assert_eq!(segment.len(), len);
    Segment { bytes: segment.into(), slot_mask: slot_count - 1 }
}

/// All entries of a segment, in the order in which they stand.
fn entries(segment: &Segment) -> impl Iterator<Item = Entry<'_>> {
    let mut at = (segment.slot_mask + 1) * SLOT_LEN;
    core::iter::from_fn(move || {
        let bytes = segment.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let entry = Entry { bytes: &bytes[..Entry { bytes }.len()] };
        at += entry.len();
        Some(entry)
    })
}
