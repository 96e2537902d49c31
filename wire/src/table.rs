//! One generation of a cluster's answers, and the look-up in it.
//!
//! A table is a spine of segments, as `segment` describes them. Invariant: a look-up follows one slot chain once; names
//! that do not exist cost the same as those that do.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::apex::{Apex, ApexRecords, SOA_LEN};
use crate::hash::{HashSeed, NameHash};
use crate::header::{TYPE_ANY, TYPE_CNAME, TYPE_SOA};
use crate::kubernetes::{PodMode, PodName};
use crate::name::{BLOCK_LEN, Block, NAME_LEN_MAX, Name, block_count};
use crate::record::RecordHead;
use crate::segment::{
    ASTERISK, Entry, HAS_NO_SOA, IN_REVERSE_ZONE, IS_ALIAS, ROW_LEN, SLOT_LEN, Segment,
    find_in_segment, row_field, segment_index, slot_and_tag, slot_offset,
};
use crate::zone::ZoneSet;

/// The key of the row that holds an alias' CNAMEs: they answer whatever type is asked that has no row of its own.
pub const EVERY_TYPE: u16 = 0;

/// Which names a table answers besides those that it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRules {
    /// None, but for wildcards: `*.example.org` answers for names with one label more than `example.org` that are not
    /// stored, as in CoreDNS's `hosts`. Other names are found as they are spelt, or they are absent.
    Exact,
    /// Those of a cluster: see `kubernetes`. In its reverse zones a name exists only as the owner of PTR records.
    Kubernetes { pods: PodMode },
}

/// One immutable generation. Shards hold it by `Arc`; the control plane keeps it until it is the sole owner.
pub struct Table {
    pub(crate) seed: HashSeed,
    pub(crate) spine: Box<[Segment]>,
    pub(crate) zones: Arc<ZoneSet>,
    /// By index in `zones`: whether a name exists there only as the owner of PTR records. Empty where the rules have no such
    /// zones.
    pub(crate) reverse_zones: Arc<[bool]>,
    pub(crate) rules: NameRules,
    pub(crate) ttl_secs: u32,
    pub(crate) apex: ApexRecords,
    /// The SOA of every zone, but for its name; the serial is the time of the last change. Not used where `apex` has none.
    pub(crate) soa: [u8; SOA_LEN],
    /// Whether an absent name is known not to exist.
    pub(crate) synced: bool,
    /// Whether a wildcard is stored that the rules look for.
    pub(crate) has_wildcards: bool,
    /// See the function of this name.
    pub(crate) passes_unstored: bool,
    pub(crate) generation: u64,
}

impl core::fmt::Debug for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Table {{ generation: {}, segments: {} }}", self.generation, self.spine.len())
    }
}

/// Where a question's answer is.
#[derive(Clone, Copy, Debug)]
pub enum Found<'t> {
    /// Records of the table.
    Answer(Answer<'t>),
    /// CNAMEs: what was asked for is to be looked for at their `Answer::target`, here or elsewhere.
    Alias(Answer<'t>),
    /// A pod's address, read out of its own name.
    Pod(PodName),
    /// The zone's SOA is the answer.
    Soa(Apex),
    /// The name exists, the type does not (RFC 2308, section 2.2).
    NoData(Apex),
    /// The name does not exist (RFC 2308, section 2.1).
    NxDomain(Apex),
    /// The name may exist: the cluster has not been read yet.
    Unsynced(Apex),
    /// A list of hosts lacks the name. It may exist elsewhere: the list has no SOA to deny it with.
    Unlisted,
    /// In none of the table's zones; or a question for a PTR record that a list of hosts lacks.
    Outside,
}

/// A name of the table.
#[derive(Clone, Copy)]
pub struct Stored<'t>(pub(crate) Entry<'t>);

impl<'t> Stored<'t> {
    /// The records of this type, which answer a question for it whole: `None` where there are none, and where CNAMEs lead to
    /// another name's.
    #[must_use]
    #[inline(always)]
    pub fn answer(self, qtype: u16) -> Option<Answer<'t>> {
        self.0.answer(qtype)
    }

    /// Where `answer` gave none: the zone whose SOA says that there are no such records. `None` where the look-up in full has
    /// more to say.
    #[must_use]
    #[inline(always)]
    pub fn no_data(self) -> Option<Apex> {
        let has_rules = self.0.flags() & (IS_ALIAS | IN_REVERSE_ZONE | HAS_NO_SOA) != 0;
        (!has_rules).then_some(Apex { name_offset: self.0.zone_at() })
    }
}

/// A stored answer: record bytes and what stamping needs to know of them.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'t> {
    pub body: &'t [u8],
    pub(crate) row: &'t [u8; ROW_LEN],
    /// Length of the name that the body was compressed against.
    pub name_len: usize,
}

/// An answer that outlives its table.
#[derive(Clone, Debug)]
pub struct OwnedAnswer {
    body: Box<[u8]>,
    row: [u8; ROW_LEN],
    name_len: usize,
}

impl OwnedAnswer {
    #[must_use]
    pub fn as_answer(&self) -> Answer<'_> {
        Answer { body: &self.body, row: &self.row, name_len: self.name_len }
    }
}

impl<'t> Answer<'t> {
    #[must_use]
    pub fn to_owned(&self) -> OwnedAnswer {
        OwnedAnswer { body: self.body.into(), row: *self.row, name_len: self.name_len }
    }

    #[must_use]
    #[inline]
    pub fn answer_count(&self) -> u16 {
        row_field(self.row, 4)
    }

    #[must_use]
    #[inline]
    pub fn additional_count(&self) -> u16 {
        row_field(self.row, 6)
    }

    /// Where in the body the addresses begin that are rotated: `rotate_count` records of `rotate_stride` bytes each.
    #[inline]
    pub(crate) fn rotate_at(&self) -> usize {
        row_field(self.row, 8).into()
    }

    #[inline]
    pub(crate) fn rotate_count(&self) -> usize {
        row_field(self.row, 10).into()
    }

    #[inline]
    pub(crate) fn rotate_stride(&self) -> usize {
        row_field(self.row, 12).into()
    }

    /// The last CNAME's target, in wire format: the name that the answer of a `Found::Alias` leads to.
    #[must_use]
    pub fn target(&self) -> &'t [u8] {
        let mut last = None;
        let mut at = 0;
        while let Some(record) = RecordHead::read(self.body, at) {
            at = record.end();
            last = Some(record);
        }
        last.and_then(|cname| self.body.get(cname.rdata)).unwrap_or_default()
    }
}

impl Table {
    /// The hash by which a name is found here, and in every other table with the same seed.
    #[must_use]
    #[inline(always)]
    pub fn hash(&self, name: &Name) -> NameHash {
        NameHash(self.seed.hash(name.blocks()))
    }

    /// Whether hashes of the one table are those of the other: both were made with the same seed.
    #[must_use]
    pub fn hashes_like(&self, other: &Self) -> bool {
        self.seed == other.seed
    }

    /// The memory that a look-up of this hash reads first, which is not read here: for a prefetch.
    #[must_use]
    #[inline]
    pub fn slot_line(&self, hash: NameHash) -> &[u8] {
        let Some(segment) = self.segment(hash.0) else { return &[] };
        let (slot, _) = slot_and_tag(hash.0, segment.slot_mask);
        segment.bytes.get(slot * SLOT_LEN..).unwrap_or_default()
    }

    /// The memory that it reads then: most likely the name's entry.
    #[must_use]
    #[inline]
    pub fn entry_line(&self, hash: NameHash) -> &[u8] {
        let offset = self.slot_line(hash).first_chunk::<SLOT_LEN>().map_or(0, slot_offset);
        match self.segment(hash.0) {
            Some(segment) if offset != 0 => segment.bytes.get(offset..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// What is stored under a name as it is spelt, whose hash this is. A presumed name that is found is whole.
    #[must_use]
    #[inline(always)]
    pub fn stored(&self, hash: NameHash, name: &Name) -> Option<Stored<'_>> {
        debug_assert_eq!(hash, self.hash(name), "the hash of another name, or by another seed");
        find_in_segment(self.segment(hash.0)?, hash.0, name.blocks()).map(Stored)
    }

    /// Whether the next source is asked for every name that is not stored here as it is spelt: nothing but `stored` can
    /// find a name, and all others fall through.
    #[must_use]
    #[inline]
    pub fn passes_unstored(&self) -> bool {
        self.passes_unstored
    }

    /// Looks a question up by its name and type; the class is IN.
    #[must_use]
    pub fn look_up(&self, name: &Name, qtype: u16) -> Found<'_> {
        self.look_up_from(self.stored(self.hash(name), name), name, qtype)
    }

    /// The same where it is known already what is stored under the name.
    #[must_use]
    pub fn look_up_from<'t>(
        &'t self,
        stored: Option<Stored<'t>>,
        name: &Name,
        qtype: u16,
    ) -> Found<'t> {
        match self.apex {
            ApexRecords::None => return self.look_up_host(stored, name, qtype),
            ApexRecords::Kubernetes => {}
        }
        let Some(Stored(entry)) = stored.filter(|_| qtype != TYPE_SOA) else {
            return self.look_up_others(name, qtype);
        };
        let apex = Apex { name_offset: entry.zone_at() };
        match entry.answer(qtype) {
            Some(answer) => Found::Answer(answer),
            None if entry.is_alias() => match entry.answer(EVERY_TYPE) {
                // They are what was asked for.
                Some(cnames) if matches!(qtype, TYPE_CNAME | TYPE_ANY) => Found::Answer(cnames),
                Some(cnames) => Found::Alias(cnames),
                None => Found::NoData(apex),
            },
            None if entry.is_in_reverse_zone() && apex.name_offset != 0 => self.absent(apex),
            None => Found::NoData(apex),
        }
    }

    /// SOA, names that are found by a rule or under another spelling, and names that do not exist.
    fn look_up_others(&self, name: &Name, qtype: u16) -> Found<'_> {
        let Some((zone, labels_left)) = self.zones.find_below(name) else {
            return Found::Outside;
        };
        let apex = Apex { name_offset: zone.name_offset };
        if qtype == TYPE_SOA {
            // CoreDNS gives SOA at the apex, NODATA at every other name of the zone, whether it exists or not.
            return if labels_left == 0 { Found::Soa(apex) } else { Found::NoData(apex) };
        }
        if labels_left == 0 {
            return Found::NoData(apex);
        }
        if self.reverse_zones.get(zone.index) == Some(&true) {
            return self.absent(apex);
        }
        match self.rules {
            NameRules::Exact => match self.find_wildcard(name) {
                Some(entry) => entry.answer(qtype).map_or(Found::NoData(apex), Found::Answer),
                None => self.absent(apex),
            },
            NameRules::Kubernetes { pods } => {
                self.look_up_by_rule(pods, name, qtype, labels_left, apex)
            }
        }
    }

    /// Generation number, growing by one with each publication.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many segments the table has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.spine.len()
    }

    /// How many segments are the same memory in both generations.
    #[must_use]
    pub fn segments_shared_with(&self, other: &Self) -> usize {
        self.spine
            .iter()
            .zip(&other.spine)
            .filter(|(one, other)| Arc::ptr_eq(&one.bytes, &other.bytes))
            .count()
    }

    /// Whether the cluster has been read whole.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// TTL of records made from the name itself, and of negative answers.
    #[must_use]
    pub(crate) const fn ttl_secs(&self) -> u32 {
        self.ttl_secs
    }

    pub(crate) fn absent(&self, apex: Apex) -> Found<'_> {
        if self.synced { Found::NxDomain(apex) } else { Found::Unsynced(apex) }
    }

    /// The wildcard that answers for this name: its first label replaced by an asterisk. A name of one label has none.
    pub(crate) fn find_wildcard(&self, name: &Name) -> Option<Entry<'_>> {
        let parent = name.suffix(1);
        if !self.has_wildcards || parent.len() <= 1 {
            return None;
        }
        let mut wildcard = [[0u8; BLOCK_LEN]; block_count(NAME_LEN_MAX)];
        let len = ASTERISK.len() + parent.len();
        let bytes = wildcard.as_flattened_mut().get_mut(..len)?;
        let (asterisk, rest) = bytes.split_at_mut_checked(ASTERISK.len())?;
        asterisk.copy_from_slice(ASTERISK);
        rest.copy_from_slice(parent);
        self.find(wildcard.get(..block_count(len))?)
    }

    #[inline(always)]
    pub(crate) fn find(&self, name: &[Block]) -> Option<Entry<'_>> {
        let hash = self.seed.hash(name);
        find_in_segment(self.segment(hash)?, hash, name)
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> Option<&Segment> {
        self.spine.get(segment_index(hash, self.spine.len()))
    }
}
