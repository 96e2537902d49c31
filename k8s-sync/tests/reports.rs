//! Situations from public reports, as manifests, with the correct answers.

mod objects;

use std::sync::Arc;

use k8s_sync::manifests::Manifests;
use k8s_sync::options::Options;
use k8s_sync::publish::Publisher;
use k8s_sync::status::SourceStatus;
use objects::{ask, usual};
use wire::hash::HashSeed;
use wire::table::Table;

async fn table(options: Options, text: &str) -> Arc<Table> {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("x.yaml");
    std::fs::write(&file, format!("apiVersion: v1\nkind: List\nitems:{text}")).expect("a file");
    let status = Arc::new(SourceStatus::new(&options));
    let manifests = Manifests::load(&[file], &options, status).expect("well-formed text");
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let source = manifests.run(sender);
    let mut publisher = Publisher::new(Arc::new(options), HashSeed::new(7));
    let consumer = async {
        while !publisher.is_synced() {
            publisher.apply(events.recv().await.expect("lists of all kinds"));
        }
    };
    tokio::select! {
        () = source => panic!("the source ended"),
        () = consumer => {}
    }
    publisher.publish(1).expect("a first table")
}

/// `text`: the items of a List.
#[track_caller]
fn check(options: Options, text: &str, rows: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let table = runtime.expect("a runtime").block_on(table(options, text));
    for (question, expected) in rows {
        assert_eq!(ask(&table, question), *expected, "{question} of {text}");
    }
}

/// coredns#5093, kubernetes#100895, #55158: kube-apiserver 1.34 stores these.
#[test]
fn odd_addresses_and_ports() {
    check(
        usual(),
        "
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: Service, metadata: {name: cache, namespace: shop}, spec: {clusterIP: \
  None, clusterIPs: [None], ports: [{name: http, port: 80}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: cache-1, namespace: shop, labels: {kubernetes.io/service-name: cache}}
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints:
  - {addresses: [10.1.2.3], conditions: {ready: true}, hostname: good}
  - {addresses: [010.001.002.004], conditions: {ready: true}, hostname: zeros}
  - {addresses: ['::ffff:10.1.2.5'], conditions: {ready: true}, hostname: mapped}
  - {addresses: [10.1.2], conditions: {ready: true}, hostname: short}
- {apiVersion: v1, kind: Service, metadata: {name: portless, namespace: shop}, spec: {clusterIP: \
  None, ports: [{name: http, port: 80}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: portless-1, namespace: shop, labels: {kubernetes.io/service-name: portless}}
  addressType: IPv4
  ports: [{name: http, port: 0, protocol: TCP}, {name: ok, port: 81}, {name: minus, port: -1}]
  endpoints: [{addresses: [10.1.4.3], conditions: {ready: true}, hostname: good}]
- {apiVersion: v1, kind: Service, metadata: {name: legacy, namespace: shop}, spec: {clusterIP: \
  10.96.011.012, clusterIPs: [10.96.011.012], ports: [{name: http, port: 80}]}}
",
        &[
            ("cache.shop.svc.cluster.local A", "A 10.1.2.3, A 10.1.2.4, A 10.1.2.5"),
            ("good.cache.shop.svc.cluster.local A", "A 10.1.2.3"),
            ("zeros.cache.shop.svc.cluster.local A", "A 10.1.2.4"),
            ("mapped.cache.shop.svc.cluster.local A", "A 10.1.2.5"),
            ("short.cache.shop.svc.cluster.local A", "NXDOMAIN"),
            ("4.2.1.10.in-addr.arpa PTR", "PTR zeros.cache.shop.svc.cluster.local"),
            ("portless.shop.svc.cluster.local A", "A 10.1.4.3"),
            ("good.portless.shop.svc.cluster.local A", "A 10.1.4.3"),
            ("_http._tcp.portless.shop.svc.cluster.local A", "A 10.1.4.3"),
            ("_http._tcp.portless.shop.svc.cluster.local SRV", "NODATA"),
            (
                "portless.shop.svc.cluster.local SRV",
                "SRV 0 100 81 good.portless.shop.svc.cluster.local + \
                 good.portless.shop.svc.cluster.local A 10.1.4.3",
            ),
            ("legacy.shop.svc.cluster.local A", "A 10.96.11.12"),
            ("12.11.96.10.in-addr.arpa PTR", "PTR legacy.shop.svc.cluster.local"),
        ],
    );
}

/// A headless Service of `shop`.
fn headless(name: &str) -> String {
    format!(
        "\n- {{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, spec: \
         {{clusterIP: None}}}}"
    )
}

/// A slice of `shop`.
fn slice(name: &str, service: &str, rest: &str) -> String {
    format!(
        "\n- {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, \
         namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}, {rest}}}"
    )
}

/// istio#34995, kubernetes#105172, #114210.
#[test]
fn endpoints_that_are_host_names() {
    let fqdn = |name: &str, service: &str, hosts: &str| {
        let rest = format!(
            "addressType: FQDN, ports: [{{name: db, port: 3306}}], endpoints: [{{addresses: \
             [{hosts}]}}]"
        );
        slice(name, service, &rest)
    };
    let text = [
        headless("rds"),
        fqdn("rds-1", "rds", "DB.example.org."),
        fqdn("rds-2", "rds", "db.example.org"),
        headless("inside"),
        fqdn("inside-1", "inside", "web.shop.svc.cluster.local"),
        "\n- {apiVersion: v1, kind: Service, metadata: {name: ext, namespace: shop}, spec: {type: \
         ExternalName, externalName: inside.shop.svc.cluster.local}}"
            .to_owned(),
        headless("two"),
        fqdn("two-1", "two", "b.example.org, a.example.org"),
        headless("mixed"),
        fqdn("mixed-1", "mixed", "db.example.org"),
        slice("mixed-2", "mixed", "addressType: IPv4, endpoints: [{addresses: [10.1.0.1]}]"),
        "\n- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: \
         {clusterIP: 10.96.0.1}}"
            .to_owned(),
        fqdn("web-1", "web", "db.example.org"),
        "\n- {apiVersion: v1, kind: Service, metadata: {name: empty, namespace: shop}, spec: \
         {clusterIP: 10.96.0.2}}"
            .to_owned(),
    ]
    .concat();
    let options = Options { ignore_empty_service: true, ..usual() };
    check(
        options,
        &text,
        &[
            ("rds.shop.svc.cluster.local A", "CNAME db.example.org"),
            ("rds.shop.svc.cluster.local AAAA", "CNAME db.example.org"),
            ("rds.shop.svc.cluster.local CNAME", "CNAME db.example.org"),
            ("_db._tcp.rds.shop.svc.cluster.local SRV", "NODATA"),
            ("_tcp.rds.shop.svc.cluster.local SRV", "NODATA"),
            ("_db._udp.rds.shop.svc.cluster.local SRV", "NXDOMAIN"),
            ("x.rds.shop.svc.cluster.local A", "NXDOMAIN"),
            (
                "inside.shop.svc.cluster.local A",
                "CNAME web.shop.svc.cluster.local, web.shop.svc.cluster.local A 10.96.0.1",
            ),
            (
                "ext.shop.svc.cluster.local A",
                "CNAME inside.shop.svc.cluster.local, \
                 inside.shop.svc.cluster.local CNAME web.shop.svc.cluster.local, \
                 web.shop.svc.cluster.local A 10.96.0.1",
            ),
            ("two.shop.svc.cluster.local A", "CNAME a.example.org"),
            ("mixed.shop.svc.cluster.local A", "A 10.1.0.1"),
            // A host name counts as an endpoint. It changes nothing else if there is a cluster IP.
            ("web.shop.svc.cluster.local A", "A 10.96.0.1"),
            ("empty.shop.svc.cluster.local A", "NXDOMAIN"),
        ],
    );
}

/// kubernetes/dns#116; kubernetes#124207, coredns#8408; kubernetes#80175.
#[test]
fn shared_host_names_pods_and_ports() {
    let text = [
        headless("same"),
        slice(
            "same-1",
            "same",
            "addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [10.244.2.1], \
             hostname: depl}, {addresses: [10.244.2.2], hostname: depl}]",
        ),
        headless("first"),
        slice(
            "first-1",
            "first",
            "addressType: IPv4, endpoints: [{addresses: [10.244.3.1], hostname: first-0}]",
        ),
        headless("shared"),
        slice("shared-1", "shared", "addressType: IPv4, endpoints: [{addresses: [10.244.3.1]}]"),
        headless("mongodb"),
        slice(
            "mongodb-1",
            "mongodb",
            "addressType: IPv4, ports: [{name: '', port: 27017}], endpoints: [{addresses: \
             [192.168.2.2]}, {addresses: [192.168.2.3]}]",
        ),
    ]
    .concat();
    check(
        usual(),
        &text,
        &[
            ("same.shop.svc.cluster.local A", "A 10.244.2.1, A 10.244.2.2"),
            ("depl.same.shop.svc.cluster.local A", "A 10.244.2.1, A 10.244.2.2"),
            (
                "same.shop.svc.cluster.local SRV",
                "SRV 0 50 8080 depl.same.shop.svc.cluster.local + \
                 depl.same.shop.svc.cluster.local A 10.244.2.1, depl.same.shop.svc.cluster.local \
                 A 10.244.2.2",
            ),
            ("1.2.244.10.in-addr.arpa PTR", "PTR depl.same.shop.svc.cluster.local"),
            ("first-0.first.shop.svc.cluster.local A", "A 10.244.3.1"),
            ("first-0.shared.shop.svc.cluster.local A", "NXDOMAIN"),
            ("10-244-3-1.shared.shop.svc.cluster.local A", "A 10.244.3.1"),
            (
                "1.3.244.10.in-addr.arpa PTR",
                "PTR 10-244-3-1.shared.shop.svc.cluster.local, PTR \
                 first-0.first.shop.svc.cluster.local",
            ),
            ("_mongodb._tcp.mongodb.shop.svc.cluster.local SRV", "NXDOMAIN"),
            ("mongodb.shop.svc.cluster.local A", "A 192.168.2.2, A 192.168.2.3"),
        ],
    );
}

/// coredns#7430; kubernetes#120922; skipper#3151, kubernetes#49722; kubernetes#94505.
#[test]
fn missing_families_and_ports() {
    let six = ["2001:db8::", "2001:db8:1::7", "2001:db8:3333:4444:5555:6666::"];
    let six = six.map(|address| format!("{{addresses: ['{address}']}}")).join(", ");
    let text = [
        headless("six"),
        slice(
            "six-1",
            "six",
            &format!("addressType: IPv6, ports: [{{port: 8080}}], endpoints: [{six}]"),
        ),
        "\n- {apiVersion: v1, kind: Service, metadata: {name: shop, namespace: shop}, spec: \
         {type: ExternalName, externalName: trino.shop.svc.cluster.local}}"
            .to_owned(),
        "\n- {apiVersion: v1, kind: Service, metadata: {name: trino, namespace: shop}, spec: \
         {clusterIP: 10.96.3.7}}"
            .to_owned(),
        headless("nop"),
        slice(
            "nop-1",
            "nop",
            "addressType: IPv4, ports: [{name: x, port: null}], endpoints: [{addresses: \
             [10.244.1.1], hostname: n1}]",
        ),
        slice(
            "nop-2",
            "nop",
            "addressType: IPv4, ports: null, endpoints: [{addresses: [10.244.1.2], hostname: n2}]",
        ),
        "\n- {apiVersion: v1, kind: Service, metadata: {name: v6svc, namespace: shop}, spec: \
         {clusterIP: 'fd00:10:96::55', ipFamilies: [IPv4]}}"
            .to_owned(),
        slice(
            "v6svc-1",
            "v6svc",
            "addressType: IPv4, endpoints: [{addresses: [10.244.4.1], hostname: a}]",
        ),
    ]
    .concat();
    check(
        usual(),
        &text,
        &[
            ("2001-db8--0.six.shop.svc.cluster.local AAAA", "AAAA 2001:db8::"),
            ("2001-db8-1--7.six.shop.svc.cluster.local AAAA", "AAAA 2001:db8:1::7"),
            (
                "2001-db8-3333-4444-5555-6666--0.six.shop.svc.cluster.local AAAA",
                "AAAA 2001:db8:3333:4444:5555:6666::",
            ),
            ("2001-db8-3333-4444-5555-6666--.six.shop.svc.cluster.local AAAA", "NXDOMAIN"),
            ("trino.shop.shop.svc.cluster.local A", "NXDOMAIN"),
            (
                "shop.shop.svc.cluster.local A",
                "CNAME trino.shop.svc.cluster.local, trino.shop.svc.cluster.local A 10.96.3.7",
            ),
            ("nop.shop.svc.cluster.local A", "A 10.244.1.1, A 10.244.1.2"),
            ("nop.shop.svc.cluster.local SRV", "NODATA"),
            ("n2.nop.shop.svc.cluster.local A", "A 10.244.1.2"),
            ("v6svc.shop.svc.cluster.local A", "NODATA"),
            ("v6svc.shop.svc.cluster.local AAAA", "AAAA fd00:10:96::55"),
            ("a.v6svc.shop.svc.cluster.local A", "A 10.244.4.1"),
        ],
    );
}

/// Kubernetes now uses slices. Older dumps contain these.
#[test]
fn old_kinds() {
    let beta = slice(
        "beta-1",
        "beta",
        "addressType: IPv4, endpoints: [{addresses: [10.244.0.5], hostname: a}]",
    );
    let endpoints = |name: &str, ip: &str| {
        format!(
            "\n- {{apiVersion: v1, kind: Endpoints, metadata: {{name: {name}, namespace: shop}}, \
             subsets: [{{addresses: [{{ip: {ip}, hostname: b}}], ports: [{{name: http, port: \
             8080}}]}}]}}"
        )
    };
    let text = [
        headless("beta"),
        beta.replace("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"),
        endpoints("beta", "10.244.0.9"),
        headless("old"),
        endpoints("old", "10.244.0.6"),
    ]
    .concat();
    check(
        usual(),
        &text,
        &[
            ("beta.shop.svc.cluster.local A", "A 10.244.0.5"),
            ("a.beta.shop.svc.cluster.local A", "A 10.244.0.5"),
            ("old.shop.svc.cluster.local A", "A 10.244.0.6"),
            ("b.old.shop.svc.cluster.local A", "A 10.244.0.6"),
            (
                "_http._tcp.old.shop.svc.cluster.local SRV",
                "SRV 0 100 8080 b.old.shop.svc.cluster.local + b.old.shop.svc.cluster.local A \
                 10.244.0.6",
            ),
        ],
    );
}
