//! Questions about a Corefile, made from its words: names that its blocks, its lines and its
//! patterns match, names that they nearly match, and the cluster's. The same file gives the same
//! questions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use domain::base::Name;
use domain::base::iana::{Class, Rtype};
use fastrand::Rng;
use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Value, json};

use crate::ask::Transport;
use crate::corefile_words::{Block, CorefileWords};
use crate::query::{Edns, Query};
use crate::question::Question;
use crate::{machine, questions, reverse};

/// Most questions for one server block.
const BLOCK_COUNT_MAX: usize = 240;

/// Questions about the cluster among them.
const CLUSTER_COUNT: usize = 70;

/// The types that names are queried for in turn, besides A and AAAA.
const MORE_RTYPES: [Rtype; 8] = [
    Rtype::TXT,
    Rtype::MX,
    Rtype::SRV,
    Rtype::SOA,
    Rtype::NS,
    Rtype::ANY,
    Rtype::HTTPS,
    Rtype::PTR,
];

/// Names that every block is asked for.
const ALWAYS: [&str; 9] = [
    ".",
    "www.example.org.",
    "alias.example.org.",
    "nothing.example.org.",
    "override.example.",
    "www.server.example.",
    "localhost.",
    "node-1.",
    "www.hosts.example.",
];

/// Names of the class CH (RFC 4892, and what BIND has besides).
const CHAOS: [&str; 5] =
    ["version.bind.", "version.server.", "authors.bind.", "hostname.bind.", "id.server."];

/// One query, where to send it, and how.
pub struct Asked {
    pub to: SocketAddr,
    pub query: Query,
    pub transport: Transport,
}

/// The questions for each block of a Corefile that can be asked.
pub fn make(words: &CorefileWords, objects: &[Value]) -> Vec<(usize, Vec<Asked>)> {
    let mut seen = BTreeMap::new();
    let blocks = words.blocks.iter().enumerate();
    blocks
        .filter_map(|(index, block)| {
            let (transport, to) = (block.transport?, block.address()?);
            let seen = seen.entry(to).or_default();
            let queries = of_block(block, objects, seen).into_iter().enumerate();
            let asked = queries.map(|(index, query)| {
                let is_over_tcp = transport == Transport::UdpThenTcp && index % 7 == 6;
                let transport = if is_over_tcp { Transport::Tcp } else { transport };
                Asked { to, query: vary(query, index), transport }
            });
            Some((index, asked.collect()))
        })
        .collect()
}

/// Most clients send no EDNS, some do, few set DO.
fn vary(query: Query, index: usize) -> Query {
    let edns = |dnssec_ok| Some(Edns { udp_len: 1232, dnssec_ok });
    match index % 5 {
        3 => Query { edns: edns(false), ..query },
        4 if index % 10 == 9 => Query { edns: edns(true), ..query },
        _ => query,
    }
}

fn of_block(block: &Block, objects: &[Value], seen: &mut AskedBefore) -> Vec<Query> {
    let mut list = QueryList { seen, queries: Vec::new(), turn: 0 };
    if block.has("chaos") {
        for name in CHAOS {
            list.ask_class(name, Rtype::TXT, Class::CH);
        }
        list.ask_class(CHAOS[0], Rtype::A, Class::CH);
    }
    for (zone, _) in &block.keys {
        list.zone(zone);
    }
    for pattern in block.patterns() {
        for name in matching(&pattern) {
            list.name(&name);
            list.name(&format!("x.{name}"));
            list.ask(&format!("{name}example."), Rtype::A);
            if let Some((_, above)) = name.split_once('.') {
                list.ask(above, Rtype::A);
            }
        }
    }
    for name in block.names() {
        list.name(&name);
        list.ask(&format!("www.{name}"), Rtype::A);
        list.ask(&format!("a.b.{name}"), Rtype::A);
        list.ask(&format!("x{name}"), Rtype::A);
    }
    for address in block.hosts() {
        list.ask(&reverse::name(address), Rtype::PTR);
    }
    list.cluster(&block.cluster_zones(), objects);
    for name in ALWAYS {
        list.name(name);
    }
    for address in ["127.0.0.1", "192.0.2.80", "192.0.2.1", "10.96.0.1", "fd00::1"] {
        let address: IpAddr = address.parse().expect("an address");
        list.ask(&reverse::name(address), Rtype::PTR);
    }
    list.queries.truncate(BLOCK_COUNT_MAX);
    list.queries
}

/// What an address was asked already.
type AskedBefore = BTreeSet<(String, Rtype)>;

struct QueryList<'a> {
    seen: &'a mut AskedBefore,
    queries: Vec<Query>,
    /// Whose turn it is among the further types.
    turn: usize,
}

impl QueryList<'_> {
    fn ask(&mut self, name: &str, rtype: Rtype) {
        self.ask_class(name, rtype, Class::IN);
    }

    fn ask_class(&mut self, name: &str, rtype: Rtype, class: Class) {
        // A second query would get an answer that has aged.
        let is_new = self.seen.insert((name.to_ascii_lowercase(), rtype));
        if is_new && name.parse::<Name<Vec<u8>>>().is_ok() {
            let query = Query::plain(Question::new(name, rtype));
            self.queries.push(Query { class, ..query });
        }
    }

    /// A, AAAA, and one other type.
    fn name(&mut self, name: &str) {
        self.ask(name, Rtype::A);
        self.ask(name, Rtype::AAAA);
        self.turn += 1;
        self.ask(name, MORE_RTYPES[self.turn % MORE_RTYPES.len()]);
    }

    fn zone(&mut self, zone: &str) {
        let below = if zone == "." { "" } else { zone };
        for rtype in [Rtype::SOA, Rtype::NS, Rtype::A, Rtype::MX] {
            self.ask(zone, rtype);
        }
        for label in ["www", "alias", "nothing", "a.wild", "x.sub"] {
            self.name(&format!("{label}.{below}"));
        }
        self.ask(&format!("text.{below}"), Rtype::TXT);
        self.ask(&format!("_http._tcp.{below}"), Rtype::SRV);
    }

    fn cluster(&mut self, zones: &[String], objects: &[Value]) {
        let Some(zone) = zones.iter().find(|zone| !zone.ends_with("arpa.")) else { return };
        let words: Vec<String> =
            zones.iter().map(|zone| zone.trim_end_matches('.').into()).collect();
        for zone in zones {
            self.ask(zone, Rtype::NS);
            self.ask(zone, Rtype::SOA);
        }
        let mut rng = Rng::with_seed(53);
        for question in questions::make(objects, &words, &mut rng, CLUSTER_COUNT) {
            self.ask(&question.name, question.rtype);
        }
        // What a pod of `default` asks for www.example.org, and for a short name.
        let zone = if zone == "." { "" } else { zone };
        for name in ["www.example.org", "kubernetes", "kubernetes.default"] {
            for search in ["default.svc.", "svc.", ""] {
                self.ask(&format!("{name}.{search}{zone}"), Rtype::A);
                self.ask(&format!("{name}.{search}{zone}"), Rtype::AAAA);
            }
        }
    }
}

/// The pod that asks, in the namespace `default`: `autopath` follows its search path.
fn client() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "client", "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "image": "none.invalid/none" }] },
        "status": {
            "phase": "Running",
            "podIP": machine::ADDRESS,
            "podIPs": [{ "ip": machine::ADDRESS }],
        },
    })
}

/// The client, and Services for all names `NAME.NAMESPACE.svc.cluster.local` of the Corefiles, and
/// for the samples of their patterns.
pub fn objects(all: &[CorefileWords]) -> Vec<Value> {
    let blocks = all.iter().flat_map(|words| &words.blocks);
    let names = blocks.flat_map(Block::names);
    let pairs = names.filter_map(|name| {
        let (name, namespace) = name.strip_suffix(".svc.cluster.local.")?.split_once('.')?;
        Some((name.to_owned(), namespace.to_owned()))
    });
    let mut pairs: BTreeSet<(String, String)> = pairs.collect();
    pairs.retain(|(_, namespace)| !namespace.contains('.'));
    for namespace in ["a", "default", "dev"] {
        pairs.insert(("a".to_owned(), namespace.to_owned()));
    }
    let namespaces: BTreeSet<&String> = pairs.iter().map(|(_, namespace)| namespace).collect();
    let namespaces = namespaces.into_iter().map(
        |name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
    );
    let services = pairs.iter().map(|(name, namespace)| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
        })
    });
    namespaces.chain(services).chain([client()]).collect()
}

/// Names that a pattern matches: once with as few repetitions as possible, once with one more.
fn matching(pattern: &str) -> Vec<String> {
    let Ok(hir) = regex_syntax::parse(pattern) else { return Vec::new() };
    let mut names: Vec<String> = [0, 1].map(|more| sample(&hir, more)).to_vec();
    for name in &mut names {
        if !name.ends_with('.') {
            name.push('.');
        }
    }
    names.dedup();
    names.retain(|name| !name.starts_with('.'));
    names
}

fn sample(hir: &Hir, more: u32) -> String {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => String::new(),
        HirKind::Literal(literal) => String::from_utf8_lossy(&literal.0).into_owned(),
        // `a` if it may be; otherwise whatever comes first.
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            let is_a = class.iter().any(|range| range.start() <= 'a' && 'a' <= range.end());
            let first = class.iter().next().map(|range| range.start());
            if is_a { "a".to_owned() } else { first.map(String::from).unwrap_or_default() }
        }
        HirKind::Class(regex_syntax::hir::Class::Bytes(_)) => "a".to_owned(),
        HirKind::Repetition(repetition) => {
            let least = if repetition.max == Some(1) { 0 } else { repetition.min.max(1) };
            let most = repetition.max.unwrap_or(u32::MAX);
            sample(&repetition.sub, more).repeat((least + more).min(most) as usize)
        }
        HirKind::Capture(capture) => sample(&capture.sub, more),
        HirKind::Concat(all) => all.iter().map(|hir| sample(hir, more)).collect(),
        HirKind::Alternation(all) => sample(&all[more as usize % all.len()], more),
    }
}
