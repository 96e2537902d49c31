//! Metrics of the caches: CoreDNS's families, summed over the shards when scraped.
//!
//! Invariant: each shard has its numbers on cache lines of its own, and only its thread writes
//! them, once per batch.

use std::fmt;
use std::sync::Arc;

use super::LabelSet;
use super::families::{Families, Labels};
use super::shard::Counter;
use crate::cache::{Cache, EntryType};

const TYPES: [(EntryType, &str); 2] =
    [(EntryType::Success, "success"), (EntryType::Denial, "denial")];

/// The numbers of one cache, by shard.
#[derive(Debug)]
pub struct CacheMetrics {
    pub(super) block: LabelSet,
    /// The zones that the cache serves, separated by commas.
    pub(super) zones: String,
    shards: Box<[CacheNumbers]>,
}

/// The numbers of one cache in one shard.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CacheNumbers {
    requests: Counter,
    misses: Counter,
    prefetches: Counter,
    served_stale: Counter,
    /// By `EntryType`, like the next two.
    hits: [Counter; 2],
    evictions: [Counter; 2],
    entries: [Counter; 2],
}

const _: () = assert!(align_of::<CacheNumbers>() >= 128);

impl CacheMetrics {
    pub(super) fn new(block: LabelSet, zones: String, shard_count: usize) -> Self {
        let shards = (0..shard_count).map(|_| CacheNumbers::default()).collect();
        Self { block, zones, shards }
    }

    /// Copies the counters of a shard's cache. Called by that shard only.
    pub fn publish(&self, shard_index: usize, cache: &Cache) {
        let numbers = &self.shards[shard_index];
        let counted = cache.counters();
        numbers.requests.set(counted.requests);
        numbers.misses.set(counted.misses);
        numbers.prefetches.set(counted.prefetches);
        numbers.served_stale.set(counted.served_stale);
        for (entry_type, _) in TYPES {
            let at = entry_type as usize;
            numbers.hits[at].set(counted.hits[at]);
            numbers.evictions[at].set(cache.evictions(entry_type));
            numbers.entries[at].set(cache.entry_count(entry_type) as u64);
        }
    }

    pub(super) fn request_count(&self) -> u64 {
        self.total(|shard| &shard.requests)
    }

    pub(super) fn hit_count(&self) -> u64 {
        TYPES
            .iter()
            .map(|(entry_type, _)| self.total(|shard| &shard.hits[*entry_type as usize]))
            .sum()
    }

    fn total(&self, number: impl Fn(&CacheNumbers) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| number(shard).get()).sum()
    }
}

type Number = fn(&CacheNumbers) -> &Counter;
type NumberByType = fn(&CacheNumbers) -> &[Counter; 2];

const COUNTERS: [(&str, &str, Number); 4] = [
    ("coredns_cache_requests", "Cache look-ups", |shard| &shard.requests),
    ("coredns_cache_misses", "Cache misses", |shard| &shard.misses),
    ("coredns_cache_prefetch", "Entries refreshed before or after they expired", |shard| {
        &shard.prefetches
    }),
    ("coredns_cache_served_stale", "Expired entries served to clients", |shard| {
        &shard.served_stale
    }),
];

const COUNTERS_BY_TYPE: [(&str, &str, NumberByType); 2] = [
    ("coredns_cache_hits", "Cache hits", |shard| &shard.hits),
    ("coredns_cache_evictions", "Entries evicted", |shard| &shard.evictions),
];

impl Families<'_, '_> {
    pub(super) fn caches(&mut self, caches: &[Arc<CacheMetrics>]) -> fmt::Result {
        for (name, help, number) in COUNTERS {
            let sample = |cache: &Arc<CacheMetrics>| (labels(cache, None), cache.total(number));
            let samples: Vec<_> = caches.iter().map(sample).collect();
            self.counters(name, help, &samples)?;
        }
        for (name, help, number) in COUNTERS_BY_TYPE {
            self.counters(name, help, &by_type(caches, number))?;
        }
        let entries = by_type(caches, |shard| &shard.entries);
        let entries: Vec<_> =
            entries.into_iter().map(|(labels, count)| (labels, count as f64)).collect();
        self.gauges("coredns_cache_entries", "Entries in the caches of all shards", &entries)
    }
}

fn by_type(caches: &[Arc<CacheMetrics>], number: NumberByType) -> Vec<(Labels<'static>, u64)> {
    let samples = caches.iter().flat_map(|cache| {
        TYPES.map(|(entry_type, name)| {
            let total = cache.total(|shard| &number(shard)[entry_type as usize]);
            (labels(cache, Some(name)), total)
        })
    });
    samples.collect()
}

fn labels(cache: &CacheMetrics, entry_type: Option<&'static str>) -> Labels<'static> {
    let LabelSet { server, view, .. } = &cache.block;
    let entry_type = entry_type.map(|name| ("type", name.into()));
    [("server", server.clone().into())]
        .into_iter()
        .chain(entry_type)
        .chain([("view", view.clone().into()), ("zones", cache.zones.clone().into())])
        .collect()
}
