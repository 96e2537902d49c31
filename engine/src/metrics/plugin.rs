//! Plugins' own counters. A plugin declares a family in its own file and adds a counter to its
//! block; a plan then has one for each address and key of the block.
//!
//! Invariant: a counter's index never changes its meaning, as for label sets.

use std::fmt;

use super::families::{Families, Labels};
use super::{LabelSet, MetricsSources, lock, position};
use crate::limits::PLUGIN_COUNTERS_MAX;

/// A family of counters.
#[derive(Debug)]
pub struct CounterFamily {
    /// Without the `_total` of its series.
    pub name: &'static str,
    pub help: &'static str,
    /// The labels of the block that its counters have.
    pub block_labels: BlockLabels,
}

/// Some of the labels of `LabelSet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockLabels {
    None,
    Server,
    ServerView,
    ServerZoneView,
}

/// The values of the label `type`, as of `coredns_dns_requests_total`.
pub fn type_labels() -> impl Iterator<Item = &'static str> {
    position::qtype_labels()
}

/// The index of a type's label among them.
#[must_use]
pub fn type_label_index(qtype: u16) -> usize {
    position::qtype_row(qtype)
}

/// A counter of a plugin, before its block has an address and a key.
#[derive(Clone, Debug)]
pub struct PluginCounter {
    pub family: &'static CounterFamily,
    /// The labels that are not the block's.
    pub labels: Vec<(&'static str, String)>,
}

/// A counter as scrapes show it.
#[derive(Debug)]
pub(super) struct KnownCounter {
    family: &'static CounterFamily,
    labels: Labels<'static>,
}

impl PluginCounter {
    pub(super) fn at(&self, block: &LabelSet) -> KnownCounter {
        let own = self.labels.iter().map(|(name, value)| (*name, value.clone().into()));
        let mut labels: Labels<'static> = own.collect();
        let LabelSet { server, zone, view } = block.clone();
        match self.family.block_labels {
            BlockLabels::None => {}
            BlockLabels::Server => labels.push(("server", server.into())),
            BlockLabels::ServerView => {
                labels.extend([("server", server.into()), ("view", view.into())]);
            }
            BlockLabels::ServerZoneView => {
                let [server, zone, view] = [server, zone, view].map(Into::into);
                labels.extend([("server", server), ("view", view), ("zone", zone)]);
            }
        }
        labels.sort_unstable();
        KnownCounter { family: self.family, labels }
    }
}

impl MetricsSources {
    /// The index of this counter; `None` once `PLUGIN_COUNTERS_MAX` are in use.
    pub(super) fn plugin_counter(&self, counter: KnownCounter) -> Option<usize> {
        let mut known = lock(&self.plugin_counters);
        let is_same = |other: &KnownCounter| {
            other.family.name == counter.family.name && other.labels == counter.labels
        };
        if let Some(index) = known.iter().position(is_same) {
            return Some(index);
        }
        let index = known.len();
        (index < PLUGIN_COUNTERS_MAX).then(|| {
            known.push(counter);
            index
        })
    }
}

impl Families<'_, '_> {
    pub(super) fn plugins(&mut self, sources: &MetricsSources) -> fmt::Result {
        let known = lock(&sources.plugin_counters);
        let mut names: Vec<&str> = known.iter().map(|counter| counter.family.name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let of_family = known.iter().enumerate();
            let of_family = of_family.filter(|(_, counter)| counter.family.name == name);
            let mut help = "";
            let mut samples: Vec<(Labels<'_>, u64)> = Vec::new();
            for (index, counter) in of_family {
                help = counter.family.help;
                let count = sources.shards.iter().map(|shard| shard.plugin_count(index)).sum();
                // As in CoreDNS, a series appears with its first event.
                if count > 0 {
                    samples.push((counter.labels.clone(), count));
                }
            }
            self.counters(name, help, &samples)?;
        }
        Ok(())
    }
}
