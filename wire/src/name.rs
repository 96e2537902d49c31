//! A question's name, validated once: folded to lower case, with the places of its labels.
//!
//! Invariant: a `Name` that `read` has filled is a whole uncompressed name of 1 to 255 bytes (RFC 1035, section 3.1); every
//! later offset into it is safe by that.

/// Longest name in wire format, root label included.
pub const NAME_LEN_MAX: usize = 255;
/// Most labels of such a name, root label left out.
pub const LABEL_COUNT_MAX: usize = 127;

/// A name in wire format and lower case. One per shard, filled anew for each question: nothing is cleared in between.
#[derive(Clone)]
pub struct Name {
    bytes: [u8; NAME_LEN_MAX],
    /// Valid: 1..=255 once read.
    len: u8,
    /// `starts[i]`: offset of label i's length byte, i < label_count.
    starts: [u8; LABEL_COUNT_MAX],
    label_count: u8,
}

impl Default for Name {
    fn default() -> Self {
        Self { bytes: [0; NAME_LEN_MAX], len: 1, starts: [0; LABEL_COUNT_MAX], label_count: 0 }
    }
}

impl Name {
    /// Reads the uncompressed name that starts `bytes`; returns its length in bytes.
    ///
    /// `None` for a name that is cut, longer than 255 bytes, or has a label that is not a plain one. A compression pointer is
    /// such a label: a question's name is the first of its message, so there is nothing it could rightly point at.
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0usize;
        let mut label_count = 0usize;
        loop {
            let label_len = *bytes.get(at)?;
            if label_len == 0 {
                break;
            }
            if label_len > 63 {
                return None;
            }
            *self.starts.get_mut(label_count)? = at as u8;
            label_count += 1;
            at += 1 + usize::from(label_len);
            if at >= NAME_LEN_MAX {
                return None;
            }
        }
        let len = at + 1;
        let (source, target) = (bytes.get(..len)?, self.bytes.get_mut(..len)?);
        // Length bytes are below 64 and so below 'A': the whole name folds as plain bytes.
        for (to, from) in target.iter_mut().zip(source) {
            *to = from.to_ascii_lowercase();
        }
        self.len = len as u8;
        self.label_count = label_count as u8;
        Some(len)
    }

    /// The whole name, lower case, root label included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Labels without the root label.
    #[must_use]
    pub fn label_count(&self) -> usize {
        usize::from(self.label_count)
    }

    /// Offset of label `index` (0 is the leftmost); the root label's for `index` at or past `label_count`.
    #[must_use]
    pub fn label_at(&self, index: usize) -> usize {
        if index < self.label_count() {
            self.starts.get(index).map_or(0, |start| usize::from(*start))
        } else {
            usize::from(self.len) - 1
        }
    }

    /// Content of label `index`; empty for the root label.
    #[must_use]
    pub fn label(&self, index: usize) -> &[u8] {
        let start = self.label_at(index);
        let len = usize::from(self.bytes.get(start).copied().unwrap_or(0));
        self.bytes.get(start + 1..start + 1 + len).unwrap_or_default()
    }

    /// The name from label `index` on.
    #[must_use]
    pub fn suffix(&self, index: usize) -> &[u8] {
        self.bytes().get(self.label_at(index)..).unwrap_or_default()
    }

    /// Whether a label starts at `offset` (the root label counts), and which.
    #[must_use]
    pub fn label_starting_at(&self, offset: usize) -> Option<usize> {
        // Few labels, and a zone's boundary is near the right end.
        (0..=self.label_count()).rev().find(|index| self.label_at(*index) == offset)
    }
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
