//! Builds tables on the control plane: `entry` makes entries of records; this file makes segments
//! of entries, and generations of segments.
//!
//! Invariant: a published generation never changes. The next one shares every segment without a
//! changed name.

mod entry;
mod spine;
mod zone;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::{replace, take};
use core::net::IpAddr;
use core::num::NonZeroU32;

pub use entry::{EntryWriter, Section};
use spine::Spine;
pub use zone::{ZoneRecord, ZoneRecords};

use crate::apex::{ApexLabel, ApexRecords, soa_record};
use crate::hash::{HashSeed, NameHash};
use crate::header::TYPE_PTR;
use crate::name::Name;
use crate::pod::PodMode;
use crate::reverse::{POINTER_LEN_MAX, ReverseName, is_in_tree, write_pointer};
use crate::segment::{
    ENTRY_HEAD_LEN, Entry, HAS_NO_SOA, OF_REVERSE_NAME, SLOT_LEN, Segment, segment_index,
    slot_and_tag, u32_le,
};
use crate::table::{NameRules, Proofs, Table};
use crate::zone::ZoneSet;

/// Names per segment: a change to one name rewrites about this many entries.
const SEGMENT_NAMES: usize = 64;
const SEGMENT_COUNT_MIN: usize = 64;
/// Bytes of the first chunk of changes, and of a chunk among many. The allocator keeps no block of
/// that size once it is free.
const CHUNK_LEN_MIN: usize = 1 << 10;
const CHUNK_LEN_MAX: usize = 1 << 20;

/// Inserts and removals in the order of their calls.
#[derive(Default)]
struct Changes {
    /// Entries, one after the other. A first sync brings a hundred thousand, so none is copied
    /// again for want of room.
    chunks: Vec<Vec<u8>>,
    calls: Vec<Call>,
}

/// The insertion or removal of a name. Small, because a first sync sorts a hundred thousand.
#[derive(Clone, Copy)]
struct Call {
    hash: u64,
    /// `None`: the name is removed.
    entry: Option<Place>,
}

/// Where an entry begins.
#[derive(Clone, Copy)]
struct Place {
    /// The number of the chunk, from one on.
    chunk: NonZeroU32,
    at: u32,
}

impl Changes {
    /// Inserts an entry of about this length, which `write` appends.
    fn insert(&mut self, hash: u64, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let has_room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= len;
        if !self.chunks.last().is_some_and(has_room) {
            // A single change needs little.
            let before = self.chunks.last().map_or(0, Vec::capacity);
            let capacity = (4 * before).clamp(CHUNK_LEN_MIN, CHUNK_LEN_MAX).max(len);
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let number = NonZeroU32::new(self.chunks.len() as u32).expect("one has room");
        let chunk = self.chunks.last_mut().expect("one has room");
        let place = Place { chunk: number, at: chunk.len() as u32 };
        write(chunk);
        self.calls.push(Call { hash, entry: Some(place) });
    }

    fn remove(&mut self, hash: u64) {
        self.calls.push(Call { hash, entry: None });
    }

    /// Adds later ones.
    fn append(&mut self, later: Self) {
        if self.calls.is_empty() {
            *self = later;
            return;
        }
        let chunk_count = self.chunks.len() as u32;
        self.chunks.extend(later.chunks);
        self.calls.extend(later.calls.into_iter().map(|mut call| {
            if let Some(Place { chunk, .. }) = &mut call.entry {
                *chunk = chunk.saturating_add(chunk_count);
            }
            call
        }));
    }

    /// The entry that begins here. Others may follow it.
    fn entry(&self, Place { chunk, at }: Place) -> Entry<'_> {
        Entry { bytes: &self.chunks[chunk.get() as usize - 1][at as usize..] }
    }
}

/// The properties of a table other than its names.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Wire format, lower case.
    pub zones: Vec<Vec<u8>>,
    pub rules: NameRules,
    pub apex: ApexRecords,
    /// Of the SOA, and of records that are made from a name. Stored records bring their own.
    pub ttl_secs: u32,
    /// Whether the next source is asked for every name that the table lacks.
    pub falls_through_everywhere: bool,
}

impl TableOptions {
    /// Options of a cluster's table. Its names fall through by zone, if at all.
    #[must_use]
    pub fn kubernetes(zones: Vec<Vec<u8>>, pods: PodMode, ttl_secs: u32) -> Self {
        let rules = NameRules::Kubernetes { pods };
        let apex = ApexRecords::Kubernetes;
        Self { zones, rules, apex, ttl_secs, falls_through_everywhere: false }
    }

    /// Options of a cluster's external zones.
    #[must_use]
    pub fn k8s_external(zones: Vec<Vec<u8>>, apex: ApexLabel, ttl_secs: u32) -> Self {
        let (rules, apex) = (NameRules::K8sExternal, ApexRecords::K8sExternal(apex));
        Self { zones, rules, apex, ttl_secs, falls_through_everywhere: false }
    }

    /// Options of a table of zone files.
    #[must_use]
    pub fn zones(zones: Vec<Vec<u8>>) -> Self {
        let (rules, apex) = (NameRules::Zones, ApexRecords::Zones);
        Self { zones, rules, apex, ttl_secs: 0, falls_through_everywhere: false }
    }

    /// Options of a list of hosts. `zones`: those of the hosts. Reverse names need no zone.
    #[must_use]
    pub fn hosts(zones: Vec<Vec<u8>>, falls_through_everywhere: bool) -> Self {
        let (rules, apex) = (NameRules::Exact, ApexRecords::None);
        Self { zones, rules, apex, ttl_secs: 0, falls_through_everywhere }
    }
}

/// Holds the newest generation and makes the next. It rewrites only the segments of changed names.
pub struct TableBuilder {
    seed: HashSeed,
    zones: Arc<ZoneSet>,
    reverse_zones: Arc<[bool]>,
    rules: NameRules,
    apex: ApexRecords,
    ttl_secs: u32,
    falls_through_everywhere: bool,
    spine: Spine,
    name_count: usize,
    /// The number of names that are wildcards.
    wildcard_count: usize,
    changes: Changes,
    synced: bool,
    generation: u64,
    /// By index in `zones`.
    proofs: Vec<Proofs>,
}

impl TableBuilder {
    /// An empty table that is not synced: absent names are SERVFAIL until `set_synced` and
    /// `publish` have been called.
    ///
    /// `seed`: the process's.
    #[must_use]
    pub fn new(options: TableOptions, seed: HashSeed) -> Self {
        let is_of_zones = options.rules == NameRules::Zones;
        assert_eq!(is_of_zones, options.apex == ApexRecords::Zones, "zone files have both");
        assert!(
            options.rules == NameRules::Exact || options.apex != ApexRecords::None,
            "a cluster's zones have an apex"
        );
        let reverse_zones = match options.rules {
            NameRules::Exact | NameRules::Zones => Arc::default(),
            NameRules::Kubernetes { pods: _ } | NameRules::K8sExternal => {
                are_reverse(&options.zones)
            }
        };
        Self {
            seed,
            reverse_zones,
            zones: Arc::new(ZoneSet::new(&options.zones)),
            rules: options.rules,
            apex: options.apex,
            ttl_secs: options.ttl_secs,
            falls_through_everywhere: options.falls_through_everywhere,
            spine: Spine::new(SEGMENT_COUNT_MIN),
            name_count: 0,
            wildcard_count: 0,
            changes: Changes::default(),
            synced: false,
            generation: 0,
            proofs: Vec::new(),
        }
    }

    /// Has the next generation have these zones of `NameRules::Zones`, in wire format and lower
    /// case, and removes all names.
    pub fn set_zones<Z: AsRef<[u8]>>(&mut self, zones: &[Z]) {
        assert_eq!(self.rules, NameRules::Zones);
        self.zones = Arc::new(ZoneSet::new(zones));
        self.clear();
    }

    /// Removes all names. Those of the next generation are inserted after this.
    pub fn clear(&mut self) {
        self.spine = Spine::new(SEGMENT_COUNT_MIN);
        (self.name_count, self.wildcard_count) = (0, 0);
        self.changes = Changes::default();
        self.proofs = Vec::new();
    }

    /// Inserts the names of a zone of `NameRules::Zones`. Names that belong to a longer zone of the
    /// table are left to its own records.
    pub fn insert_zone(&mut self, records: &ZoneRecords) {
        assert_eq!(self.rules, NameRules::Zones);
        let Some(index) = self.zone_index(records.origin()) else { return };
        let zones = Arc::clone(&self.zones);
        let is_here = |name: &Name| zones.find(name).is_some_and(|zone| zone.index == index);
        let proofs = records.write(is_here, |entry| {
            self.insert(entry);
        });
        self.proofs.resize_with(self.proofs.len().max(index + 1), Proofs::default);
        self.proofs[index] = proofs;
    }

    /// The index of a zone of the table.
    fn zone_index(&self, origin: &[u8]) -> Option<usize> {
        let zone = self.zones.find(&Name::from_wire(origin)?)?;
        (zone.name_offset == 0).then_some(zone.index)
    }

    /// Inserts a finished entry, which replaces one of the same name. The hash removes it again.
    pub fn insert(&mut self, entry: &[u8]) -> NameHash {
        let read = Entry { bytes: entry };
        debug_assert!(Name::from_wire(read.name()).is_some(), "a whole name was begun");
        let hash = self.seed.hash(read.name_blocks());
        let Some((zone_at, flags)) = self.zone_of(read) else {
            debug_assert!(false, "no question leads to a name outside the zones");
            return NameHash(hash);
        };
        self.changes.insert(hash, entry.len(), |entries| {
            let start = entries.len();
            entries.extend_from_slice(entry);
            if let Some(head) = entries[start..].first_chunk_mut::<ENTRY_HEAD_LEN>() {
                head[..size_of::<u64>()].copy_from_slice(&hash.to_le_bytes());
                head[ENTRY_HEAD_LEN - 2] = zone_at;
                head[ENTRY_HEAD_LEN - 1] |= flags;
            }
        });
        NameHash(hash)
    }

    /// Inserts a PTR record for the reverse name of this address, whose endpoint belongs to this
    /// Service. It replaces an entry of the reverse name. The name of the Service is stored in each
    /// generation that has the record.
    pub fn insert_pointer(&mut self, address: IpAddr, service: &Name) {
        let reverse_name = self.seed.hash(ReverseName::new(address).blocks());
        self.insert_address(reverse_name, address, self.seed.hash(service.blocks()));
    }

    /// Inserts the name of a pod, for `PodMode::Verified`: the label of this address below the name
    /// of its namespace. The hash of the pod's name removes it again.
    pub fn insert_pod(&mut self, pod: &Name, address: IpAddr) {
        let [pod, namespace] = [0, 1].map(|label| self.seed.hash(pod.suffix_blocks(label)));
        self.insert_address(pod, address, namespace);
    }

    /// Inserts an entry that has an address, and the hash of another name, instead of a name and
    /// records. `hash`: of the name that it stands for.
    fn insert_address(&mut self, hash: u64, address: IpAddr, other: u64) {
        self.changes.insert(hash, ENTRY_HEAD_LEN + POINTER_LEN_MAX, |entries| {
            let start = entries.len();
            entries.extend_from_slice(&hash.to_le_bytes());
            entries.resize(start + ENTRY_HEAD_LEN, 0);
            write_pointer(address, other, entries);
            let len = (entries.len() - start) as u32;
            entries[start + 8..start + 12].copy_from_slice(&len.to_le_bytes());
        });
    }

    /// Offset of the zone in an entry's name, and the flags of the entry; `None` for a name that no
    /// question leads to.
    fn zone_of(&self, entry: Entry<'_>) -> Option<(u8, u8)> {
        let zone = self.zones.find_in_wire(entry.name()).map(|(zone, _)| zone);
        match self.apex {
            ApexRecords::None | ApexRecords::Zones => {
                Some((zone.map_or(0, |zone| zone.name_offset as u8), HAS_NO_SOA))
            }
            ApexRecords::Kubernetes | ApexRecords::K8sExternal(_) => {
                let zone = zone?;
                let is_reverse = self.reverse_zones.get(zone.index) == Some(&true);
                let is_of_address = is_reverse && entry.answer(TYPE_PTR).is_some();
                let reverse = if is_of_address { OF_REVERSE_NAME } else { 0 };
                let soa = if self.apex == ApexRecords::Kubernetes { 0 } else { HAS_NO_SOA };
                Some((zone.name_offset as u8, reverse | soa))
            }
        }
    }

    /// Removes the entry with this hash, if there is one. Of several calls for a name within one
    /// generation the last counts.
    pub fn remove(&mut self, name: NameHash) {
        self.changes.remove(name.0);
    }

    /// Makes room for so many inserts and removals.
    pub fn reserve(&mut self, count: usize) {
        self.changes.calls.reserve(count);
    }

    /// From the next generation on, absent names do not exist.
    pub fn set_synced(&mut self) {
        self.synced = true;
    }

    /// The number of names in the newest generation.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.name_count
    }

    /// Bytes of all segments in the newest generation.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.spine.segments().iter().map(|segment| segment.bytes.len()).sum()
    }

    /// Takes a generation that nothing holds any more. The next one is made of its memory.
    pub fn recycle(&mut self, table: Table) {
        self.spine.recycle(table.generation, table.spine);
    }

    /// Applies all inserts and removals since the last call and returns the next generation.
    ///
    /// `serial`: the SOA's, unix seconds of the change.
    pub fn publish(&mut self, serial: u32) -> Arc<Table> {
        let changes = take(&mut self.changes);
        let segments_wanted = (self.name_count + changes.calls.len()) / SEGMENT_NAMES;
        if segments_wanted > self.spine.segments().len() * 2 {
            // The table has outgrown its spine, as at the first sync: write all segments anew.
            let segment_count = segments_wanted.next_power_of_two();
            let old = replace(&mut self.spine, Spine::new(segment_count));
            (self.name_count, self.wildcard_count) = (0, 0);
            let mut all = Changes::default();
            for entry in old.segments().iter().flat_map(entries) {
                all.insert(entry.hash(), entry.len(), |bytes| bytes.extend_from_slice(entry.bytes));
            }
            all.append(changes);
            self.write_segments(all);
        } else {
            self.write_segments(changes);
        }
        self.generation += 1;
        let has_wildcards = self.rules.has_wildcards() && self.wildcard_count > 0;
        Arc::new(Table {
            seed: self.seed,
            spine: self.spine.publish(self.generation),
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
            proofs: self.proofs.clone().into(),
        })
    }

    /// Rewrites the segments that these changes touch. Of several changes to one name the last
    /// counts.
    fn write_segments(&mut self, mut changes: Changes) {
        let segment_count = self.spine.segments().len();
        let segment_of = |call: &Call| segment_index(call.hash, segment_count);
        // The later of two changes to a name comes last, and is kept.
        let mut calls = sort_by_segment(take(&mut changes.calls), segment_count);
        calls.dedup_by(|next, kept| {
            let is_of_same_name = next.hash == kept.hash;
            if is_of_same_name {
                *kept = *next;
            }
            is_of_same_name
        });
        for calls in calls.chunk_by(|one, next| segment_of(one) == segment_of(next)) {
            let index = segment_of(&calls[0]);
            let old: Vec<Entry<'_>> = entries(&self.spine.segments()[index]).collect();
            let untouched = old.iter().copied().filter(|entry| {
                calls.binary_search_by_key(&entry.hash(), |call| call.hash).is_err()
            });
            let changed = calls.iter().filter_map(|call| Some(changes.entry(call.entry?)));
            let new: Vec<Entry<'_>> = untouched.chain(changed).collect();
            let wildcards =
                |entries: &[Entry<'_>]| entries.iter().filter(|entry| entry.is_wildcard()).count();
            self.name_count = self.name_count + new.len() - old.len();
            self.wildcard_count = self.wildcard_count + wildcards(&new) - wildcards(&old);
            let segment = write_segment(&new);
            self.spine.replace(index, segment);
        }
    }
}

/// Sorts by segment and then by hash. Changes to one name stay in their order.
fn sort_by_segment(mut calls: Vec<Call>, segment_count: usize) -> Vec<Call> {
    // The index of the segment is in the lowest bits of the hash.
    let place = |call: &Call| call.hash.rotate_right(segment_count.trailing_zeros());
    let bucket_bits = (calls.len() + 1).ilog2();
    if bucket_bits < 8 {
        calls.sort_by_key(place);
        return calls;
    }
    // Hashes are uniform: with as many buckets as changes, most have one or two.
    let bucket_of = |call: &Call| (place(call) >> (u64::BITS - bucket_bits)) as usize;
    let mut ends = alloc::vec![0_u32; 1 << bucket_bits];
    calls.iter().for_each(|call| ends[bucket_of(call)] += 1);
    let mut total = 0;
    for end in &mut ends {
        total += replace(end, total);
    }
    let mut sorted = alloc::vec![Call { hash: 0, entry: None }; calls.len()];
    for call in calls {
        let end = &mut ends[bucket_of(&call)];
        sorted[*end as usize] = call;
        *end += 1;
    }
    for bucket in sorted.chunk_by_mut(|one, next| bucket_of(one) == bucket_of(next)) {
        bucket.sort_by_key(place);
    }
    sorted
}

/// Which zones lie under in-addr.arpa or ip6.arpa.
fn are_reverse(zones: &[Vec<u8>]) -> Arc<[bool]> {
    let is_reverse =
        |zone: &Vec<u8>| is_in_tree(&Name::from_wire(zone).expect("a zone is a whole name"));
    zones.iter().map(is_reverse).collect()
}

fn write_segment(entries: &[Entry<'_>]) -> Segment {
    // At most half of the slots are full, so that chains are short and always end.
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

/// All entries of a segment, in their order in memory.
fn entries(segment: &Segment) -> impl Iterator<Item = Entry<'_>> {
    let mut at = (segment.slot_mask + 1) * SLOT_LEN;
    core::iter::from_fn(move || {
        let bytes = segment.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let entry = Entry { bytes: &bytes[..Entry { bytes }.len()] };
        at += entry.len();
        Some(entry)
    })
}
