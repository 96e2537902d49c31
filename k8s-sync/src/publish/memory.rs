//! Gives memory back after a list: its objects and the table that was made of them took twice what
//! remains.
//!
//! The allocator (mimalloc) returns freed memory to the system only when it is used again, a second
//! later or more. In a quiet cluster that would be never: 40 MB of 10,000 Services. Invariant: no
//! clock here.

use std::hint::black_box;
use std::time::Duration;

use tokio::time::Instant;

use super::IDLE_MAX;

/// Events after which there may be much of it. A list comes in many batches.
const MANY_EVENTS: usize = 1000;
/// How long after them: the allocator keeps freed memory for a second.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(1500);
/// Freeing a block of this size makes the allocator look at what it keeps.
const LARGE_BLOCK_LEN: usize = 1 << 20;

/// When memory has to be given back.
#[derive(Default)]
pub(super) struct FreedMemory {
    /// Since memory was last given back.
    event_count: usize,
    due: Option<Instant>,
}

impl FreedMemory {
    /// So many events have been applied.
    pub(super) fn note(&mut self, event_count: usize, now: Instant) {
        self.event_count += event_count;
        if self.event_count >= MANY_EVENTS {
            self.due.get_or_insert(now + GIVE_BACK_AFTER);
        }
    }

    /// When `step` has to be called again.
    pub(super) fn due(&self, now: Instant) -> Instant {
        self.due.unwrap_or(now + IDLE_MAX)
    }

    pub(super) fn step(&mut self, now: Instant) {
        if self.due.is_some_and(|due| now >= due) {
            *self = Self::default();
            drop(black_box(Vec::<u8>::with_capacity(LARGE_BLOCK_LEN)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_list_and_not_after_each_change() {
        let (mut freed, start) = (FreedMemory::default(), Instant::now());
        let idle = start + IDLE_MAX;
        freed.note(1, start);
        assert_eq!(freed.due(start), idle);
        (0..8).for_each(|_| freed.note(128, start));
        assert_eq!(freed.due(start), start + GIVE_BACK_AFTER);
        freed.step(start);
        assert_eq!(freed.due(start), start + GIVE_BACK_AFTER, "not yet");
        freed.step(start + GIVE_BACK_AFTER);
        assert_eq!(freed.due(start), idle);
    }
}
