//! Writes entries: a name and its answers in wire format, in the layout that `segment` describes.
//!
//! Invariant: every answer fits the longest message, after the longest question and with an OPT.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::answer::{IS_CUT, ROW_LEN};
use crate::endpoint;
use crate::header::{
    CLASS_IN, HEADER_LEN, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_HTTPS, TYPE_MX, TYPE_NS, TYPE_SRV,
    TYPE_SVCB,
};
use crate::name::{BLOCK_LEN, NAME_LEN_MAX, block_count};
use crate::record;
use crate::reply::MESSAGE_LEN_MAX;
use crate::segment::{
    ASTERISK, ENDPOINT_LIST, ENTRY_HEAD_LEN, HAS_HIDDEN_ROWS, IS_ALIAS, IS_WILDCARD,
};
use crate::table::EVERY_TYPE;

/// Most bytes of a body: the longest message without its header, its question and an OPT.
const BODY_LEN_MAX: usize = MESSAGE_LEN_MAX - HEADER_LEN - (NAME_LEN_MAX + 4) - 11;
/// A compression pointer has 14 bits (RFC 1035, section 4.1.4).
const POINTER_MAX: usize = 0x3FFF;
/// The section of the response that a stored record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// Who finds a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowList {
    /// The fast path and every look-up.
    #[default]
    Open,
    /// Look-ups in zones, and those of endpoints.
    Hidden,
    /// Look-ups in zones for clients that want signatures.
    Signed,
}

/// Writes the answers of one owner name, record by record, in wire format.
///
/// Call `begin(name)`, then for each type with records `answer(type)` and its `record(…)`s, then
/// `finish()`. The answer for every other type is NODATA, and so is every answer of a name without
/// records. CNAMEs go under `answer(EVERY_TYPE)`; each look-up follows them anew.
#[derive(Default)]
pub struct EntryWriter {
    name: Vec<u8>,
    rows: Vec<Row>,
    /// The bodies of all rows, one after the other.
    bodies: Vec<u8>,
    /// Names in the message being written, without the question's.
    targets: Vec<Target>,
    /// Index of the target that was last pointed at. Additional records come in the order of the
    /// targets, so the next search starts here.
    target_cursor: usize,
    entry: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    list: RowList,
    rtype: u16,
    body_at: usize,
    body_len: usize,
    answers: u16,
    authorities: u16,
    additionals: u16,
    rotate_at: usize,
    rotate_count: u16,
    rotate_stride: u16,
    is_full: bool,
    /// Records are missing that the response must not lack without TC (RFC 2181, section 9).
    is_cut: bool,
}

/// A name in the record data of this message. Later owners can point at it.
#[derive(Clone, Copy)]
struct Target {
    /// Offset of the name in `bodies`.
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

    /// Begins the answer for this type, or for `EVERY_TYPE`.
    pub fn answer(&mut self, rtype: u16) {
        self.answer_in(RowList::Open, rtype);
    }

    /// The same, for a row of this list.
    pub(super) fn answer_in(&mut self, list: RowList, rtype: u16) {
        self.targets.clear();
        self.target_cursor = 0;
        self.rows.push(Row { list, rtype, body_at: self.bodies.len(), ..Row::default() });
    }

    /// Writes a record of class IN of the answer that was begun last. Sections come in the order of
    /// `Section`.
    ///
    /// `owner` becomes a pointer if the name has occurred before; `rdata` is written uncompressed.
    /// Records that do not fit the longest message are left out, and the response says so (TC).
    pub fn record(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: u16,
        ttl_secs: u32,
        rdata: &[u8],
    ) {
        self.write(section, owner, true, rtype, ttl_secs, rdata);
    }

    /// Writes a record of the answer whose owner is spelled out.
    pub(super) fn spelled_record(&mut self, owner: &[u8], rtype: u16, ttl_secs: u32, rdata: &[u8]) {
        self.write(Section::Answer, owner, false, rtype, ttl_secs, rdata);
    }

    fn write(
        &mut self,
        section: Section,
        owner: &[u8],
        compresses: bool,
        rtype: u16,
        ttl_secs: u32,
        rdata: &[u8],
    ) {
        let row = self.rows.last_mut().expect("answer() comes before record()");
        let owner_pointer = if !compresses {
            None
        } else if let Some(at) = place_in(&self.name, owner, section) {
            Some(0xC000 | (HEADER_LEN + at) as u16)
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
            row.is_cut |= section != Section::Additional;
            return;
        }
        let start = self.bodies.len();
        match owner_pointer {
            Some(pointer) => self.bodies.extend_from_slice(&pointer.to_be_bytes()),
            None => self.bodies.extend_from_slice(owner),
        }
        let [[t0, t1], [c0, c1], [l0, l1]] =
            [rtype, CLASS_IN, rdata.len() as u16].map(u16::to_be_bytes);
        let [ttl0, ttl1, ttl2, ttl3] = ttl_secs.to_be_bytes();
        self.bodies.extend_from_slice(&[t0, t1, c0, c1, ttl0, ttl1, ttl2, ttl3, l0, l1]);
        let rdata_at = self.bodies.len();
        self.bodies.extend_from_slice(rdata);
        let name_in_rdata = match rtype {
            TYPE_CNAME | TYPE_NS => Some(0),
            TYPE_MX | TYPE_SVCB | TYPE_HTTPS => Some(2),
            TYPE_SRV => Some(6),
            _ => None,
        };
        if let Some(skip) = name_in_rdata
            && let Some(len) = rdata.get(skip..).and_then(record::owner_len)
        {
            self.targets.push(Target { at: rdata_at + skip, len });
        }
        match section {
            Section::Answer => {
                row.note_address(rtype, start - row.body_at, self.bodies.len() - start);
                row.answers += 1;
            }
            Section::Authority => row.authorities += 1,
            Section::Additional => row.additionals += 1,
        }
        row.body_len = self.bodies.len() - row.body_at;
    }

    /// Lists endpoints whose names spell their addresses. Those names exist without being stored.
    ///
    /// `weight`: of their SRV records, one for each of `ports`, which are distinct. `addresses`:
    /// sorted, and no more than `endpoint::list_capacity`.
    pub fn list_endpoints(&mut self, weight: u16, ports: &[u16], addresses: &[IpAddr]) {
        self.answer_in(RowList::Hidden, ENDPOINT_LIST);
        endpoint::write_list(weight, ports, addresses, &mut self.bodies);
        let row = self.rows.last_mut().expect("it has just begun");
        row.body_len = self.bodies.len() - row.body_at;
    }

    /// The finished entry: opaque bytes for `TableBuilder::insert`.
    pub fn finish(&mut self) -> &[u8] {
        let has = |of: fn(&Row) -> bool, flag| if self.rows.iter().any(of) { flag } else { 0 };
        let is_alias = |row: &Row| row.list == RowList::Open && row.rtype == EVERY_TYPE;
        let is_hidden = |row: &Row| row.list == RowList::Hidden;
        self.finish_with(has(is_alias, IS_ALIAS) | has(is_hidden, HAS_HIDDEN_ROWS))
    }

    /// The same, with these flags of a zone's entry.
    pub(super) fn finish_with(&mut self, flags: u8) -> &[u8] {
        self.rows.sort_by_key(|row| row.list);
        let count = |list| {
            let rows = self.rows.iter().filter(|row| row.list == list).count();
            u8::try_from(rows).expect("few types a name")
        };
        let [open, plain, signed] = [RowList::Open, RowList::Hidden, RowList::Signed].map(count);
        let has_hidden_rows = flags & HAS_HIDDEN_ROWS != 0;
        debug_assert!(has_hidden_rows || plain + signed == 0, "rows that nobody finds");
        let rows_at = ENTRY_HEAD_LEN + block_count(self.name.len()) * BLOCK_LEN;
        let hidden_head_len = if has_hidden_rows { 2 } else { 0 };
        let bodies_at = rows_at + self.rows.len() * ROW_LEN + hidden_head_len;
        let entry = &mut self.entry;
        entry.clear();
        entry.reserve(bodies_at + self.bodies.len());
        entry.extend_from_slice(&0u64.to_le_bytes());
        entry.extend_from_slice(&((bodies_at + self.bodies.len()) as u32).to_le_bytes());
        entry.push(self.name.len() as u8);
        entry.push(open);
        // The builder sets the offset of the zone, and the other flags.
        let wildcard = if self.name.starts_with(ASTERISK) { IS_WILDCARD } else { 0 };
        entry.extend_from_slice(&[0, flags | wildcard]);
        entry.extend_from_slice(&self.name);
        entry.resize(rows_at, 0);
        for (index, row) in self.rows.iter().enumerate() {
            if has_hidden_rows && index == usize::from(open) {
                entry.extend_from_slice(&[plain, signed]);
            }
            entry.extend_from_slice(&row.bytes(bodies_at));
        }
        if has_hidden_rows && self.rows.len() == usize::from(open) {
            entry.extend_from_slice(&[plain, signed]);
        }
        debug_assert_eq!(entry.len(), bodies_at);
        entry.extend_from_slice(&self.bodies);
        entry
    }
}

impl Row {
    /// `bodies_at`: offset of the bodies in the entry.
    fn bytes(&self, bodies_at: usize) -> [u8; ROW_LEN] {
        let numbers = [
            self.rtype,
            self.body_len as u16,
            self.additionals,
            self.authorities,
            self.answers,
            self.rotate_at as u16,
            self.rotate_count,
            self.rotate_stride | if self.is_cut { IS_CUT } else { 0 },
        ];
        let mut bytes = [0; ROW_LEN];
        let (numbers_place, offset_place) = bytes.split_at_mut(size_of_val(&numbers));
        numbers_place.copy_from_slice(numbers.map(u16::to_le_bytes).as_flattened());
        offset_place.copy_from_slice(&((bodies_at + self.body_at) as u32).to_le_bytes());
        bytes
    }

    /// Consecutive addresses of one length are the run to rotate; CNAMEs may come before it.
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

/// The offset of an owner in the entry's name, if a pointer there means the owner in every message.
/// A wildcard's own name is in the message only as the question that it answers.
fn place_in(name: &[u8], owner: &[u8], section: Section) -> Option<usize> {
    let at = name.len().checked_sub(owner.len()).filter(|at| &name[*at..] == owner)?;
    if at == 0 {
        return (section == Section::Answer || !name.starts_with(ASTERISK)).then_some(0);
    }
    let mut start = 0;
    while start < at {
        start += 1 + usize::from(name[start]);
    }
    (start == at && owner.len() > 1).then_some(at)
}

/// Index of the target that equals `owner`. The search starts at the cursor and wraps around.
fn find_target(targets: &[Target], bodies: &[u8], cursor: usize, owner: &[u8]) -> Option<usize> {
    let order = (cursor..targets.len()).chain(0..cursor);
    order.into_iter().find(|index| {
        let target = targets[*index];
        &bodies[target.at..target.at + target.len] == owner
    })
}

/// A compression pointer, if it reaches the offset. It leaves room for a longer question name,
/// which moves all offsets.
fn pointer_to(offset: usize) -> Option<u16> {
    (offset + NAME_LEN_MAX <= POINTER_MAX).then_some(0xC000 | offset as u16)
}
