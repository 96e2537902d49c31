//! The feed of a table: a k8s-sync thread, or a part of one, or a task that reads hosts or zone
//! files.
//!
//! Invariant: a stopped feed publishes nothing more, because another block may have its slot.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use engine::fleet::{Fleet, Forgotten};
use engine::metrics::Metrics;
use engine::plan::TableSlot;
use engine::plan::draft::NewTable;
use engine::plugin::draft::TableSource;

use super::external::ExternalFeed;
use super::hosts::HostsFeed;
use super::sync::KubernetesFeed;
use super::zones::{ZonesFeed, ZonesReader};

/// The feed of one table.
pub(crate) enum TableFeed {
    Kubernetes(KubernetesFeed),
    External(ExternalFeed),
    Hosts(HostsFeed),
    Zones(ZonesFeed),
}

impl TableFeed {
    /// Starts the feed, whose tables go to the shards. `cluster`: the feed of the cluster that
    /// external zones belong to.
    ///
    /// # Errors
    /// A manifest cannot be read. If a hosts file or an API server cannot be read yet, the feed
    /// tries again, and everything else is served.
    pub(super) async fn start(
        new: &NewTable,
        fleet: &Fleet,
        metrics: &Arc<Metrics>,
        cluster: Option<&KubernetesFeed>,
    ) -> anyhow::Result<Self> {
        match &*new.table.source {
            TableSource::Kubernetes(cluster) => {
                let sync = KubernetesFeed::start(cluster, new.slot, fleet, metrics).await;
                Ok(Self::Kubernetes(sync.with_context(|| new.place.to_string())?))
            }
            TableSource::KubernetesExternal(settings) => {
                let cluster = cluster.context("external zones come with a cluster")?;
                let external = ExternalFeed::start(settings, new.slot, fleet, cluster);
                Ok(Self::External(external.with_context(|| new.place.to_string())?))
            }
            TableSource::Hosts(settings) => {
                Ok(Self::Hosts(HostsFeed::start(settings, new.slot, fleet.deliveries(new.slot))))
            }
            TableSource::Zones(zones) => {
                Ok(Self::of_zones(ZonesReader::listed(zones), new.slot, fleet))
            }
            TableSource::ZoneFolder(folder) => {
                Ok(Self::of_zones(ZonesReader::found_in(folder), new.slot, fleet))
            }
        }
    }

    fn of_zones(reader: ZonesReader, slot: TableSlot, fleet: &Fleet) -> Self {
        Self::Zones(ZonesFeed::start(reader, slot, fleet.deliveries(slot)))
    }

    /// Waits for the first complete table. If it does not come in time, the log says what is
    /// missing.
    ///
    /// # Errors
    /// A zone file has a mistake.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Kubernetes(sync) => {
                if !sync.settled().await {
                    let missing = sync.status.borrow().unsynced_kinds.join(", ");
                    tracing::warn!(
                        "plugin/kubernetes: starting without the cluster: not read yet: {missing}; \
                         its names are SERVFAIL until then"
                    );
                }
            }
            Self::External(external) => external.settle().await,
            Self::Hosts(hosts) => hosts.settle().await,
            Self::Zones(zones) => zones.settle().await?,
        }
        Ok(())
    }

    /// Has its files read again, unless it started after `began` and has just read them. A cluster
    /// is watched, manifests included.
    pub(super) fn reload(&self, began: Instant) {
        match self {
            Self::Kubernetes(_) | Self::External(_) => {}
            Self::Hosts(hosts) => hosts.reload(began),
            Self::Zones(zones) => zones.reload(began),
        }
    }

    pub(super) fn slot(&self) -> TableSlot {
        match self {
            Self::Kubernetes(sync) => sync.slot,
            Self::External(external) => external.slot,
            Self::Hosts(hosts) => hosts.slot(),
            Self::Zones(zones) => zones.slot(),
        }
    }

    /// Whether it has ended by itself, which is a bug.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Kubernetes(sync) => sync.is_lost(),
            Self::External(external) => external.is_lost(),
            Self::Hosts(hosts) => hosts.is_lost(),
            Self::Zones(zones) => zones.is_lost(),
        }
    }

    /// Publishes nothing more. The shards are told to forget the table after this.
    pub(super) fn close(&self) {
        match self {
            Self::Kubernetes(sync) => sync.close(),
            Self::External(external) => external.close(),
            // Its task runs on this thread: it publishes nothing before `stop` ends it.
            Self::Hosts(_) | Self::Zones(_) => {}
        }
    }

    /// Ends it, and frees its tables once no shard holds them.
    pub(super) async fn stop(self, forgotten: Forgotten) {
        match self {
            Self::Kubernetes(sync) => sync.stop(forgotten).await,
            Self::External(external) => external.stop(forgotten).await,
            Self::Hosts(hosts) => hosts.stop(forgotten).await,
            Self::Zones(zones) => zones.stop(forgotten).await,
        }
    }

    pub(super) fn kubernetes(&self) -> Option<&KubernetesFeed> {
        match self {
            Self::Kubernetes(sync) => Some(sync),
            Self::External(_) | Self::Hosts(_) | Self::Zones(_) => None,
        }
    }

    pub(super) fn hosts(&self) -> Option<&HostsFeed> {
        match self {
            Self::Kubernetes(_) | Self::External(_) | Self::Zones(_) => None,
            Self::Hosts(hosts) => Some(hosts),
        }
    }

    pub(super) fn external(&self) -> Option<&ExternalFeed> {
        match self {
            Self::External(external) => Some(external),
            Self::Kubernetes(_) | Self::Hosts(_) | Self::Zones(_) => None,
        }
    }

    pub(super) fn zones(&self) -> Option<&ZonesFeed> {
        match self {
            Self::Kubernetes(_) | Self::External(_) | Self::Hosts(_) => None,
            Self::Zones(zones) => Some(zones),
        }
    }
}
