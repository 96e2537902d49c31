//! The cache's entries: a hash index finds them, and S3-FIFO with one bit per entry evicts them
//! (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).
//!
//! A new entry enters the small queue, a tenth of its partition. When it reaches the end it moves
//! to the main queue if it was hit, else it is evicted. So a flood of names that are asked for once
//! never touches the main queue. Not SIEVE: it has one hand that passes every entry, so in a flood
//! an entry survives only if it is hit in each round of the hand, and the attacker sets the pace.
//! Invariant: no partition exceeds its entries or bytes. Every step but eviction is O(1). An
//! eviction inspects only entries that were hit since it last did, so it is O(1) amortized.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use super::entry::Entry;
use super::{CacheKey, EntryType};
use crate::limits::CACHE_ENTRY_LEN;

/// An index into `nodes`.
type NodeIndex = u32;

/// All entries, of both types: a key has at most one.
pub(super) struct Store {
    secrets: RapidSecrets,
    index: HashTable<NodeIndex>,
    nodes: Vec<Node>,
    vacant: Vec<NodeIndex>,
    partitions: [Partition; 2],
}

struct Node {
    hash: u64,
    name: Box<[u8]>,
    facts: u64,
    entry_type: EntryType,
    /// `None`: the node is vacant.
    entry: Option<Entry>,
    /// Bytes.
    len: usize,
    /// Since it entered its queue.
    was_hit: bool,
    is_in_main: bool,
    newer: Option<NodeIndex>,
    older: Option<NodeIndex>,
}

/// The entries of one type.
struct Partition {
    small: FifoQueue,
    main: FifoQueue,
    /// Tags of entries that were evicted from the small queue, by the lower bits of their hashes. A
    /// key that returns enters the main queue.
    ghosts: Box<[u32]>,
    count_max: usize,
    len_max: usize,
    evictions: u64,
}

/// A list of nodes, linked by their indices.
#[derive(Default)]
struct FifoQueue {
    newest: Option<NodeIndex>,
    oldest: Option<NodeIndex>,
    count: usize,
    /// Bytes of the nodes.
    len: usize,
}

impl Store {
    /// `capacities`: entries by type; 0 caches none of the type.
    pub(super) fn new(capacities: [usize; 2], hash_seed: u64) -> Self {
        Self {
            secrets: RapidSecrets::seed(hash_seed),
            index: HashTable::new(),
            nodes: Vec::new(),
            vacant: Vec::new(),
            partitions: capacities.map(Partition::new),
        }
    }

    /// The entry of a key, for a client: the hit counts when the store must evict.
    #[inline]
    pub(super) fn find(&mut self, key: &CacheKey<'_>) -> Option<(EntryType, &mut Entry)> {
        let index = self.index_of(self.hash(key), key)?;
        let node = self.nodes.get_mut(index as usize)?;
        debug_assert!(node.entry.is_some(), "the index leads to a vacant node");
        node.was_hit = true;
        Some((node.entry_type, node.entry.as_mut()?))
    }

    /// The entry of a key, without counting a hit.
    pub(super) fn peek(&mut self, key: &CacheKey<'_>) -> Option<&mut Entry> {
        let index = self.index_of(self.hash(key), key)?;
        self.nodes.get_mut(index as usize)?.entry.as_mut()
    }

    /// Stores an entry in place of the key's last one. `false` if the entry exceeds the partition.
    pub(super) fn put(&mut self, key: &CacheKey<'_>, entry_type: EntryType, entry: Entry) -> bool {
        self.assert_counts();
        let hash = self.hash(key);
        let len = size_of::<Node>() + key.name.len() + entry.response.stored_len();
        let partition = &mut self.partitions[entry_type as usize];
        if partition.count_max == 0 || len > partition.len_max {
            return false;
        }
        let last = self.index_of(hash, key);
        let mut was_hit = false;
        if let Some(index) = last {
            let node = &mut self.nodes[index as usize];
            was_hit = node.was_hit;
            if node.entry_type == entry_type {
                let queue = self.partitions[entry_type as usize].queue(node.is_in_main);
                debug_assert!(queue.len >= node.len);
                queue.len = queue.len - node.len + len;
                node.len = len;
                node.entry = Some(entry);
                self.make_room(entry_type, 0, 0);
                self.assert_counts();
                return true;
            }
            self.vacate(index);
        }
        self.make_room(entry_type, 1, len);
        let partition = &mut self.partitions[entry_type as usize];
        let is_in_main = partition.take_ghost(hash);
        let node = Node {
            hash,
            name: key.name.into(),
            facts: key.facts(),
            entry_type,
            entry: Some(entry),
            len,
            was_hit,
            is_in_main,
            newer: None,
            older: None,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                debug_assert!(self.nodes[index as usize].entry.is_none());
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeIndex
            }
        };
        partition.queue(is_in_main).push(&mut self.nodes, index);
        self.index.insert_unique(hash, index, |index| self.nodes[*index as usize].hash);
        self.assert_counts();
        true
    }

    pub(super) fn remove(&mut self, key: &CacheKey<'_>) {
        if let Some(index) = self.index_of(self.hash(key), key) {
            self.vacate(index);
        }
        self.assert_counts();
    }

    pub(super) fn count(&self, entry_type: EntryType) -> usize {
        self.partitions[entry_type as usize].count()
    }

    /// Bytes held.
    pub(super) fn len(&self, entry_type: EntryType) -> usize {
        self.partitions[entry_type as usize].len()
    }

    pub(super) fn evictions(&self, entry_type: EntryType) -> u64 {
        self.partitions[entry_type as usize].evictions
    }

    fn hash(&self, key: &CacheKey<'_>) -> u64 {
        let of_name = rapidhash_v3_inline::<true, false, false>(key.name, &self.secrets);
        // An odd constant spreads the few bits of the facts over the word; the name's hash is
        // seeded.
        of_name ^ key.facts().wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn index_of(&self, hash: u64, key: &CacheKey<'_>) -> Option<NodeIndex> {
        let is_it = |index: &NodeIndex| {
            let node = &self.nodes[*index as usize];
            node.facts == key.facts() && *node.name == *key.name
        };
        self.index.find(hash, is_it).copied()
    }

    /// Evicts until `count` more entries of `len` bytes fit.
    fn make_room(&mut self, entry_type: EntryType, count: usize, len: usize) {
        loop {
            let partition = &self.partitions[entry_type as usize];
            if partition.count() + count <= partition.count_max
                && partition.len() + len <= partition.len_max
            {
                return;
            }
            if !self.evict(entry_type) {
                return;
            }
        }
    }

    /// `false` if there is nothing to evict.
    fn evict(&mut self, entry_type: EntryType) -> bool {
        // Terminates: each pass clears one `was_hit`.
        loop {
            let partition = &mut self.partitions[entry_type as usize];
            let is_from_main = !partition.is_small_full() && partition.main.count > 0;
            let Some(index) = partition.queue(is_from_main).oldest else { return false };
            let node = &mut self.nodes[index as usize];
            debug_assert!(node.entry_type == entry_type && node.is_in_main == is_from_main);
            if node.was_hit {
                node.was_hit = false;
                node.is_in_main = true;
                partition.queue(is_from_main).unlink(&mut self.nodes, index);
                partition.main.push(&mut self.nodes, index);
                continue;
            }
            if !is_from_main {
                partition.leave_ghost(node.hash);
            }
            partition.evictions += 1;
            self.vacate(index);
            return true;
        }
    }

    fn vacate(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index as usize];
        debug_assert!(node.entry.is_some(), "a node is vacated once");
        node.entry = None;
        node.name = Box::default();
        let (hash, entry_type, is_in_main) = (node.hash, node.entry_type, node.is_in_main);
        let partition = &mut self.partitions[entry_type as usize];
        partition.queue(is_in_main).unlink(&mut self.nodes, index);
        let indexed = self.index.find_entry(hash, |other| *other == index);
        debug_assert!(indexed.is_ok(), "each entry is in the index");
        if let Ok(indexed) = indexed {
            indexed.remove();
        }
        self.vacant.push(index);
    }

    /// O(1); debug builds only.
    fn assert_counts(&self) {
        debug_assert_eq!(self.index.len() + self.vacant.len(), self.nodes.len());
        let queued: usize = self.partitions.iter().map(Partition::count).sum();
        debug_assert_eq!(queued, self.index.len());
        debug_assert!(self.partitions.iter().all(Partition::is_within_bounds));
    }
}

impl Partition {
    fn new(count_max: usize) -> Self {
        Self {
            small: FifoQueue::default(),
            main: FifoQueue::default(),
            ghosts: vec![0; count_max.next_power_of_two()].into(),
            count_max,
            len_max: count_max.saturating_mul(CACHE_ENTRY_LEN),
            evictions: 0,
        }
    }

    fn count(&self) -> usize {
        self.small.count + self.main.count
    }

    fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    fn is_within_bounds(&self) -> bool {
        let is_whole = |queue: &FifoQueue| {
            let is_empty = queue.count == 0;
            queue.newest.is_none() == is_empty
                && queue.oldest.is_none() == is_empty
                && (queue.len == 0) == is_empty
        };
        self.count() <= self.count_max
            && self.len() <= self.len_max
            && is_whole(&self.small)
            && is_whole(&self.main)
    }

    /// Whether the small queue has reached its tenth. Bytes count too: otherwise a flood of long
    /// responses would evict from the main queue.
    fn is_small_full(&self) -> bool {
        let has_tenth = |part: usize, whole: usize| part > 0 && part >= whole / 10;
        has_tenth(self.small.count, self.count_max) || has_tenth(self.small.len, self.len_max)
    }

    fn queue(&mut self, is_main: bool) -> &mut FifoQueue {
        if is_main { &mut self.main } else { &mut self.small }
    }

    fn leave_ghost(&mut self, hash: u64) {
        *self.ghost(hash) = ghost_tag(hash);
    }

    /// Whether the key was evicted lately. Each ghost counts once.
    fn take_ghost(&mut self, hash: u64) -> bool {
        let ghost = self.ghost(hash);
        let is_here = *ghost == ghost_tag(hash);
        if is_here {
            *ghost = 0;
        }
        is_here
    }

    fn ghost(&mut self, hash: u64) -> &mut u32 {
        let at = hash as usize & (self.ghosts.len() - 1);
        &mut self.ghosts[at]
    }
}

/// Hash bits that do not select the ghost's place. Never 0, which marks an unused place.
fn ghost_tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

impl FifoQueue {
    fn push(&mut self, nodes: &mut [Node], index: NodeIndex) {
        debug_assert_ne!(self.newest, Some(index), "a node is in one queue, once");
        let node = &mut nodes[index as usize];
        (node.newer, node.older) = (None, self.newest);
        match self.newest {
            Some(newest) => {
                debug_assert_eq!(nodes[newest as usize].newer, None);
                nodes[newest as usize].newer = Some(index);
            }
            None => self.oldest = Some(index),
        }
        self.newest = Some(index);
        self.count += 1;
        self.len += nodes[index as usize].len;
    }

    fn unlink(&mut self, nodes: &mut [Node], index: NodeIndex) {
        let Node { newer, older, len, .. } = nodes[index as usize];
        debug_assert!(self.count > 0 && self.len >= len);
        debug_assert!(self.is_linked(nodes, index), "both neighbors link back");
        match newer {
            Some(newer) => nodes[newer as usize].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => nodes[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        self.count -= 1;
        self.len -= len;
    }

    fn is_linked(&self, nodes: &[Node], index: NodeIndex) -> bool {
        let Node { newer, older, .. } = nodes[index as usize];
        let from_newer = newer.map_or(self.newest, |newer| nodes[newer as usize].older);
        let from_older = older.map_or(self.oldest, |older| nodes[older as usize].newer);
        from_newer == Some(index) && from_older == Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use proptest::prelude::*;
    use wire::response::Response;

    use super::super::entry::Term;
    use super::*;
    use crate::cache::settings::CacheSettings;

    impl Store {
        /// Walks everything: each entry is in the index once and in the queue that it claims, and
        /// each queue holds what it counts.
        fn is_consistent(&self) -> bool {
            let types = [EntryType::Success, EntryType::Denial];
            let is_queue_whole = |queue: &FifoQueue, entry_type, is_in_main| {
                let (mut count, mut len, mut next) = (0, 0, queue.oldest);
                while let Some(index) = next.filter(|_| count <= self.nodes.len()) {
                    let node = &self.nodes[index as usize];
                    let indexed = self.index.find(node.hash, |other| *other == index);
                    if indexed.is_none()
                        || node.entry.is_none()
                        || (node.entry_type, node.is_in_main) != (entry_type, is_in_main)
                        || !queue.is_linked(&self.nodes, index)
                    {
                        return false;
                    }
                    (count, len, next) = (count + 1, len + node.len, node.newer);
                }
                (count, len) == (queue.count, queue.len)
            };
            let are_queues_whole =
                types.into_iter().zip(&self.partitions).all(|(kind, partition)| {
                    partition.is_within_bounds()
                        && is_queue_whole(&partition.small, kind, false)
                        && is_queue_whole(&partition.main, kind, true)
                });
            let queued: usize = self.partitions.iter().map(Partition::count).sum();
            let is_vacant = |index: &NodeIndex| self.nodes[*index as usize].entry.is_none();
            are_queues_whole
                && queued == self.index.len()
                && queued + self.vacant.len() == self.nodes.len()
                && self.vacant.iter().all(is_vacant)
        }
    }

    fn entry() -> Entry {
        let response = Arc::new(Response::server_failure());
        let term = Term::of(&response, &CacheSettings::default()).expect("a lifetime");
        Entry::new(response, term, None, Instant::now())
    }

    proptest! {
        #[test]
        fn queues_and_index_agree_after_every_operation(
            steps in prop::collection::vec((0..8u8, 0..40u8, 1..200usize), 0..300),
            capacities in [0..12usize, 0..12usize],
        ) {
            let mut store = Store::new(capacities, 7);
            for (step, name, name_len) in steps {
                let name = vec![name; if name % 2 == 0 { name_len } else { 1 }];
                let key = CacheKey {
                    name: &name,
                    qtype: 1,
                    qclass: 1,
                    dnssec_ok: false,
                    checking_disabled: false,
                };
                match step {
                    0..=2 => {
                        store.put(&key, EntryType::Success, entry());
                    }
                    3..=4 => {
                        store.put(&key, EntryType::Denial, entry());
                    }
                    5..=6 => {
                        store.find(&key);
                    }
                    _ => store.remove(&key),
                }
                prop_assert!(store.is_consistent());
            }
        }
    }
}
