//! The questions of one `forward` line that are in flight, in all shards.
//!
//! Invariant: a shard writes only its own count. So two shards that admit a question at the same
//! moment may exceed `max_concurrent`, by one question each.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::failure::ForwardFailure;
use crate::limits::FORWARD_IN_FLIGHT_MAX;

#[derive(Debug)]
pub(super) struct InFlight {
    /// By shard.
    counts: Box<[ShardCount]>,
    /// `max_concurrent`, of all shards together.
    max: Option<usize>,
}

/// A shard's count, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ShardCount(AtomicUsize);

impl InFlight {
    pub(super) fn new(shard_count: usize, max: Option<usize>) -> Self {
        Self { counts: (0..shard_count).map(|_| ShardCount::default()).collect(), max }
    }

    /// Counts a question of this shard until the guard is dropped.
    ///
    /// # Errors
    /// As many are in flight as may be.
    pub(super) fn admit(&self, shard: usize) -> Result<InFlightGuard<'_>, ForwardFailure> {
        let own = &self.counts[shard].0;
        if own.load(Ordering::Relaxed) >= FORWARD_IN_FLIGHT_MAX {
            return Err(ForwardFailure::TooMany { max: FORWARD_IN_FLIGHT_MAX });
        }
        if let Some(max) = self.max
            && self.total() >= max
        {
            return Err(ForwardFailure::TooMany { max });
        }
        own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(InFlightGuard(own))
    }

    /// Of this shard. Only its thread changes it.
    pub(super) fn of_shard(&self, shard: usize) -> usize {
        self.counts[shard].0.load(Ordering::Relaxed)
    }

    fn total(&self) -> usize {
        self.counts.iter().map(|ShardCount(count)| count.load(Ordering::Relaxed)).sum()
    }

    /// A thread that takes a shard's place has no questions in flight.
    pub(super) fn restart(&self, shard: usize) {
        self.counts[shard].0.store(0, Ordering::Relaxed);
    }
}

/// Counts one question as in flight while it exists.
pub(super) struct InFlightGuard<'c>(&'c AtomicUsize);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        // Zero: another thread has taken the place of this one, which hung.
        let count = self.0.load(Ordering::Relaxed).saturating_sub(1);
        self.0.store(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_max_concurrent() {
        let all = InFlight::new(3, Some(4));
        let busy: Vec<_> = (0..4).map(|_| all.admit(0).unwrap()).collect();
        for shard in 0..3 {
            assert_eq!(all.admit(shard).err(), Some(ForwardFailure::TooMany { max: 4 }));
        }
        assert_eq!([0, 1, 2].map(|shard| all.of_shard(shard)), [4, 0, 0]);
        drop(busy);
        let guards = [1, 2, 2, 0].map(|shard| all.admit(shard).unwrap());
        assert!(all.admit(1).is_err());
        // The thread of shard 2 hangs, and another takes its place.
        all.restart(2);
        drop(all.admit(2).unwrap());
        drop(guards);
        assert_eq!(all.total(), 0);
    }

    #[test]
    fn a_shard_has_a_bound_without_it() {
        let all = InFlight::new(1, None);
        let guards: Vec<_> = (0..FORWARD_IN_FLIGHT_MAX).map(|_| all.admit(0).unwrap()).collect();
        assert!(all.admit(0).is_err());
        drop(guards);
        assert!(all.admit(0).is_ok());
    }
}
