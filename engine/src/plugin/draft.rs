//! The combined lines of one server block, before a plan assigns slots to its tables, caches and
//! upstreams.
//!
//! Invariant: a draft is complete or discarded; a running server never uses part of one.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use regex::bytes::Regex;

use super::ServerBlock;
use super::auto::ZoneFolder;
use super::exchange::CounterSlot;
use super::file::FileZone;
use super::finish::Finish;
use super::gate::Gate;
use super::hosts::HostsSettings;
use super::https::Https;
use super::k8s_external::ExternalSettings;
use super::kubernetes::Kubernetes;
use super::no_aaaa::AaaaDenial;
use super::pattern::PatternSlot;
use super::timeouts::Timeouts;
use super::tls::config::ServerTls;
use super::view::ViewFilter;
use crate::cache::settings::CacheSettings;
use crate::corefile::Place;
use crate::corefile::value::zone::{REVERSE_ZONES, Zone};
use crate::forward::ForwardSettings;
use crate::metrics::answerer::Answerer;
use crate::metrics::{CacheMetrics, Metrics, PluginCounter};

/// One server block. Each plugin adds its part. Sources are asked in the order of `own` and then of
/// `forwards`.
#[derive(Default)]
pub struct BlockDraft {
    /// In the order in which they see a query.
    pub gates: Vec<Gate>,
    /// Local sources, asked before the cache and never cached.
    pub own: Vec<OwnDraft>,
    /// `no_aaaa`: names without IPv6 addresses.
    pub no_aaaa: Option<Arc<AaaaDenial>>,
    pub cache: Option<CacheDraft>,
    pub forwards: Vec<ForwardDraft>,
    /// Asked for names that no `forward` takes.
    pub last: Vec<Gate>,
    /// The regular expressions of the block's gates, by `PatternSlot`.
    pub patterns: Vec<Regex>,
    /// The counters of the block's plugins, by `CounterSlot`.
    pub counters: Vec<PluginCounter>,
    /// In CoreDNS's order; they run in reverse.
    pub finishes: Vec<Finish>,
    /// Whether the addresses in answers are rotated.
    pub rotates: bool,
    /// Whether the block's queries are counted.
    pub is_counted: bool,
    /// Whether the block's failures are logged.
    pub is_logged: bool,
    /// For the TCP connections to the block's addresses.
    pub timeouts: Option<Timeouts>,
    /// The queries that the block takes; `None`: all.
    pub view: Option<Arc<ViewFilter>>,
    /// For the block's `tls://` and `https://` addresses.
    pub tls: Option<Arc<ServerTls>>,
    /// For the connections to its `https://` addresses.
    pub https: Option<Https>,
    /// `loop fatal`
    pub ends_at_loop: bool,
    /// For the log: what is unusual about the files and hosts that the lines name.
    pub warnings: Vec<String>,
}

impl BlockDraft {
    /// Adds a regular expression that a gate of the block searches with.
    pub fn pattern(&mut self, regex: Regex) -> PatternSlot {
        self.patterns.push(regex);
        PatternSlot(self.patterns.len() - 1)
    }

    /// Adds a counter of a plugin of the block.
    pub fn counter(&mut self, counter: PluginCounter) -> CounterSlot {
        self.counters.push(counter);
        CounterSlot(self.counters.len() - 1)
    }
}

/// A local source.
pub enum OwnDraft {
    Table(TableDraft),
    /// It makes its answers itself.
    Gate(Gate),
}

/// A local source whose names are in a table.
pub struct TableDraft {
    pub source: TableSource,
    /// The plugin that has the table.
    pub answerer: Answerer,
    /// See `plan::OwnTable`.
    pub is_authority: bool,
    /// See `plan::OwnTable`.
    pub passes_unsupported: bool,
    /// See `plan::OwnTable`.
    pub refused: Vec<Zone>,
    /// A query for a name under these zones that the table lacks goes to the next plugin.
    pub fallthrough: Vec<Zone>,
    /// The line of the Corefile that configures it.
    pub place: Place,
}

/// What a table is built from. Equal sources make the same table, so a reload keeps it.
#[derive(Clone, Debug, PartialEq)]
pub enum TableSource {
    Kubernetes(Box<ClusterSource>),
    /// External zones of the block's cluster.
    KubernetesExternal(Box<ExternalSettings>),
    /// A hosts file, and entries in the Corefile.
    Hosts(Box<HostsSettings>),
    /// Zone files.
    Zones(Vec<FileZone>),
    /// Zone files that are found in a folder.
    ZoneFolder(Box<ZoneFolder>),
}

impl TableSource {
    /// Whether the cluster of its block feeds the table, and not a source of its own.
    #[must_use]
    pub const fn is_fed_by_cluster(&self) -> bool {
        match self {
            Self::KubernetesExternal(_) => true,
            Self::Kubernetes(_) | Self::Hosts(_) | Self::Zones(_) | Self::ZoneFolder(_) => false,
        }
    }

    /// The zones of the names that a table of this source may answer.
    #[must_use]
    pub fn zones(&self) -> Vec<Zone> {
        match self {
            Self::Kubernetes(cluster) => cluster.kubernetes.zones.clone(),
            Self::KubernetesExternal(external) => external.zones.clone(),
            Self::Hosts(hosts) => {
                let reverse = REVERSE_ZONES.iter().filter(|_| !hosts.no_reverse);
                let reverse = reverse.filter_map(|zone| Zone::from_name(zone).ok());
                hosts.zones.iter().cloned().chain(reverse).collect()
            }
            Self::Zones(files) => files.iter().map(|file| file.zone.clone()).collect(),
            Self::ZoneFolder(folder) => folder.zones.clone(),
        }
    }
}

/// A cluster, and what else its block needs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSource {
    /// Without what does not change the table.
    pub kubernetes: Kubernetes,
    /// The addresses by which the cluster may know this server.
    pub server_addresses: Vec<IpAddr>,
    /// The namespace of each client is needed, by its address.
    pub indexes_pods: bool,
}

/// One `cache` line and its counters.
pub struct CacheDraft {
    pub settings: CacheSettings,
    pub metrics: Arc<CacheMetrics>,
}

/// One `forward` line, with the files and hosts that it names loaded.
pub struct ForwardDraft {
    pub settings: ForwardSettings,
    /// `loop` probes the upstreams after each reload, so they are always created anew.
    pub is_probed: bool,
}

/// What a plugin may use while it loads the files and hosts of its line.
pub struct LoadContext<'a> {
    pub block: &'a ServerBlock,
    pub metrics: &'a Metrics,
}

/// When loading ends: files and host names may take time.
pub type Loading<'a> = Pin<Box<dyn Future<Output = Result<(), LoadError>> + 'a>>;

/// Why a line cannot be loaded.
#[derive(Debug)]
pub struct LoadError {
    pub place: Place,
    pub problem: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl Error for LoadError {}
