//! The head of a resource record (RFC 1035, section 4.1.3): its offsets and its fields.
//!
//! The one reader of record heads, for messages and for stored bodies alike. It steps over the
//! owner's name and does not follow pointers; it locates the data and does not read it. Invariant:
//! the data of a `RecordHead` lies within the bytes that it was read from.

use core::ops::{AddAssign, Range};

use crate::header::u16_at;
use crate::name::NAME_LEN_MAX;

/// Bytes of a record between its owner and its data: type, class, TTL and length.
pub(crate) const FIXED_LEN: usize = 10;

/// A record's fields. Offsets count from the start of the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    /// Offset of the owner, and so of the record.
    pub(crate) owner_at: usize,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// As sent; in an OPT these are other fields (RFC 6891, section 6.1.3).
    pub(crate) ttl_secs: u32,
    /// The record ends where its data does.
    pub(crate) rdata: Range<usize>,
}

impl RecordHead {
    /// Reads the record at this offset; `None` unless the whole record is there.
    #[inline]
    pub(crate) fn read(bytes: &[u8], owner_at: usize) -> Option<Self> {
        let fixed_at = owner_at + owner_len(bytes.get(owner_at..)?)?;
        let fixed = bytes.get(fixed_at..)?.first_chunk::<FIXED_LEN>()?;
        let [.., ttl0, ttl1, ttl2, ttl3, _, _] = *fixed;
        let rdata_at = fixed_at + FIXED_LEN;
        let rdata = rdata_at..rdata_at + usize::from(u16_at(fixed, 8));
        bytes.get(rdata.clone())?;
        Some(Self {
            owner_at,
            rtype: u16_at(fixed, 0),
            class: u16_at(fixed, 2),
            ttl_secs: u32::from_be_bytes([ttl0, ttl1, ttl2, ttl3]),
            rdata,
        })
    }

    /// Whether the root owns it, as it owns every OPT (RFC 6891, section 6.1.2).
    pub(crate) fn is_of_root(&self) -> bool {
        self.rdata.start == self.owner_at + 1 + FIXED_LEN
    }

    /// Bytes of the owner as it is spelled there.
    pub(crate) fn owner_len(&self) -> usize {
        self.rdata.start - FIXED_LEN - self.owner_at
    }

    /// Where the record ends.
    pub(crate) fn end(&self) -> usize {
        self.rdata.end
    }
}

/// A section with records. The number is its index among the header's counts of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MessageSection {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// Numbers of records by section, in one word: the last three fields of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(u64);

impl Counts {
    /// One record.
    pub(crate) const fn one(section: MessageSection) -> Self {
        Self::of(section, 1)
    }

    pub(crate) const fn of(section: MessageSection, count: u16) -> Self {
        Self((count as u64) << Self::shift(section))
    }

    /// `counts`: of the answer, authority and additional sections.
    pub(crate) fn of_sections(counts: [u16; 3]) -> Self {
        let [answers, authorities, additionals] = counts;
        let mut sum = Self::of(MessageSection::Answer, answers);
        sum += Self::of(MessageSection::Authority, authorities);
        sum += Self::of(MessageSection::Additional, additionals);
        sum
    }

    /// `word`: as `in_header` gives it.
    #[inline(always)]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The header's last eight bytes, as a number. The first two count questions.
    #[inline(always)]
    pub(crate) const fn in_header(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn count(self, section: MessageSection) -> u16 {
        (self.0 >> Self::shift(section)) as u16
    }

    #[inline(always)]
    pub(crate) const fn total(self) -> usize {
        self.count(MessageSection::Answer) as usize
            + self.count(MessageSection::Authority) as usize
            + self.count(MessageSection::Additional) as usize
    }

    /// The section of the record with this index, and the last section past the end.
    pub(crate) const fn section_of(self, index: usize) -> MessageSection {
        let answers = self.count(MessageSection::Answer) as usize;
        if index < answers {
            MessageSection::Answer
        } else if index < answers + self.count(MessageSection::Authority) as usize {
            MessageSection::Authority
        } else {
            MessageSection::Additional
        }
    }

    /// The counts of the answer, authority and additional sections.
    pub(crate) const fn by_section(self) -> [u16; 3] {
        [
            self.count(MessageSection::Answer),
            self.count(MessageSection::Authority),
            self.count(MessageSection::Additional),
        ]
    }

    const fn shift(section: MessageSection) -> u32 {
        32 - 16 * section as u32
    }
}

/// The counts of one message stay below 2^16: each record has twelve bytes at least.
impl AddAssign for Counts {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// The records of a message in their order. Ends before the first that is not whole.
#[derive(Clone, Debug)]
pub(crate) struct Records<'m> {
    message: &'m [u8],
    /// Where the next record begins.
    at: usize,
    /// Records left by section, as the header counts them.
    left: [(MessageSection, u16); 3],
}

impl<'m> Records<'m> {
    /// `at`: where the first record begins. `counts`: of answer, authority and additional records.
    pub(crate) fn new(message: &'m [u8], at: usize, counts: [u16; 3]) -> Self {
        let [answers, authorities, additionals] = counts;
        let left = [
            (MessageSection::Answer, answers),
            (MessageSection::Authority, authorities),
            (MessageSection::Additional, additionals),
        ];
        Self { message, at, left }
    }

    /// Where the next record begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Records that the header counts and that have not been read.
    pub(crate) fn count_left(&self) -> usize {
        self.left.iter().map(|(_, count)| usize::from(*count)).sum()
    }
}

impl Iterator for Records<'_> {
    type Item = (MessageSection, RecordHead);

    fn next(&mut self) -> Option<Self::Item> {
        let (section, count) = self.left.iter_mut().find(|(_, count)| *count > 0)?;
        let head = RecordHead::read(self.message, self.at)?;
        *count -= 1;
        self.at = head.end();
        Some((*section, head))
    }
}

/// Bytes of an owner: labels up to the root label, or up to and with a compression pointer.
#[inline]
pub(crate) fn owner_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < NAME_LEN_MAX {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            label_len @ 1..=63 => at += 1 + usize::from(label_len),
            0xC0.. => return Some(at + 2),
            64..=0xBF => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Owner length and data length of the record that starts `bytes`.
    fn check(bytes: &[u8], expected: Option<(usize, usize)>) {
        for before in [0, 5] {
            let mut shifted = alloc::vec![0xFF; before];
            shifted.extend(bytes);
            let head = RecordHead::read(&shifted, before);
            let lens = head.map(|head| (head.rdata.start - before - FIXED_LEN, head.rdata.len()));
            assert_eq!(lens, expected, "{bytes:x?}");
        }
    }

    #[test]
    fn heads() {
        const FIXED: &[u8] = &[0, 1, 0, 1, 0, 0, 0, 30, 0, 4];
        let record = |owner: &[u8], rdata: &[u8]| [owner, FIXED, rdata].concat();
        check(&record(b"\xc0\x0c", b"abcd"), Some((2, 4)));
        check(&record(b"\0", b"abcd, and more"), Some((1, 4)));
        check(&record(b"\x03www\xc0\x0c", b"abcd"), Some((6, 4)));
        check(&record(b"\x03www\0", b"abcd"), Some((5, 4)));
        check(&record(b"\x03www\0", b"abc"), None);
        check(&record(b"\x40www\0", b"abcd"), None);
        check(&record(&[1; 300], b"abcd"), None);
        check(b"\0\0\x01", None);
        check(b"\xc0", None);
        check(b"", None);
    }

    #[test]
    fn fields() {
        let opt = b"\0\0\x29\x04\xd0\x01\0\x80\0\0\0";
        let head = RecordHead::read(opt, 0).unwrap();
        assert!(head.is_of_root());
        assert_eq!((head.rtype, head.class, head.ttl_secs), (41, 1232, 0x0100_8000));
        assert_eq!((head.owner_at, head.end()), (0, opt.len()));
        assert_eq!(RecordHead::read(opt, opt.len() + 1), None);
    }
}
