//! Answered queries on their way to the log: one ring per shard.
//!
//! The log's thread looks at the rings from time to time and never waits at one, so a shard has
//! nobody to wake. Invariant: a shard writes to its own ring only, and never waits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::query::LoggedQuery;
use crate::limits::QUERY_RING_LEN;

/// The rings of all shards. There are none until a Corefile has `log`.
#[derive(Debug, Default)]
pub struct QueryRings {
    rings: OnceLock<Box<[Ring]>>,
}

/// On cache lines of its own, because its shard counts in it.
#[derive(Debug)]
#[repr(align(128))]
struct Ring {
    queries: Sender<LoggedQuery>,
    /// Queries that found the ring full.
    lost: AtomicU64,
}

impl QueryRings {
    /// Creates the rings, and returns their other ends, by shard. `None` if there are rings.
    pub fn open(&self, shard_count: usize) -> Option<Vec<Receiver<LoggedQuery>>> {
        let ends = (0..shard_count).map(|_| bounded(QUERY_RING_LEN));
        let (senders, receivers): (Vec<_>, Vec<_>) = ends.unzip();
        let rings = senders.into_iter().map(|queries| Ring { queries, lost: AtomicU64::new(0) });
        self.rings.set(rings.collect()).ok().map(|()| receivers)
    }

    /// Queries of all shards that were not logged because a ring was full.
    pub fn lost_count(&self) -> u64 {
        let rings = self.rings.get().into_iter().flatten();
        rings.map(|ring| ring.lost.load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// A shard's end of the rings.
#[derive(Clone, Copy, Debug)]
pub struct ShardRing<'r> {
    pub rings: &'r QueryRings,
    pub shard_index: usize,
}

/// Room for one query.
pub(super) struct Room<'r>(&'r Ring);

impl<'r> ShardRing<'r> {
    /// Room in the shard's ring. If there is none, a query is lost.
    pub(super) fn room(self) -> Option<Room<'r>> {
        let ring = self.rings.rings.get()?.get(self.shard_index)?;
        if ring.queries.is_full() {
            ring.lose();
            return None;
        }
        Some(Room(ring))
    }
}

impl Room<'_> {
    pub(super) fn take(self, query: LoggedQuery) {
        if self.0.queries.try_send(query).is_err() {
            self.0.lose();
        }
    }
}

impl Ring {
    /// Only the ring's shard counts.
    fn lose(&self) {
        self.lost.store(self.lost.load(Relaxed).wrapping_add(1), Relaxed);
    }
}
