//! The pieces of a body, put together where a unit spans more than one of them.
//!
//! Invariant: a unit that lies within one piece is not copied, and what has been taken of an
//! incomplete unit is kept until the rest arrives.

use hyper::body::{Buf, Bytes};

/// The units of a body. Each `take…` returns `None` if the pieces so far do not suffice; the same
/// call has to follow the next piece.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// What is unread of the newest piece.
    piece: Bytes,
    /// The beginning of the next unit, from earlier pieces.
    begun: Vec<u8>,
}

/// A number of protobuf, and how many bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Varint {
    pub(super) value: u64,
    pub(super) len: u64,
}

/// Seven bits per byte.
const VARINT_LEN_MAX: usize = 10;

impl Pieces {
    /// The last piece has been read to its end.
    pub(super) fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty());
        self.piece = piece;
    }

    /// Whether nothing is left, as at the end of a body that did not break off.
    pub(super) fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.begun.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<Bytes> {
        if self.begun.is_empty() && self.piece.len() >= len {
            return Some(self.piece.split_to(len));
        }
        let missing = len - self.begun.len();
        let part = self.piece.split_to(missing.min(self.piece.len()));
        self.begun.extend_from_slice(&part);
        (self.begun.len() == len).then(|| std::mem::take(&mut self.begun).into())
    }

    /// # Errors
    /// It is longer than any number.
    pub(super) fn take_varint(&mut self) -> Result<Option<Varint>, &'static str> {
        while let Some(byte) = self.piece.first().copied() {
            self.piece.advance(1);
            self.begun.push(byte);
            if byte & 0x80 == 0 {
                let digits = self.begun.iter().rev();
                let value = digits.fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
                let len = self.begun.len() as u64;
                self.begun.clear();
                return Ok(Some(Varint { value, len }));
            }
            if self.begun.len() == VARINT_LEN_MAX {
                return Err("a number of more than ten bytes");
            }
        }
        Ok(None)
    }

    /// The next line, without its end.
    pub(super) fn take_line(&mut self) -> Option<Bytes> {
        let end = self.piece.iter().position(|byte| *byte == b'\n');
        let part = self.piece.split_to(end.unwrap_or(self.piece.len()));
        if end.is_some() {
            self.piece.advance(1);
        }
        match (end, self.begun.is_empty()) {
            (Some(_), true) => Some(part),
            (Some(_), false) => {
                self.begun.extend_from_slice(&part);
                Some(std::mem::take(&mut self.begun).into())
            }
            (None, _) => {
                self.begun.extend_from_slice(&part);
                None
            }
        }
    }

    /// Bytes of the unit that is incomplete.
    pub(super) fn begun_len(&self) -> usize {
        self.begun.len()
    }

    /// What is left at the end of the body.
    pub(super) fn take_rest(&mut self) -> Bytes {
        self.begun.extend_from_slice(&std::mem::take(&mut self.piece));
        std::mem::take(&mut self.begun).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of a text that arrives in pieces of each length.
    fn check<T: PartialEq + std::fmt::Debug>(
        text: &'static [u8],
        take: impl Fn(&mut Pieces) -> Option<T>,
        expected: &[T],
    ) {
        for piece_len in 1..=text.len() {
            let (mut pieces, mut units) = (Pieces::default(), Vec::new());
            for piece in text.chunks(piece_len) {
                pieces.push(Bytes::from_static(piece));
                units.extend(std::iter::from_fn(|| take(&mut pieces)));
            }
            assert_eq!(units, expected, "{piece_len}");
            assert!(pieces.is_empty());
        }
    }

    #[test]
    fn units_of_all_kinds() {
        check(b"abcdef", |pieces| pieces.take(3), &[Bytes::from("abc"), Bytes::from("def")]);
        check(b"a\n\nbc\n", Pieces::take_line, &["a", "", "bc"].map(Bytes::from));
        let varint = |value, len| Varint { value, len };
        let take = |pieces: &mut Pieces| pieces.take_varint().expect("numbers");
        check(b"\x07\xac\x02\x80\x01", take, &[varint(7, 1), varint(300, 2), varint(128, 2)]);
        let mut pieces = Pieces::default();
        pieces.push(Bytes::from_static(&[0xff; 11]));
        assert!(pieces.take_varint().is_err());
    }
}
