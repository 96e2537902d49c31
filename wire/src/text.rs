//! A name as text: a dot after each label, and the escapes of zone files (RFC 1035, section 5.1).
//!
//! Characters are escaped as CoreDNS escapes them, because patterns of a Corefile are matched
//! against this text. Invariant: the text of every name fits; other text may be too long, which its
//! conversion to a name finds out.

use core::fmt;

use crate::name::{NAME_LEN_MAX, Name};

/// Bytes of the longest text: 250 bytes in labels, four characters each, and a dot per label.
const TEXT_LEN_MAX: usize = 1024;

/// A name in wire format: uncompressed, in any case.
#[derive(Clone)]
pub struct PlainName {
    bytes: [u8; NAME_LEN_MAX],
    /// Valid: 1..=255.
    len: usize,
}

impl Default for PlainName {
    fn default() -> Self {
        Self { bytes: [0; NAME_LEN_MAX], len: 1 }
    }
}

impl PlainName {
    /// Labels and the root label.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Copies a whole name of at most 255 bytes.
    pub(crate) fn set(&mut self, name: &[u8]) {
        debug_assert!(matches!(name, [.., 0]), "a name ends with the root label");
        if let Some(bytes) = self.bytes.get_mut(..name.len()) {
            bytes.copy_from_slice(name);
            self.len = name.len();
        }
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    /// False if there is no room.
    fn push(&mut self, byte: u8) -> bool {
        let Some(to) = self.bytes.get_mut(self.len) else { return false };
        *to = byte;
        self.len += 1;
        true
    }
}

/// A name as text, in a buffer that is reused.
#[derive(Clone)]
pub struct NameText {
    bytes: [u8; TEXT_LEN_MAX],
    len: usize,
    is_too_long: bool,
}

impl Default for NameText {
    fn default() -> Self {
        Self { bytes: [0; TEXT_LEN_MAX], len: 0, is_too_long: false }
    }
}

impl NameText {
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub fn clear(&mut self) {
        self.len = 0;
        self.is_too_long = false;
    }

    /// Replaces the text by that of a name: uncompressed, root label included.
    pub fn set_name(&mut self, name: &[u8]) {
        self.clear();
        if name == [0] {
            return self.push(b".");
        }
        let mut rest = name;
        while let Some((label_len, behind)) = rest.split_first()
            && let Some((label, behind)) = behind.split_at_checked(usize::from(*label_len))
            && !label.is_empty()
        {
            if label.iter().all(|byte| ESCAPES[usize::from(*byte)] == Escape::None) {
                self.push(label);
            } else {
                label.iter().for_each(|byte| self.push_escaped(*byte));
            }
            self.push(b".");
            rest = behind;
        }
    }

    /// Appends text. What does not fit makes the whole text too long.
    pub fn push(&mut self, text: &[u8]) {
        match self.bytes.get_mut(self.len..self.len + text.len()) {
            Some(room) => {
                room.copy_from_slice(text);
                self.len += text.len();
            }
            None => self.is_too_long = true,
        }
    }

    fn push_escaped(&mut self, byte: u8) {
        match ESCAPES[usize::from(byte)] {
            Escape::None => self.push(&[byte]),
            Escape::Character => self.push(&[b'\\', byte]),
            Escape::Number => {
                let digit = |divisor: u8| b'0' + byte / divisor % 10;
                self.push(&[b'\\', digit(100), digit(10), digit(1)]);
            }
        }
    }

    /// Writes the name that the text stands for. The final dot is optional. False if it is no name:
    /// it has an empty label, or a label or the whole is too long.
    #[must_use]
    pub fn read_into(&self, name: &mut PlainName) -> bool {
        name.clear();
        !self.is_too_long && read(self.bytes(), name).is_some()
    }
}

/// Without the final dot.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = NameText::default();
        text.set_name(self.bytes());
        let text = core::str::from_utf8(text.bytes()).map_err(|_| fmt::Error)?;
        f.write_str(text.strip_suffix('.').filter(|text| !text.is_empty()).unwrap_or(text))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// See `NameText::read_into`.
fn read(text: &[u8], name: &mut PlainName) -> Option<()> {
    let mut push = |byte| name.push(byte).then_some(());
    if text == b"." {
        return push(0);
    }
    // The label being read: its first 63 bytes, and its length.
    let mut label = [0; 63];
    let mut label_len = 0usize;
    let mut rest = text.strip_suffix(b".").filter(|text| !ends_escaping(text)).unwrap_or(text);
    loop {
        let (byte, behind) = match rest {
            [] | [b'.', ..] => {
                let label = label.get(..label_len).filter(|label| !label.is_empty())?;
                push(label_len as u8)?;
                label.iter().try_for_each(|byte| push(*byte))?;
                let Some((_, behind)) = rest.split_first() else { return push(0) };
                label_len = 0;
                rest = behind;
                continue;
            }
            [b'\\', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', behind @ ..] => {
                let number =
                    [a, b, c].iter().fold(0, |sum, digit| 10 * sum + u16::from(**digit - b'0'));
                // As in CoreDNS, numbers start again at 256.
                (number as u8, behind)
            }
            [b'\\', byte, behind @ ..] => (*byte, behind),
            [b'\\'] => return None,
            [byte, behind @ ..] => (*byte, behind),
        };
        *label.get_mut(label_len)? = byte;
        label_len += 1;
        rest = behind;
    }
}

/// Whether the character after this text is escaped.
fn ends_escaping(text: &[u8]) -> bool {
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// How a byte of a label is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// A backslash and the byte.
    Character,
    /// A backslash and three digits.
    Number,
}

const ESCAPES: [Escape; 256] = {
    let mut escapes = [Escape::Number; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        let is_special =
            matches!(byte, b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\');
        escapes[byte as usize] = if is_special { Escape::Character } else { Escape::None };
        byte += 1;
    }
    escapes
};

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};
    use std::vec;

    use super::*;

    /// A name and its text, both ways.
    fn check(name: &[u8], expected: &str) {
        let mut text = NameText::default();
        text.set_name(name);
        assert_eq!(String::from_utf8_lossy(text.bytes()), expected);
        let mut read = PlainName::default();
        assert!(text.read_into(&mut read), "{expected}");
        assert_eq!(read.bytes(), name, "{expected}");
        let shown = Name::from_wire(name).unwrap().to_string();
        assert!(shown.eq_ignore_ascii_case(&expected[..(expected.len() - 1).max(1)]), "{shown}");
    }

    /// Text that no name is written as.
    fn check_read(text: &str, expected: Option<&[u8]>) {
        let mut read = NameText::default();
        read.push(text.as_bytes());
        let mut name = PlainName::default();
        assert_eq!(read.read_into(&mut name).then(|| name.bytes()), expected, "{text}");
    }

    #[test]
    fn names_as_text() {
        check(b"\0", ".");
        check(b"\x03WWW\x07example\0", "WWW.example.");
        check(b"\x05a.b c\x01x\0", r"a\.b\ c.x.");
        check(b"\x05'@;()\0", r"\'\@\;\(\).");
        check(b"\x02\"\\\0", r#"\"\\."#);
        check(b"\x04\x00\x7f\xff*\0", r"\000\127\255*.");
        let mut longest = vec![];
        for len in [63, 63, 63, 61] {
            longest.push(len);
            longest.extend(vec![0xFF; usize::from(len)]);
        }
        longest.push(0);
        let expected: String = [63, 63, 63, 61].map(|len| r"\255".repeat(len) + ".").concat();
        check(&longest, &expected);
    }

    #[test]
    fn other_text() {
        check_read("www.example", Some(b"\x03www\x07example\0"));
        check_read(r"a\.", Some(b"\x02a.\0"));
        check_read(r"\097.\x.", Some(b"\x01a\x01x\0"));
        check_read(r"\300.", Some(b"\x01\x2c\0"));
        check_read("{1}.a.", Some(b"\x03{1}\x01a\0"));
        for none in ["", "..", ".a.", "a..b.", r"a\", &"a".repeat(64), &"a.".repeat(128)] {
            check_read(none, None);
        }
        check_read(&"a".repeat(63), Some([b"\x3f", &[b'a'; 63][..], b"\0"].concat().as_slice()));
        check_read(&"a.".repeat(127), Some([b"\x01a".repeat(127), vec![0]].concat().as_slice()));
        check_read(&r"\001".repeat(600), None);
    }
}
