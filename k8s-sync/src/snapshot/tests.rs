//! Snapshots of models, read back.

use std::path::Path;
use std::sync::Arc;

use super::line;
use super::read::{Expected, parse};
use super::walk::{Noted, Progress, Walk};
use super::{HEADER_MARK, Header, Selection, VERSION};
use crate::cluster::{Cluster, ObjectId};
use crate::object::{
    Change, Endpoint, EndpointSlice, Event, ExternalTarget, Namespace, ObjectKey, Pod, Port,
    Protocol, Service, ServiceKind,
};
use crate::options::Options;
use crate::raw::Kind;

pub(super) fn options() -> Options {
    let pods = wire::pod::PodMode::Verified;
    Options { pods, endpoint_pod_names: true, ..Options::of_tests() }
}

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".into(), name: name.into() }
}

fn port(name: &str, protocol: Protocol, number: Option<u16>) -> Port {
    Port { name: name.into(), protocol, number }
}

pub(super) fn service(name: &str, kind: ServiceKind) -> Service {
    let ports = [port("http", Protocol::Tcp, Some(80)), port("", Protocol::Sctp, None)];
    Service { key: key(name), kind, ports: ports.into(), external: Box::default() }
}

pub(super) fn slice(name: &str, service: &str, addresses: &[&str]) -> EndpointSlice {
    let endpoint = |address: &&str| Endpoint {
        addresses: [address.parse().expect("an address")].into(),
        hostname: address.starts_with("10.").then(|| "db-0".into()),
        pod_name: Some("web-5d4".into()),
    };
    EndpointSlice {
        key: key(name),
        service: service.into(),
        endpoints: addresses.iter().map(endpoint).collect(),
        hosts: Box::default(),
        ports: [port("all", Protocol::Udp, None)].into(),
        triggered: None,
    }
}

fn pod(name: &str, is_on_host_network: bool) -> Pod {
    let ips = ["10.1.0.1", "fd00::1"].map(|ip| ip.parse().expect("an address"));
    Pod { key: key(name), ips: ips.into(), is_on_host_network }
}

/// A model with everything that a line can say.
pub(super) fn cluster() -> Cluster {
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
    let mut load_balanced = service("lb", ServiceKind::ClusterIp(ips(&["10.0.0.7", "fd00::7"])));
    load_balanced.external = [
        ExternalTarget::Address("192.0.2.1".parse().expect("an address")),
        ExternalTarget::Host("lb.example".into()),
    ]
    .into();
    let mut hosts = slice("hosts", "db", &[]);
    hosts.hosts = ["a.example".into()].into();
    let services = vec![
        service("api", ServiceKind::ClusterIp(ips(&["10.0.0.1"]))),
        service("db", ServiceKind::Headless),
        service("ext", ServiceKind::ExternalName("Other.example.org.".into())),
        load_balanced,
    ];
    let slices = vec![
        slice("v4", "api", &["10.1.0.1", "10.1.0.2"]),
        slice("v6", "db", &["fd00::2"]),
        slice("mapped", "db", &["::ffff:10.1.0.9", "fd00::9"]),
        slice("none", "db", &[]),
        hosts,
    ];
    let mut cluster = Cluster::new(Arc::new(options()));
    for event in [
        Event::Namespace(Change::Remembered(vec![Namespace { name: "shop".into() }])),
        Event::Service(Change::Remembered(services)),
        Event::EndpointSlice(Change::Remembered(slices)),
        Event::Pod(Change::Remembered(vec![pod("web", false), pod("node", true)])),
    ] {
        cluster.apply(event);
    }
    cluster
}

pub(super) fn header() -> Header {
    Header {
        snapshot: HEADER_MARK.to_owned(),
        version: VERSION,
        confirmed: "2026-11-29T16:35:02.5Z".parse().expect("a time"),
        server: Some("https://10.96.0.1:443".to_owned()),
        selection: Selection::of(&options()),
    }
}

/// The whole file.
pub(super) fn written(cluster: &Cluster) -> String {
    let mut bytes = Vec::new();
    line::line(&header(), &mut bytes);
    let mut walk = Walk::new();
    while walk.write(cluster, &mut bytes) == Progress::Underway {}
    String::from_utf8(bytes).expect("JSON")
}

pub(super) fn expected() -> Expected {
    Expected { selection: Selection::of(&options()), server: header().server }
}

/// The model that the file describes.
fn read(text: &str) -> Result<Cluster, String> {
    let state = parse(Path::new("FILE"), text.as_bytes(), &expected());
    let mut state = state.map_err(|error| error.to_string())?;
    let mut cluster = Cluster::new(Arc::new(options()));
    for kind in Kind::ALL {
        cluster.apply(state.take(kind));
    }
    Ok(cluster)
}

/// All objects as text, sorted.
fn contents(cluster: &Cluster) -> Vec<String> {
    let namespaces =
        cluster.namespaces_from(ObjectId::LOWEST).map(|(_, key, ())| format!("{key:?}"));
    let services =
        cluster.services_from(ObjectId::LOWEST).map(|(_, key, one)| format!("{key:?} {one:?}"));
    let slices = cluster.slices_from(ObjectId::LOWEST).map(|(_, key, one)| {
        let endpoints: Vec<_> = one.endpoints().collect();
        let service = cluster.service_name(one);
        format!("{key:?} {service} {endpoints:?} {:?} {:?}", one.hosts, one.ports)
    });
    let pods = cluster.pods_from(ObjectId::LOWEST).map(|(_, key, one)| format!("{key:?} {one:?}"));
    let mut all: Vec<_> = namespaces.chain(services).chain(slices).chain(pods).collect();
    all.sort();
    all
}

#[test]
fn a_model_is_read_back_as_it_was() {
    let cluster = cluster();
    let text = written(&cluster);
    assert_eq!(contents(&read(&text).expect("a snapshot")), contents(&cluster), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        concat!(
            r#"{"snapshot":"ringdns","version":1,"confirmed":"2026-11-29T16:35:02.5Z","#,
            r#""server":"https://10.96.0.1:443","#,
            r#""kinds":["Namespace","Service","EndpointSlice","Pod"],"#,
            r#""labels":null,"namespaceLabels":null,"endpointPodNames":true}"#,
        )
    );
    assert_eq!(
        lines[2],
        concat!(
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"#,
            r#""spec":{"clusterIPs":["10.0.0.1"],"#,
            r#""ports":[{"protocol":"SCTP"},{"name":"http","protocol":"TCP","port":80}]}}"#,
        )
    );
    assert_eq!(*lines.last().expect("an end"), r#"{"snapshot":"end","lines":12}"#);
}

#[test]
fn changes_behind_the_walk_are_in_the_file() {
    let mut cluster = cluster();
    let mut bytes = Vec::new();
    line::line(&header(), &mut bytes);
    let mut walk = Walk::new();
    // Namespaces and Services are written now; the rest comes later.
    for _ in 0..2 {
        assert_eq!(walk.write(&cluster, &mut bytes), Progress::Underway);
    }
    for event in [
        Event::Service(Change::Delete(key("api"))),
        Event::Service(Change::Apply(service("db", ServiceKind::ExternalName("x.y".into())))),
        Event::Service(Change::Apply(service("new", ServiceKind::Headless))),
        Event::Service(Change::Apply(service("brief", ServiceKind::Headless))),
        Event::Service(Change::Delete(key("brief"))),
        Event::EndpointSlice(Change::Delete(key("v4"))),
        Event::EndpointSlice(Change::Apply(slice("v6", "db", &["fd00::3"]))),
        Event::Namespace(Change::Apply(Namespace { name: "late".into() })),
    ] {
        assert_eq!(walk.note(&event), Noted::Kept, "{event:?}");
        cluster.apply(event);
    }
    while walk.write(&cluster, &mut bytes) == Progress::Underway {}
    let text = String::from_utf8(bytes).expect("JSON");
    assert_eq!(contents(&read(&text).expect("a snapshot")), contents(&cluster), "{text}");
    assert_eq!(walk.note(&Event::Pod(Change::InitDone)), Noted::Replaced);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_the_cause() {
    let good = written(&cluster());
    let lines: Vec<&str> = good.lines().collect();
    let without_last = format!("{}\n", lines[..lines.len() - 1].join("\n"));
    let without_one = good.replace(&format!("{}\n", lines[3]), "");
    for (text, error) in [
        (String::new(), "FILE:1: truncated: the last line must be the end mark"),
        ("apiVersion: v1\n".to_owned(), "FILE:1: not a snapshot of ringdns"),
        (
            good.replace(r#""version":1"#, r#""version":2,"new":3"#),
            "FILE:1: format 2; this ringdns reads format 1",
        ),
        (
            good.replace("10.96.0.1:443", "10.96.0.2:443"),
            "FILE:1: it is of the API server https://10.96.0.2:443, and this one is \
             https://10.96.0.1:443",
        ),
        (good.replace(r#","Pod"]"#, "]"), "FILE:1: it has no objects of kind Pod"),
        (
            good.replace(r#""labels":null"#, r#""labels":"a=b""#),
            "FILE:1: it was written with another `labels`",
        ),
        (good.replace("2026-11", "2026-13"), "FILE:1: column 70: "),
        (without_last, "FILE:14: truncated: the last line must be the end mark"),
        (good[..good.len() - 9].to_owned(), "FILE:14: truncated: the last line must be"),
        (without_one, "FILE:13: 11 objects before it, and 12 expected"),
        (good.replace(r#"["10.0.0.1"]"#, r#"["10.0.0"]"#), "FILE:3: Service shop/api: spec.cl"),
        (good.replace(r#"["10.0.0.1"]"#, r#"["10.0.0.1""#), "FILE:3: column "),
        (good.replace(r#""kind":"Pod""#, r#""kind":"Node""#), "FILE:12: unknown kind \"Node\""),
        (good.replace(lines[1], "{}"), "FILE:2: neither an object nor the end mark"),
    ] {
        let found = read(&text).map(|_| ()).expect_err("a refusal");
        assert!(found.starts_with(error), "{found}\nexpected {error}\n{text}");
    }
}
