//! A question's name, folded to lower case sixteen bytes at a time.
//!
//! Invariant: a whole `Name`, one that `read` has filled or for which `is_whole` is true, is an
//! uncompressed name of 1 to 255 bytes (RFC 1035, section 3.1). So later offsets into it are safe.

use wide::u8x16;

/// Bytes of the longest name, root label included.
pub const NAME_LEN_MAX: usize = 255;
/// Most labels of a name, without the root label.
pub const LABEL_COUNT_MAX: usize = 127;
/// Bytes of a name that are folded, hashed and compared at a time. Every x86-64 (SSE2) and every
/// aarch64 (NEON) has such a vector, so no choice is needed at run time. Most names have 20 to 60
/// bytes.
pub(crate) const BLOCK_LEN: usize = 16;
/// A part of a name. In the last block, zeros follow the root label, so names are equal if their
/// blocks are.
pub(crate) type Block = [u8; BLOCK_LEN];
/// Whole blocks for the longest name.
const BLOCK_COUNT: usize = NAME_LEN_MAX.div_ceil(BLOCK_LEN);

/// A name in wire format and lower case. A shard reuses one for all queries and does not clear it
/// in between.
#[derive(Clone)]
#[repr(align(16))] // So that no block lies on two cache lines.
pub struct Name {
    /// The rest of the name's last block and the whole next block are zero, so that suffixes of the
    /// name have whole blocks too. Bytes after that are left over from earlier names.
    blocks: [Block; BLOCK_COUNT + 1],
    /// Valid: 1..=255 once read.
    len: u8,
}

impl Default for Name {
    fn default() -> Self {
        Self { blocks: [[0; BLOCK_LEN]; BLOCK_COUNT + 1], len: 1 }
    }
}

impl Name {
    /// The uncompressed name at the start of `bytes`; `None` as for `read`.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let mut name = Self::default();
        name.read(bytes).map(|_| name)
    }

    /// The whole name of this length in these blocks, which have zeros behind it.
    pub(crate) fn from_blocks(blocks: &[Block], len: usize) -> Self {
        let mut name = Self { len: len as u8, ..Self::default() };
        name.blocks.iter_mut().zip(blocks).for_each(|(to, from)| *to = *from);
        debug_assert!(name.is_whole(), "a whole name");
        name
    }

    /// The name of these labels in front of `origin`. `None` if it is longer than 255 bytes, or if
    /// a label is empty or longer than 63 bytes.
    #[must_use]
    pub fn compose(labels: &[&[u8]], origin: &Self) -> Option<Self> {
        let mut name = Self::default();
        let bytes = name.blocks.as_flattened_mut();
        let mut origin_at = 0;
        for label in labels {
            let label_len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
            let place = bytes.get_mut(origin_at..=origin_at + label.len())?;
            let (len_place, text_place) = place.split_first_mut()?;
            *len_place = label_len;
            text_place.copy_from_slice(label);
            origin_at += place.len();
        }
        bytes.get_mut(..origin_at)?.make_ascii_lowercase();
        let len = origin_at + usize::from(origin.len);
        bytes.get_mut(origin_at..len)?.copy_from_slice(origin.bytes());
        name.len = u8::try_from(len).ok()?;
        Some(name)
    }

    /// Reads the uncompressed name at the start of `bytes`; returns its length in bytes.
    ///
    /// `None` for a name that is incomplete, is longer than 255 bytes, or has a label of another
    /// type, such as a compression pointer: a question's name is the first in its message, so it
    /// has nothing to point at.
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let len = whole_len(bytes)?;
        self.blocks = [[0; BLOCK_LEN]; BLOCK_COUNT + 1];
        for (to, from) in self.blocks.as_flattened_mut().iter_mut().zip(bytes.iter().take(len)) {
            *to = from.to_ascii_lowercase();
        }
        self.len = len as u8;
        Some(len)
    }

    /// Reads up to the first zero byte, which is the root label unless a label contains a zero;
    /// returns the length in bytes.
    ///
    /// `None` if there is no zero byte within the longest name. The labels are not walked. A name
    /// that equals a whole name is whole itself; for any other, check `is_whole`, and call `read`
    /// if it is false.
    #[inline(always)]
    pub fn presume(&mut self, bytes: &[u8]) -> Option<usize> {
        let (whole, rest) = bytes.as_chunks::<BLOCK_LEN>();
        for index in 0..BLOCK_COUNT {
            let Some(block) = whole.get(index) else { break };
            if let Some(len) = self.take_block(index, block) {
                return Some(len);
            }
        }
        if whole.len() >= BLOCK_COUNT || rest.is_empty() {
            return None;
        }
        // The last bytes of the packet, moved to the front of a block, with zeros after them.
        let last = bytes.last_chunk::<BLOCK_LEN>()?;
        let last = u128::from_le_bytes(*last) >> (8 * (BLOCK_LEN - rest.len()));
        self.take_block(whole.len(), &last.to_le_bytes())
    }

    /// Stores a block of the name; returns the name's length if it ends in this block.
    #[inline(always)]
    fn take_block(&mut self, index: usize, block: &Block) -> Option<usize> {
        let [to, behind] = self.blocks.get_mut(index..)?.first_chunk_mut()?;
        *to = lower_case(block);
        let kept = first_zero(block)?;
        let end = u128::from_ne_bytes(*to) & u128::from_ne_bytes(KEPT[kept]);
        *to = end.to_ne_bytes();
        *behind = [0; BLOCK_LEN];
        let len = index * BLOCK_LEN + kept + 1;
        self.len = u8::try_from(len).ok()?;
        Some(len)
    }

    /// Whether the labels of a name that `presume` has read end where the name ends.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        whole_len(self.bytes()) == Some(usize::from(self.len))
    }

    /// The whole name, lower case, root label included.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.blocks.as_flattened().get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The name in blocks.
    #[inline(always)]
    pub(crate) fn blocks(&self) -> &[Block] {
        self.blocks.get(..block_count(usize::from(self.len))).unwrap_or_default()
    }

    /// The name from label `index` on, in blocks.
    pub(crate) fn suffix_blocks(&self, index: usize) -> &[Block] {
        let start = self.label_at(index);
        let (blocks, _) =
            self.blocks.as_flattened().get(start..).unwrap_or_default().as_chunks::<BLOCK_LEN>();
        blocks.get(..block_count(usize::from(self.len) - start)).unwrap_or_default()
    }

    /// Labels without the root label.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.label_starting_at(usize::from(self.len) - 1).unwrap_or(0)
    }

    /// Offset of label `index` (0 is the leftmost); the root label's for `index` at or past
    /// `label_count`.
    #[must_use]
    pub fn label_at(&self, index: usize) -> usize {
        let bytes = self.bytes();
        let mut start = 0;
        for _ in 0..index {
            match bytes.get(start) {
                None | Some(0) => break,
                Some(label_len) => start += 1 + usize::from(*label_len),
            }
        }
        start
    }

    /// Content of label `index`; empty for the root label.
    #[must_use]
    pub fn label(&self, index: usize) -> &[u8] {
        let start = self.label_at(index);
        let label_len = self.bytes().get(start).map_or(0, |len| usize::from(*len));
        self.bytes().get(start + 1..start + 1 + label_len).unwrap_or_default()
    }

    /// The name from label `index` on.
    #[must_use]
    pub fn suffix(&self, index: usize) -> &[u8] {
        self.bytes().get(self.label_at(index)..).unwrap_or_default()
    }

    /// The index of the label that starts at `offset`, the root label included; `None` if no label
    /// starts there.
    #[must_use]
    pub fn label_starting_at(&self, offset: usize) -> Option<usize> {
        label_starting_at(self.bytes(), offset)
    }
}

/// The rest of the blocks makes no difference.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Name {}

/// The index of the label of a name that starts at `offset`, the root label included; `None` if no
/// label starts there.
#[inline]
pub(crate) fn label_starting_at(name: &[u8], offset: usize) -> Option<usize> {
    let (mut index, mut start) = (0, 0);
    while start < offset {
        start += 1 + usize::from(*name.get(start)?);
        index += 1;
    }
    (start == offset && start < name.len()).then_some(index)
}

/// The number of blocks of a name.
#[inline(always)]
pub(crate) const fn block_count(name_len: usize) -> usize {
    name_len.div_ceil(BLOCK_LEN)
}

/// Length of the whole uncompressed name at the start of `bytes`. Folding the case does not change
/// it: length bytes are below 64, and letters are above.
fn whole_len(bytes: &[u8]) -> Option<usize> {
    // A name that does not end within these bytes is incomplete or too long.
    let reach = bytes.get(..NAME_LEN_MAX).unwrap_or(bytes);
    let mut at = 0usize;
    loop {
        match *reach.get(at)? {
            label_len @ 1..=63 => at += 1 + usize::from(label_len),
            0 => return Some(at + 1),
            _ => return None,
        }
    }
}

#[inline(always)]
fn lower_case(block: &Block) -> Block {
    let mut lower = *block;
    lower.make_ascii_lowercase();
    lower
}

/// Index of a block's first zero byte.
#[inline(always)]
fn first_zero(block: &Block) -> Option<usize> {
    let zeroes = u8x16::new(*block).simd_eq(u8x16::ZERO).to_bitmask();
    (zeroes != 0).then_some(zeroes.trailing_zeros() as usize % BLOCK_LEN)
}

/// Masks by the index of a block's first zero byte: they keep the bytes in front of it.
const KEPT: [Block; BLOCK_LEN] = {
    let mut kept = [[0; BLOCK_LEN]; BLOCK_LEN];
    let mut index = 0;
    while index < BLOCK_LEN * BLOCK_LEN {
        if index % BLOCK_LEN < index / BLOCK_LEN {
            kept[index / BLOCK_LEN][index % BLOCK_LEN] = 0xFF;
        }
        index += 1;
    }
    kept
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    /// `read`, and `presume` with 0 to 39 bytes after the name.
    fn check(bytes: &[u8], expected: Option<&[u8]>) {
        let mut name = Name { blocks: [[0xAA; BLOCK_LEN]; BLOCK_COUNT + 1], len: 1 };
        assert_eq!(name.read(bytes), expected.map(<[u8]>::len), "{bytes:x?}");
        if let Some(expected) = expected {
            assert_eq!(name.bytes(), expected);
        }
        for behind in 0..40 {
            let mut sent = vec::Vec::from(bytes);
            sent.resize(bytes.len() + behind, 0x41);
            let mut presumed = Name { blocks: [[0xAA; BLOCK_LEN]; BLOCK_COUNT + 1], len: 1 };
            let len = presumed.presume(&sent);
            if len.is_some_and(|_| presumed.is_whole()) {
                assert_eq!(len, expected.map(<[u8]>::len), "{sent:x?}");
                assert_eq!(presumed.bytes(), name.bytes());
                assert_eq!(presumed.blocks(), name.blocks());
                for index in 0..name.label_count() {
                    assert_eq!(presumed.suffix_blocks(index), name.suffix_blocks(index));
                }
            }
        }
    }

    #[test]
    fn names_are_read() {
        check(b"\0", Some(b"\0"));
        check(b"\x03WwW\x07ExAmple\0rest", Some(b"\x03www\x07example\0"));
        check(b"\x03[@`\0", Some(b"\x03[@`\0"));
        check(b"", None);
        check(b"\x03ww", None);
        check(b"\x03www", None);
        check(b"\xc0\x0c", None);
        check(b"\x40a\0", None);
        let mut longest = vec![];
        for _ in 0..3 {
            longest.extend([63; 64]);
        }
        longest.extend([61; 62]);
        longest.push(0);
        assert_eq!(longest.len(), NAME_LEN_MAX);
        check(&longest, Some(&longest.clone()));
        longest.insert(0, 1);
        longest.insert(1, 1);
        check(&longest, None);
        let mut labels = vec![];
        for _ in 0..127 {
            labels.extend([1, b'A']);
        }
        labels.push(0);
        check(&labels, Some(&labels.to_ascii_lowercase()));
    }

    #[test]
    fn labels_are_found() {
        let mut name = Name::default();
        name.read(b"\x03www\x07example\x03org\0").unwrap();
        assert_eq!(name.label_count(), 3);
        assert_eq!(name.label(1), b"example");
        assert_eq!(name.label(3), b"");
        assert_eq!(name.suffix(2), b"\x03org\0");
        assert_eq!(name.suffix(3), b"\0");
        assert_eq!(name.label_starting_at(4), Some(1));
        assert_eq!(name.label_starting_at(5), None);
        assert_eq!(name.label_starting_at(16), Some(3));
    }

    #[test]
    fn names_are_composed() {
        let origin = Name::from_wire(b"\x07example\x03org\0").unwrap();
        let check = |labels: &[&[u8]], expected: Option<&[u8]>| {
            let composed = Name::compose(labels, &origin);
            assert_eq!(composed.as_ref().map(Name::bytes), expected, "{labels:x?}");
            if let Some(composed) = composed {
                let read = Name::from_wire(composed.bytes()).unwrap();
                assert!(composed == read && composed.blocks() == read.blocks(), "{labels:x?}");
            }
        };
        check(&[], Some(b"\x07example\x03org\0"));
        check(&[b"a", b"Web-0"], Some(b"\x01a\x05web-0\x07example\x03org\0"));
        check(&[b"a", b""], None);
        check(&[&[b'a'; 64]], None);
        // The origin has 13 bytes.
        let label: &[u8] = &[b'a'; 63];
        let longest = [&[63], label, &[63], label, &[63], label, &[49], &label[..49]];
        let longest = [&longest.concat()[..], origin.bytes()].concat();
        assert_eq!(longest.len(), NAME_LEN_MAX);
        check(&[label, label, label, &label[..49]], Some(&longest));
        check(&[label, label, label, &label[..50]], None);
        check(&[label, label, label, label, label], None);
    }
}
