//! The numbers of the status page, read from the same counters as a scrape.
//!
//! Invariant: nothing here waits for a shard.

use std::time::{Duration, Instant};

use super::position::{self, DURATION_BOUND_COUNT};
use super::recent::ShardMinute;
use super::served::UpstreamFacts;
use super::upstream::UpstreamEvent;
use super::{Build, Facts, Metrics, lock};

/// What the status page shows.
#[derive(Clone, Debug)]
pub struct Overview {
    pub build: Build,
    pub facts: Facts,
    pub shards: Vec<ShardOverview>,
    /// In the order of the Corefile.
    pub upstreams: Vec<UpstreamOverview>,
    /// Responses of blocks with `prometheus` since the start, by code and by plugin, most first.
    pub rcodes: Vec<(&'static str, u64)>,
    pub plugins: Vec<(&'static str, u64)>,
    /// Look-ups in caches, and those that found a response.
    pub cache_requests: u64,
    pub cache_hits: u64,
    /// Without a response, whatever the reason.
    pub drops: u64,
}

/// What a shard has done.
#[derive(Clone, Debug)]
pub struct ShardOverview {
    /// Since the start.
    pub answers: u64,
    pub minute: ShardMinute,
}

/// What an upstream has done since the start.
#[derive(Clone, Debug)]
pub struct UpstreamOverview {
    pub facts: UpstreamFacts,
    /// Marks of shards, summed over `forward` lines.
    pub down_count: u64,
    pub loop_count: u32,
    pub responses: u64,
    pub failures: u64,
    pub check_failures: u64,
    /// Responses by bucket of `duration_bounds`.
    pub durations: [u64; DURATION_BOUND_COUNT + 1],
}

impl Metrics {
    /// Takes the next sample of the shards' counters, if it is due.
    pub fn sample(&self, now: Instant) {
        let mut recent = lock(&self.recent);
        if recent.is_due(now) {
            let label_sets = lock(&self.sources.label_sets).len();
            recent.take(now, &self.sources.shards, label_sets);
        }
    }

    /// The numbers of now.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let facts = self.facts().clone();
        let recent = lock(&self.recent);
        let shards = self.sources.shards.iter().enumerate();
        let shards = shards.map(|(index, shard)| ShardOverview {
            answers: shard.answer_count(),
            minute: recent.shard(index),
        });
        let shards = shards.collect();
        drop(recent);
        let upstreams = facts.upstreams.iter().map(|upstream| self.upstream_overview(upstream));
        let upstreams = upstreams.collect();
        let (mut rcodes, mut plugins) = (Vec::new(), Vec::new());
        for totals in self.sources.totals() {
            for (at, [rcode, plugin]) in position::responses() {
                add(&mut rcodes, rcode, totals.cells[at]);
                add(&mut plugins, plugin, totals.cells[at]);
            }
        }
        for counts in [&mut rcodes, &mut plugins] {
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        }
        let caches = lock(&self.sources.caches).clone();
        Overview {
            build: self.sources.build.clone(),
            facts,
            shards,
            upstreams,
            rcodes,
            plugins,
            cache_requests: caches.iter().map(|cache| cache.request_count()).sum(),
            cache_hits: caches.iter().map(|cache| cache.hit_count()).sum(),
            drops: self.sources.drop_count(),
        }
    }

    fn upstream_overview(&self, facts: &UpstreamFacts) -> UpstreamOverview {
        let upstream = self.upstream(facts.address);
        let durations = upstream.durations();
        UpstreamOverview {
            facts: facts.clone(),
            down_count: upstream.down_count(),
            loop_count: upstream.loop_count(),
            responses: durations.iter().sum(),
            failures: upstream.total(UpstreamEvent::Failed),
            check_failures: upstream.total(UpstreamEvent::CheckFailed),
            durations,
        }
    }
}

fn add(counts: &mut Vec<(&'static str, u64)>, label: &'static str, count: u64) {
    match counts.iter_mut().find(|(known, _)| *known == label) {
        _ if count == 0 => {}
        Some((_, total)) => *total += count,
        None => counts.push((label, count)),
    }
}

/// The upper bound of the bucket that has this share of all responses, and whether any bucket has:
/// the last has no bound. `None` without responses.
#[must_use]
pub fn quantile(counts: &[u64], bounds: &[f64], share: f64) -> Option<QuantileBound> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = (total as f64 * share).ceil() as u64;
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    })?;
    let secs = |bound: f64| Duration::from_secs_f64(bound);
    Some(match bounds.get(bucket) {
        Some(bound) => QuantileBound::AtMost(secs(*bound)),
        None => QuantileBound::MoreThan(secs(*bounds.last()?)),
    })
}

/// What buckets say about a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantileBound {
    AtMost(Duration),
    MoreThan(Duration),
}

/// The bounds of `ShardMinute::durations`, in seconds.
#[must_use]
pub fn shard_bounds() -> [f64; DURATION_BOUND_COUNT] {
    position::fine_duration_bounds()
}

/// The bounds of `UpstreamOverview::durations`, in seconds.
#[must_use]
pub fn upstream_bounds() -> [f64; DURATION_BOUND_COUNT] {
    position::duration_bounds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let bounds = [0.001, 0.002];
        let ms = |ms| Duration::from_millis(ms);
        for (counts, share, expected) in [
            ([0, 0, 0], 0.5, None),
            ([1, 0, 0], 0.99, Some(QuantileBound::AtMost(ms(1)))),
            ([50, 50, 0], 0.5, Some(QuantileBound::AtMost(ms(1)))),
            ([50, 50, 0], 0.51, Some(QuantileBound::AtMost(ms(2)))),
            ([98, 0, 2], 0.99, Some(QuantileBound::MoreThan(ms(2)))),
        ] {
            assert_eq!(quantile(&counts, &bounds, share), expected, "{counts:?} {share}");
        }
    }
}
