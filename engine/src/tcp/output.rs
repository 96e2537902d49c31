//! The buffer of a shard's responses over TCP: connections that are ready write theirs one behind
//! another, and then each sends its part.
//!
//! Clients on the server's node are then woken once for many responses, instead of by each
//! connection's. Invariant: a part stays as it is until it is given back.

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

use crate::limits::TCP_WRITE_LEN;

pub(super) struct Output {
    bytes: Box<[u8]>,
    /// Bytes in use, from the start.
    len: usize,
    /// Parts that are not given back.
    part_count: usize,
}

/// What one connection has to send.
pub(super) struct OutputPart(Range<usize>);

impl Default for Output {
    fn default() -> Self {
        Self { bytes: vec![0; TCP_WRITE_LEN].into(), len: 0, part_count: 0 }
    }
}

impl Output {
    /// Where responses are written, before `take`.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }

    /// Makes the first `len` bytes of the room a part. `None`: there are none.
    pub(super) fn take(&mut self, len: usize) -> Option<OutputPart> {
        if len == 0 {
            return None;
        }
        let start = self.len;
        self.len += len;
        debug_assert!(self.len <= self.bytes.len());
        self.part_count += 1;
        Some(OutputPart(start..self.len))
    }

    pub(super) fn bytes(&self, part: &OutputPart) -> &[u8] {
        &self.bytes[part.0.clone()]
    }

    pub(super) fn give_back(&mut self, part: OutputPart) {
        debug_assert!(self.part_count > 0 && part.0.end <= self.len, "a part is given back once");
        self.part_count -= 1;
        if self.part_count == 0 {
            self.len = 0;
        }
    }
}

/// Lets the tasks run that are ready now, as other connections with something to answer. Unlike
/// `yield_now`, it does not ask the kernel for more of them.
pub(super) async fn others_first() {
    let mut is_behind = false;
    poll_fn(|context| {
        if is_behind {
            return Poll::Ready(());
        }
        is_behind = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_one_behind_another() {
        let mut output = Output::default();
        output.room()[..2].copy_from_slice(b"ab");
        let first = output.take(2).expect("two bytes");
        assert!(output.take(0).is_none());
        output.room()[..3].copy_from_slice(b"cde");
        let second = output.take(3).expect("three bytes");
        assert_eq!((output.bytes(&first), output.bytes(&second)), (&b"ab"[..], &b"cde"[..]));
        output.give_back(first);
        assert_eq!(output.bytes(&second), b"cde");
        assert_eq!(output.room().len(), TCP_WRITE_LEN - 5);
        output.give_back(second);
        assert_eq!(output.room().len(), TCP_WRITE_LEN);
    }
}
