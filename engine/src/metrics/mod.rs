//! Metrics: CoreDNS's families under CoreDNS's names, and our own as `ringdns_…`.
//!
//! ```text
//! shard threads ─→ ShardMetrics (one each, laid out by `position`) ───┐
//! control plane ─→ Facts, and a few observations ─────────────────────┴─→ families ─→ exposition
//! ```
//! Counters live as long as the process, across reloads. Invariant: a label set's index never
//! changes its meaning.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub mod answerer;
mod cache;
mod exposition;
mod families;
mod hosts;
pub mod overview;
pub mod plugin;
mod position;
mod process;
mod recent;
pub mod served;
mod shard;
mod steering;
mod table;
mod upstream;
mod zones;

use crate::client::Transport;
use crate::corefile::value::key::Scheme;
use crate::limits::{LABEL_SETS_MAX, UPSTREAM_LABELS_MAX};
pub use cache::CacheMetrics;
pub use exposition::Format;
use plugin::KnownCounter;
pub use plugin::{BlockLabels, CounterFamily, PluginCounter};
use recent::Recent;
use served::{BlockFacts, ChangeFacts, ListenerFacts, UpstreamFacts};
pub use shard::{Observation, ShardEvent, ShardMetrics};
pub use upstream::{UpstreamCounters, UpstreamEvent, UpstreamMetrics};

/// The server block that a request is counted for, in CoreDNS's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet {
    /// The address served, such as `dns://:53`.
    pub server: String,
    /// The block's zone with its final dot, or `LabelSet::DROPPED`.
    pub zone: String,
    /// Empty without the plugin `view`.
    pub view: String,
}

impl LabelSet {
    /// The zone of requests that no block serves. Without a final dot, so it is not a zone.
    pub const DROPPED: &'static str = "dropped";

    /// The labels of a block at this address, as CoreDNS spells them.
    #[must_use]
    pub fn new(address: SocketAddr, zone: &str) -> Self {
        let server = if address.ip().is_unspecified() {
            format!("dns://:{}", address.port())
        } else {
            format!("dns://{address}")
        };
        Self { server, zone: zone.to_owned(), view: String::new() }
    }

    /// The same block where queries arrive in this way.
    #[must_use]
    pub fn over(mut self, scheme: Scheme) -> Self {
        if let Some(address) = self.server.strip_prefix("dns") {
            self.server = format!("{}{address}", scheme.name());
        }
        self
    }
}

/// The build of the binary.
#[derive(Clone, Debug, Default)]
pub struct Build {
    pub version: String,
    pub revision: String,
    /// For CoreDNS's label `goversion`.
    pub compiler: String,
}

/// What the control plane knows: written when it changes, read by scrapes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// One for each plugin of each zone that has `prometheus`.
    pub plugins: Vec<EnabledPlugin>,
    /// SHA-512 of the running Corefile, in hexadecimal.
    pub corefile_sha512: Option<String>,
    /// By shard index.
    pub shards: Vec<ShardFacts>,
    /// By shard index.
    pub shard_restarts: Vec<ShardRestarts>,
    pub tables: Vec<TableFacts>,
    pub hosts: Vec<HostsFacts>,
    pub zones: Vec<Arc<ZoneFacts>>,
    pub steering: Vec<SteeringFacts>,
    /// Log lines that could not be written.
    pub log_lines_lost: u64,
    /// Queries that `log` could not log.
    pub query_lines_lost: u64,
    /// Of all threads.
    pub panics: u64,
    pub started_at: Option<SystemTime>,
    pub blocks: Vec<BlockFacts>,
    pub listeners: Vec<ListenerFacts>,
    pub upstreams: Vec<UpstreamFacts>,
    /// Newest first, at most `STATUS_CHANGES_MAX`.
    pub changes: VecDeque<ChangeFacts>,
    /// `None` without node mode.
    pub node_errors: Option<NodeErrors>,
}

/// Attempts of node mode to set up its node that failed, under the names of node-cache's
/// `errortype`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeErrors {
    pub interface_add: u64,
    pub iptables: u64,
    /// Of its Corefile.
    pub configmap: u64,
}

/// A plugin that is active in a server block.
#[derive(Clone, Debug)]
pub struct EnabledPlugin {
    pub block: LabelSet,
    pub name: &'static str,
}

/// Where a shard runs and how it reads its sockets.
#[derive(Clone, Debug)]
pub struct ShardFacts {
    /// `None` if it is not pinned.
    pub core: Option<usize>,
    /// `uring` or `mmsg`.
    pub backend: &'static str,
}

/// How often a shard got a new thread, by what the old one did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardRestarts {
    pub panics: u64,
    /// Its ring failed.
    pub ends: u64,
    pub hangs: u64,
}

/// How queries at an address find their shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeringFacts {
    pub address: SocketAddr,
    pub transport: Transport,
    /// False while the hash of the client's address and port chooses. `None` if nobody listens
    /// there any more.
    pub is_by_cpu: Option<bool>,
    /// Times that the hash took over because a shard was overloaded.
    pub fallbacks: u64,
}

/// The newest generation of a `kubernetes` block's table.
#[derive(Clone, Debug)]
pub struct TableFacts {
    pub slot: usize,
    /// The block's first zone.
    pub zone: String,
    pub generation: u64,
    pub name_count: usize,
    /// Bytes of its segments.
    pub len: usize,
    pub is_synced: bool,
    /// Every kind is synced and kept up to date.
    pub is_current: bool,
    pub published_at: Option<SystemTime>,
    /// When the API server last sent an event, a bookmark or a list, for the kind that has been
    /// silent longest.
    pub last_event_at: Option<SystemTime>,
    /// When the served state was last confirmed, for the kind that was confirmed longest ago.
    pub confirmed_at: Option<SystemTime>,
    /// Whether the API server answered the last request. `None` if the cluster comes from files.
    pub is_connected: Option<bool>,
    /// `None` without `snapshot`.
    pub snapshot: Option<SnapshotFacts>,
    /// Invalid names that were skipped since the start.
    pub refused_name_count: u64,
    /// By kind.
    pub faults: Vec<ObjectFaults>,
}

/// The snapshot file of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    pub is_served: bool,
    /// When the state in the last file that was written was confirmed.
    pub written_at: Option<SystemTime>,
    /// Attempts to write that failed.
    pub failures: u64,
}

/// A zone of `file` or `auto`, or the folder of `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFacts {
    /// The plugin.
    pub plugin: &'static str,
    /// Empty for a folder.
    pub zone: String,
    pub file: String,
    /// `None` if it has not been read yet, and of a folder.
    pub serial: Option<u32>,
    /// Why the file cannot be used at the moment.
    pub problem: Option<String>,
}

/// What a `hosts` block serves.
#[derive(Clone, Debug)]
pub struct HostsFacts {
    /// As the Corefile names it.
    pub file: String,
    /// Of the file and of the Corefile; an entry with a PTR record counts twice, as in CoreDNS.
    pub entry_count: usize,
    /// The modification time of the file when it was last read.
    pub modified: Option<SystemTime>,
    /// Why the file cannot be used at the moment.
    pub problem: Option<String>,
}

/// What was wrong with objects of one kind.
#[derive(Clone, Copy, Debug)]
pub struct ObjectFaults {
    pub kind: &'static str,
    /// Objects that are not served, counted each time that one is read.
    pub refused: u64,
    /// Faulty parts of objects that are served, likewise.
    pub odd_parts: u64,
    /// Objects of which the watch had lost a change.
    pub repaired: u64,
}

/// The kind of Service whose programming latency was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    ClusterIp,
    HeadlessWithSelector,
}

type ServiceKindLabel = [(&'static str, &'static str); 1];

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    sources: Arc<MetricsSources>,
    registry: Registry,
    health_durations: Histogram,
    health_failures: Counter,
    reload_failures: Counter,
    programming: Labelled<ServiceKindLabel, Histogram, fn() -> Histogram>,
    recent: Mutex<Recent>,
}

/// The data that a scrape sums up.
#[derive(Debug)]
struct MetricsSources {
    build: Build,
    shards: Vec<Arc<ShardMetrics>>,
    label_sets: Mutex<Vec<LabelSet>>,
    plugin_counters: Mutex<Vec<KnownCounter>>,
    upstreams: Mutex<Vec<Arc<UpstreamMetrics>>>,
    caches: Mutex<Vec<Arc<CacheMetrics>>>,
    facts: Mutex<Facts>,
}

impl Metrics {
    #[must_use]
    pub fn new(build: Build, shard_count: usize) -> Self {
        let sources = Arc::new(MetricsSources {
            build,
            shards: (0..shard_count).map(|_| Arc::default()).collect(),
            label_sets: Mutex::default(),
            plugin_counters: Mutex::default(),
            upstreams: Mutex::default(),
            caches: Mutex::default(),
            facts: Mutex::default(),
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&sources)));
        // CoreDNS's buckets: 0.25 ms × 10^n here, 1 ms × 2^n below.
        let health_durations = Histogram::new([0.000_25, 0.002_5, 0.025, 0.25, 2.5]);
        registry.register(
            "coredns_health_request_duration_seconds",
            "Duration of this server's own requests to its /health",
            health_durations.clone(),
        );
        let health_failures = Counter::default();
        registry.register(
            "coredns_health_request_failures",
            "Failed requests of this server to its own /health",
            health_failures.clone(),
        );
        let reload_failures = Counter::default();
        registry.register(
            "coredns_reload_failed",
            "Failed reloads of a changed Corefile",
            reload_failures.clone(),
        );
        let programming = Labelled::new_with_constructor(
            (|| Histogram::new((0..20).map(|n| f64::from(1_u32 << n) / 1000.0)))
                as fn() -> Histogram,
        );
        registry.register(
            "coredns_kubernetes_dns_programming_duration_seconds",
            "Time from the change of an endpoint until it is served",
            programming.clone(),
        );
        Self {
            sources,
            registry,
            health_durations,
            health_failures,
            reload_failures,
            programming,
            recent: Mutex::default(),
        }
    }

    /// The counters that this shard writes.
    #[must_use]
    pub fn shard(&self, index: usize) -> Arc<ShardMetrics> {
        Arc::clone(&self.sources.shards[index])
    }

    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.sources.shards.len()
    }

    /// The index of these labels, the same before and after a reload. `None` once `LABEL_SETS_MAX`
    /// are in use; requests are not counted then.
    #[must_use]
    pub fn label_set(&self, labels: &LabelSet) -> Option<usize> {
        let mut known = lock(&self.sources.label_sets);
        if let Some(index) = known.iter().position(|other| other == labels) {
            return Some(index);
        }
        let index = known.len();
        if index == LABEL_SETS_MAX {
            return None;
        }
        for shard in &self.sources.shards {
            shard.admit(index);
        }
        known.push(labels.clone());
        Some(index)
    }

    /// The index of a plugin's counter for a block, the same before and after a reload. `None` once
    /// `PLUGIN_COUNTERS_MAX` are in use; nothing is counted then.
    #[must_use]
    pub fn plugin_counter(&self, block: &LabelSet, counter: &PluginCounter) -> Option<usize> {
        self.sources.plugin_counter(counter.at(block))
    }

    /// The metrics of a cache, the same for the same block and zones before and after a reload.
    /// Scrapes omit caches beyond `LABEL_SETS_MAX`.
    #[must_use]
    pub fn cache(&self, block: &LabelSet, zones: &str) -> Arc<CacheMetrics> {
        let mut known = lock(&self.sources.caches);
        let is_same = |other: &&Arc<CacheMetrics>| other.block == *block && other.zones == zones;
        if let Some(cache) = known.iter().find(is_same) {
            return Arc::clone(cache);
        }
        let shard_count = self.sources.shards.len();
        let cache = Arc::new(CacheMetrics::new(block.clone(), zones.to_owned(), shard_count));
        if known.len() < LABEL_SETS_MAX {
            known.push(Arc::clone(&cache));
        }
        cache
    }

    /// The metrics of the upstream at this address, the same before and after a reload. Scrapes
    /// omit addresses beyond `UPSTREAM_LABELS_MAX`.
    #[must_use]
    pub fn upstream(&self, to: SocketAddr) -> Arc<UpstreamMetrics> {
        let mut known = lock(&self.sources.upstreams);
        if let Some(upstream) = known.iter().find(|other| other.to == to) {
            return Arc::clone(upstream);
        }
        let upstream = Arc::new(UpstreamMetrics::new(to, self.sources.shards.len()));
        if known.len() < UPSTREAM_LABELS_MAX {
            known.push(Arc::clone(&upstream));
        }
        upstream
    }

    /// The facts, for the control plane to change.
    ///
    /// # Panics
    /// Never: if a thread panics with the lock, the facts are still valid.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.sources.facts)
    }

    /// Failed responses that were not logged because the queue was full, all shards together.
    #[must_use]
    pub fn error_lines_lost(&self) -> u64 {
        self.sources.event_total(ShardEvent::ErrorLineLost)
    }

    /// Counts one request of the server to its own /health.
    pub fn health_polled(&self, duration: Duration, is_answered: bool) {
        self.health_durations.observe(duration.as_secs_f64());
        if !is_answered {
            self.health_failures.inc();
        }
    }

    pub fn reload_failed(&self) {
        self.reload_failures.inc();
    }

    /// Counts a change that the cluster timestamped and that is now served.
    pub fn programmed(&self, kind: ServiceKind, duration: Duration) {
        let kind = match kind {
            ServiceKind::ClusterIp => "cluster_ip",
            ServiceKind::HeadlessWithSelector => "headless_with_selector",
        };
        self.programming.get_or_create(&[("service_kind", kind)]).observe(duration.as_secs_f64());
    }

    /// The body of a scrape.
    #[must_use]
    pub fn scrape(&self, format: Format) -> Vec<u8> {
        exposition::write(&self.registry, format)
    }
}

/// The data is valid at every moment, so a panic elsewhere is no reason to panic here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
