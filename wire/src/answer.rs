//! An answer as a table stores it: the bytes of its records, and the row that describes them.
//!
//! Invariant: `row` has the layout that the head of `segment` shows.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::header::{CLASS_IN, HEADER_LEN, TYPE_CNAME, TYPE_DNAME};
use crate::name::{NAME_LEN_MAX, Name};
use crate::record::{Counts, FIXED_LEN, MessageSection, RecordHead};

pub(crate) const ROW_LEN: usize = 20;
/// Bits of a row's rotation stride. Those above them count the parts of an answer that no message
/// holds; they are 0 if the answer is whole.
pub(crate) const STRIDE_BITS: u32 = 9;
const _: () = assert!(NAME_LEN_MAX + FIXED_LEN + 16 < 1 << STRIDE_BITS, "an AAAA record");

/// A stored answer: the bytes of its records, and what stamping needs to know about them.
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
    /// One CNAME of a question's name. `question_name_len`: that name's length; `target`: wire
    /// format, uncompressed, at most 255 bytes.
    #[must_use]
    pub fn cname(question_name_len: usize, ttl_secs: u32, target: &[u8]) -> Self {
        debug_assert!(target.len() <= NAME_LEN_MAX, "a name");
        let mut body = Vec::with_capacity(2 + FIXED_LEN + target.len());
        body.extend_from_slice(&(0xC000 | HEADER_LEN as u16).to_be_bytes());
        body.extend_from_slice(&TYPE_CNAME.to_be_bytes());
        body.extend_from_slice(&CLASS_IN.to_be_bytes());
        body.extend_from_slice(&ttl_secs.to_be_bytes());
        body.extend_from_slice(&(target.len() as u16).to_be_bytes());
        body.extend_from_slice(target);
        let mut row = [0; ROW_LEN];
        for (at, field) in [(0, TYPE_CNAME), (2, body.len() as u16), (8, 1)] {
            row[at..at + 2].copy_from_slice(&field.to_le_bytes());
        }
        Self { body: body.into(), row, name_len: question_name_len }
    }

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

    /// The number of its records, by section.
    #[inline]
    pub(crate) fn counts(&self) -> Counts {
        // Behind the type and the length, the last section's first.
        let [_, _, bytes @ ..] = *self.row;
        let word = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Counts::from_word(word >> 16)
    }

    #[must_use]
    pub fn answer_count(&self) -> u16 {
        self.counts().count(MessageSection::Answer)
    }

    #[must_use]
    pub fn additional_count(&self) -> u16 {
        self.counts().count(MessageSection::Additional)
    }

    /// Offset in the body of the addresses to rotate: `rotate_count` records of `rotate_stride`
    /// bytes each.
    #[inline]
    pub(crate) fn rotate_at(&self) -> usize {
        row_field(self.row, 10).into()
    }

    #[inline]
    pub(crate) fn rotate_count(&self) -> usize {
        row_field(self.row, 12).into()
    }

    #[inline]
    pub(crate) fn rotate_stride(&self) -> usize {
        (row_field(self.row, 14) & ((1 << STRIDE_BITS) - 1)).into()
    }

    /// Whether records are missing that no message has room for.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.part_count() != 0
    }

    /// How many parts of the answer the table has, if no message holds it: this is one of them. 0
    /// if it is whole.
    #[inline]
    pub(crate) fn part_count(&self) -> usize {
        (row_field(self.row, 14) >> STRIDE_BITS).into()
    }

    /// The target of the last CNAME of a `Found::Alias`, in wire format. Empty for a DNAME: see
    /// `target_for`.
    #[must_use]
    pub fn target(&self) -> &'t [u8] {
        self.last_of(TYPE_CNAME).and_then(|cname| self.body.get(cname.rdata)).unwrap_or_default()
    }

    /// The name that a `Found::Alias` leads to from `name`: the target of the last CNAME, or what a
    /// DNAME makes of the name (RFC 6672, section 2.2). `None` if that is too long for a name.
    #[must_use]
    pub fn target_for(&self, name: &Name) -> Option<Name> {
        let Some(dname) = self.dname() else { return Name::from_wire(self.target()) };
        let below_owner = name.bytes().len().checked_sub(self.name_len)?;
        let (kept, target) = (name.bytes().get(..below_owner)?, self.body.get(dname.rdata)?);
        let mut bytes = [0; NAME_LEN_MAX];
        let (front, behind) = bytes.get_mut(..kept.len() + target.len())?.split_at_mut(kept.len());
        front.copy_from_slice(kept);
        behind.copy_from_slice(target);
        Name::from_wire(&bytes)
    }

    /// A `Found::Alias` of `name`, without the CNAMEs that come again. What is stored of a wildcard
    /// may lead back to the name that it answers for. `has_before`: whether a CNAME of this owner
    /// comes before the answer.
    #[must_use]
    pub fn without_circle(self, name: &Name, has_before: impl Fn(&Name) -> bool) -> Self {
        let mut kept = Self { body: &[], ..self };
        while let Some(record) = RecordHead::read(self.body, kept.body.len()) {
            if record.rtype == TYPE_CNAME
                && let Some(owner) = Name::from_wire(kept.target())
                && (kept.has_cname_of(name, &owner) || has_before(&owner))
            {
                break;
            }
            kept.body = self.body.get(..record.end()).unwrap_or_default();
        }
        kept
    }

    /// Whether a `Found::Alias` of `name` has a CNAME of this owner. Each target but the last one
    /// owns the next CNAME.
    #[must_use]
    pub fn has_cname_of(&self, name: &Name, owner: &Name) -> bool {
        let (mut target, mut at) = (None, 0);
        while let Some(record) = RecordHead::read(self.body, at) {
            at = record.end();
            if record.rtype == TYPE_CNAME {
                let next = target.replace(record.rdata).and_then(|target| self.body.get(target));
                if next.and_then(Name::from_wire).is_some_and(|next| next == *owner) {
                    return true;
                }
            }
        }
        name == owner
    }

    /// Whether a DNAME makes too long a name of one of this length (RFC 6672, section 2.2).
    pub(crate) fn is_too_long_after(&self, name_len: usize) -> bool {
        let target_len = self.dname().map_or(0, |dname| dname.rdata.len());
        (name_len + target_len).saturating_sub(self.name_len) > NAME_LEN_MAX
    }

    /// The DNAME of a `Found::Alias` that has one. It comes first.
    pub(crate) fn dname(&self) -> Option<RecordHead> {
        RecordHead::read(self.body, 0).filter(|first| first.rtype == TYPE_DNAME)
    }

    /// The last record of a type.
    pub(crate) fn last_of(&self, rtype: u16) -> Option<RecordHead> {
        let mut last = None;
        let mut at = 0;
        while let Some(record) = RecordHead::read(self.body, at) {
            at = record.end();
            if record.rtype == rtype {
                last = Some(record);
            }
        }
        last
    }
}

/// The number at this offset of a row.
#[inline]
pub(crate) fn row_field(row: &[u8; ROW_LEN], at: usize) -> u16 {
    u16::from_le_bytes([row[at], row[at + 1]])
}
