//! The questions of one `forward` line that are in flight, in all shards.
//!
//! Invariant: only a shard's newest thread changes its count. So two shards that admit a question
//! at the same moment may exceed `max_concurrent`, by one question each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::failure::ForwardFailure;
use crate::limits::FORWARD_IN_FLIGHT_MAX;

#[derive(Debug)]
pub(super) struct InFlight {
    /// By shard.
    counts: Box<[ShardCount]>,
    /// `max_concurrent`, of all shards together.
    max: Option<usize>,
}

/// A shard's count, on cache lines of its own: the number of the thread that counts in the upper
/// half, its questions in the lower one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ShardCount(AtomicU64);

/// What one thread of a shard counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    shard: usize,
    thread: u64,
}

impl InFlight {
    pub(super) fn new(shard_count: usize, max: Option<usize>) -> Self {
        Self { counts: (0..shard_count).map(|_| ShardCount::default()).collect(), max }
    }

    /// Counts from zero for a thread of this shard. An older thread of it, which hangs, counts no
    /// more.
    pub(super) fn begin(&self, shard: usize) -> Counted {
        let thread = (self.counts[shard].0.load(Ordering::Relaxed) >> 32) + 1;
        self.counts[shard].0.store(thread << 32, Ordering::Relaxed);
        Counted { shard, thread }
    }

    /// Counts a question until the guard is dropped.
    ///
    /// # Errors
    /// As many are in flight as may be.
    pub(super) fn admit(&self, counted: Counted) -> Result<InFlightGuard<'_>, ForwardFailure> {
        if self.of_thread(counted) >= FORWARD_IN_FLIGHT_MAX {
            return Err(ForwardFailure::TooMany { max: FORWARD_IN_FLIGHT_MAX });
        }
        if let Some(max) = self.max
            && self.total() >= max
        {
            return Err(ForwardFailure::TooMany { max });
        }
        self.change(counted, |count| count + 1);
        Ok(InFlightGuard { all: self, counted })
    }

    /// The questions of this thread.
    pub(super) fn of_thread(&self, Counted { shard, thread }: Counted) -> usize {
        let count = self.counts[shard].0.load(Ordering::Relaxed);
        if count >> 32 == thread { questions(count) } else { 0 }
    }

    fn total(&self) -> usize {
        self.counts.iter().map(|ShardCount(count)| questions(count.load(Ordering::Relaxed))).sum()
    }

    fn change(&self, Counted { shard, thread }: Counted, change: impl Fn(u64) -> u64) {
        let changed = |count: u64| (count >> 32 == thread).then(|| change(count));
        // An error: another thread has the shard's place.
        let _ = self.counts[shard].0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

fn questions(count: u64) -> usize {
    (count & u64::from(u32::MAX)) as usize
}

/// Counts one question as in flight while it exists.
pub(super) struct InFlightGuard<'c> {
    all: &'c InFlight,
    counted: Counted,
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.all.change(self.counted, |count| count - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_max_concurrent() {
        let all = InFlight::new(3, Some(4));
        let [zero, one, two] = [0, 1, 2].map(|shard| all.begin(shard));
        let busy: Vec<_> = (0..4).map(|_| all.admit(zero).unwrap()).collect();
        for counted in [zero, one, two] {
            assert_eq!(all.admit(counted).err(), Some(ForwardFailure::TooMany { max: 4 }));
        }
        assert_eq!([zero, one, two].map(|counted| all.of_thread(counted)), [4, 0, 0]);
        drop(busy);
        let guards = [one, two, two, zero].map(|counted| all.admit(counted).unwrap());
        assert!(all.admit(one).is_err());
        // The thread of a shard hangs, another one takes its place, and it wakes up.
        let newer = all.begin(2);
        let guard = all.admit(newer).unwrap();
        drop(guards);
        assert_eq!((all.total(), all.of_thread(newer)), (1, 1));
        drop(guard);
        assert_eq!(all.total(), 0);
    }

    #[test]
    fn a_shard_has_a_bound_without_it() {
        let all = InFlight::new(1, None);
        let counted = all.begin(0);
        let guards: Vec<_> =
            (0..FORWARD_IN_FLIGHT_MAX).map(|_| all.admit(counted).unwrap()).collect();
        assert!(all.admit(counted).is_err());
        drop(guards);
        assert!(all.admit(counted).is_ok());
    }
}
