//! Odd objects that a real API server accepts: how ringdns answers for them, and how CoreDNS 1.15.0
//! does. docs/differences.md lists every difference with its reason.

use domain::base::iana::Rtype;
use e2e::cluster::Cluster;
use e2e::corefile::Corefile;
use e2e::question::Question;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use serde_json::{Value, json};

const COREFILE: &str = ".:5353 {
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa {
        manifests -
        endpoint_pod_names
        ttl 5
    }
}
";

fn headless(name: &str) -> Value {
    let metadata = json!({ "name": name, "namespace": "shop" });
    let spec = json!({ "clusterIP": "None", "ports": [{ "name": "http", "port": 80 }] });
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
}

fn slice(service: &str, address_type: &str, endpoints: &Value, ports: &Value) -> Value {
    let labels = json!({ "kubernetes.io/service-name": service });
    let name = format!("{service}-{}", address_type.to_ascii_lowercase());
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name, "namespace": "shop", "labels": labels },
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": ports,
    })
}

fn objects() -> Vec<Value> {
    let http = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]);
    let odd_ports = json!([
        { "name": "http", "port": 0, "protocol": "TCP" },
        { "name": "minus", "port": -1, "protocol": "TCP" },
        { "name": "ok", "port": 81, "protocol": "TCP" },
    ]);
    let pod = |name: &str| json!({ "kind": "Pod", "name": name, "namespace": "shop" });
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
        headless("cache"),
        slice(
            "cache",
            "IPv4",
            &json!([
                { "addresses": ["10.1.2.3"], "hostname": "good" },
                { "addresses": ["010.001.002.004"], "hostname": "zeros" },
                { "addresses": ["::ffff:10.1.2.5"], "hostname": "mapped" },
            ]),
            &http,
        ),
        headless("ports"),
        slice(
            "ports",
            "IPv4",
            &json!([{ "addresses": ["10.1.4.3"], "hostname": "good" }]),
            &odd_ports,
        ),
        headless("rds"),
        slice("rds", "FQDN", &json!([{ "addresses": ["db.example.org"] }]), &http),
        headless("mixed"),
        slice("mixed", "FQDN", &json!([{ "addresses": ["db.example.org"] }]), &http),
        slice("mixed", "IPv4", &json!([{ "addresses": ["10.1.5.1"] }]), &http),
        headless("dotted"),
        slice(
            "dotted",
            "IPv4",
            &json!([{ "addresses": ["10.1.6.1"], "targetRef": pod("web.7") }]),
            &http,
        ),
        // Its Service is gone.
        slice("gone", "IPv4", &json!([{ "addresses": ["10.1.7.1"], "hostname": "left" }]), &http),
    ]
}

/// Question, ringdns's answer, and CoreDNS's if it differs.
const ROWS: &[(&str, Rtype, &str, Option<&str>)] = &[
    (
        "cache.shop.svc",
        Rtype::A,
        "A 10.1.2.3, A 10.1.2.4, A 10.1.2.5",
        Some("A 10.1.2.3, A 10.1.2.5, CNAME 010.001.002.004."),
    ),
    ("good.cache.shop.svc", Rtype::A, "A 10.1.2.3", None),
    ("zeros.cache.shop.svc", Rtype::A, "A 10.1.2.4", Some("CNAME 010.001.002.004.")),
    ("mapped.cache.shop.svc", Rtype::A, "A 10.1.2.5", None),
    ("ports.shop.svc", Rtype::A, "A 10.1.4.3", None),
    ("_http._tcp.ports.shop.svc", Rtype::A, "A 10.1.4.3", None),
    (
        "_http._tcp.ports.shop.svc",
        Rtype::SRV,
        "NOERROR",
        Some("SRV 0 100 0 good.ports.shop.svc.cluster.local."),
    ),
    ("_minus._tcp.ports.shop.svc", Rtype::SRV, "NOERROR", Some("NOERROR")),
    (
        "_ok._tcp.ports.shop.svc",
        Rtype::SRV,
        "SRV 0 100 81 good.ports.shop.svc.cluster.local.",
        None,
    ),
    ("rds.shop.svc", Rtype::A, "CNAME db.example.org.", None),
    ("rds.shop.svc", Rtype::CNAME, "CNAME db.example.org.", None),
    ("rds.shop.svc", Rtype::SRV, "CNAME db.example.org.", Some("NOERROR")),
    ("_http._tcp.rds.shop.svc", Rtype::SRV, "NOERROR", None),
    ("_http._tcp.rds.shop.svc", Rtype::A, "NOERROR", Some("CNAME db.example.org.")),
    ("db-example-org.rds.shop.svc", Rtype::A, "NXDOMAIN", Some("CNAME db.example.org.")),
    ("mixed.shop.svc", Rtype::A, "A 10.1.5.1", Some("A 10.1.5.1, CNAME db.example.org.")),
    (
        "dotted.shop.svc",
        Rtype::SRV,
        "SRV 0 100 8080 10-1-6-1.dotted.shop.svc.cluster.local.",
        Some("SRV 0 100 8080 web.7.dotted.shop.svc.cluster.local."),
    ),
    ("10-1-6-1.dotted.shop.svc", Rtype::A, "A 10.1.6.1", Some("NXDOMAIN")),
    ("web.7.dotted.shop.svc", Rtype::A, "NXDOMAIN", None),
    ("left.gone.shop.svc", Rtype::A, "NXDOMAIN", None),
];

/// The same, by reversed address.
const REVERSE_ROWS: &[(&str, &str, Option<&str>)] = &[
    ("4.2.1.10", "PTR zeros.cache.shop.svc.cluster.local.", Some("NXDOMAIN")),
    ("5.2.1.10", "PTR mapped.cache.shop.svc.cluster.local.", Some("NXDOMAIN")),
    (
        "1.6.1.10",
        "PTR 10-1-6-1.dotted.shop.svc.cluster.local.",
        Some("PTR web.7.dotted.shop.svc.cluster.local."),
    ),
    ("1.7.1.10", "NXDOMAIN", Some("PTR left.gone.shop.svc.cluster.local.")),
];

#[test]
fn odd_objects_lose_only_their_odd_parts() {
    let Some(tools) = Tools::find("odd_objects") else { return };
    let cluster = Cluster::start(&tools);
    cluster.objects().apply(&objects());
    let corefile = Corefile::new(COREFILE).with_kubeconfig(&cluster.kubeconfig());
    let forward = ROWS.iter().map(|(name, rtype, ours, theirs)| {
        (format!("{name}.cluster.local."), *rtype, *ours, theirs.unwrap_or(ours))
    });
    let reverse = REVERSE_ROWS.iter().map(|(name, ours, theirs)| {
        (format!("{name}.in-addr.arpa."), Rtype::PTR, *ours, theirs.unwrap_or(ours))
    });
    let rows: Vec<_> = forward.chain(reverse).collect();
    let mut wrong = Vec::new();
    for kind in [Kind::Ringdns, Kind::CoreDns] {
        let server = Server::start(kind, &corefile, Some(&tools));
        for (name, rtype, ours, theirs) in &rows {
            let answer = server.answer(&Question::new(name.clone(), *rtype));
            let mut records: Vec<String> = answer
                .answer
                .iter()
                .map(|record| format!("{} {}", record.rtype(), record.data()))
                .collect();
            records.sort();
            let got = if records.is_empty() { answer.rcode.clone() } else { records.join(", ") };
            let expected = match kind {
                Kind::Ringdns => ours,
                Kind::CoreDns => theirs,
            };
            if got != *expected {
                wrong.push(format!("{kind:?} {name} {rtype}: {got}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
