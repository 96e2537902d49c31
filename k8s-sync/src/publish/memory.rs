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
/// How long after the last of them: the allocator keeps freed memory for a second.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(1500);
/// Freeing a block of this size makes the allocator look at what it keeps.
const LARGE_BLOCK_LEN: usize = 1 << 20;

/// When memory has to be given back.
#[derive(Default)]
pub(super) struct FreedMemory {
    /// Since memory was last given back, or since there was none for a while.
    event_count: usize,
    /// When the last event was applied.
    applied: Option<Instant>,
    due: Option<Instant>,
}

impl FreedMemory {
    /// So many events have been applied.
    pub(super) fn note(&mut self, event_count: usize, now: Instant) {
        if event_count == 0 {
            return;
        }
        let is_late = self.applied.is_some_and(|applied| now > applied + GIVE_BACK_AFTER);
        if is_late && self.due.is_none() {
            self.event_count = 0;
        }
        self.event_count += event_count;
        self.applied = Some(now);
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
            // Once more, if the list has gone on meanwhile.
            let is_list = std::mem::take(&mut self.event_count) >= MANY_EVENTS;
            let once_more = self.applied.map(|applied| applied + GIVE_BACK_AFTER);
            self.due = once_more.filter(|due| is_list && now < *due);
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
        // A list that goes on: in its middle, and after its end.
        let last = start + GIVE_BACK_AFTER / 2;
        freed.note(1000, start);
        freed.note(1, last);
        assert_eq!(freed.due(start), start + GIVE_BACK_AFTER, "the rest does not delay it");
        freed.step(start + GIVE_BACK_AFTER);
        assert_eq!(freed.due(start), last + GIVE_BACK_AFTER);
        freed.step(last + GIVE_BACK_AFTER);
        assert_eq!(freed.due(start), idle);
    }
}
