//! Writes a finished response again, with another question and other names.
//!
//! The caller decides about each owner, TTL and name in record data; here the records are walked,
//! decompressed and compressed. Invariant: whatever the bytes, nothing here allocates or panics,
//! and every pointer that is written points back.

use core::ops::Range;

use crate::edit::{opt_in, records, set_counts, set_truncated};
use crate::header::{HEADER_LEN, TYPE_CNAME, TYPE_NS, TYPE_OPT, TYPE_PTR, TYPE_SOA, TYPE_SRV};
use crate::name::{LABEL_COUNT_MAX, NAME_LEN_MAX};
use crate::record::RecordHead;
use crate::response::layout::{Layout, TYPE_DNAME, TYPE_NAPTR};
use crate::response::name::{Compression, MessageName};
use crate::text::PlainName;

const TYPE_MX: u16 = 15;

/// A part of a record that may be changed.
pub enum Part<'p> {
    Owner(&'p mut PlainName),
    /// The name in the data: the target of CNAME, DNAME, MX, NAPTR, NS, PTR or SRV, the name server
    /// of SOA.
    Value(&'p mut PlainName),
    TtlSecs(&'p mut u32),
}

/// Writes the response `source` into `message` with this question, in wire format. `edit` is called
/// for the parts of each record, except the OPT, in the order of `Part`. Returns the length; TC is
/// set if the message has no room for all records. `None`, and nothing written, if the message has
/// no room for the question, or if `source` has no whole question.
pub fn write(
    source: &[u8],
    question: &[u8],
    message: &mut [u8],
    mut edit: impl FnMut(Part<'_>),
) -> Option<usize> {
    let read = records(source)?;
    let opt = opt_in(read.clone());
    let opt: Range<usize> = opt.map_or(0..0, |opt| opt.owner_at..opt.end());
    let mut len = HEADER_LEN + question.len();
    let room = message.len().checked_sub(opt.len()).filter(|room| *room >= len)?;
    message.get_mut(..HEADER_LEN)?.copy_from_slice(source.get(..HEADER_LEN)?);
    message.get_mut(HEADER_LEN..len)?.copy_from_slice(question);
    let mut writer =
        RenamedMessage { message: message.get_mut(..room)?, len, places: Places::default() };
    writer.note_question();
    let mut counts = [0; 3];
    let mut left = read.count_left() - usize::from(!opt.is_empty());
    let mut last_owner = None;
    for (section, head) in read {
        if head.owner_at == opt.start {
            continue;
        }
        let Some(()) = writer.put_record(source, &head, &mut last_owner, &mut edit) else { break };
        len = writer.len;
        counts[section as usize] += 1;
        left -= 1;
    }
    if !opt.is_empty() {
        message.get_mut(len..len + opt.len())?.copy_from_slice(source.get(opt.clone())?);
        len += opt.len();
        counts[2] += 1;
    }
    set_counts(message, counts);
    if left > 0 {
        set_truncated(message);
    }
    Some(len)
}

/// Sets the TTLs of a message and moves nothing. `edit` is called for each record, except the OPT.
pub fn set_ttls(message: &mut [u8], mut edit: impl FnMut(&mut u32)) {
    let Some(read) = records(message) else { return };
    let (mut at, count) = (read.at(), read.count_left());
    for _ in 0..count {
        let Some(head) = RecordHead::read(message, at) else { return };
        at = head.end();
        let mut ttl_secs = head.ttl_secs;
        if head.rtype == TYPE_OPT {
            continue;
        }
        edit(&mut ttl_secs);
        let field_at = head.rdata.start - 6;
        if let Some(field) = message.get_mut(field_at..field_at + 4) {
            field.copy_from_slice(&ttl_secs.to_be_bytes());
        }
    }
}

/// The owner of the record before, if it was a pointer: most owners are the same one.
struct LastOwner {
    pointer: [u8; 2],
    /// Where the message that is written has it.
    place: u16,
}

/// The message that is written.
struct RenamedMessage<'m> {
    message: &'m mut [u8],
    len: usize,
    places: Places,
}

impl RenamedMessage<'_> {
    /// Notes the labels of the question's name, which is written already.
    fn note_question(&mut self) {
        if let Some((name, _)) = MessageName::read(self.message, HEADER_LEN) {
            let labels = Labels::of(name.bytes());
            for (at, hash) in labels.iter() {
                self.places.note(hash, HEADER_LEN + at);
            }
        }
    }

    /// `None` if there is no room; what was written of the record is not to be used. The same for a
    /// record that cannot be read.
    fn put_record(
        &mut self,
        source: &[u8],
        head: &RecordHead,
        last_owner: &mut Option<LastOwner>,
        edit: &mut impl FnMut(Part<'_>),
    ) -> Option<()> {
        let pointer = source.get(head.owner_at..)?.first_chunk::<2>()?;
        match last_owner {
            Some(last) if last.pointer == *pointer => {
                self.put(&(0xC000 | last.place).to_be_bytes())?;
            }
            Some(_) | None => {
                let (read, _) = MessageName::read(source, head.owner_at)?;
                let mut owner = PlainName::default();
                owner.set(read.bytes());
                edit(Part::Owner(&mut owner));
                let place = self.put_name(owner.bytes(), Compressed::Yes)?;
                *last_owner = place
                    .filter(|_| pointer[0] >= 0xC0)
                    .map(|place| LastOwner { pointer: *pointer, place });
            }
        }
        let mut ttl_secs = head.ttl_secs;
        edit(Part::TtlSecs(&mut ttl_secs));
        self.put(&head.rtype.to_be_bytes())?;
        self.put(&head.class.to_be_bytes())?;
        self.put(&ttl_secs.to_be_bytes())?;
        self.put_rdata(source, head, edit)
    }

    fn put_rdata(
        &mut self,
        source: &[u8],
        head: &RecordHead,
        edit: &mut impl FnMut(Part<'_>),
    ) -> Option<()> {
        let len_at = self.len;
        self.put(&[0, 0])?;
        let layout = Layout::of(head.rtype, source.get(head.rdata.clone())?)?;
        let mut at = head.rdata.start + layout.head_len;
        self.put(source.get(head.rdata.start..at)?)?;
        for index in 0..layout.name_count {
            let (read, name_end) = MessageName::read(source, at)?;
            at = name_end;
            let compressed = match layout.compression {
                Compression::WithQuestion | Compression::AsSource => Compressed::Yes,
                Compression::Off => Compressed::No,
            };
            if index > 0 || !has_value(head.rtype) {
                self.put_name(read.bytes(), compressed)?;
                continue;
            }
            let mut value = PlainName::default();
            value.set(read.bytes());
            edit(Part::Value(&mut value));
            self.put_name(value.bytes(), compressed)?;
        }
        self.put(source.get(at..head.rdata.end)?)?;
        let len = u16::try_from(self.len - len_at - 2).ok()?;
        self.message.get_mut(len_at..len_at + 2)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.message.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    /// Returns where the message has the whole name, if a pointer reaches it.
    fn put_name(&mut self, name: &[u8], compressed: Compressed) -> Option<Option<u16>> {
        let labels = Labels::of(name);
        let mut whole = None;
        for (at, hash) in labels.iter() {
            let rest = name.get(at..)?;
            let known = match compressed {
                Compressed::Yes => self.places.find(hash, rest, self.message),
                Compressed::No => None,
            };
            if let Some(place) = known {
                self.put(&(0xC000 | place).to_be_bytes())?;
                return Some(if at == 0 { known } else { whole });
            }
            let noted = self.places.note(hash, self.len);
            if at == 0 {
                whole = noted;
            }
            let label_len = usize::from(*rest.first()?);
            self.put(rest.get(..=label_len)?)?;
        }
        self.put(&[0])?;
        Some(whole)
    }
}

/// Whether a name may become a pointer.
#[derive(Clone, Copy)]
enum Compressed {
    Yes,
    No,
}

/// Whether the first name in the data of this type is its value.
fn has_value(rtype: u16) -> bool {
    matches!(
        rtype,
        TYPE_NS | TYPE_CNAME | TYPE_SOA | TYPE_PTR | TYPE_MX | TYPE_SRV | TYPE_NAPTR | TYPE_DNAME
    )
}

/// The labels of a name: where each begins, and the hash of the name from there on, whatever its
/// case.
struct Labels {
    starts: [u8; LABEL_COUNT_MAX],
    hashes: [u16; LABEL_COUNT_MAX],
    count: usize,
}

impl Labels {
    fn of(name: &[u8]) -> Self {
        let mut labels =
            Self { starts: [0; LABEL_COUNT_MAX], hashes: [0; LABEL_COUNT_MAX], count: 0 };
        let mut at = 0;
        for start in &mut labels.starts {
            match name.get(at) {
                None | Some(0) => break,
                Some(label_len) => {
                    *start = at as u8;
                    at += 1 + usize::from(*label_len);
                    labels.count += 1;
                }
            }
        }
        let mut hash = 0u32;
        let mut end = at;
        let pairs = labels.starts.iter().zip(&mut labels.hashes).take(labels.count);
        for (start, slot) in pairs.rev() {
            let label = name.get(usize::from(*start)..end).unwrap_or_default();
            for byte in label {
                let byte = u32::from(byte.to_ascii_lowercase());
                hash = (hash.rotate_left(5) ^ byte).wrapping_mul(0x9E37_79B1);
            }
            *slot = (hash >> 16) as u16;
            end = usize::from(*start);
        }
        labels
    }

    fn iter(&self) -> impl Iterator<Item = (usize, u16)> {
        let starts = self.starts.iter().map(|start| usize::from(*start));
        starts.zip(self.hashes).take(self.count)
    }
}

/// The last offset that a pointer reaches (RFC 1035, section 4.1.4).
const POINTER_MAX: usize = 0x3FFF;
/// A power of two.
const PLACE_COUNT: usize = 128;
/// Places that are tried for a hash.
const PROBE_COUNT: usize = 4;

/// Where the message has labels, by the hash of the name from there on. 0 is an empty place. A
/// label that finds no place is not pointed at.
struct Places([u16; PLACE_COUNT]);

impl Default for Places {
    fn default() -> Self {
        Self([0; PLACE_COUNT])
    }
}

impl Places {
    fn indices(hash: u16) -> impl Iterator<Item = usize> {
        (0..PROBE_COUNT).map(move |probe| (usize::from(hash) + probe) % PLACE_COUNT)
    }

    /// Returns the offset if it was noted.
    fn note(&mut self, hash: u16, at: usize) -> Option<u16> {
        if at > POINTER_MAX {
            return None;
        }
        let index = Self::indices(hash).find(|index| self.0.get(*index) == Some(&0))?;
        *self.0.get_mut(index)? = at as u16;
        Some(at as u16)
    }

    /// Where the message has this name.
    fn find(&self, hash: u16, name: &[u8], message: &[u8]) -> Option<u16> {
        let noted = Self::indices(hash).filter_map(|index| self.0.get(index));
        noted
            .take_while(|place| **place != 0)
            .find(|place| has_name(message, usize::from(**place), name))
            .copied()
    }
}

/// Whether the message has this uncompressed name at `at`, whatever its case.
fn has_name(message: &[u8], mut at: usize, mut name: &[u8]) -> bool {
    // Each pass takes a label or follows a pointer. No name needs more pointers than labels.
    for _ in 0..NAME_LEN_MAX {
        let (Some(label_len), Some(high)) = (name.first(), message.get(at)) else { return false };
        if *high >= 0xC0 {
            let Some(low) = message.get(at + 1) else { return false };
            at = usize::from(u16::from_be_bytes([high & 0x3F, *low]));
            continue;
        }
        let label_end = usize::from(*label_len) + 1;
        let (Some(one), Some(other)) = (name.get(..label_end), message.get(at..at + label_end))
        else {
            return false;
        };
        if !one.eq_ignore_ascii_case(other) {
            return false;
        }
        if *label_len == 0 {
            return true;
        }
        name = name.get(label_end..).unwrap_or_default();
        at += label_end;
    }
    false
}
