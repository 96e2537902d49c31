//! Random objects and options of a cluster that is so small that everything collides.

use k8s_sync::options::{ExternalOptions, Options};
use wire::pod::PodMode;

use crate::objects::{external_options, options};
use crate::random::Random;

pub(crate) const NAMESPACES: &[&str] = &["a", "b", "hidden"];
pub(crate) const SERVICES: &[&str] = &["s0", "s1", "s2"];
const PORTS: &[&str] =
    &["http:80/tcp", "dns:53/udp", ":90/tcp", "http:81/tcp", "web:80/sctp", "any:*/tcp"];
/// The last one is 10.1.0.3.
pub(crate) const ENDPOINTS: &[&str] = &[
    "10.1.0.1",
    "10.1.0.2",
    "10.1.0.3",
    "10.96.0.1",
    "fd00::1",
    "fd00:0:0:1::",
    "::ffff:10.1.0.3",
];
/// An endpoint's own label. Some look like the labels of addresses.
const LABELS: &[&str] = &[
    "",
    "",
    "",
    "",
    "+h0",
    "+h1",
    "^p0",
    "^p.0",
    "+10-1-0-2",
    "+010-1-0-1",
    "+fd00--1",
    "+10-1-0-9",
];
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
    "010-1-0-2.s0.a.svc.one.zone",
    "_http._tcp.s0.a.svc.one.zone",
    "10-1-0-1.a.pod.one.zone",
    "ns.dns.one.zone",
    "example.org",
    "192.0.2.1",
];

/// One line for a random object of this kind.
pub(crate) fn object(random: &mut Random, kind: usize) -> String {
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
            let external: Vec<&str> =
                (0..random.below(3)).map(|_| random.pick(EXTERNALS)).collect();
            let ports = ports(random);
            format!("svc {namespace}/{service} {what} {ports} {}", external.join(" "))
        }
        2 => {
            let (slice, service) = (random.below(4), random.pick(SERVICES));
            let endpoints = endpoints(random);
            format!("eps {namespace}/e{slice} {service} {endpoints} {}", ports(random))
        }
        _ => {
            let network = if random.one_in(5) { "host" } else { "" };
            let address = random.pick(&ENDPOINTS[..3]);
            format!("pod {namespace}/p{} {address} {network}", random.below(3))
        }
    }
}

/// No port, one, or two. So the slices of a Service have equal and different lists.
fn ports(random: &mut Random) -> String {
    let ports: Vec<&str> = (0..random.below(3)).map(|_| random.pick(PORTS)).collect();
    ports.join(" ")
}

fn endpoints(random: &mut Random) -> String {
    let mut endpoints: Vec<String> = (0..random.below(4))
        .map(|_| format!("{}{}", random.pick(ENDPOINTS), random.pick(LABELS)))
        .collect();
    // Many, so that a Service has more than ten.
    if random.one_in(8) {
        let count = 8 + random.below(16);
        endpoints.extend((0..count).map(|index| format!("10.1.1.{index}")));
    }
    // A slice of host names, sometimes mixed with addresses. No cluster has the latter, but the
    // answers must agree.
    if random.one_in(6) {
        let kept = if random.one_in(4) { endpoints.len() } else { 0 };
        endpoints.truncate(kept);
        let count = 1 + random.below(2);
        endpoints.extend((0..count).map(|_| format!("={}", random.pick(TARGETS))));
    }
    endpoints.join(" ")
}

pub(crate) fn random_options(random: &mut Random) -> Options {
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
        no_endpoints: random.one_in(8),
        ignore_empty_service: random.one_in(3),
        server_addresses: if random.one_in(2) { vec![listens.parse().unwrap()] } else { vec![] },
        ..options(zones[random.below(3)])
    }
}

pub(crate) fn random_external(random: &mut Random) -> ExternalOptions {
    let zones: &[&[&str]] =
        &[&["out.zone", "in-addr.arpa", "ip6.arpa"], &["out.zone", "b.out.zone"], &["."]];
    ExternalOptions { is_headless: random.one_in(2), ..external_options(zones[random.below(3)]) }
}
