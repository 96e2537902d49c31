//! Late responses for a TCP connection, until the connection's task sends them.
//!
//! Invariant: each `expect` is followed by one `deliver` or `cancel`, unless the process ends.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

/// A connection as other tasks of its thread see it: they can deliver late responses to it, and
/// close it.
#[derive(Default)]
pub struct Outbox {
    pub(crate) wake: Notify,
    pub(crate) is_closed: Cell<bool>,
    /// Queries whose responses are still to come.
    pub(crate) pending_count: Cell<usize>,
    /// Responses with their two-byte lengths that the connection's task has not taken yet.
    pub(crate) answers: RefCell<Vec<u8>>,
}

impl Outbox {
    /// A response will follow by `deliver`, or none by `cancel`.
    pub fn expect(&self) {
        self.pending_count.set(self.pending_count.get() + 1);
    }

    /// Adds the expected response, of at most 65535 bytes.
    pub fn deliver(&self, message: &[u8]) {
        debug_assert!(self.pending_count.get() > 0, "`expect` comes before `deliver`");
        self.pending_count.set(self.pending_count.get() - 1);
        let mut answers = self.answers.borrow_mut();
        answers.extend_from_slice(&(message.len() as u16).to_be_bytes());
        answers.extend_from_slice(message);
        self.wake.notify_one();
    }

    /// There is no response after all.
    pub fn cancel(&self) {
        debug_assert!(self.pending_count.get() > 0, "`expect` comes before `cancel`");
        self.pending_count.set(self.pending_count.get() - 1);
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        self.wake.notify_one();
    }
}
