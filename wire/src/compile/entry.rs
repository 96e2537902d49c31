//! Writes entries: a name and its answers in wire format, in the layout that `segment` describes.
//!
//! Invariant: every answer, or part of one, fits the longest message, after the longest question
//! and with an OPT.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::answer::{ROW_LEN, STRIDE_BITS};
use crate::endpoint;
use crate::header::{
    CLASS_IN, HEADER_LEN, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_HTTPS, TYPE_MX, TYPE_NS, TYPE_SRV,
    TYPE_SVCB,
};
use crate::name::{BLOCK_LEN, NAME_LEN_MAX, block_count};
use crate::record::{self, FIXED_LEN, RecordHead};
use crate::reply::MESSAGE_LEN_MAX;
use crate::segment::{
    ASTERISK, ENDPOINT_LIST, ENTRY_HEAD_LEN, HAS_HIDDEN_ROWS, HIDDEN_HEAD_LEN, IS_ALIAS,
    IS_WILDCARD,
};
use crate::table::EVERY_TYPE;

/// Most bytes of a body: the longest message without its header, its question and an OPT.
const BODY_LEN_MAX: usize = MESSAGE_LEN_MAX - HEADER_LEN - (NAME_LEN_MAX + 4) - 11;
/// Most parts of an answer, so that those of all types take 12 MiB at most, and their number fits
/// its place. They hold 230,000 IPv4 addresses; Kubernetes has 150,000 pods in a cluster at most.
const PART_COUNT_MAX: usize = 64;
/// Most bytes of a part's records, without the CNAMEs before them.
const PART_LEN_MAX: usize = BODY_LEN_MAX - FRONT_LEN_MAX;
/// Most bytes of the CNAMEs before the records of each part: more than ten of the longest.
const FRONT_LEN_MAX: usize = 5_500;
/// Most bytes of a record that parts have: two names and the fixed data of an SRV record.
const PART_RECORD_LEN_MAX: usize = 2 * NAME_LEN_MAX + FIXED_LEN + 6;
const _: () = assert!(PART_COUNT_MAX < 1 << (u16::BITS - STRIDE_BITS));
const _: () = assert!(PARTED_TYPES.len() * (PART_COUNT_MAX - 1) < u8::MAX as usize);
/// The types whose answers are divided into parts. A Service may have any number of such records.
const PARTED_TYPES: [u16; 3] = [TYPE_A, TYPE_AAAA, TYPE_SRV];
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
    /// Every look-up but the fast path, when it is the turn of this part of an answer. The first
    /// part is `Open`.
    Part,
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
    /// Offset in the body of the records of the row's own type: behind the CNAMEs.
    own_at: usize,
    answers: usize,
    authorities: u16,
    additionals: u16,
    rotate_at: usize,
    rotate_count: usize,
    rotate_stride: usize,
    is_full: bool,
    /// As in `Answer::part_count`: not 0 if records are missing that the response must not lack
    /// without TC (RFC 2181, section 9).
    part_count: usize,
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
        self.end_answer();
        self.targets.clear();
        self.target_cursor = 0;
        self.rows.push(Row { list, rtype, body_at: self.bodies.len(), ..Row::default() });
    }

    /// Writes a record of class IN of the answer that was begun last. Sections come in the order of
    /// `Section`.
    ///
    /// `owner` becomes a pointer if the name has occurred before; `rdata` is written uncompressed.
    /// If the records do not fit the longest message, each response has a part of them and says so
    /// (TC). Addresses and SRV records whose owner is the name, or the target of a CNAME, take
    /// turns; other records are left out.
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
        if row.is_full {
            return row.leave_out(section);
        }
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
        if row.body_len + owner_len + FIXED_LEN + rdata.len() > row.len_max(section, rtype) {
            row.is_full = true;
            return row.leave_out(section);
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
            Section::Answer => row.note_answer(rtype, self.bodies.len() - start),
            Section::Authority => row.authorities += 1,
            Section::Additional => row.additionals += 1,
        }
        row.body_len = self.bodies.len() - row.body_at;
    }

    /// Divides the answer that was begun last into parts, if no message holds it. They have about
    /// the same number of records, so that their turns spread the load evenly.
    fn end_answer(&mut self) {
        let Some(whole) = self.rows.pop_if(|row| row.body_len > BODY_LEN_MAX) else { return };
        let body = self.bodies.split_off(whole.body_at);
        let (cnames, own) = body.split_at(whole.own_at);
        let part_count = own.len().div_ceil(PART_LEN_MAX - PART_RECORD_LEN_MAX);
        let mut newest = None;
        for head in records(own) {
            let index = head.owner_at * part_count / own.len();
            if newest != Some(index) {
                newest = Some(index);
                let list = if index == 0 { whole.list } else { RowList::Part };
                let (rtype, body_at) = (whole.rtype, self.bodies.len());
                self.rows.push(Row { list, rtype, body_at, part_count, ..Row::default() });
                records(cnames).for_each(|cname| self.copy_answer(cnames, &cname));
            }
            self.copy_answer(own, &head);
        }
    }

    /// Copies a record to the part that was begun last.
    fn copy_answer(&mut self, bytes: &[u8], head: &RecordHead) {
        let record = &bytes[head.owner_at..head.end()];
        self.bodies.extend_from_slice(record);
        let part = self.rows.last_mut().expect("a part has begun");
        part.note_answer(head.rtype, record.len());
        part.body_len += record.len();
        debug_assert!(part.body_len <= BODY_LEN_MAX, "a part of {} bytes", part.body_len);
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
        self.end_answer();
        let has = |of: fn(&Row) -> bool, flag| if self.rows.iter().any(of) { flag } else { 0 };
        let is_alias = |row: &Row| row.list == RowList::Open && row.rtype == EVERY_TYPE;
        let is_hidden = |row: &Row| row.list != RowList::Open;
        self.finish_with(has(is_alias, IS_ALIAS) | has(is_hidden, HAS_HIDDEN_ROWS))
    }

    /// The same, with these flags of a zone's entry.
    pub(super) fn finish_with(&mut self, flags: u8) -> &[u8] {
        self.end_answer();
        self.rows.sort_by_key(|row| row.list);
        let count = |list| {
            let rows = self.rows.iter().filter(|row| row.list == list).count();
            u8::try_from(rows).expect("few types a name, and few parts")
        };
        let open = count(RowList::Open);
        let hidden: [u8; HIDDEN_HEAD_LEN] =
            [RowList::Hidden, RowList::Signed, RowList::Part].map(count);
        let has_hidden_rows = flags & HAS_HIDDEN_ROWS != 0;
        debug_assert!(has_hidden_rows || hidden == [0; HIDDEN_HEAD_LEN], "rows that nobody finds");
        let rows_at = ENTRY_HEAD_LEN + block_count(self.name.len()) * BLOCK_LEN;
        let hidden_head_len = if has_hidden_rows { HIDDEN_HEAD_LEN } else { 0 };
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
                entry.extend_from_slice(&hidden);
            }
            entry.extend_from_slice(&row.bytes(bodies_at));
        }
        if has_hidden_rows && self.rows.len() == usize::from(open) {
            entry.extend_from_slice(&hidden);
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
            self.answers as u16,
            self.rotate_at as u16,
            self.rotate_count as u16,
            (self.rotate_stride | self.part_count << STRIDE_BITS) as u16,
        ];
        let mut bytes = [0; ROW_LEN];
        let (numbers_place, offset_place) = bytes.split_at_mut(size_of_val(&numbers));
        numbers_place.copy_from_slice(numbers.map(u16::to_le_bytes).as_flattened());
        offset_place.copy_from_slice(&((bodies_at + self.body_at) as u32).to_le_bytes());
        bytes
    }

    /// Most bytes of the body with a record of this section and type.
    fn len_max(&self, section: Section, rtype: u16) -> usize {
        let is_parted = self.list == RowList::Open
            && section == Section::Answer
            && rtype == self.rtype
            && PARTED_TYPES.contains(&rtype)
            && self.own_at <= FRONT_LEN_MAX;
        if is_parted {
            self.own_at + PART_COUNT_MAX * (PART_LEN_MAX - PART_RECORD_LEN_MAX)
        } else {
            BODY_LEN_MAX
        }
    }

    /// Notes that the answer lacks a record.
    fn leave_out(&mut self, section: Section) {
        if section != Section::Additional {
            self.part_count = self.part_count.max(1);
        }
    }

    /// Notes a record of the answer at the end of the body. Consecutive addresses of one length are
    /// the run to rotate; CNAMEs may come before it.
    fn note_answer(&mut self, rtype: u16, len: usize) {
        self.answers += 1;
        if rtype != self.rtype {
            self.own_at = self.body_len + len;
        }
        if !matches!(rtype, TYPE_A | TYPE_AAAA) {
            return;
        }
        let at = self.body_len;
        let run_end = self.rotate_at + self.rotate_count * self.rotate_stride;
        if self.rotate_count == 0 {
            (self.rotate_at, self.rotate_count, self.rotate_stride) = (at, 1, len);
        } else if at == run_end && len == self.rotate_stride {
            self.rotate_count += 1;
        }
    }
}

/// The records of a body, or of a piece of one.
fn records(bytes: &[u8]) -> impl Iterator<Item = RecordHead> {
    let next = |last: &RecordHead| RecordHead::read(bytes, last.end());
    core::iter::successors(RecordHead::read(bytes, 0), next)
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
