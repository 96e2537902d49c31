//! The answers for a cluster, rule by rule (Kubernetes DNS specification 1.1.0, and CoreDNS where
//! that does not say).

mod objects;

use k8s_sync::options::Options;
use objects::{check, options, publisher, usual};
use wire::pod::PodMode;

const WEB: &[&str] = &[
    "ns default",
    "svc default/web 10.96.0.1 http:80/tcp",
    "eps default/web-1 web 10.1.0.1 10.1.0.2 http:8080/tcp",
];

#[test]
fn names_of_the_zone() {
    check(
        usual(),
        WEB,
        &[
            ("cluster.local A", "NODATA"),
            ("cluster.local NS", "NODATA"),
            ("cluster.local SOA", "SOA"),
            ("svc.cluster.local A", "NODATA"),
            ("pod.cluster.local A", "NODATA"),
            ("dns.cluster.local A", "NODATA"),
            ("ns.dns.cluster.local A", "NODATA"),
            ("dns-version.cluster.local TXT", "28800 TXT \"1.1.0\""),
            ("dns-version.cluster.local A", "NODATA"),
            ("default.svc.cluster.local A", "NODATA"),
            ("default.pod.cluster.local A", "NXDOMAIN"),
            ("other.svc.cluster.local A", "NXDOMAIN"),
            ("web.cluster.local A", "NXDOMAIN"),
            ("example.org A", "OUTSIDE"),
        ],
    );
}

#[test]
fn cluster_ip() {
    check(
        usual(),
        WEB,
        &[
            ("web.default.svc.cluster.local A", "A 10.96.0.1"),
            ("WEB.default.svc.cluster.local A", "A 10.96.0.1"),
            ("web.default.svc.cluster.local AAAA", "NODATA"),
            ("web.default.svc.cluster.local TXT", "NODATA"),
            (
                "web.default.svc.cluster.local SRV",
                "SRV 0 100 80 web.default.svc.cluster.local + A 10.96.0.1",
            ),
            (
                "_http._tcp.web.default.svc.cluster.local SRV",
                "SRV 0 100 80 web.default.svc.cluster.local + \
                 web.default.svc.cluster.local A 10.96.0.1",
            ),
            ("_http._tcp.web.default.svc.cluster.local A", "A 10.96.0.1"),
            ("http.tcp.web.default.svc.cluster.local A", "A 10.96.0.1"),
            ("_http._udp.web.default.svc.cluster.local SRV", "NXDOMAIN"),
            ("_tcp.web.default.svc.cluster.local SRV", "NODATA"),
            ("_udp.web.default.svc.cluster.local SRV", "NXDOMAIN"),
            ("10-1-0-1.web.default.svc.cluster.local A", "A 10.1.0.1"),
            (
                "10-1-0-2.web.default.svc.cluster.local SRV",
                "SRV 0 100 8080 10-1-0-2.web.default.svc.cluster.local + A 10.1.0.2",
            ),
            ("10-1-0-3.web.default.svc.cluster.local A", "NXDOMAIN"),
            ("_http._tcp.10-1-0-1.web.default.svc.cluster.local SRV", "NXDOMAIN"),
        ],
    );
}

#[test]
fn weights_and_several_ports() {
    check(
        usual(),
        &[
            "ns n",
            "svc n/multi 10.96.0.2 http:80/tcp dns:53/udp dns-tcp:53/tcp sctp:3868/sctp",
            "svc n/dual 10.96.0.3,fd00:10:96::3 http:80/tcp",
            "svc n/plain 10.96.0.4 :90/tcp",
            "svc n/bare 10.96.0.5",
            "svc n/six fd00:10:96::6 http:80/tcp",
        ],
        &[
            (
                "multi.n.svc.cluster.local SRV",
                "SRV 0 25 3868 multi.n.svc.cluster.local, SRV 0 25 53 multi.n.svc.cluster.local, \
                 SRV 0 25 80 multi.n.svc.cluster.local + A 10.96.0.2",
            ),
            (
                "_dns._udp.multi.n.svc.cluster.local SRV",
                "SRV 0 100 53 multi.n.svc.cluster.local + multi.n.svc.cluster.local A 10.96.0.2",
            ),
            ("_sctp.multi.n.svc.cluster.local A", "NODATA"),
            (
                "dual.n.svc.cluster.local SRV",
                "SRV 0 50 80 dual.n.svc.cluster.local + A 10.96.0.3, AAAA fd00:10:96::3",
            ),
            ("dual.n.svc.cluster.local A", "A 10.96.0.3"),
            ("dual.n.svc.cluster.local AAAA", "AAAA fd00:10:96::3"),
            (
                "plain.n.svc.cluster.local SRV",
                "SRV 0 100 90 plain.n.svc.cluster.local + A 10.96.0.4",
            ),
            ("_tcp.plain.n.svc.cluster.local SRV", "NXDOMAIN"),
            ("bare.n.svc.cluster.local A", "A 10.96.0.5"),
            ("bare.n.svc.cluster.local SRV", "NODATA"),
            ("six.n.svc.cluster.local A", "NODATA"),
        ],
    );
}

#[test]
fn headless() {
    check(
        usual(),
        &[
            "ns n",
            "svc n/db headless http:80/tcp",
            "eps n/db-1 db 10.1.0.1+db-0 10.1.0.2+db-1 fd00::3 sql:5432/tcp",
            "svc n/none headless http:80/tcp",
            "svc n/empty headless http:80/tcp",
            "eps n/empty-1 empty http:80/tcp",
            "svc n/noport headless",
            "eps n/noport-1 noport 10.1.0.9",
            "svc n/every headless",
            "eps n/every-1 every 10.1.0.8 any:*/tcp",
        ],
        &[
            ("db.n.svc.cluster.local A", "A 10.1.0.1, A 10.1.0.2"),
            ("db.n.svc.cluster.local AAAA", "AAAA fd00::3"),
            (
                "_sql._tcp.db.n.svc.cluster.local SRV",
                "SRV 0 33 5432 db-0.db.n.svc.cluster.local, \
                 SRV 0 33 5432 db-1.db.n.svc.cluster.local, \
                 SRV 0 33 5432 fd00--3.db.n.svc.cluster.local + \
                 db-0.db.n.svc.cluster.local A 10.1.0.1, db-1.db.n.svc.cluster.local A 10.1.0.2, \
                 fd00--3.db.n.svc.cluster.local AAAA fd00::3",
            ),
            ("_http._tcp.db.n.svc.cluster.local SRV", "NXDOMAIN"),
            ("db-0.db.n.svc.cluster.local A", "A 10.1.0.1"),
            ("db-0.db.n.svc.cluster.local AAAA", "NODATA"),
            ("10-1-0-1.db.n.svc.cluster.local A", "NXDOMAIN"),
            ("none.n.svc.cluster.local A", "NXDOMAIN"),
            ("empty.n.svc.cluster.local A", "NXDOMAIN"),
            ("_http._tcp.empty.n.svc.cluster.local A", "NXDOMAIN"),
            ("noport.n.svc.cluster.local A", "A 10.1.0.9"),
            ("noport.n.svc.cluster.local SRV", "NODATA"),
            ("_any._tcp.every.n.svc.cluster.local A", "A 10.1.0.8"),
            ("_any._tcp.every.n.svc.cluster.local SRV", "NODATA"),
        ],
    );
}

#[test]
fn slices_are_joined() {
    check(
        usual(),
        &[
            "ns n",
            "svc n/db headless",
            "eps n/a db 10.1.0.1 10.1.0.2 sql:1/tcp",
            "eps n/b db 10.1.0.2 10.1.0.3 sql:1/tcp",
            "eps n/c other 10.1.0.4 sql:1/tcp",
            "svc n/same headless",
            "eps n/s same 10.1.1.1+one 10.1.1.2+one fd00::1+one sql:1/tcp more:1/udp",
        ],
        &[
            ("db.n.svc.cluster.local A", "A 10.1.0.1, A 10.1.0.2, A 10.1.0.3"),
            (
                "db.n.svc.cluster.local SRV",
                "SRV 0 33 1 10-1-0-1.db.n.svc.cluster.local, \
                 SRV 0 33 1 10-1-0-2.db.n.svc.cluster.local, \
                 SRV 0 33 1 10-1-0-3.db.n.svc.cluster.local + \
                 10-1-0-1.db.n.svc.cluster.local A 10.1.0.1, \
                 10-1-0-2.db.n.svc.cluster.local A 10.1.0.2, \
                 10-1-0-3.db.n.svc.cluster.local A 10.1.0.3",
            ),
            (
                "10-1-0-2.db.n.svc.cluster.local SRV",
                "SRV 0 100 1 10-1-0-2.db.n.svc.cluster.local + A 10.1.0.2",
            ),
            // One record for six (target, address, port) triples.
            (
                "one.same.n.svc.cluster.local SRV",
                "SRV 0 16 1 one.same.n.svc.cluster.local + \
                 A 10.1.1.1, A 10.1.1.2, AAAA fd00::1",
            ),
        ],
    );
}

#[test]
fn a_thousand_endpoints_in_one_slice() {
    let addresses: Vec<String> =
        (0..1000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let slice = format!("eps n/a db {} sql:1/tcp", addresses.join(" "));
    let table = objects::table(usual(), &["ns n", "svc n/db headless", &slice]);
    let answers = objects::ask(&table, "db.n.svc.cluster.local A");
    assert_eq!(answers.split(", ").count(), 1000);
    // Addresses are added as long as they fit into a message of 64 KiB.
    let answers = objects::ask(&table, "db.n.svc.cluster.local SRV");
    let (answers, additional) = answers.split_once(" + ").expect("both sections");
    assert_eq!(answers.split(", ").count(), 1000);
    assert!(answers.split(", ").all(|answer| answer.starts_with("SRV 0 1 1 10-1-")));
    assert!(additional.split(", ").count() < 1000);
    let last = "10-1-3-249.db.n.svc.cluster.local SRV";
    let expected = "SRV 0 100 1 10-1-3-249.db.n.svc.cluster.local + A 10.1.3.249";
    assert_eq!(objects::ask(&table, last), expected);
}

#[test]
fn endpoint_labels() {
    let objects = [
        "ns n",
        "svc n/db headless",
        "eps n/a db 10.1.0.1^pod-1 10.1.0.2^pod.2 10.1.0.3^pod-3+host fd00:1:: ::ffff:10.1.0.4",
    ];
    let rows = |pod: &'static str| {
        [
            ("pod-1.db.n.svc.cluster.local A", pod),
            ("10-1-0-2.db.n.svc.cluster.local A", "A 10.1.0.2"),
            ("host.db.n.svc.cluster.local A", "A 10.1.0.3"),
            ("fd00-1--0.db.n.svc.cluster.local AAAA", "AAAA fd00:1::"),
            ("10-1-0-4.db.n.svc.cluster.local A", "A 10.1.0.4"),
        ]
    };
    check(usual(), &objects, &rows("NXDOMAIN"));
    check(Options { endpoint_pod_names: true, ..usual() }, &objects, &rows("A 10.1.0.1"));
}

#[test]
fn reverse_names() {
    check(
        usual(),
        &[
            "ns n",
            "svc n/web 10.96.0.1,fd00:10:96::1 http:80/tcp",
            "svc n/twin 10.96.0.1 http:80/tcp",
            "svc n/db headless",
            "svc n/all headless",
            "eps n/a db 10.1.0.1+db-0 10.1.0.2 10.96.0.1 fd00::1",
            "eps n/b all 10.1.0.1",
            "eps n/c gone 10.1.0.3",
            "svc n/out =example.org",
            "eps n/d out 10.1.0.4",
            "svc ghost/web 10.96.0.9",
        ],
        &[
            ("1.0.96.10.in-addr.arpa PTR", "PTR twin.n.svc.cluster.local"),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa PTR",
                "PTR web.n.svc.cluster.local",
            ),
            (
                "1.0.1.10.in-addr.arpa PTR",
                "PTR 10-1-0-1.all.n.svc.cluster.local, PTR db-0.db.n.svc.cluster.local",
            ),
            ("2.0.1.10.in-addr.arpa PTR", "PTR 10-1-0-2.db.n.svc.cluster.local"),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR",
                "PTR fd00--1.db.n.svc.cluster.local",
            ),
            ("1.0.96.10.in-addr.arpa A", "NXDOMAIN"),
            ("0.96.10.in-addr.arpa PTR", "NXDOMAIN"),
            ("3.0.1.10.in-addr.arpa PTR", "NXDOMAIN"),
            ("4.0.1.10.in-addr.arpa PTR", "NXDOMAIN"),
            ("9.0.96.10.in-addr.arpa PTR", "NXDOMAIN"),
            ("in-addr.arpa PTR", "NODATA"),
        ],
    );
    check(
        options(&["96.10.in-addr.arpa", "first.zone", "second.zone"]),
        &["ns n", "svc n/web 10.96.0.1", "eps n/a web 10.1.0.1"],
        &[
            ("1.0.96.10.in-addr.arpa PTR", "PTR web.n.svc.first.zone"),
            ("1.0.1.10.in-addr.arpa PTR", "OUTSIDE"),
            ("web.n.svc.first.zone A", "A 10.96.0.1"),
            ("web.n.svc.second.zone A", "A 10.96.0.1"),
            ("dns-version.second.zone TXT", "28800 TXT \"1.1.0\""),
        ],
    );
}

#[test]
fn pods() {
    let objects =
        ["ns n", "ns m", "pod n/p 10.1.0.1,fd00:1::", "pod ghost/q 10.1.0.9", "pod n/h 10.0.0.1"];
    check(
        Options { pods: PodMode::Verified, ..usual() },
        &objects,
        &[
            ("n.pod.cluster.local A", "NODATA"),
            ("10-1-0-1.n.pod.cluster.local A", "POD 10.1.0.1"),
            ("10-1-0-1.n.pod.cluster.local AAAA", "NODATA"),
            ("any.10-1-0-1.n.pod.cluster.local A", "POD 10.1.0.1"),
            ("10-1-0-1.n.pod.cluster.local SRV", "POD 10.1.0.1"),
            ("fd00-1--.n.pod.cluster.local AAAA", "POD fd00:1::"),
            ("fd00-1--0.n.pod.cluster.local AAAA", "NXDOMAIN"),
            ("10-1-0-1.m.pod.cluster.local A", "NXDOMAIN"),
            ("10-1-0-2.n.pod.cluster.local A", "NXDOMAIN"),
            ("10-1-0-9.ghost.pod.cluster.local A", "NXDOMAIN"),
        ],
    );
    check(
        Options { pods: PodMode::Insecure, ..usual() },
        &objects,
        &[
            ("n.pod.cluster.local A", "NODATA"),
            ("10-1-0-7.n.pod.cluster.local A", "POD 10.1.0.7"),
            ("10-1-0-7.ghost.pod.cluster.local A", "NXDOMAIN"),
        ],
    );
}

#[test]
fn options_that_hide_names() {
    let objects = [
        "ns a",
        "ns b",
        "svc a/web 10.96.0.1 http:80/tcp",
        "svc b/web 10.96.0.2 http:80/tcp",
        "svc a/full 10.96.0.3 http:80/tcp",
        "eps a/full-1 full 10.1.0.1 http:80/tcp",
        "svc a/db headless",
        "eps a/db-1 db 10.1.0.2",
        "svc ghost/web 10.96.0.4",
    ];
    check(
        Options { namespaces: vec!["a".into(), "c".into()], ..usual() },
        &objects,
        &[
            ("web.a.svc.cluster.local A", "A 10.96.0.1"),
            ("web.b.svc.cluster.local A", "NXDOMAIN"),
            ("b.svc.cluster.local A", "NXDOMAIN"),
            ("c.svc.cluster.local A", "NXDOMAIN"),
            ("2.0.96.10.in-addr.arpa PTR", "NXDOMAIN"),
            ("web.ghost.svc.cluster.local A", "NXDOMAIN"),
        ],
    );
    check(
        Options { ignore_empty_service: true, ..usual() },
        &objects,
        &[
            ("web.a.svc.cluster.local A", "NXDOMAIN"),
            ("_http._tcp.web.a.svc.cluster.local SRV", "NXDOMAIN"),
            ("full.a.svc.cluster.local A", "A 10.96.0.3"),
            ("1.0.96.10.in-addr.arpa PTR", "PTR web.a.svc.cluster.local"),
        ],
    );
    check(
        Options { no_endpoints: true, ..usual() },
        &objects,
        &[
            ("web.a.svc.cluster.local A", "A 10.96.0.1"),
            ("db.a.svc.cluster.local A", "NXDOMAIN"),
            ("10-1-0-1.full.a.svc.cluster.local A", "NXDOMAIN"),
            ("1.0.1.10.in-addr.arpa PTR", "NXDOMAIN"),
        ],
    );
}

#[test]
fn name_servers() {
    let objects = [
        "ns kube-system",
        "svc kube-system/kube-dns 10.96.0.10,fd00::10 dns:53/udp",
        "eps kube-system/kube-dns-1 kube-dns 10.1.0.53 10.1.1.53 dns:53/udp",
    ];
    let bound =
        |address: &str| Options { server_addresses: vec![address.parse().unwrap()], ..usual() };
    let service = "NS kube-dns.kube-system.svc.cluster.local + \
                   kube-dns.kube-system.svc.cluster.local A 10.96.0.10, \
                   kube-dns.kube-system.svc.cluster.local AAAA fd00::10";
    check(
        bound("10.1.0.53"),
        &objects,
        &[
            ("cluster.local NS", service),
            ("ns.dns.cluster.local A", "A 10.96.0.10"),
            ("ns.dns.cluster.local AAAA", "AAAA fd00::10"),
            (
                "in-addr.arpa NS",
                "NS ns.dns.in-addr.arpa + ns.dns.in-addr.arpa A 10.96.0.10, \
                 ns.dns.in-addr.arpa AAAA fd00::10",
            ),
            ("ns.dns.in-addr.arpa A", "A 10.96.0.10"),
            ("ns.dns.ip6.arpa AAAA", "AAAA fd00::10"),
            ("ns.dns.ip6.arpa TXT", "NODATA"),
            ("dns.in-addr.arpa A", "NODATA"),
            ("svc.in-addr.arpa A", "NXDOMAIN"),
        ],
    );
    check(bound("10.96.0.10"), &objects, &[("cluster.local NS", service)]);
    check(
        bound("192.0.2.1"),
        &objects,
        &[
            ("cluster.local NS", "NS ns.dns.cluster.local + ns.dns.cluster.local A 192.0.2.1"),
            ("ns.dns.cluster.local A", "A 192.0.2.1"),
            ("in-addr.arpa NS", "NS ns.dns.in-addr.arpa + ns.dns.in-addr.arpa A 192.0.2.1"),
        ],
    );
    check(
        bound("10.1.0.53"),
        &["ns n", "svc n/dns headless", "eps n/dns-1 dns 10.1.0.53+a 10.1.0.54+b"],
        &[
            (
                "cluster.local NS",
                "NS a.dns.n.svc.cluster.local, NS b.dns.n.svc.cluster.local + \
                 a.dns.n.svc.cluster.local A 10.1.0.53, b.dns.n.svc.cluster.local A 10.1.0.54",
            ),
            ("ns.dns.cluster.local A", "A 10.1.0.53, A 10.1.0.54"),
        ],
    );
}

/// Invalid names are left out and counted. Everything else is served.
#[test]
fn invalid_names() {
    let long = "l".repeat(64);
    let objects = [
        "ns n".to_owned(),
        format!("ns {long}"),
        format!("svc n/{long} 10.96.0.1"),
        "svc n/dotted.name 10.96.0.2".to_owned(),
        "svc n/naïve 10.96.0.3".to_owned(),
        "svc n/db headless".to_owned(),
        format!("eps n/db-1 db 10.1.0.1+{long} 10.1.0.2 {}:80/tcp ok:81/tcp", &long[..63]),
        "svc n/bad =ex..ample".to_owned(),
        "svc n/web 10.96.0.4 http:80/tcp".to_owned(),
    ];
    let lines: Vec<&str> = objects.iter().map(String::as_str).collect();
    let mut publisher = publisher(usual(), &lines);
    let table = publisher.publish(1).unwrap();
    for (question, expected) in [
        ("web.n.svc.cluster.local A", "A 10.96.0.4"),
        ("db.n.svc.cluster.local A", "A 10.1.0.1, A 10.1.0.2"),
        (
            "_ok._tcp.db.n.svc.cluster.local SRV",
            "SRV 0 100 81 10-1-0-2.db.n.svc.cluster.local + \
             10-1-0-2.db.n.svc.cluster.local A 10.1.0.2",
        ),
        ("bad.n.svc.cluster.local A", "NXDOMAIN"),
        ("2.0.96.10.in-addr.arpa PTR", "NXDOMAIN"),
    ] {
        assert_eq!(objects::ask(&table, question), expected, "{question}");
    }
    // The Namespace, three Services, one endpoint, one port, one externalName.
    assert_eq!(publisher.status().refused_names, 7);
    // Labels of 63 bytes fill a name: zone and labels together reach 255 bytes.
    let (zone, label) = ([&long[..63], &long[..63]].join("."), &long[..60]);
    let objects = [
        format!("ns {label}"),
        format!("svc {label}/{} 10.96.0.1", &long[..61]),
        format!("svc {label}/{label} 10.96.0.3"),
        format!("svc {label}/s 10.96.0.2 p:80/tcp"),
        format!("eps {label}/e {label} 10.1.0.1 p:80/tcp"),
        format!("eps {label}/f s 10.1.0.2 p:80/tcp"),
    ];
    let lines: Vec<&str> = objects.iter().map(String::as_str).collect();
    let mut publisher = objects::publisher(options(&[&zone, "in-addr.arpa"]), &lines);
    let table = publisher.publish(1).unwrap();
    // The name of that endpoint would be too long.
    assert_eq!(objects::ask(&table, "1.0.1.10.in-addr.arpa PTR"), "NXDOMAIN");
    let short = format!("PTR 10-1-0-2.s.{label}.svc.{zone}");
    assert_eq!(objects::ask(&table, "2.0.1.10.in-addr.arpa PTR"), short);
    for (service, expected) in [("s", "A 10.96.0.2"), (label, "A 10.96.0.3")] {
        let question = format!("{service}.{label}.svc.{zone} A");
        assert_eq!(objects::ask(&table, &question), expected);
    }
    // The longest Service, its PTR record, and that of the endpoint.
    assert_eq!(publisher.status().refused_names, 3);
}
