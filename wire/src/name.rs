//! A question's name: folded to lower case, sixteen bytes at a time.
//!
//! Invariant: a `Name` that is whole (`read` has filled it, or `is_whole` has said so) is an uncompressed name of 1 to 255
//! bytes (RFC 1035, section 3.1); every later offset into it is safe by that.

use wide::u8x16;

/// Longest name in wire format, root label included.
pub const NAME_LEN_MAX: usize = 255;
/// Most labels of such a name, root label left out.
pub const LABEL_COUNT_MAX: usize = 127;
/// Bytes of a name that are folded, hashed and compared at a time: one vector of every x86-64 (SSE2) and every aarch64 (NEON),
/// so the compiler needs no choice at run time. Names are 20 to 60 bytes long.
pub(crate) const BLOCK_LEN: usize = 16;
/// A part of a name. In the last one, zeroes follow the root label: names are equal if their blocks are.
pub(crate) type Block = [u8; BLOCK_LEN];
/// Whole blocks for the longest name.
const BLOCK_COUNT: usize = NAME_LEN_MAX.div_ceil(BLOCK_LEN);

/// A name in wire format and lower case. One per shard, filled anew for each question: nothing is cleared in between.
#[derive(Clone)]
pub struct Name {
    /// Zeroes stand between the name and the end of the block that follows its last one, so that its suffixes have whole
    /// blocks too. What stands behind is left over.
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
    /// The uncompressed name that starts `bytes`; `None` as for `read`.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let mut name = Self::default();
        name.read(bytes).map(|_| name)
    }

    /// Reads the uncompressed name that starts `bytes`; returns its length in bytes.
    ///
    /// `None` for a name that is cut, longer than 255 bytes, or has a label that is not a plain one. A compression pointer is
    /// such a label: a question's name is the first of its message, so there is nothing it could rightly point at.
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let len = whole_len(bytes)?;
        self.blocks = [[0; BLOCK_LEN]; BLOCK_COUNT + 1];
        for (to, from) in self.blocks.as_flattened_mut().iter_mut().zip(bytes.iter().take(len)) {
            *to = from.to_ascii_lowercase();
        }
        self.len = len as u8;
        Some(len)
    }

    /// Reads up to the first zero byte, which in all but the strangest names is the root label; returns the length in bytes.
    ///
    /// `None` if there is none within the longest name. The labels are not walked: what equals a whole name is whole itself,
    /// and of anything else `is_whole` must be asked. If that says no, `read` tells what stands there.
    #[inline(always)]
    pub fn presume(&mut self, bytes: &[u8]) -> Option<usize> {
        let (whole, rest) = bytes.as_chunks::<BLOCK_LEN>();
        for (index, block) in whole.iter().take(BLOCK_COUNT).enumerate() {
            if let Some(len) = self.take_block(index, block) {
                return Some(len);
            }
        }
        if whole.len() >= BLOCK_COUNT || rest.is_empty() {
            return None;
        }
        // The last bytes of the packet, moved to the front: zeroes come in behind.
        let last = bytes.last_chunk::<BLOCK_LEN>()?;
        let last = u128::from_le_bytes(*last) >> (8 * (BLOCK_LEN - rest.len()));
        self.take_block(whole.len(), &last.to_le_bytes())
    }

    /// Takes a block of the name; the name's length if it ends there.
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

    /// Whether the labels of a presumed name end where the name does.
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

    /// Offset of label `index` (0 is the leftmost); the root label's for `index` at or past `label_count`.
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

    /// Whether a label starts at `offset` (the root label counts), and which.
    #[must_use]
    pub fn label_starting_at(&self, offset: usize) -> Option<usize> {
        let bytes = self.bytes();
        let (mut index, mut start) = (0, 0);
        while start < offset {
            start += 1 + usize::from(*bytes.get(start)?);
            index += 1;
        }
        (start == offset && start < bytes.len()).then_some(index)
    }
}

/// Blocks of a name of so many bytes.
#[inline(always)]
pub(crate) const fn block_count(name_len: usize) -> usize {
    name_len.div_ceil(BLOCK_LEN)
}

/// Length of the whole uncompressed name that starts `bytes`. Length bytes are below 64 and so below 'A': folding changes
/// neither them nor what is no length byte into one.
fn whole_len(bytes: &[u8]) -> Option<usize> {
    // A name that has not ended within these is cut or too long.
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

/// Where a block's first zero byte is.
#[inline(always)]
fn first_zero(block: &Block) -> Option<usize> {
    let zeroes = u8x16::new(*block).simd_eq(u8x16::ZERO).to_bitmask();
    (zeroes != 0).then_some(zeroes.trailing_zeros() as usize % BLOCK_LEN)
}

/// What to keep of a block whose first zero byte is at this index.
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

    /// Read, and presumed with every count of bytes behind the name.
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
    fn names() {
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
    fn labels() {
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
}
