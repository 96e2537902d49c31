//! Where the cache's entries lie: found by their keys in one probe chain, and evicted by S3-FIFO (Yang et al., "FIFO queues
//! are all you need for cache eviction", SOSP 2023), with one bit an entry.
//!
//! A new entry waits in a small queue, a tenth of the share; only if it is asked for again does it move to the main queue
//! when its turn comes. Whatever is asked for once leaves without having touched the main queue, however fast it comes. That is
//! why not SIEVE: its one hand passes everything, so under a flood an entry stays only if it is asked for in each turn of the
//! hand, and the attacker sets the pace.
//! Invariant: no share holds more entries or bytes than it may. Every step but eviction is O(1); an eviction looks at no
//! more entries than were asked for again since the last one looked at them, so it is O(1) over time.

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
    shares: [Partition; 2],
}

struct Node {
    hash: u64,
    name: Box<[u8]>,
    facts: u64,
    entry_type: EntryType,
    /// `None`: the node is vacant.
    entry: Option<Entry>,
    /// Bytes that it takes.
    len: usize,
    /// Since it came, or was last spared an eviction.
    is_asked_again: bool,
    is_in_main: bool,
    newer: Option<NodeIndex>,
    older: Option<NodeIndex>,
}

/// The entries of one type.
struct Partition {
    small: FifoQueue,
    main: FifoQueue,
    /// Tags of what left the small queue unasked, by the lower bits of their hashes: what comes back goes to the main queue.
    ghosts: Box<[u32]>,
    count_max: usize,
    len_max: usize,
    evictions: u64,
}

/// A list of nodes, linked by their slots.
#[derive(Default)]
struct FifoQueue {
    newest: Option<NodeIndex>,
    oldest: Option<NodeIndex>,
    count: usize,
    /// Bytes of the nodes.
    len: usize,
}

impl Store {
    /// `capacities`: entries, by type.
    pub(super) fn new(capacities: [usize; 2], hash_seed: u64) -> Self {
        Self {
            secrets: RapidSecrets::seed(hash_seed),
            index: HashTable::new(),
            nodes: Vec::new(),
            vacant: Vec::new(),
            shares: capacities.map(Partition::new),
        }
    }

    /// The entry of a key that is asked for: that counts when room is needed.
    #[inline]
    pub(super) fn find(&mut self, key: &CacheKey<'_>) -> Option<(EntryType, &mut Entry)> {
        let slot = self.slot(self.hash(key), key)?;
        let node = self.nodes.get_mut(slot as usize)?;
        node.is_asked_again = true;
        Some((node.entry_type, node.entry.as_mut()?))
    }

    /// The entry of a key that nobody asks for at the moment.
    pub(super) fn peek(&mut self, key: &CacheKey<'_>) -> Option<&mut Entry> {
        let slot = self.slot(self.hash(key), key)?;
        self.nodes.get_mut(slot as usize)?.entry.as_mut()
    }

    /// Puts an entry in the place of the key's last one. `false` if there can be no room for it.
    pub(super) fn put(&mut self, key: &CacheKey<'_>, entry_type: EntryType, entry: Entry) -> bool {
        let hash = self.hash(key);
        let len = size_of::<Node>() + key.name.len() + entry.response.stored_len();
        let share = &mut self.shares[entry_type as usize];
        if share.count_max == 0 || len > share.len_max {
            return false;
        }
        let last = self.slot(hash, key);
        let mut is_asked_again = false;
        if let Some(slot) = last {
            let node = &mut self.nodes[slot as usize];
            is_asked_again = node.is_asked_again;
            if node.entry_type == entry_type {
                let queue = self.shares[entry_type as usize].queue(node.is_in_main);
                queue.len = queue.len - node.len + len;
                node.len = len;
                node.entry = Some(entry);
                self.make_room(entry_type, 0, 0);
                return true;
            }
            self.vacate(slot);
        }
        self.make_room(entry_type, 1, len);
        let share = &mut self.shares[entry_type as usize];
        let is_in_main = share.take_ghost(hash);
        let node = Node {
            hash,
            name: key.name.into(),
            facts: key.facts(),
            entry_type,
            entry: Some(entry),
            len,
            is_asked_again,
            is_in_main,
            newer: None,
            older: None,
        };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeIndex
            }
        };
        share.queue(is_in_main).push(&mut self.nodes, slot);
        self.index.insert_unique(hash, slot, |slot| self.nodes[*slot as usize].hash);
        true
    }

    pub(super) fn remove(&mut self, key: &CacheKey<'_>) {
        if let Some(slot) = self.slot(self.hash(key), key) {
            self.vacate(slot);
        }
    }

    pub(super) fn count(&self, entry_type: EntryType) -> usize {
        self.shares[entry_type as usize].count()
    }

    /// Bytes held.
    pub(super) fn len(&self, entry_type: EntryType) -> usize {
        self.shares[entry_type as usize].len()
    }

    pub(super) fn evictions(&self, entry_type: EntryType) -> u64 {
        self.shares[entry_type as usize].evictions
    }

    fn hash(&self, key: &CacheKey<'_>) -> u64 {
        let of_name = rapidhash_v3_inline::<true, false, false>(key.name, &self.secrets);
        // An odd constant spreads the few bits of the rest over the word; the seed is in the name's part.
        of_name ^ key.facts().wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn slot(&self, hash: u64, key: &CacheKey<'_>) -> Option<NodeIndex> {
        let is_it = |slot: &NodeIndex| {
            let node = &self.nodes[*slot as usize];
            node.facts == key.facts() && *node.name == *key.name
        };
        self.index.find(hash, is_it).copied()
    }

    /// Evicts until `count` more entries of `len` bytes fit.
    fn make_room(&mut self, entry_type: EntryType, count: usize, len: usize) {
        loop {
            let share = &self.shares[entry_type as usize];
            if share.count() + count <= share.count_max && share.len() + len <= share.len_max {
                return;
            }
            if !self.evict(entry_type) {
                return;
            }
        }
    }

    /// `false` if there is nothing to evict.
    fn evict(&mut self, entry_type: EntryType) -> bool {
        // Each pass takes a mark off an entry.
        loop {
            let share = &mut self.shares[entry_type as usize];
            let is_from_main = !share.is_small_full() && share.main.count > 0;
            let Some(slot) = share.queue(is_from_main).oldest else { return false };
            let node = &mut self.nodes[slot as usize];
            if node.is_asked_again {
                node.is_asked_again = false;
                node.is_in_main = true;
                share.queue(is_from_main).unlink(&mut self.nodes, slot);
                share.main.push(&mut self.nodes, slot);
                continue;
            }
            if !is_from_main {
                share.leave_ghost(node.hash);
            }
            share.evictions += 1;
            self.vacate(slot);
            return true;
        }
    }

    fn vacate(&mut self, slot: NodeIndex) {
        let node = &mut self.nodes[slot as usize];
        node.entry = None;
        node.name = Box::default();
        let (hash, entry_type, is_in_main) = (node.hash, node.entry_type, node.is_in_main);
        let share = &mut self.shares[entry_type as usize];
        share.queue(is_in_main).unlink(&mut self.nodes, slot);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.vacant.push(slot);
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

    /// Whether the small queue has its tenth. By bytes, too: else a flood of long answers would make its room in the main one.
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

    /// Whether the entry has been here lately. A ghost is believed once.
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

/// Bits that do not say where the ghost is. Not 0, which is nobody's.
fn ghost_tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

impl FifoQueue {
    fn push(&mut self, nodes: &mut [Node], slot: NodeIndex) {
        let node = &mut nodes[slot as usize];
        (node.newer, node.older) = (None, self.newest);
        match self.newest {
            Some(newest) => nodes[newest as usize].newer = Some(slot),
            None => self.oldest = Some(slot),
        }
        self.newest = Some(slot);
        self.count += 1;
        self.len += nodes[slot as usize].len;
    }

    fn unlink(&mut self, nodes: &mut [Node], slot: NodeIndex) {
        let Node { newer, older, len, .. } = nodes[slot as usize];
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
}
