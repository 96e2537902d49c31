//! The answers in external zones, and how they follow the objects.

mod objects;

use k8s_sync::object::Event;
use k8s_sync::options::{ExternalOptions, Options};
use k8s_sync::publish::ExternalNumber;
use objects::{apply, ask, check_external, delete, external_options, publisher, usual};

const OBJECTS: &[&str] = &[
    "ns n",
    "svc n/web 10.96.0.1 http:80/tcp @192.0.2.1 @2001:db8::1",
    "svc n/alias 10.96.0.2 http:80/tcp http:81/tcp @b.example @a.example",
    "svc n/both 10.96.0.3 http:80/tcp @a.example @192.0.2.3",
    "svc n/portless headless @192.0.2.4",
    "svc n/inside 10.96.0.5 http:80/tcp",
    "svc n/db headless sql:5432/tcp",
    "eps n/db-1 db 10.1.0.1+db-0 10.1.0.2 sql:5432/tcp",
    "eps n/inside-1 inside 10.1.0.3+one http:80/tcp",
    "svc gone/web 10.96.0.9 http:80/tcp @192.0.2.1",
];

fn zones() -> ExternalOptions {
    external_options(&["in-addr.arpa", "out.example", "two.example"])
}

#[test]
fn external_addresses_and_host_names() {
    check_external(
        usual(),
        &zones(),
        OBJECTS,
        &[
            ("web.n.out.example A", "A 192.0.2.1"),
            ("web.n.two.example AAAA", "AAAA 2001:db8::1"),
            ("web.n.out.example TXT", "NODATA"),
            ("any.web.n.out.example A", "A 192.0.2.1"),
            ("http.tcp.web.n.out.example A", "A 192.0.2.1"),
            ("_tcp.web.n.out.example A", "NODATA"),
            ("a.b.c.web.n.out.example A", "NXDOMAIN"),
            ("alias.n.out.example A", "CNAME a.example"),
            (
                "alias.n.out.example SRV",
                "SRV 0 25 80 a.example, SRV 0 25 80 b.example, SRV 0 25 81 a.example, \
                 SRV 0 25 81 b.example",
            ),
            ("x.alias.n.out.example A", "CNAME a.example"),
            ("_http._tcp.alias.n.out.example AAAA", "CNAME a.example"),
            // A name has addresses or a CNAME.
            ("both.n.out.example A", "A 192.0.2.3"),
            ("portless.n.out.example A", "A 192.0.2.4"),
            ("portless.n.out.example SRV", "NODATA"),
            ("inside.n.out.example A", "NXDOMAIN"),
            ("db.n.out.example A", "NXDOMAIN"),
            ("web.gone.out.example A", "NXDOMAIN"),
            ("n.out.example A", "NODATA"),
            ("gone.out.example A", "NXDOMAIN"),
            // Two Services have it, but the namespace of one does not exist.
            ("1.2.0.192.in-addr.arpa PTR", "PTR web.n.out.example"),
            ("9.2.0.192.in-addr.arpa PTR", "NXDOMAIN"),
            ("web.n.in-addr.arpa A", "NXDOMAIN"),
            ("web.n.svc.cluster.local A", "OUTSIDE"),
        ],
    );
}

#[test]
fn endpoints_have_names_with_headless() {
    let external = ExternalOptions { is_headless: true, ttl_secs: 60, ..zones() };
    let rows = [
        ("db.n.out.example A", "60 A 10.1.0.1, 60 A 10.1.0.2"),
        ("db-0.db.n.out.example A", "60 A 10.1.0.1"),
        ("10-1-0-2.db.n.out.example A", "60 A 10.1.0.2"),
        ("_sql._tcp.db-0.db.n.out.example A", "NXDOMAIN"),
        ("inside.n.out.example A", "NODATA"),
        ("one.inside.n.out.example A", "60 A 10.1.0.3"),
        // External addresses count before endpoints.
        ("portless.n.out.example A", "60 A 192.0.2.4"),
    ];
    check_external(usual(), &external, OBJECTS, &rows);
    let without = Options { no_endpoints: true, ..usual() };
    check_external(without, &external, OBJECTS, &[("db.n.out.example A", "NXDOMAIN")]);
}

#[test]
fn the_apex_and_the_name_server() {
    let row = |options: &Options, objects: &[&str], question: &str, expected: &str| {
        let external = ExternalOptions { is_headless: true, ..zones() };
        check_external(options.clone(), &external, objects, &[(question, expected)]);
    };
    let listening = Options { server_addresses: vec!["10.1.0.9".parse().unwrap()], ..usual() };
    row(&usual(), OBJECTS, "out.example NS", "NS ns1.dns.out.example");
    row(&usual(), OBJECTS, "out.example SOA", "SOA");
    row(&usual(), OBJECTS, "web.n.out.example SOA", "NODATA");
    row(&usual(), OBJECTS, "no.n.out.example SOA", "NXDOMAIN");
    row(&usual(), OBJECTS, "dns.out.example A", "NODATA");
    row(&usual(), OBJECTS, "ns1.dns.out.example A", "NODATA");
    // Without a Service the server itself.
    let own = "NS ns1.dns.out.example + ns1.dns.out.example A 10.1.0.9";
    row(&listening, OBJECTS, "out.example NS", own);
    row(&listening, OBJECTS, "ns1.dns.out.example A", "A 10.1.0.9");
    let served =
        ["ns k", "svc k/dns 10.96.0.10 dns:53/udp @192.0.2.53", "eps k/dns-1 dns 10.1.0.9"];
    row(&listening, &served, "ns1.dns.out.example A", "A 192.0.2.53");
    let inside = ["ns k", "svc k/dns 10.96.0.10 dns:53/udp", "eps k/dns-1 dns 10.1.0.9"];
    row(&listening, &inside, "ns1.dns.out.example A", "NODATA");
    let headless = ["ns k", "svc k/dns headless dns:53/udp", "eps k/dns-1 dns 10.1.0.9 10.1.0.8"];
    row(&listening, &headless, "ns1.dns.out.example A", "A 10.1.0.8, A 10.1.0.9");
    // The apex's label hides a namespace.
    let hidden = ["ns dns", "svc dns/web 10.96.0.1 http:80/tcp @192.0.2.1"];
    row(&usual(), &hidden, "web.dns.out.example A", "NXDOMAIN");
}

#[test]
fn names_follow_the_objects() {
    let mut publisher = publisher(usual(), OBJECTS);
    publisher.publish(1).expect("a first table");
    let number = ExternalNumber(7);
    publisher.add_external(number, &zones());
    // The cluster's own table does not change.
    assert!(publisher.publish(2).is_none());
    let first = publisher.take_external(number).expect("a first table");
    assert_eq!(ask(&first, "web.n.out.example A"), "A 192.0.2.1");
    assert!(publisher.take_external(number).is_none(), "it is taken once");
    let steps: [(Event, &str, &str); 5] = [
        (apply("svc n/web 10.96.0.1 http:80/tcp @192.0.2.2"), "web.n.out.example A", "A 192.0.2.2"),
        (apply("ns gone"), "1.2.0.192.in-addr.arpa PTR", "PTR web.gone.out.example"),
        (apply("svc n/inside 10.96.0.5 @a.example"), "inside.n.out.example A", "CNAME a.example"),
        (delete("svc n/web 10.96.0.1"), "web.n.out.example A", "NXDOMAIN"),
        (delete("ns n"), "alias.n.out.example A", "NXDOMAIN"),
    ];
    for (event, question, expected) in steps {
        publisher.apply(event);
        publisher.publish(3);
        let table = publisher.take_external(number).expect("it differs");
        assert_eq!(ask(&table, question), expected);
    }
    publisher.remove_external(number);
    publisher.apply(apply("ns n"));
    assert!(publisher.publish(4).is_some());
    assert!(publisher.take_external(number).is_none());
}
