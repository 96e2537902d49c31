//! The memory of a table: segments, the slots in them, and entries, which hold a name and its
//! answers. A name's hash picks a segment, then a slot in it.
//!
//! Invariant: `compile` writes the layout of `Segment`, this file reads it, and nothing else knows
//! it.

use alloc::sync::Arc;
use core::net::IpAddr;

use crate::answer::{Answer, ROW_LEN, row_field};
use crate::name::{BLOCK_LEN, Block, block_count};
use crate::reverse::read_pointer;
use crate::turn::turn;

pub(crate) const SLOT_LEN: usize = 8;
pub(crate) const ENTRY_HEAD_LEN: usize = 16;
/// Flag of an entry: it is an address's name in a reverse zone, which exists only as the owner of
/// PTR records.
pub(crate) const OF_REVERSE_NAME: u8 = 1;
/// Flag of an entry: its CNAMEs answer every type that has no row of its own.
pub(crate) const IS_ALIAS: u8 = 2;
/// Flag of an entry: its table has no SOA, or none that the fast path can write.
pub(crate) const HAS_NO_SOA: u8 = 4;
/// Flag of an entry: its name is a wildcard.
pub(crate) const IS_WILDCARD: u8 = 8;
/// Flag of an entry of a zone: another zone begins at its name, which name servers have.
pub(crate) const IS_DELEGATION: u8 = 16;
/// Flag of an entry of a zone: its DNAME answers for the names below.
pub(crate) const IS_DNAME: u8 = 32;
/// Flag of an entry of a zone: it has no records, but there are names below it.
pub(crate) const IS_EMPTY: u8 = 64;
/// Flag of an entry: it has rows that the fast path does not find, those of a zone, the list of a
/// Service's endpoints, or parts of answers.
pub(crate) const HAS_HIDDEN_ROWS: u8 = 128;
/// Bytes before the hidden rows: the counts of each kind.
pub(crate) const HIDDEN_HEAD_LEN: usize = 3;
/// The type of the row of a Service's endpoints, among the hidden ones of a cluster's entry.
pub(crate) const ENDPOINT_LIST: u16 = 0;
/// The first label of a wildcard.
pub(crate) const ASTERISK: &[u8] = b"\x01*";

/// The entries of the names whose hashes have the same lower bits. Generations share it as long as
/// none of its names changes.
///
/// Numbers are little-endian; bodies are DNS.
///
/// ```text
///   segment   slots (a power of two of them) · entries
///   slot      tag (u32: the hash's upper half) · offset of the entry (u32; 0: the slot is empty)
///   entry     hash (u64) · entry length (u32) · name length (u8) · row count (u8) · offset of the
///             zone in the name (u8) · flags (u8) · name in blocks of 16 bytes · rows · hidden
///             rows, if `HAS_HIDDEN_ROWS` · bodies
///   hidden    count of plain ones (u8), of signed ones (u8), of parts (u8) · plain ones · signed
///   rows      ones · parts: of an answer that no message holds, all but the first
///   row       type, body length, additionals, authorities, answers, rotation start, count, stride
///             with the count of parts (u16 each) · offset of the body in the entry (u32)
///   pointer   see `reverse`
///   body      the records, as they follow a question whose name is at offset 12
/// ```
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) bytes: Arc<[u8]>,
    /// The number of slots, minus one. It is here so that a look-up reads no length from `bytes`.
    pub(crate) slot_mask: usize,
}

/// `spine_len` is a power of two.
#[inline]
pub(crate) fn segment_index(hash: u64, spine_len: usize) -> usize {
    hash as usize & (spine_len - 1)
}

/// The slot where a hash's chain begins, and its tag. Both are bits that the segment index does not
/// use.
#[inline]
pub(crate) fn slot_and_tag(hash: u64, slot_mask: usize) -> (usize, u32) {
    let tag = (hash >> 32) as u32;
    ((hash >> 24) as usize & slot_mask, tag)
}

#[inline(always)]
pub(crate) fn find_in_segment<'t>(
    segment: &'t Segment,
    hash: u64,
    name: &[Block],
) -> Option<Entry<'t>> {
    let slot_mask = segment.slot_mask;
    let segment = &*segment.bytes;
    let (slots, _) = segment.as_chunks::<SLOT_LEN>();
    let (mut slot, tag) = slot_and_tag(hash, slot_mask);
    // `compile` fills at most half of the slots, so the chain ends at an empty one.
    loop {
        let bytes = slots.get(slot)?;
        let [t0, t1, t2, t3, ..] = *bytes;
        let offset = slot_offset(bytes);
        if offset == 0 {
            return None;
        }
        if u32::from_le_bytes([t0, t1, t2, t3]) == tag {
            let entry = Entry { bytes: segment.get(offset..)? };
            if entry.is_named(name) {
                return Some(entry);
            }
        }
        slot = (slot + 1) & slot_mask;
    }
}

/// The entries of this hash's chain that have its tag. For look-ups off the fast path.
fn tagged_entries(segment: &Segment, hash: u64) -> impl Iterator<Item = Entry<'_>> {
    let (slots, _) = segment.bytes.as_chunks::<SLOT_LEN>();
    let (first, tag) = slot_and_tag(hash, segment.slot_mask);
    let chain = (first..=first + segment.slot_mask).map(|slot| slot & segment.slot_mask);
    let chain = chain.map_while(|slot| slots.get(slot).filter(|slot| slot_offset(slot) != 0));
    let tagged =
        chain.filter(move |[t0, t1, t2, t3, ..]| u32::from_le_bytes([*t0, *t1, *t2, *t3]) == tag);
    tagged.filter_map(|slot| Some(Entry { bytes: segment.bytes.get(slot_offset(slot)..)? }))
}

/// The name with this hash, if it is stored.
pub(crate) fn name_in_segment(segment: &Segment, hash: u64) -> Option<&[u8]> {
    let mut entries = tagged_entries(segment, hash);
    Some(entries.find(|entry| entry.hash() == hash && !entry.is_pointer())?.name())
}

/// The hash that is stored with this address: of the name of its Service if `hash` is that of its
/// reverse name, of its namespace if `hash` is that of a pod's name.
pub(crate) fn pointer_in_segment(segment: &Segment, hash: u64, address: IpAddr) -> Option<u64> {
    let pointers =
        tagged_entries(segment, hash).filter(|entry| entry.is_pointer() && entry.hash() == hash);
    let mut pointers = pointers.filter_map(Entry::pointer);
    pointers.find(|(of, _)| *of == address).map(|(_, service)| service)
}

/// Offset of a slot's entry in the segment; 0 for an empty slot.
#[inline(always)]
pub(crate) fn slot_offset(slot: &[u8; SLOT_LEN]) -> usize {
    let [.., o0, o1, o2, o3] = *slot;
    u32::from_le_bytes([o0, o1, o2, o3]) as usize
}

/// A name and its answers, in the layout at the head of this file.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'t> {
    pub(crate) bytes: &'t [u8],
}

impl<'t> Entry<'t> {
    pub(crate) fn hash(self) -> u64 {
        self.bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) fn len(self) -> usize {
        u32_le(self.bytes, 8) as usize
    }

    #[inline]
    pub(crate) fn name(self) -> &'t [u8] {
        let len = self.bytes.get(12).map_or(0, |len| usize::from(*len));
        self.bytes.get(ENTRY_HEAD_LEN..ENTRY_HEAD_LEN + len).unwrap_or_default()
    }

    /// The name in blocks.
    pub(crate) fn name_blocks(self) -> &'t [Block] {
        let blocks = self.bytes.get(ENTRY_HEAD_LEN..ENTRY_HEAD_LEN + self.blocks_len());
        blocks.unwrap_or_default().as_chunks().0
    }

    /// Bytes that the name's blocks take.
    #[inline(always)]
    fn blocks_len(self) -> usize {
        self.bytes.get(12).map_or(0, |len| block_count(usize::from(*len)) * BLOCK_LEN)
    }

    #[inline(always)]
    fn is_named(self, name: &[Block]) -> bool {
        let len = name.len() * BLOCK_LEN;
        let Some(blocks) = self.bytes.get(ENTRY_HEAD_LEN..ENTRY_HEAD_LEN + len) else {
            return false;
        };
        let (blocks, _) = blocks.as_chunks::<BLOCK_LEN>();
        self.blocks_len() == len && blocks.iter().zip(name).all(|(one, other)| one == other)
    }

    /// Offset of the zone in the entry's name.
    #[inline]
    pub(crate) fn zone_at(self) -> usize {
        self.bytes.get(14).map_or(0, |at| usize::from(*at))
    }

    /// Whether it is a pointer: see `reverse`. It has no name, so that look-ups of names skip it.
    pub(crate) fn is_pointer(self) -> bool {
        self.bytes.get(12) == Some(&0)
    }

    /// The address of a pointer, and the hash of the other name.
    fn pointer(self) -> Option<(IpAddr, u64)> {
        read_pointer(self.bytes.get(ENTRY_HEAD_LEN..self.len())?)
    }

    pub(crate) fn is_of_reverse_name(self) -> bool {
        self.flags() & OF_REVERSE_NAME != 0
    }

    pub(crate) fn is_alias(self) -> bool {
        self.flags() & IS_ALIAS != 0
    }

    pub(crate) fn is_wildcard(self) -> bool {
        self.flags() & IS_WILDCARD != 0
    }

    #[inline]
    pub(crate) fn flags(self) -> u8 {
        self.bytes.get(15).copied().unwrap_or(0)
    }

    /// What a zone has for this type, which may be one that no record has: see `table::zone`. The
    /// rows that the fast path finds are plain.
    pub(crate) fn zone_answer(self, rtype: u16, is_signed: bool) -> Option<Answer<'t>> {
        let [plain, signed, _] = self.hidden_rows()?;
        let of_type = |row: &&[u8; ROW_LEN]| row_field(row, 0) == rtype;
        let signed = signed.iter().find(of_type).filter(|_| is_signed);
        match signed.or_else(|| plain.iter().find(of_type)) {
            Some(row) => self.answer_in(row),
            None => self.answer(rtype),
        }
    }

    /// The list of a Service's endpoints, in the layout of `endpoint`.
    pub(crate) fn endpoint_list(self) -> Option<&'t [u8]> {
        let [plain, ..] = self.hidden_rows()?;
        let row = plain.iter().find(|row| row_field(row, 0) == ENDPOINT_LIST)?;
        Some(self.answer_in(row)?.body)
    }

    /// The answer for this type; of one that no message holds, the part that `rotation` chooses.
    #[inline]
    pub(crate) fn answer_in_turn(self, rtype: u16, rotation: usize) -> Option<Answer<'t>> {
        self.answer(rtype).map(|answer| self.part_in_turn(answer, rotation))
    }

    /// The part of an answer of this entry that `rotation` chooses. A whole answer is its only
    /// part.
    #[inline]
    pub(crate) fn part_in_turn(self, answer: Answer<'t>, rotation: usize) -> Answer<'t> {
        if answer.is_cut() { self.stored_part(answer, rotation) } else { answer }
    }

    #[cold]
    fn stored_part(self, answer: Answer<'t>, rotation: usize) -> Answer<'t> {
        let behind_first = turn(rotation, answer.part_count()).checked_sub(1);
        let part = behind_first.and_then(|index| {
            let [_, _, parts] = self.hidden_rows()?;
            let rtype = row_field(answer.row, 0);
            let row = parts.iter().filter(|row| row_field(row, 0) == rtype).nth(index)?;
            self.answer_in(row)
        });
        part.unwrap_or(answer)
    }

    /// The rows that the fast path does not find: plain ones, those for clients that want
    /// signatures, and parts.
    fn hidden_rows(self) -> Option<[&'t [[u8; ROW_LEN]]; 3]> {
        if self.flags() & HAS_HIDDEN_ROWS == 0 {
            return None;
        }
        let open_len = usize::from(*self.bytes.get(13)?) * ROW_LEN;
        let rest = self.bytes.get(ENTRY_HEAD_LEN + self.blocks_len() + open_len..)?;
        let (counts, rest) = rest.split_first_chunk::<HIDDEN_HEAD_LEN>()?;
        let [plain_len, signed_len, parts_len] = counts.map(|count| usize::from(count) * ROW_LEN);
        let (plain, rest) = rest.split_at_checked(plain_len)?;
        let (signed, rest) = rest.split_at_checked(signed_len)?;
        let parts = rest.get(..parts_len)?;
        Some([plain, signed, parts].map(|rows| rows.as_chunks().0))
    }

    /// The row of this type, which may be `EVERY_TYPE`.
    #[inline(always)]
    pub(crate) fn answer(self, rtype: u16) -> Option<Answer<'t>> {
        let head = self.bytes.first_chunk::<ENTRY_HEAD_LEN>()?;
        let mut rows = self.bytes.get(ENTRY_HEAD_LEN + self.blocks_len()..)?;
        for _ in 0..head[13] {
            let (row, behind) = rows.split_first_chunk::<ROW_LEN>()?;
            rows = behind;
            if row_field(row, 0) == rtype {
                return self.answer_in(row);
            }
        }
        None
    }

    #[inline(always)]
    fn answer_in(self, row: &'t [u8; ROW_LEN]) -> Option<Answer<'t>> {
        let body_at = u32::from_le_bytes([row[16], row[17], row[18], row[19]]) as usize;
        let body = self.bytes.get(body_at..body_at + usize::from(row_field(row, 2)))?;
        Some(Answer { body, row, name_len: usize::from(*self.bytes.get(12)?) })
    }
}

#[inline]
pub(crate) fn u32_le(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
