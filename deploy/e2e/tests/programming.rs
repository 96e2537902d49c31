//! `coredns_kubernetes_dns_programming_duration_seconds`: both servers count a change of endpoints
//! with the time that the cluster's controllers note on the slice.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use e2e::cluster::Cluster;
use e2e::corefile::{Corefile, STOCK};
use e2e::deadline::poll;
use e2e::objects::service;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use e2e::{http, port};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);
const FAMILY: &str = "coredns_kubernetes_dns_programming_duration_seconds";

/// How long before it is stored a change is said to have happened.
const AGO: Duration = Duration::from_secs(2);

struct Subject {
    _server: Server,
    metrics: SocketAddr,
}

impl Subject {
    fn start(kind: Kind, cluster: &Cluster, tools: &Tools) -> Self {
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        let corefile = Corefile::new(STOCK).with_kubeconfig(&cluster.kubeconfig());
        let corefile = corefile.with_line(&format!("prometheus {metrics}"));
        Self { _server: Server::start(kind, &corefile, Some(tools)), metrics }
    }

    /// The sum of durations of this kind of Service, and their number.
    fn counted(&self, service_kind: &str) -> (f64, f64) {
        let label = format!("service_kind=\"{service_kind}\"");
        let [sum, count] = ["sum", "count"]
            .map(|part| http::metric(self.metrics, &format!("{FAMILY}_{part}"), &[&label]));
        (sum, count)
    }

    fn until_counted(&self, service_kind: &str, count: f64) {
        poll(LIMIT, &format!("{count} changes of {service_kind}"), || {
            (self.counted(service_kind).1 == count).then_some(())
        });
    }
}

/// The annotation of a slice whose change happened `AGO`.
fn trigger() -> Value {
    let at = jiff::Timestamp::try_from(SystemTime::now() - AGO).expect("a time");
    json!({ "endpoints.kubernetes.io/last-change-trigger-time": at.to_string() })
}

fn slice(service: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
            "annotations": annotations,
        },
        "addressType": "IPv4",
        "endpoints": endpoints(1),
        "ports": [],
    })
}

fn endpoints(number: usize) -> Value {
    json!([{ "addresses": [format!("10.244.1.{number}")], "conditions": { "ready": true } }])
}

#[test]
fn changes_of_endpoints_are_timed_as_in_coredns() {
    let Some(tools) = Tools::find("programming") else { return };
    let cluster = Cluster::start(&tools);
    let objects = cluster.objects();
    for (name, address) in [("web", "10.96.1.1"), ("db", "None"), ("manual", "None")] {
        objects.create(&service(name, address));
    }
    let [ringdns, coredns] =
        [Kind::Ringdns, Kind::CoreDns].map(|kind| Subject::start(kind, &cluster, &tools));
    objects.create(&slice("web", trigger()));
    objects.create(&slice("db", trigger()));
    // Nobody's selector made this one.
    objects.create(&slice("manual", json!({})));
    let changed = json!({ "metadata": { "annotations": trigger() }, "endpoints": endpoints(2) });
    objects.patch("EndpointSlice", "default", "db-1", changed);
    for subject in [&ringdns, &coredns] {
        for (service_kind, count) in [("cluster_ip", 1.0), ("headless_with_selector", 2.0)] {
            subject.until_counted(service_kind, count);
            let (sum, _) = subject.counted(service_kind);
            assert!(sum >= AGO.as_secs_f64() * count, "{service_kind}: {sum} s for {count}");
        }
        assert_eq!(subject.counted("headless_without_selector").1, 0.0);
    }
    // What a server finds at its start says nothing about how fast it is; CoreDNS counts it.
    let fresh = Subject::start(Kind::Ringdns, &cluster, &tools);
    objects.create(&service("after", "10.96.1.9"));
    objects.create(&slice("after", trigger()));
    fresh.until_counted("cluster_ip", 1.0);
    assert_eq!(fresh.counted("headless_with_selector").1, 0.0);
}
