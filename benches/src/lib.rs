//! Shared by the benchmarks and the instruction count: the Corefiles that are measured, a table of
//! a cluster's names, and queries of every kind.
//!
//! Nothing is measured here. Invariant: every run has the same names, hashes and bytes, so that
//! figures can be compared.
#![forbid(unsafe_code)]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use domain::base::Name as DomainName;
use engine::answer::exit::Made;
use engine::answer::glance::{at_a_glance, look};
use engine::answer::{Scratch, Sources, Verdict, in_full};
use engine::cache::{Cache, CacheKey, Times};
use engine::client::{Arrival, Family, ListenerId, Transport};
use engine::config;
use engine::corefile::Surroundings;
use engine::metrics::{Build, Metrics, ShardMetrics};
use engine::plan::Plan;
use engine::plan::draft::PlanDraft;
use engine::plugin::draft::TableSource;
use engine::plugin::exchange::{NameTexts, Trail};
use engine::plugin::hosts::table::HostsTable;
use engine::plugin::pattern::BlockPatterns;
use engine::plugin::view::program::TextBuffer;
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::header::{CLASS_IN, HEADER_LEN, TYPE_A, TYPE_SRV};
use wire::name::Name;
use wire::pod::PodMode;
use wire::reply::UDP_LEN_MAX;
use wire::response::{self, Asked, UpstreamPacket};
use wire::table::Table;

pub const TYPE_PTR: u16 = 12;
pub const NAMESPACE_COUNT: usize = 20;
/// Services of the table that is queried.
pub const SERVICE_COUNT: usize = 1000;
/// Addresses of the Service whose A response exceeds a datagram of 512 bytes.
const BIG_COUNT: u8 = 60;
const TTL_SECS: u32 = 30;
const ZONES: [&str; 2] = ["cluster.local", "in-addr.arpa"];

/// A Corefile whose answers are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corefile {
    /// kubeadm's, without what needs a socket.
    Stock,
    K3s,
    Gardener,
    /// NodeLocal DNSCache's, whose cache has every answer.
    NodeLocal,
}

impl Corefile {
    pub const ALL: [Self; 4] = [Self::Stock, Self::K3s, Self::Gardener, Self::NodeLocal];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::K3s => "k3s",
            Self::Gardener => "gardener",
            Self::NodeLocal => "nodelocal",
        }
    }

    /// No line names a file or a host.
    fn text(self) -> String {
        match self {
            Self::Stock => stock(""),
            Self::K3s => stock(K3S_LINES),
            Self::Gardener => stock(GARDENER_LINES),
            Self::NodeLocal => NODE_LOCAL.replace("/etc/resolv.conf", "192.0.2.53"),
        }
    }
}

/// What Gardener has beside the stock Corefile: names that clients completed with their search
/// paths are asked as they were meant.
const GARDENER_LINES: &str = r"
    rewrite stop {
        name regex (^(?:[^\.]+\.)+)svc\.cluster\.local\.svc\.cluster\.local {1}svc.cluster.local
        answer name (^(?:[^\.]+\.)+)svc\.cluster\.local {1}svc.cluster.local.svc.cluster.local
        answer value (^(?:[^\.]+\.)+)svc\.cluster\.local {1}svc.cluster.local.svc.cluster.local
    }
    rewrite stop {
        name regex (.*)\.github\.com\.svc\.cluster\.local {1}.github.com
        answer name (.*)\.github\.com {1}.github.com.svc.cluster.local
        answer value (.*)\.github\.com {1}.github.com.svc.cluster.local
    }";

/// What k3s has beside the stock Corefile: the nodes' names, asked before the cluster.
const K3S_LINES: &str = "
            hosts /etc/coredns/NodeHosts {
                192.0.2.1 server-0
                192.0.2.2 agent-0
                192.0.2.3 agent-1
                ttl 60
                reload 15s
                fallthrough
            }";

/// The Corefile of NodeLocal DNSCache.
const NODE_LOCAL: &str = include_str!("../../engine/tests/corefile/defaults/nodelocal.Corefile");

/// Of all tables and caches.
const SEED: HashSeed = HashSeed::new(7);

/// Everything that a shard answers from.
pub struct Cluster {
    sources: Sources,
    cluster: Arc<Table>,
    arrival: Arrival,
    name: Name,
    trail: Trail,
    patterns: Vec<BlockPatterns>,
    texts: Box<NameTexts>,
    metrics: Arc<ShardMetrics>,
    caches: Vec<Cache>,
    view_texts: TextBuffer,
    message: [u8; UDP_LEN_MAX as usize],
}

/// A kind of query. `check` validates its response, without which a measurement means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AHit,
    NoData,
    SearchPath,
    HeadlessSrv,
    Pod,
    Ptr,
    Truncated,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::AHit,
        Self::NoData,
        Self::SearchPath,
        Self::HeadlessSrv,
        Self::Pod,
        Self::Ptr,
        Self::Truncated,
    ];

    /// The query of this kind for the Service with this index.
    #[must_use]
    pub fn query(self, index: usize) -> Vec<u8> {
        let index = index % SERVICE_COUNT;
        let namespace = namespace(index);
        let service = format!("{}.{namespace}.svc.cluster.local", service(index));
        match self {
            Self::AHit => query(&service, TYPE_A),
            Self::NoData => query(&service, TYPE_PTR),
            Self::SearchPath => {
                query(&format!("api{index}.example.com.{namespace}.svc.cluster.local"), TYPE_A)
            }
            Self::HeadlessSrv => {
                query(&format!("_http._tcp.headless.{namespace}.svc.cluster.local"), TYPE_SRV)
            }
            Self::Pod => {
                let [a, b, c, d] = address(index);
                query(&format!("{a}-{b}-{c}-{d}.{namespace}.pod.cluster.local"), TYPE_A)
            }
            Self::Ptr => query(&reverse(index), TYPE_PTR),
            Self::Truncated => query(&format!("big.{namespace}.svc.cluster.local"), TYPE_A),
        }
    }

    /// Panics if a response is not of this kind.
    pub fn check(self, response: &[u8]) {
        let rcode = response[3] & 15;
        let is_truncated = response[2] & 2 != 0;
        let answers = u16::from_be_bytes([response[6], response[7]]);
        let expected = match self {
            Self::AHit | Self::Pod | Self::Ptr => (0, false, 1),
            Self::NoData => (0, false, 0),
            Self::SearchPath => (3, false, 0),
            Self::HeadlessSrv => (0, false, 3),
            // Truncated at 512 bytes, with as many records as fit.
            Self::Truncated => (0, true, answers.max(1)),
        };
        assert_eq!((rcode, is_truncated, answers), expected, "{self:?}: {response:?}");
    }
}

impl Cluster {
    /// The cluster behind a server with this Corefile.
    #[must_use]
    pub fn new(corefile: Corefile) -> Self {
        let mut names = builder();
        for entry in entries(SERVICE_COUNT) {
            names.insert(&entry);
        }
        let plan = plan(corefile, &Metrics::new(Build::default(), 1));
        let cluster = names.publish(1);
        let mut sources = Sources::new(0);
        for (slot, source) in sources.tables.iter_mut().zip(&plan.tables) {
            *slot = match source.as_ref().map(|table| &*table.source) {
                Some(TableSource::Kubernetes(..)) => Some(Arc::clone(&cluster)),
                // The names are the same in every table of a cluster.
                Some(TableSource::KubernetesExternal(_)) => Some(builder().publish(1)),
                Some(TableSource::Hosts(settings)) => {
                    HostsTable::new(settings, SEED).update(&settings.inline)
                }
                // A zone file would be read.
                Some(TableSource::Zones(_) | TableSource::ZoneFolder(_)) | None => None,
            };
        }
        let patterns = plan.blocks.iter().map(|block| BlockPatterns::new(&block.patterns));
        let caches = plan.caches.iter().map(|cache| Cache::new(&cache.settings, 7));
        let mut server = Self {
            patterns: patterns.collect(),
            caches: caches.collect(),
            texts: Box::default(),
            sources: Sources { plan: Arc::new(plan), ..sources },
            cluster,
            arrival: Arrival {
                listener: ListenerId(0),
                transport: Transport::Udp,
                family: Family::V4,
                len: 0,
                now: Instant::now(),
                inside: None,
            },
            name: Name::default(),
            trail: Trail::default(),
            metrics: Arc::default(),
            view_texts: TextBuffer::default(),
            message: [0; UDP_LEN_MAX as usize],
        };
        if corefile == Corefile::NodeLocal {
            server.fill_caches();
        }
        server
    }

    /// Caches what the cluster's DNS answers to every `Kind::AHit`.
    fn fill_caches(&mut self) {
        let mut upstream = Self::new(Corefile::Stock);
        for index in 0..SERVICE_COUNT {
            let query = Kind::AHit.query(index);
            let name = Name::from_wire(&query[HEADER_LEN..]).expect("a name");
            let (name, qtype, qclass) = (name.bytes(), TYPE_A, CLASS_IN);
            let id = u16::from_be_bytes([query[0], query[1]]);
            let asked = Asked { id, name, qtype, qclass, case_must_match: false };
            let UpstreamPacket::Answer(response) = response::read(upstream.answer(&query), &asked)
            else {
                panic!("the cluster's DNS answers");
            };
            let key = CacheKey { name, qtype, qclass, dnssec_ok: false, checking_disabled: false };
            // The caches share nothing, and the others are not asked for these names.
            for cache in &mut self.caches {
                cache.learn(&key, &Arc::new(response.clone()), Times::at_once(self.arrival.now, 0));
            }
        }
    }

    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.cluster
    }

    /// Answers a packet as if it had arrived over UDP.
    pub fn answer(&mut self, packet: &[u8]) -> &[u8] {
        self.receive(packet);
        let len = self.answer_received();
        &self.message[..len]
    }

    /// The kernel's part: copies the packet into the buffer.
    pub fn receive(&mut self, packet: &[u8]) {
        self.arrival.len = packet.len();
        self.message[..packet.len()].copy_from_slice(packet);
    }

    /// The shard's part: writes the response over the packet, whose id and question must be those
    /// received. Returns the response's length; 0 for none.
    #[inline(never)] // Callgrind counts from entry to exit.
    pub fn answer_received(&mut self) -> usize {
        self.sources.rotation = self.sources.rotation.wrapping_add(1);
        let sources = &self.sources;
        let (arrival, name, message) = (&self.arrival, &mut self.name, &mut self.message);
        let looked = look(sources, arrival.listener, &message[..arrival.len], name);
        let made = looked
            .as_ref()
            .map_err(|glance| *glance)
            .and_then(|looked| at_a_glance(sources, arrival, looked, name, message));
        let glance = match made {
            Ok(made) => return made.len,
            Err(glance) => glance,
        };
        let mut scratch = Scratch {
            caches: &mut self.caches,
            patterns: &self.patterns,
            texts: &mut self.texts,
            trail: &mut self.trail,
            metrics: &self.metrics,
            view_texts: &mut self.view_texts,
        };
        match in_full(sources, &mut scratch, arrival, glance, name, message) {
            Verdict::Reply(Made { len, .. }) => len,
            // No query here needs an upstream.
            Verdict::ReplyAndRefresh(..)
            | Verdict::Ask(_)
            | Verdict::Pursue(_)
            | Verdict::Drop(_)
            | Verdict::Ignore => 0,
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new(Corefile::Stock)
    }
}

/// The stock Corefile with these lines beside its own.
fn stock(lines: &str) -> String {
    format!(
        ".:53 {{
            errors
            prometheus
            loadbalance
            kubernetes cluster.local in-addr.arpa {{
                manifests none
                fallthrough in-addr.arpa
            }}
            {lines}
        }}"
    )
}

/// The plan of a Corefile. `metrics`: where its queries are counted.
#[must_use]
pub fn plan(corefile: Corefile, metrics: &Metrics) -> Plan {
    let surroundings = Surroundings::empty();
    let config = config::parse("Corefile", &corefile.text(), &surroundings).expect("no mistakes");
    let before = Plan::default();
    let drafting = pin!(PlanDraft::new(&config, &before, &[], metrics));
    match drafting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(draft) => draft.expect("lines that can be put to work").into_plan(metrics),
        Poll::Pending => panic!("a line waits for a file or a host"),
    }
}

/// A builder for an empty table that counts as synced.
#[must_use]
pub fn builder() -> TableBuilder {
    let zones = ZONES.map(wire_name).to_vec();
    let options = TableOptions::kubernetes(zones, PodMode::Insecure, TTL_SECS);
    let mut builder = TableBuilder::new(options, SEED);
    builder.set_synced();
    builder
}

/// The entries of a cluster with this many Services, plus a headless and a big one per namespace.
#[must_use]
pub fn entries(service_count: usize) -> Vec<Vec<u8>> {
    let mut writer = EntryWriter::new();
    let mut entries = Vec::with_capacity(2 * service_count);
    for index in 0..service_count {
        entries.push(service_entry(&mut writer, index));
        let pointer = wire_name(&reverse(index));
        writer.begin(&pointer);
        writer.answer(TYPE_PTR);
        let target =
            wire_name(&format!("{}.{}.svc.cluster.local", service(index), namespace(index)));
        writer.record(Section::Answer, &pointer, TYPE_PTR, TTL_SECS, &target);
        entries.push(writer.finish().to_vec());
    }
    for namespace in (0..NAMESPACE_COUNT).map(namespace) {
        for name in ["svc", "pod"] {
            writer.begin(&wire_name(&format!("{namespace}.{name}.cluster.local")));
            entries.push(writer.finish().to_vec());
        }
        let big = wire_name(&format!("big.{namespace}.svc.cluster.local"));
        writer.begin(&big);
        writer.answer(TYPE_A);
        for host in 0..BIG_COUNT {
            writer.record(Section::Answer, &big, TYPE_A, TTL_SECS, &[10, 98, 0, host]);
        }
        entries.push(writer.finish().to_vec());
        entries.push(headless_ports(&mut writer, &namespace));
    }
    writer.begin(&wire_name("svc.cluster.local"));
    entries.push(writer.finish().to_vec());
    entries
}

/// The entry of a ClusterIP Service, which a change replaces.
pub fn service_entry(writer: &mut EntryWriter, index: usize) -> Vec<u8> {
    let owner = wire_name(&format!("{}.{}.svc.cluster.local", service(index), namespace(index)));
    writer.begin(&owner);
    writer.answer(TYPE_A);
    writer.record(Section::Answer, &owner, TYPE_A, TTL_SECS, &address(index));
    writer.finish().to_vec()
}

/// The `_http._tcp` entry of a headless Service with three endpoints: SRV records and addresses.
fn headless_ports(writer: &mut EntryWriter, namespace: &str) -> Vec<u8> {
    let targets = [1u8, 2, 3].map(|host| {
        (wire_name(&format!("pod-{host}.headless.{namespace}.svc.cluster.local")), host)
    });
    let owner = wire_name(&format!("_http._tcp.headless.{namespace}.svc.cluster.local"));
    writer.begin(&owner);
    writer.answer(TYPE_SRV);
    for (target, _) in &targets {
        let mut rdata = vec![0, 0, 0, 33, 0, 80];
        rdata.extend(target);
        writer.record(Section::Answer, &owner, TYPE_SRV, TTL_SECS, &rdata);
    }
    for (target, host) in &targets {
        writer.record(Section::Additional, target, TYPE_A, TTL_SECS, &[10, 244, 0, *host]);
    }
    writer.finish().to_vec()
}

/// The only builder of queries: one question of class IN, RD set, no EDNS.
#[must_use]
pub fn query(name: &str, qtype: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(wire_name(name));
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().expect("a name").as_slice().to_vec()
}

fn namespace(index: usize) -> String {
    format!("ns{}", index % NAMESPACE_COUNT)
}

fn service(index: usize) -> String {
    format!("svc{index}")
}

fn address(index: usize) -> [u8; 4] {
    let [high, low] = (index as u16).to_be_bytes();
    [10, 96, high, low]
}

fn reverse(index: usize) -> String {
    let [a, b, c, d] = address(index);
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}
