//! Where late responses for a TCP connection are put until the connection's task sends them.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

/// A connection, as others of its thread know it: they can give it an answer that took its time, and close it.
#[derive(Default)]
pub struct Outbox {
    pub(crate) wake: Notify,
    pub(crate) is_closed: Cell<bool>,
    /// Questions whose answers are on their way.
    pub(crate) pending_count: Cell<usize>,
    /// Answers that came, with their lengths, and were not taken up yet.
    pub(crate) answers: RefCell<Vec<u8>>,
}

impl Outbox {
    /// An answer will follow by `deliver`.
    pub fn expect(&self) {
        self.pending_count.set(self.pending_count.get() + 1);
    }

    /// The answer that was expected, at most 65535 bytes long.
    pub fn deliver(&self, message: &[u8]) {
        debug_assert!(self.pending_count.get() > 0, "`expect` comes before `deliver`");
        self.pending_count.set(self.pending_count.get() - 1);
        let mut answers = self.answers.borrow_mut();
        answers.extend_from_slice(&(message.len() as u16).to_be_bytes());
        answers.extend_from_slice(message);
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        self.wake.notify_one();
    }
}
