//! One generation of a source's answers, and the look-up in it.
//!
//! A table is a spine of segments; `segment` describes their layout. `kubernetes`, `hosts` and
//! `zone` answer names that the table does not store. Invariant: a look-up of a stored name follows
//! one slot chain.

mod hosts;
mod kubernetes;
mod zone;

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::answer::Answer;
use crate::apex::{Apex, ApexRecords, SOA_LEN};
use crate::endpoint::AddressName;
use crate::hash::{HashSeed, NameHash};
use crate::header::{TYPE_ANY, TYPE_CNAME, TYPE_SOA};
use crate::name::{BLOCK_LEN, Block, NAME_LEN_MAX, Name, block_count};
use crate::pod::PodMode;
use crate::reverse::Pointer;
use crate::segment::{
    ASTERISK, Entry, HAS_NO_SOA, IS_ALIAS, OF_REVERSE_NAME, SLOT_LEN, Segment, find_in_segment,
    segment_index, slot_and_tag, slot_offset,
};
use crate::zone::ZoneSet;
pub(crate) use zone::{CanonicalKey, NEGATIVE_SOA, Proof, Proofs};

/// The type of the row that holds an alias's CNAMEs. They answer every type that has no row of its
/// own.
pub const EVERY_TYPE: u16 = 0;

/// The rules by which a table answers names that it does not store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRules {
    /// Only wildcards: `*.example.org` answers names that have one label more than `example.org`
    /// and are not stored, as in CoreDNS's `hosts`.
    Exact,
    /// Those of `kubernetes`. In reverse zones, an address's name exists only as the owner of PTR
    /// records.
    Kubernetes { pods: PodMode },
    /// Those of `k8s_external`: wildcards, and port names without underscores. In reverse zones, an
    /// address's name exists only as the owner of PTR records.
    K8sExternal,
    /// Those of zone files: see `zone`.
    Zones,
}

impl NameRules {
    /// Whether `*.example.org` is a wildcard.
    pub(crate) const fn has_wildcards(self) -> bool {
        match self {
            Self::Exact | Self::K8sExternal | Self::Zones => true,
            Self::Kubernetes { pods: _ } => false,
        }
    }
}

/// One immutable generation. Shards hold it by `Arc`; the control plane keeps it until it is the
/// only owner.
pub struct Table {
    pub(crate) seed: HashSeed,
    pub(crate) spine: Box<[Segment]>,
    pub(crate) zones: Arc<ZoneSet>,
    /// By index in `zones`: whether a name exists there only as the owner of PTR records. Empty if
    /// the rules have no such zones.
    pub(crate) reverse_zones: Arc<[bool]>,
    pub(crate) rules: NameRules,
    pub(crate) ttl_secs: u32,
    pub(crate) apex: ApexRecords,
    /// The SOA of every zone, without the zone's name. The serial is the time of the last change.
    /// Not used if `apex` has no SOA.
    pub(crate) soa: [u8; SOA_LEN],
    /// Whether the source has been read completely, so that absent names do not exist.
    pub(crate) synced: bool,
    /// Whether the rules have wildcards and at least one is stored.
    pub(crate) has_wildcards: bool,
    /// See `Table::passes_unstored`.
    pub(crate) passes_unstored: bool,
    pub(crate) generation: u64,
    /// By index in `zones`: the NSEC records of a zone. Empty without signed zones.
    pub(crate) proofs: Arc<[Proofs]>,
}

impl core::fmt::Debug for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Table {{ generation: {}, segments: {} }}", self.generation, self.spine.len())
    }
}

/// The result of a look-up.
#[derive(Clone, Copy, Debug)]
pub enum Found<'t> {
    /// The table has records of the type.
    Answer(Answer<'t>),
    /// CNAMEs, or a DNAME: look `Answer::target_for` up next, here or elsewhere.
    Alias(Answer<'t>),
    /// A pod's address, read from the name itself.
    Pod(AddressName<'t>),
    /// An endpoint's address, read from the name itself, and its ports.
    Endpoint(AddressName<'t>),
    /// The name of the endpoint whose address the question's name spells.
    Pointer(Pointer<'t>),
    /// The answer is the zone's SOA.
    Soa(Apex),
    /// The name exists, the type does not (RFC 2308, section 2.2).
    NoData(Apex),
    /// The name does not exist (RFC 2308, section 2.1).
    NxDomain(Apex),
    /// The name may exist: the cluster has not been read completely.
    Unsynced(Apex),
    /// A wildcard's records, and the proof that there is no closer name.
    Expanded(Answer<'t>, Answer<'t>),
    /// A zone denies the name or the type.
    Denied(Denial<'t>),
    /// The name belongs to another zone, which these name servers have.
    Referral(Answer<'t>),
    /// The file of the name's zone has not been read yet.
    Unloaded,
    /// A list of hosts lacks the name, which may exist elsewhere. There is no SOA to deny it with.
    Unlisted,
    /// The name is in none of the table's zones, or a list of hosts lacks the PTR record that the
    /// question is for.
    Outside,
}

/// A zone's denial, with its SOA (RFC 2308, section 2).
#[derive(Clone, Copy, Debug)]
pub struct Denial<'t> {
    pub kind: DenialKind,
    /// In the authority section.
    pub(crate) soa: Answer<'t>,
    /// NSEC records after it, for clients that set DO.
    pub(crate) proofs: [Option<Answer<'t>>; 2],
}

/// What a zone denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialKind {
    /// The type: the name has other records.
    NoData,
    /// The type: the name has no records, but there are names below it.
    Empty,
    /// The name.
    NxDomain,
}

/// What a query wants to know about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub qtype: u16,
    /// DO: signatures and proofs too.
    pub dnssec_ok: bool,
    /// Chooses the part of an answer that no message holds.
    pub rotation: usize,
}

/// A name that a table stores.
#[derive(Clone, Copy)]
pub struct Stored<'t>(pub(crate) Entry<'t>);

impl<'t> Stored<'t> {
    /// The records of this type, which are the complete answer. `None` if there are none, and if
    /// CNAMEs lead to another name.
    #[must_use]
    #[inline(always)]
    pub fn answer(self, qtype: u16) -> Option<Answer<'t>> {
        self.0.answer(qtype)
    }

    /// Call it if `answer` gives `None`: the apex whose SOA goes with NODATA. `None` if NODATA may
    /// be wrong, so that `look_up_from` must decide.
    #[must_use]
    #[inline(always)]
    pub fn no_data(self) -> Option<Apex> {
        let has_rules = self.0.flags() & (IS_ALIAS | OF_REVERSE_NAME | HAS_NO_SOA) != 0;
        (!has_rules).then_some(Apex { name_offset: self.0.zone_at() })
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

    /// The memory that a look-up of this hash reads first. It is not read here, so it can be
    /// prefetched.
    #[must_use]
    #[inline]
    pub fn slot_line(&self, hash: NameHash) -> &[u8] {
        self.slot(hash).map_or(&[], |slot| slot)
    }

    /// The memory that a look-up of this hash reads next: most likely the name's entry.
    #[must_use]
    #[inline]
    pub fn entry_line(&self, hash: NameHash) -> &[u8] {
        let offset = self.slot(hash).map_or(0, slot_offset);
        match self.segment(hash.0) {
            Some(segment) if offset != 0 => segment.bytes.get(offset..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Where the chain of a hash begins.
    #[inline(always)]
    fn slot(&self, hash: NameHash) -> Option<&[u8; SLOT_LEN]> {
        let segment = self.segment(hash.0)?;
        let (slot, _) = slot_and_tag(hash.0, segment.slot_mask);
        segment.bytes.as_chunks().0.get(slot)
    }

    /// The entry stored under exactly this name. `hash` is the name's. If `Name::presume` has read
    /// the name and it is stored, it is whole.
    #[must_use]
    #[inline(always)]
    pub fn stored(&self, hash: NameHash, name: &Name) -> Option<Stored<'_>> {
        debug_assert_eq!(hash, self.hash(name), "the hash of another name, or by another seed");
        find_in_segment(self.segment(hash.0)?, hash.0, name.blocks()).map(Stored)
    }

    /// Whether every name for which `stored` gives `None` falls through, so that the next source
    /// can be asked without `look_up`.
    #[must_use]
    #[inline]
    pub fn passes_unstored(&self) -> bool {
        self.passes_unstored
    }

    /// Looks up a question by its name and type; the class is IN. Signatures are not wanted, and of
    /// an answer that no message holds, the first part is found.
    #[must_use]
    pub fn look_up(&self, name: &Name, qtype: u16) -> Found<'_> {
        let wanted = Wanted { qtype, dnssec_ok: false, rotation: 0 };
        self.look_up_from(self.stored(self.hash(name), name), name, wanted)
    }

    /// The same, if the caller knows already what is stored under the name.
    #[must_use]
    pub fn look_up_from<'t>(
        &'t self,
        stored: Option<Stored<'t>>,
        name: &Name,
        wanted: Wanted,
    ) -> Found<'t> {
        let Wanted { qtype, .. } = wanted;
        match self.apex {
            ApexRecords::None => return self.look_up_host(stored, name, wanted),
            ApexRecords::Zones => return self.look_up_in_zone(stored, name, wanted),
            ApexRecords::Kubernetes | ApexRecords::K8sExternal(_) => {}
        }
        if qtype == TYPE_SOA
            && let Some(found) = self.look_up_soa(name)
        {
            return found;
        }
        let Some(Stored(entry)) = stored else { return self.look_up_unstored(name, wanted) };
        self.found_in(entry, wanted, Apex { name_offset: entry.zone_at() })
    }

    /// What an entry has for a question. `apex`: of its zone, in the question's name.
    pub(crate) fn found_in<'t>(
        &'t self,
        entry: Entry<'t>,
        wanted: Wanted,
        apex: Apex,
    ) -> Found<'t> {
        let Wanted { qtype, rotation, .. } = wanted;
        match entry.answer_in_turn(qtype, rotation) {
            Some(answer) => Found::Answer(answer),
            None if entry.is_alias() => match entry.answer(EVERY_TYPE) {
                // The question is for the CNAMEs themselves.
                Some(cnames) if matches!(qtype, TYPE_CNAME | TYPE_ANY) => Found::Answer(cnames),
                Some(cnames) => Found::Alias(cnames),
                None => Found::NoData(apex),
            },
            None if entry.is_of_reverse_name() && apex.name_offset != 0 => self.absent(apex),
            None => Found::NoData(apex),
        }
    }

    /// Answers questions for the SOA; `None` if the name must be looked up first.
    fn look_up_soa(&self, name: &Name) -> Option<Found<'_>> {
        let zone = self.zones.find(name)?;
        let apex = Apex { name_offset: zone.name_offset };
        if zone.name_offset == 0 {
            return Some(Found::Soa(apex));
        }
        match self.apex {
            // As CoreDNS: NODATA at every other name of the zone, existing or not.
            ApexRecords::Kubernetes => Some(Found::NoData(apex)),
            ApexRecords::K8sExternal(_) | ApexRecords::Zones | ApexRecords::None => None,
        }
    }

    /// Answers names that a rule answers, and names that do not exist.
    fn look_up_unstored(&self, name: &Name, wanted: Wanted) -> Found<'_> {
        let Wanted { qtype, rotation, .. } = wanted;
        let Some((zone, labels_left)) = self.zones.find_below(name) else {
            return Found::Outside;
        };
        let apex = Apex { name_offset: zone.name_offset };
        if labels_left == 0 {
            return Found::NoData(apex);
        }
        if self.reverse_zones.get(zone.index) == Some(&true) {
            return self.look_up_reverse(name, qtype, apex);
        }
        match self.rules {
            NameRules::Exact => match self.find_wildcard(name) {
                Some(entry) => {
                    let answer = entry.answer_in_turn(qtype, rotation);
                    answer.map_or(Found::NoData(apex), Found::Answer)
                }
                None => self.absent(apex),
            },
            NameRules::Kubernetes { pods } => {
                self.look_up_by_rule(pods, name, wanted, labels_left, apex)
            }
            NameRules::K8sExternal => self.look_up_external(name, wanted, labels_left, apex),
            NameRules::Zones => Found::Unloaded,
        }
    }

    /// The generation's number: one more with each publication.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.spine.len()
    }

    /// The number of segments that are the same memory in both generations.
    #[must_use]
    pub fn segments_shared_with(&self, other: &Self) -> usize {
        self.spine
            .iter()
            .zip(&other.spine)
            .filter(|(one, other)| Arc::ptr_eq(&one.bytes, &other.bytes))
            .count()
    }

    /// Whether the source has been read completely.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether it holds zone files.
    #[must_use]
    pub fn is_of_zones(&self) -> bool {
        self.rules == NameRules::Zones
    }

    /// TTL of records that are made from the name itself.
    #[must_use]
    pub(crate) const fn ttl_secs(&self) -> u32 {
        self.ttl_secs
    }

    pub(crate) fn absent(&self, apex: Apex) -> Found<'_> {
        if self.synced { Found::NxDomain(apex) } else { Found::Unsynced(apex) }
    }

    /// The wildcard for this name: its first label is replaced by an asterisk. A name of one label
    /// has none.
    pub(crate) fn find_wildcard(&self, name: &Name) -> Option<Entry<'_>> {
        let parent = name.suffix(1);
        if parent.len() <= 1 { None } else { self.find_wildcard_in(parent) }
    }

    /// The wildcard that stands for names one label below this one.
    pub(crate) fn find_wildcard_in(&self, parent: &[u8]) -> Option<Entry<'_>> {
        if !self.has_wildcards {
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
