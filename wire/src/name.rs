//! A question's name, validated once: folded to lower case, with the places of its labels.
//!
//! Invariant: a `Name` that `read` has filled is a whole uncompressed name of 1 to 255 bytes (RFC 1035, section 3.1); every
//! later offset into it is safe by that.

/// Longest name in wire format, root label included.
pub const NAME_LEN_MAX: usize = 255;
/// Most labels of such a name, root label left out.
pub const LABEL_COUNT_MAX: usize = 127;
/// Bytes that are folded at a time: one vector of every x86-64 (SSE2) and every aarch64 (NEON), so the compiler needs no
/// choice at run time. Names are 20 to 60 bytes long.
const BLOCK_LEN: usize = 16;
/// Whole blocks for the longest name.
const BLOCK_COUNT: usize = NAME_LEN_MAX.div_ceil(BLOCK_LEN);

/// A name in wire format and lower case. One per shard, filled anew for each question: nothing is cleared in between.
#[derive(Clone)]
pub struct Name {
    /// What stands behind `len` is left over.
    blocks: [[u8; BLOCK_LEN]; BLOCK_COUNT],
    /// Valid: 1..=255 once read.
    len: u8,
}

impl Default for Name {
    fn default() -> Self {
        Self { blocks: [[0; BLOCK_LEN]; BLOCK_COUNT], len: 1 }
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
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        // A name that has not ended within these is cut or too long.
        let reach = bytes.get(..NAME_LEN_MAX).unwrap_or(bytes);
        let mut at = 0usize;
        loop {
            match *reach.get(at)? {
                label_len @ 1..=63 => at += 1 + usize::from(label_len),
                0 => break,
                _ => return None,
            }
        }
        let len = at + 1;
        self.fold(bytes, len);
        self.len = len as u8;
        Some(len)
    }

    /// Copies the first `len` bytes of `source` in lower case, block by block; the last block may begin before the one before
    /// it ended, or end behind the name. Length bytes are below 64 and so below 'A': the whole name folds as plain bytes.
    #[inline]
    fn fold(&mut self, source: &[u8], len: usize) {
        let (from, _) = source.as_chunks();
        let block_count = len.div_ceil(BLOCK_LEN);
        for (to, from) in self.blocks.iter_mut().zip(from.iter().take(block_count)) {
            *to = lower_case(from);
        }
        if from.len() >= block_count {
            return;
        }
        let bytes = self.blocks.as_flattened_mut();
        if let Some(last) = source.last_chunk() {
            let at = source.len() - BLOCK_LEN;
            if let Some(room) = bytes.get_mut(at..at + BLOCK_LEN) {
                room.copy_from_slice(&lower_case(last));
            }
        } else {
            for (to, from) in bytes.iter_mut().zip(source) {
                *to = from.to_ascii_lowercase();
            }
        }
    }

    /// The whole name, lower case, root label included.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.blocks.as_flattened().get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Labels without the root label.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.label_starts().count() - 1
    }

    /// Offset of label `index` (0 is the leftmost); the root label's for `index` at or past `label_count`.
    #[must_use]
    pub fn label_at(&self, index: usize) -> usize {
        self.label_starts().nth(index).unwrap_or_else(|| usize::from(self.len) - 1)
    }

    /// Where labels start, the root label's last.
    fn label_starts(&self) -> impl Iterator<Item = usize> {
        core::iter::successors(Some(0), |at| match self.bytes().get(*at) {
            None | Some(0) => None,
            Some(label_len) => Some(at + 1 + usize::from(*label_len)),
        })
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
        let (index, start) = self.label_starts().enumerate().find(|(_, start)| *start >= offset)?;
        (start == offset).then_some(index)
    }
}

#[inline]
fn lower_case(block: &[u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
    let mut lower = *block;
    lower.make_ascii_lowercase();
    lower
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    fn check(bytes: &[u8], expected: Option<&[u8]>) {
        let mut name = Name::default();
        assert_eq!(name.read(bytes), expected.map(<[u8]>::len), "{bytes:x?}");
        if let Some(expected) = expected {
            assert_eq!(name.bytes(), expected);
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
