//! The queries of the CoreDNS project's own Kubernetes tests (github.com/coredns/ci, at baaf458),
//! for the same objects.
//!
//! Only the queries that the table answers are here. Those for a forwarder and for other plugins
//! (`file`, `autopath`, `transfer`) are tested elsewhere or mentioned in
//! engine/src/plugin/kubernetes.md.

mod objects;

use k8s_sync::options::Options;
use objects::{apply, check, options, publisher};
use wire::pod::PodMode;

/// Its pods run anywhere, so any address does.
const CLUSTER: &[&str] = &[
    "ns kube-system",
    "ns test-1",
    "ns test-2",
    "ns test-3",
    "ns test-4",
    "ns test-5",
    "svc kube-system/kube-dns 10.96.0.10 dns:53/udp dns-tcp:53/tcp metrics:9153/tcp",
    "eps kube-system/kube-dns-x kube-dns 10.244.0.2 dns:53/udp dns-tcp:53/tcp metrics:9153/tcp",
    "svc test-1/svc-1-a 10.96.0.100 http:80/tcp https:443/tcp",
    "eps test-1/svc-1-a-x svc-1-a 172.17.0.253+svc-1-a http:80/tcp https:443/tcp",
    "svc test-1/svc-1-b 10.96.0.110 http:80/tcp",
    "eps test-1/svc-1-b-x svc-1-b 10.244.0.11 http:80/tcp",
    "svc test-1/svc-c 10.96.0.115 c-port:1234/udp",
    "eps test-1/svc-c-x svc-c 10.244.0.12 c-port:1234/udp",
    "svc test-1/svc-unready headless c-port:1234/udp",
    "eps test-1/svc-unready-x svc-unready c-port:1234/udp",
    "svc test-1/headless-svc headless c-port:1234/udp",
    "eps test-1/headless-svc-x headless-svc 172.17.0.255+headless-svc-1 \
     172.17.0.254+headless-svc-2 c-port:1234/udp",
    "eps test-1/headless-svc-y headless-svc 1234:abcd::1+headless-svc-3 \
     1234:abcd::2+headless-svc-4 c-port:1234/udp",
    "svc test-1/ext-svc =example.net c-port:1234/udp",
    "svc test-2/svc-c 10.96.0.120 c-port:1234/udp",
    "eps test-2/svc-c-x svc-c 10.244.0.13 c-port:1234/udp",
    "svc test-2/svc-d 10.96.0.121 c-port:1234/udp",
    "eps test-2/svc-d-x svc-d 172.17.0.252+svc-d c-port:1234/udp",
    "svc test-2/upriver =up.river.local c-port:1234/udp",
    "svc test-3/headless-1 headless http:80/tcp",
    "eps test-3/headless-1-x headless-1 10.244.0.14^test-name http:80/tcp",
    "svc test-3/headless-2 headless http:80/tcp",
    "eps test-3/headless-2-x headless-2 \
     10.244.0.15^test-name-longer-than-63-characters-making-it-an-invalid-dns-label http:80/tcp",
];

/// The test's own pod is the endpoint of kube-dns.
fn only(zones: &[&str], namespace: &str) -> Options {
    Options {
        namespaces: vec![namespace.to_owned()],
        server_addresses: vec!["10.244.0.2".parse().expect("an address")],
        ..options(zones)
    }
}

#[test]
fn addresses() {
    check(
        only(&["cluster.local", "10.in-addr.arpa"], "test-1"),
        CLUSTER,
        &[
            ("svc-1-a.test-1.svc.cluster.local A", "A 10.96.0.100"),
            ("headless-svc.test-1.svc.cluster.local A", "A 172.17.0.254, A 172.17.0.255"),
            ("bogusservice.test-1.svc.cluster.local A", "NXDOMAIN"),
            ("bogusendpoint.svc-1-a.test-1.svc.cluster.local A", "NXDOMAIN"),
            ("10-20-0-101.test-1.pod.cluster.local A", "NXDOMAIN"),
            ("dns-version.cluster.local TXT", "28800 TXT \"1.1.0\""),
            ("headless-svc.test-1.svc.cluster.local AAAA", "AAAA 1234:abcd::1, AAAA 1234:abcd::2"),
            ("svc-unready.test-1.svc.cluster.local A", "NXDOMAIN"),
            // kube-system is not served, but its name server is still named.
            (
                "cluster.local NS",
                "NS kube-dns.kube-system.svc.cluster.local + \
                 kube-dns.kube-system.svc.cluster.local A 10.96.0.10",
            ),
            ("ns.dns.cluster.local A", "A 10.96.0.10"),
            ("kube-dns.kube-system.svc.cluster.local A", "NXDOMAIN"),
        ],
    );
}

#[test]
fn objects_added_at_run_time() {
    let mut publisher = publisher(only(&["cluster.local"], "test-1"), CLUSTER);
    let before = publisher.publish(1).expect("a first table");
    publisher.apply(apply("svc test-1/new-svc 10.96.0.222 c-port:1234/udp"));
    publisher.apply(apply("eps test-1/new-svc-x new-svc 172.17.0.222 c-port:1234/udp"));
    let after = publisher.publish(2).expect("a second table");
    for (question, expected) in [
        ("new-svc.test-1.svc.cluster.local A", "A 10.96.0.222"),
        ("172-17-0-222.new-svc.test-1.svc.cluster.local A", "A 172.17.0.222"),
    ] {
        assert_eq!(objects::ask(&before, question), "NXDOMAIN");
        assert_eq!(objects::ask(&after, question), expected);
    }
}

#[test]
fn ports() {
    check(
        only(&["cluster.local"], "test-1"),
        CLUSTER,
        &[(
            "svc-1-a.test-1.svc.cluster.local SRV",
            "SRV 0 50 443 svc-1-a.test-1.svc.cluster.local, \
             SRV 0 50 80 svc-1-a.test-1.svc.cluster.local + A 10.96.0.100",
        )],
    );
}

#[test]
fn reverse_names() {
    let zones = [
        "cluster.local",
        "0.96.10.in-addr.arpa",
        "0.17.172.in-addr.arpa",
        "0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa",
    ];
    check(
        only(&zones, "test-1"),
        CLUSTER,
        &[
            ("100.0.96.10.in-addr.arpa PTR", "PTR svc-1-a.test-1.svc.cluster.local"),
            ("253.0.17.172.in-addr.arpa PTR", "PTR svc-1-a.svc-1-a.test-1.svc.cluster.local"),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa PTR",
                "PTR headless-svc-3.headless-svc.test-1.svc.cluster.local",
            ),
            ("120.0.96.10.in-addr.arpa PTR", "NXDOMAIN"),
            ("252.0.17.172.in-addr.arpa PTR", "NXDOMAIN"),
            ("200.0.17.172.in-addr.arpa PTR", "NXDOMAIN"),
        ],
    );
}

#[test]
fn pods() {
    for (pods, expected) in
        [(PodMode::Insecure, "POD 10.20.0.101"), (PodMode::Verified, "NXDOMAIN")]
    {
        check(
            Options { pods, ..only(&["cluster.local"], "test-1") },
            CLUSTER,
            &[
                ("10-20-0-101.test-1.pod.cluster.local A", expected),
                ("10-20-0-101.test-X.pod.cluster.local A", "NXDOMAIN"),
            ],
        );
    }
}

#[test]
fn all_namespaces() {
    check(
        options(&["cluster.local"]),
        CLUSTER,
        &[
            ("svc-1-a.test-1.svc.cluster.local A", "A 10.96.0.100"),
            ("svc-c.test-2.svc.cluster.local A", "A 10.96.0.120"),
        ],
    );
}

#[test]
fn pod_names_of_endpoints() {
    let options = Options { endpoint_pod_names: true, ..only(&["cluster.local"], "test-3") };
    check(
        options,
        CLUSTER,
        &[
            (
                "headless-1.test-3.svc.cluster.local SRV",
                "SRV 0 100 80 test-name.headless-1.test-3.svc.cluster.local + \
                 test-name.headless-1.test-3.svc.cluster.local A 10.244.0.14",
            ),
            (
                "headless-2.test-3.svc.cluster.local SRV",
                "SRV 0 100 80 10-244-0-15.headless-2.test-3.svc.cluster.local + \
                 10-244-0-15.headless-2.test-3.svc.cluster.local A 10.244.0.15",
            ),
        ],
    );
}

/// The table's part: the alias, whose target is resolved by upstreams, and names that fall through.
#[test]
fn names_for_upstreams() {
    check(
        only(&["cluster.local"], "test-1"),
        CLUSTER,
        &[
            ("ext-svc.test-1.svc.cluster.local A", "CNAME example.net"),
            ("foo.cluster.local A", "NXDOMAIN"),
            ("f.b.svc.cluster.local A", "NXDOMAIN"),
        ],
    );
}
