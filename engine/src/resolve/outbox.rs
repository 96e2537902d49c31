//! The responses that a TCP connection owes its peer: those in flight, and those that the peer has
//! not taken yet.
//!
//! Invariants: each `expect` is followed by one `deliver` or `cancel`, unless the process ends; the
//! shard's `OwedBytes` are the sum of what its open connections owe, and have a bound.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;
use wire::edit;
use wire::header::{AA, Rcode, TC};

use crate::client::LENGTH_LEN;
use crate::limits::{
    TCP_KEPT_LEN, TCP_OWED_LEN_MAX, TCP_PENDING_LEN, TCP_PENDING_MAX, TCP_REFUSAL_LEN_MAX,
    TCP_RESPONSE_LEN_MAX,
};

/// Bytes that the connections of one shard owe. A response in flight counts as `TCP_PENDING_LEN`.
#[derive(Default)]
pub struct OwedBytes(Cell<usize>);

/// A connection as other tasks of its thread see it: they can deliver late responses to it, and
/// close it.
pub struct Outbox {
    pub(crate) wake: Notify,
    pub(crate) is_closed: Cell<bool>,
    /// Queries whose responses are still to come.
    pub(crate) pending_count: Cell<usize>,
    unsent: RefCell<Unsent>,
    /// The connection's part of `of_shard`.
    owed: Cell<usize>,
    of_shard: Rc<OwedBytes>,
}

/// Responses with their two-byte lengths.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// Bytes that the peer has taken: fewer than there are, or none of none.
    sent_len: usize,
}

impl Outbox {
    #[must_use]
    pub fn new(of_shard: &Rc<OwedBytes>) -> Self {
        Self {
            wake: Notify::new(),
            is_closed: Cell::new(false),
            pending_count: Cell::new(0),
            unsent: RefCell::default(),
            owed: Cell::new(0),
            of_shard: Rc::clone(of_shard),
        }
    }

    /// Whether there is room for one more response in flight, beside `more_len` bytes of others. If
    /// not, the connection owes something, and room comes with the next `deliver`, `cancel` or
    /// `send`.
    #[inline]
    pub(crate) fn has_room(&self, more_len: usize) -> bool {
        let is_one_too_many = self.pending_count.get() >= TCP_PENDING_MAX;
        !is_one_too_many && self.may_owe(more_len + TCP_PENDING_LEN)
    }

    /// Whether the connection may owe so many bytes more.
    #[inline]
    fn may_owe(&self, more_len: usize) -> bool {
        let owed = self.owed.get();
        // However much the others owe: some responses in flight, or a long one.
        if owed < TCP_RESPONSE_LEN_MAX {
            return true;
        }
        // No connection may owe more than is left, so something is always left.
        let left = TCP_OWED_LEN_MAX.saturating_sub(self.of_shard.0.get() + more_len);
        owed + more_len <= left
    }

    /// A response will follow by `deliver`, or none by `cancel`.
    pub fn expect(&self) {
        self.pending_count.set(self.pending_count.get() + 1);
        self.count_owed();
    }

    /// Adds the expected response, of at most 65535 bytes. False if the connection owes too much
    /// for it, and adds a SERVFAIL instead.
    pub fn deliver(&self, message: &[u8]) -> bool {
        debug_assert!(self.pending_count.get() > 0, "`expect` comes before `deliver`");
        self.pending_count.set(self.pending_count.get() - 1);
        self.count_owed();
        let has_room = self.may_owe(LENGTH_LEN + message.len());
        if has_room {
            self.hold(&[&(message.len() as u16).to_be_bytes(), message]);
        } else {
            let refusal = refusal(message);
            self.hold(&[&(refusal.len() as u16).to_be_bytes(), &refusal]);
        }
        self.wake.notify_one();
        has_room
    }

    /// There is no response after all.
    pub fn cancel(&self) {
        debug_assert!(self.pending_count.get() > 0, "`expect` comes before `cancel`");
        self.pending_count.set(self.pending_count.get() - 1);
        self.count_owed();
        self.wake.notify_one();
    }

    /// Keeps bytes for the peer, until `send`.
    pub(crate) fn hold(&self, parts: &[&[u8]]) {
        // Flights may outlast their connections.
        if !self.is_closed.get() {
            let bytes = &mut self.unsent.borrow_mut().bytes;
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
        }
        self.count_owed();
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.borrow().bytes.is_empty()
    }

    /// Has `write` send the bytes that the peer has not taken. It returns how many it sent.
    pub(crate) fn send(&self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let unsent = &mut *self.unsent.borrow_mut();
        let written = write(&unsent.bytes[unsent.sent_len..])?;
        unsent.sent_len += written;
        if unsent.sent_len == unsent.bytes.len() {
            unsent.bytes.clear();
            unsent.bytes.shrink_to(TCP_KEPT_LEN);
            unsent.sent_len = 0;
        }
        self.count_owed_with(unsent);
        Ok(written)
    }

    /// The connection ends, and owes nothing any more.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        *self.unsent.borrow_mut() = Unsent::default();
        self.count_owed();
        self.wake.notify_one();
    }

    fn count_owed(&self) {
        self.count_owed_with(&self.unsent.borrow());
    }

    fn count_owed_with(&self, unsent: &Unsent) {
        let pending_count = if self.is_closed.get() { 0 } else { self.pending_count.get() };
        let owed = pending_count * TCP_PENDING_LEN + unsent.bytes.len();
        let OwedBytes(all) = &*self.of_shard;
        all.set(all.get() + owed - self.owed.replace(owed));
    }
}

/// SERVFAIL in place of this response.
fn refusal(message: &[u8]) -> Vec<u8> {
    let mut refusal = message[..message.len().min(TCP_REFUSAL_LEN_MAX - LENGTH_LEN)].to_vec();
    let len = edit::cut_to(&mut refusal, 0);
    refusal.truncate(len);
    edit::change_flags(&mut refusal, 0, AA | TC);
    edit::set_rcode(&mut refusal, Rcode::ServFail as u16);
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this many bytes, with its length.
    fn response(len: usize) -> Vec<u8> {
        let mut message = vec![0; len - LENGTH_LEN];
        message[..17].copy_from_slice(b"\0\x07\x87\x80\0\x01\0\0\0\0\0\0\0\0\x10\0\x01");
        message
    }

    /// Responses that are all in flight before the first one comes. Returns how many were held.
    fn burst(outbox: &Outbox, count: usize, len: usize) -> usize {
        (0..count).for_each(|_| outbox.expect());
        (0..count).filter(|_| outbox.deliver(&response(len))).count()
    }

    #[test]
    fn what_connections_owe_has_a_bound_and_each_gets_one_response() {
        let of_shard = Rc::new(OwedBytes::default());
        let outboxes: Vec<_> = (0..400).map(|_| Outbox::new(&of_shard)).collect();
        let full = |outbox| burst(outbox, TCP_PENDING_MAX, TCP_RESPONSE_LEN_MAX);
        let held: Vec<_> = outboxes.iter().map(full).collect();
        assert_eq!(held[..8], [128, 63, 32, 16, 8, 4, 2, 1]);
        assert!(held[8..].iter().all(|count| *count == 1));
        let each_len = TCP_RESPONSE_LEN_MAX + TCP_PENDING_MAX * TCP_REFUSAL_LEN_MAX;
        assert!(of_shard.0.get() <= TCP_OWED_LEN_MAX + outboxes.len() * each_len);
        // Others have responses in flight all the same.
        let late = Outbox::new(&of_shard);
        let pending = (0..).take_while(|_| late.has_room(0)).inspect(|_| late.expect()).count();
        assert_eq!(pending, TCP_RESPONSE_LEN_MAX.div_ceil(TCP_PENDING_LEN));
        // The first peer takes a part, which frees nothing yet, and then all.
        let owed = of_shard.0.get();
        assert_eq!(outboxes[0].send(|_| Ok(1000)).unwrap(), 1000);
        assert_eq!(of_shard.0.get(), owed);
        assert!(outboxes[0].send(|bytes| Ok(bytes.len())).is_ok());
        assert_eq!(of_shard.0.get(), owed - 128 * TCP_RESPONSE_LEN_MAX);
        assert!(!outboxes[0].has_unsent());
        // Connections end while responses are in flight.
        outboxes[2].expect();
        outboxes[2].expect();
        outboxes.iter().for_each(Outbox::close);
        late.close();
        assert_eq!(of_shard.0.get(), 0);
        outboxes[2].deliver(&response(100));
        outboxes[2].cancel();
        assert_eq!((of_shard.0.get(), outboxes[2].has_unsent()), (0, false));
    }

    #[test]
    fn a_refusal_has_the_question() {
        let expected = b"\0\x07\x81\x82\0\x01\0\0\0\0\0\0\0\0\x10\0\x01";
        assert_eq!(refusal(&response(TCP_RESPONSE_LEN_MAX)), expected);
    }
}
