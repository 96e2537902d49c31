//! Whatever the order of events, the table is that of the remaining objects.
//!
//! Each seed makes the history of a small cluster: objects are added, changed and deleted, events
//! are repeated, streams break off and list again, and the kinds overtake each other. After every
//! step a simple model knows which objects exist. Tables made from them in one go, and a pod index,
//! must give the same answers as those that were updated step by step. External zones are added at
//! some step.
//!
//! `RINGDNS_SEEDS=100000 cargo test --release -p k8s-sync --test history` tries more;
//! `RINGDNS_SEED=17` repeats one.

mod objects;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_sync::object::{Change, Event, ObjectKey};
use k8s_sync::options::{ExternalOptions, Options};
use k8s_sync::publish::{ExternalNumber, Publisher};
use wire::hash::HashSeed;
use wire::name::Name;
use wire::pod::PodMode;
use wire::pod_index::PodIndex;
use wire::table::{Found, Table};

use objects::{apply, delete, external_options, name, options};

/// SplitMix64: small and portable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

const NAMESPACES: &[&str] = &["a", "b", "hidden"];
const SERVICES: &[&str] = &["s0", "s1", "s2"];
const PORTS: &[&str] = &["http:80/tcp", "dns:53/udp", ":90/tcp", "http:81/tcp", "web:80/sctp"];
const ENDPOINTS: &[&str] = &["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.96.0.1", "fd00::1"];
const CLUSTER_IPS: &[&str] = &["10.96.0.1", "10.96.0.2", "10.96.0.3,fd00::1", "10.1.0.1"];
const EXTERNALS: &[&str] =
    &["@192.0.2.1", "@192.0.2.2", "@2001:db8::1", "@lb.example", "@10.1.0.1"];
const TARGETS: &[&str] = &[
    "s0.a.svc.one.zone",
    "s1.a.svc.one.zone",
    "s2.b.svc.one.zone",
    "s0.b.svc.two.zone",
    "h0.s1.a.svc.one.zone",
    "10-1-0-2.s0.a.svc.one.zone",
    "_http._tcp.s0.a.svc.one.zone",
    "10-1-0-1.a.pod.one.zone",
    "ns.dns.one.zone",
    "example.org",
    "192.0.2.1",
];

/// One line for a random object of this kind. The world is so small that everything collides.
fn object(random: &mut Random, kind: usize) -> String {
    let namespace = random.pick(NAMESPACES);
    match kind {
        0 => format!("ns {namespace}"),
        1 => {
            let service = random.pick(SERVICES);
            let what = match random.below(4) {
                0 | 1 => random.pick(CLUSTER_IPS).to_owned(),
                2 => "headless".to_owned(),
                _ => format!("={}", random.pick(TARGETS)),
            };
            let ports: Vec<&str> = (0..random.below(3)).map(|_| random.pick(PORTS)).collect();
            let external: Vec<&str> =
                (0..random.below(3)).map(|_| random.pick(EXTERNALS)).collect();
            format!("svc {namespace}/{service} {what} {} {}", ports.join(" "), external.join(" "))
        }
        2 => {
            let (slice, service) = (random.below(4), random.pick(SERVICES));
            let endpoints = (0..random.below(4)).map(|_| {
                let sign = ["", "+h0", "+h1", "^p0"][random.below(4)];
                format!("{}{sign}", random.pick(ENDPOINTS))
            });
            let mut endpoints: Vec<String> = endpoints.collect();
            // A slice of host names, sometimes mixed with addresses. No cluster has the latter, but
            // the answers must agree.
            if random.one_in(5) {
                let kept = if random.one_in(4) { endpoints.len() } else { 0 };
                endpoints.truncate(kept);
                let count = 1 + random.below(2);
                endpoints.extend((0..count).map(|_| format!("={}", random.pick(TARGETS))));
            }
            let port = if random.one_in(3) { "" } else { random.pick(PORTS) };
            format!("eps {namespace}/e{slice} {service} {} {port}", endpoints.join(" "))
        }
        _ => {
            let network = if random.one_in(5) { "host" } else { "" };
            let address = random.pick(&ENDPOINTS[..3]);
            format!("pod {namespace}/p{} {address} {network}", random.below(3))
        }
    }
}

fn random_options(random: &mut Random) -> Options {
    let zones: &[&[&str]] = &[
        &["one.zone", "in-addr.arpa", "ip6.arpa"],
        &["10.in-addr.arpa", "one.zone", "two.zone"],
        &["one.zone"],
    ];
    let pods = [PodMode::Disabled, PodMode::Insecure, PodMode::Verified][random.below(3)];
    let listens = ["10.1.0.1", "10.96.0.2", "192.0.2.1"][random.below(3)];
    Options {
        namespaces: if random.one_in(3) { vec!["a".into(), "b".into()] } else { vec![] },
        pods,
        indexes_pods: random.one_in(2),
        endpoint_pod_names: random.one_in(2),
        no_endpoints: random.one_in(6),
        ignore_empty_service: random.one_in(3),
        server_addresses: if random.one_in(2) { vec![listens.parse().unwrap()] } else { vec![] },
        ..options(zones[random.below(3)])
    }
}

fn random_external(random: &mut Random) -> ExternalOptions {
    let zones: &[&[&str]] =
        &[&["out.zone", "in-addr.arpa", "ip6.arpa"], &["out.zone", "b.out.zone"], &["."]];
    ExternalOptions { is_headless: random.one_in(2), ..external_options(zones[random.below(3)]) }
}

/// The simple model: the objects of one kind as a client would know them, as lines.
#[derive(Clone, Default)]
struct Known {
    objects: BTreeMap<String, String>,
    listed: Option<BTreeMap<String, String>>,
    synced: bool,
}

/// One step of a kind's stream.
#[derive(Clone, Debug)]
enum Step {
    Init,
    List(String),
    InitDone,
    Apply(String),
    Delete(String),
}

/// The identity of the object of a line.
fn identity(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

impl Known {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Init => self.listed = Some(BTreeMap::new()),
            Step::List(line) => {
                let list = self.listed.as_mut().expect("Init comes before InitApply");
                list.insert(identity(line), line.clone());
            }
            Step::InitDone => {
                self.objects = self.listed.take().expect("Init comes before InitDone");
                self.synced = true;
            }
            Step::Apply(line) => {
                self.objects.insert(identity(line), line.clone());
            }
            Step::Delete(line) => {
                self.objects.remove(&identity(line));
            }
        }
    }
}

/// The step as an event of its kind.
fn event(kind: usize, step: &Step) -> Event {
    let mark = |done: bool| match (kind, done) {
        (0, false) => Event::Namespace(Change::Init),
        (0, true) => Event::Namespace(Change::InitDone),
        (1, false) => Event::Service(Change::Init),
        (1, true) => Event::Service(Change::InitDone),
        (2, false) => Event::EndpointSlice(Change::Init),
        (2, true) => Event::EndpointSlice(Change::InitDone),
        (_, false) => Event::Pod(Change::Init),
        (_, true) => Event::Pod(Change::InitDone),
    };
    match step {
        Step::Init => mark(false),
        Step::InitDone => mark(true),
        Step::Apply(line) => apply(line),
        Step::Delete(line) => delete(line),
        Step::List(line) => match apply(line) {
            Event::Namespace(Change::Apply(one)) => Event::Namespace(Change::InitApply(one)),
            Event::Service(Change::Apply(one)) => Event::Service(Change::InitApply(one)),
            Event::EndpointSlice(Change::Apply(one)) => {
                Event::EndpointSlice(Change::InitApply(one))
            }
            Event::Pod(Change::Apply(one)) => Event::Pod(Change::InitApply(one)),
            other => panic!("not applied: {other:?}"),
        },
    }
}

/// The stream of one kind: lists, some of which break off, and changes in between, some of them
/// repeated.
fn stream(random: &mut Random, kind: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut truth: BTreeMap<String, String> = BTreeMap::new();
    let change = |random: &mut Random, truth: &mut BTreeMap<String, String>| {
        if random.one_in(3) && !truth.is_empty() {
            let key = truth.keys().nth(random.below(truth.len())).unwrap().clone();
            Step::Delete(truth.remove(&key).unwrap())
        } else {
            let line = object(random, kind);
            truth.insert(identity(&line), line.clone());
            Step::Apply(line)
        }
    };
    for _ in 0..1 + random.below(3) {
        // These changes are missed, and found by the list.
        for _ in 0..random.below(5) {
            change(random, &mut truth);
        }
        if random.one_in(4) {
            steps.push(Step::Init);
            let seen = truth.values().take(random.below(3)).cloned();
            steps.extend(seen.map(Step::List));
        }
        steps.push(Step::Init);
        steps.extend(truth.values().cloned().map(Step::List));
        steps.push(Step::InitDone);
        for _ in 0..random.below(6) {
            let step = change(random, &mut truth);
            if random.one_in(5) {
                steps.push(step.clone());
            }
            steps.push(step);
        }
    }
    steps
}

/// The streams of all kinds, interleaved. Each keeps its own order.
fn history(random: &mut Random) -> Vec<(usize, Step)> {
    let mut streams: Vec<_> =
        (0..4).map(|kind| stream(random, kind).into_iter().peekable()).collect();
    let mut mixed = Vec::new();
    while streams.iter_mut().any(|stream| stream.peek().is_some()) {
        let kind = random.below(4);
        // A kind keeps its turn for a while, so that both whole lists and single events pass.
        for _ in 0..1 + random.below(8) {
            mixed.extend(streams[kind].next().map(|step| (kind, step)));
        }
    }
    mixed
}

/// A publisher that gets only the final objects.
fn from_scratch(options: &Arc<Options>, known: &[Known; 4]) -> Publisher {
    let mut publisher = Publisher::new(Arc::clone(options), HashSeed::new(7));
    for (kind, known) in known.iter().enumerate().rev() {
        let lines = known.objects.values().rev().cloned();
        if known.synced {
            publisher.apply(event(kind, &Step::Init));
            lines.for_each(|line| publisher.apply(event(kind, &Step::List(line))));
            publisher.apply(event(kind, &Step::InitDone));
        } else {
            lines.for_each(|line| publisher.apply(event(kind, &Step::Apply(line))));
        }
    }
    publisher
}

/// A name, and the types to query.
type Questions = (Name, &'static [u16]);

const OF_ZONE: &[u16] = &[1, 28, 33, 5, 16, 12, 2, 15];
/// A, AAAA, SRV, CNAME, and MX for all types without data.
const OF_SERVICE: &[u16] = &[1, 28, 33, 5, 15];
const OF_ADDRESS: &[u16] = &[12];

/// Every possible name of this small world.
fn questions() -> Vec<Questions> {
    let (mut zones, mut services) = (Vec::new(), Vec::new());
    for zone in ["one.zone", "two.zone"] {
        let below = ["", "svc.", "pod.", "dns.", "ns.dns.", "dns-version."];
        zones.extend(below.map(|labels| format!("{labels}{zone}")));
        for namespace in NAMESPACES {
            services.extend(["svc", "pod"].map(|tree| format!("{namespace}.{tree}.{zone}")));
            for address in ["10-1-0-1", "10-1-0-2", "10-1-0-3"] {
                services.push(format!("{address}.{namespace}.pod.{zone}"));
            }
            for service in SERVICES {
                let base = format!("{service}.{namespace}.svc.{zone}");
                for below in [
                    "_tcp",
                    "_udp",
                    "_sctp",
                    "_http._tcp",
                    "_dns._udp",
                    "_web._sctp",
                    "h0",
                    "h1",
                    "p0",
                    "10-1-0-1",
                    "10-1-0-2",
                    "10-1-0-3",
                    "10-96-0-1",
                    "fd00--1",
                ] {
                    services.push(format!("{below}.{base}"));
                }
                services.push(base);
            }
        }
    }
    let v4 = ["1.0.1", "2.0.1", "3.0.1", "1.0.96", "2.0.96", "3.0.96"];
    let mut addresses = vec![format!("1.{}d.f.ip6.arpa", "0.".repeat(29))];
    addresses.extend(v4.map(|labels| format!("{labels}.10.in-addr.arpa")));
    with_types([(zones, OF_ZONE), (services, OF_SERVICE), (addresses, OF_ADDRESS)])
}

/// The same for external zones.
fn external_questions() -> Vec<Questions> {
    let (mut zones, mut services) = (Vec::new(), Vec::new());
    for zone in ["out.zone", "b.out.zone"] {
        zones.extend(["", "dns.", "ns1.dns."].map(|labels| format!("{labels}{zone}")));
        for namespace in NAMESPACES {
            services.push(format!("{namespace}.{zone}"));
            for service in SERVICES {
                let base = format!("{service}.{namespace}.{zone}");
                for below in ["_http._tcp", "_dns._udp", "h0", "p0", "10-1-0-1", "fd00--1", "x"] {
                    services.push(format!("{below}.{base}"));
                }
                services.push(base);
            }
        }
    }
    let addresses = ["1.2.0.192.in-addr.arpa", "2.2.0.192.in-addr.arpa", "1.0.1.10.in-addr.arpa"];
    let mut addresses: Vec<String> = addresses.map(str::to_owned).into();
    addresses.push(format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    with_types([(zones, OF_ZONE), (services, OF_SERVICE), (addresses, OF_ADDRESS)])
}

fn with_types(groups: [(Vec<String>, &'static [u16]); 3]) -> Vec<Questions> {
    let questions = groups
        .into_iter()
        .flat_map(|(names, types)| names.into_iter().map(move |text| (name(&text), types)));
    questions.collect()
}

/// The first question that the two tables answer differently.
fn difference(questions: &[Questions], one: &Table, other: &Table) -> Option<String> {
    assert_eq!(one.is_synced(), other.is_synced());
    for (name, types) in questions {
        if matches!(one.look_up(name, 1), Found::Outside) {
            continue;
        }
        for rtype in *types {
            let is_same = match (one.look_up(name, *rtype), other.look_up(name, *rtype)) {
                (Found::Answer(one), Found::Answer(other)) => {
                    one.body == other.body
                        && (one.answer_count(), one.additional_count())
                            == (other.answer_count(), other.additional_count())
                }
                (one, other) => std::mem::discriminant(&one) == std::mem::discriminant(&other),
            };
            if !is_same {
                let text = domain::base::Name::from_octets(name.bytes()).unwrap().to_string();
                return Some(format!("{text} type {rtype}"));
            }
        }
    }
    None
}

/// The first address whose namespace differs.
fn pod_difference(one: Option<&PodIndex>, other: Option<&PodIndex>) -> Option<String> {
    let addresses = ENDPOINTS.iter().find(|address| {
        let address = address.parse().unwrap();
        let namespace = |index: Option<&PodIndex>| {
            index.and_then(|index| index.namespace_of(address).map(<[u8]>::to_vec))
        };
        namespace(one) != namespace(other)
    });
    addresses.map(|address| format!("the namespace of {address}"))
}

/// For each table.
struct AllQuestions {
    cluster: Vec<Questions>,
    external: Vec<Questions>,
}

const EXTERNAL: ExternalNumber = ExternalNumber(1);

fn check(seed: u64, questions: &AllQuestions, every_step: bool) {
    let mut random = Random(seed);
    let options = Arc::new(random_options(&mut random));
    let external = random_external(&mut random);
    let history = history(&mut random);
    let add_external_at = random.below(history.len());
    let mut kept_up = Publisher::new(Arc::clone(&options), HashSeed::new(7));
    let mut newest = kept_up.publish(0).expect("a first table");
    let (mut newest_external, mut newest_pods) = (None, None);
    let mut known: [Known; 4] = Default::default();
    for (index, (kind, step)) in history.iter().enumerate() {
        if index == add_external_at {
            kept_up.add_external(EXTERNAL, &external);
        }
        known[*kind].take(step);
        kept_up.apply(event(*kind, step));
        let is_last = index + 1 == history.len();
        // Several events may go into one table.
        if !(every_step || is_last || random.one_in(3)) {
            continue;
        }
        if let Some(table) = kept_up.publish(1) {
            newest = table;
        }
        newest_external = kept_up.take_external(EXTERNAL).or(newest_external);
        newest_pods = kept_up.take_pod_index().or(newest_pods);
        if !(every_step || is_last) {
            continue;
        }
        let mut scratch = from_scratch(&options, &known);
        scratch.add_external(EXTERNAL, &external);
        let expected = scratch.publish(1).expect("a first table");
        let expected_external = scratch.take_external(EXTERNAL).expect("a first table");
        let expected_pods = scratch.take_pod_index();
        let of_external = newest_external
            .as_ref()
            .and_then(|newest| difference(&questions.external, newest, &expected_external));
        let differs = difference(&questions.cluster, &newest, &expected)
            .or(of_external)
            .or_else(|| pod_difference(newest_pods.as_deref(), expected_pods.as_deref()));
        let (got, want) = (kept_up.status(), scratch.status());
        let is_same_size =
            (got.names, got.services, got.endpoints) == (want.names, want.services, want.endpoints);
        assert!(
            differs.is_none() && is_same_size,
            "RINGDNS_SEED={seed} cargo test -p k8s-sync --test history\n\
             differs: {differs:?}, {got:?}, {want:?}\nafter {:#?}\n\
             with {options:#?} and {external:#?}",
            &history[..=index],
        );
    }
}

/// The seeds of a test that checks one in `share` of them.
fn seeds(share: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("RINGDNS_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("RINGDNS_SEEDS").unwrap_or(2000) / share).collect(),
    }
}

#[test]
fn every_prefix_of_a_history() {
    let questions = AllQuestions { cluster: questions(), external: external_questions() };
    seeds(40).into_iter().for_each(|seed| check(seed, &questions, true));
}

#[test]
fn many_histories() {
    let questions = AllQuestions { cluster: questions(), external: external_questions() };
    seeds(1).into_iter().for_each(|seed| check(seed, &questions, false));
}

/// Only what changed is written and published.
#[test]
fn unchanged_answers_are_not_published() {
    let mut publisher = objects::publisher(
        objects::usual(),
        &["ns n", "svc n/web 10.96.0.1 http:80/tcp", "eps n/e web 10.1.0.1 10.1.0.2 http:80/tcp"],
    );
    assert!(publisher.publish(1).is_some());
    assert!(publisher.publish(2).is_none(), "nothing happened");
    publisher.apply(apply("svc n/web 10.96.0.1 http:80/tcp"));
    assert!(publisher.publish(3).is_none(), "the same again");
    publisher.apply(apply("svc n/web 10.96.0.1 http:81/tcp"));
    publisher.apply(apply("svc n/web 10.96.0.1 http:80/tcp"));
    assert!(publisher.publish(4).is_none(), "there and back");
    // A new list of the same objects.
    for line in ["ns n", "svc n/web 10.96.0.1 http:80/tcp"] {
        let kind = usize::from(line.starts_with("svc"));
        for step in [Step::Init, Step::List(line.into()), Step::InitDone] {
            publisher.apply(event(kind, &step));
        }
    }
    assert!(publisher.publish(5).is_none(), "listed again");
    publisher.apply(apply("eps n/e web 10.1.0.1 http:80/tcp"));
    let table = publisher.publish(6).expect("an endpoint less");
    assert_eq!(objects::ask(&table, "10-1-0-2.web.n.svc.cluster.local A"), "NXDOMAIN");
    assert_eq!(publisher.status().changed_unix_secs, 6);
    publisher.apply(Event::Service(Change::Delete(ObjectKey {
        namespace: "n".into(),
        name: "gone".into(),
    })));
    assert!(publisher.publish(7).is_none(), "what was not there");
}
