//! The shapes of a Service: its spec, and the EndpointSlices behind it.

use serde_json::{Value, json};

use crate::sample_endpoint::EndpointMaker;

/// Each shape is created once in each namespace.
pub(crate) const SHAPES: [Shape; 23] = [
    Shape::Addressed(Addressed::OnePort),
    Shape::Addressed(Addressed::ManyPorts),
    Shape::Addressed(Addressed::UnnamedPort),
    Shape::Addressed(Addressed::NoEndpoints),
    Shape::Addressed(Addressed::DualStack),
    Shape::Addressed(Addressed::IpV6Only),
    Shape::Addressed(Addressed::LongName),
    Shape::Addressed(Addressed::LoadBalancer),
    Shape::Headless(Headless::Plain),
    Shape::Headless(Headless::StatefulSet),
    Shape::Headless(Headless::NotReady),
    Shape::Headless(Headless::DualStack),
    Shape::Headless(Headless::SharedHostname),
    Shape::Headless(Headless::ManyEndpoints),
    Shape::Headless(Headless::Duplicates),
    Shape::Headless(Headless::NoPorts),
    Shape::Headless(Headless::NoSlices),
    Shape::External(External::Outside),
    Shape::External(External::Inside),
    Shape::External(External::Missing),
    Shape::External(External::Itself),
    Shape::External(External::Chain),
    Shape::External(External::Address),
];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Addressed(Addressed),
    Headless(Headless),
    External(External),
}

/// With cluster addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Addressed {
    OnePort,
    ManyPorts,
    UnnamedPort,
    NoEndpoints,
    DualStack,
    IpV6Only,
    /// A label of 63 octets.
    LongName,
    LoadBalancer,
}

/// Without a cluster address: its addresses are those of its endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Headless {
    Plain,
    /// Endpoints with host names.
    StatefulSet,
    /// Endpoints that are not ready, in each of the ways that there are.
    NotReady,
    /// One host name with addresses of both families.
    DualStack,
    /// One host name with several addresses.
    SharedHostname,
    /// More than a response of 512 octets holds.
    ManyEndpoints,
    /// One address in two slices.
    Duplicates,
    NoPorts,
    NoSlices,
}

/// An ExternalName.
#[derive(Clone, Copy, Debug)]
pub(crate) enum External {
    Outside,
    Inside,
    Missing,
    Itself,
    /// Its target is another ExternalName.
    Chain,
    /// Its target looks like an address.
    Address,
}

/// An EndpointSlice to create.
pub(crate) struct Slice {
    pub(crate) family: &'static str,
    pub(crate) endpoints: Vec<Value>,
    pub(crate) ports: Value,
}

impl Shape {
    /// A name that shows the shape; `word` makes it unique.
    pub(crate) fn service_name(self, word: &str) -> String {
        match self {
            Self::Addressed(Addressed::LongName) => format!("l{word}{:o>58}", ""),
            // The chain leads to it by this name.
            Self::External(External::Inside) => "chained".to_owned(),
            Self::Addressed(shape) => format!("{shape:?}-{word}").to_ascii_lowercase(),
            Self::Headless(shape) => format!("hl-{shape:?}-{word}").to_ascii_lowercase(),
            Self::External(shape) => format!("ext-{shape:?}-{word}").to_ascii_lowercase(),
        }
    }

    pub(crate) fn spec(self, maker: &mut EndpointMaker<'_>, namespace: &str, name: &str) -> Value {
        match self {
            Self::Addressed(shape) => shape.spec(maker),
            Self::Headless(Headless::NoPorts) => json!({ "clusterIP": "None" }),
            Self::Headless(_) => json!({
                "clusterIP": "None",
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "ports": [service_port("http", 80, "TCP")],
            }),
            Self::External(shape) => {
                json!({ "type": "ExternalName", "externalName": shape.target(namespace, name) })
            }
        }
    }

    pub(crate) fn slices(self, maker: &mut EndpointMaker<'_>, name: &str) -> Vec<Slice> {
        match self {
            Self::Addressed(shape) => shape.slices(maker),
            Self::Headless(shape) => shape.slices(maker, name),
            Self::External(_) => Vec::new(),
        }
    }
}

impl Addressed {
    fn spec(self, maker: &mut EndpointMaker<'_>) -> Value {
        let http = service_port("http", 80, "TCP");
        match self {
            Self::OnePort | Self::NoEndpoints | Self::LongName => {
                json!({ "clusterIPs": [maker.cluster_v4()], "ports": [http] })
            }
            Self::ManyPorts => {
                let dns = service_port("dns", 53, "UDP");
                let dns_tcp = service_port("dns-tcp", 53, "TCP");
                let sctp = service_port("m2pa", 3565, "SCTP");
                json!({ "clusterIPs": [maker.cluster_v4()], "ports": [http, dns, dns_tcp, sctp] })
            }
            Self::UnnamedPort => {
                let port = json!({ "port": maker.rng.u16(1..), "protocol": "UDP" });
                json!({ "clusterIPs": [maker.cluster_v4()], "ports": [port] })
            }
            Self::DualStack => json!({
                "clusterIPs": [maker.cluster_v4(), maker.cluster_v6()],
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "ports": [http],
            }),
            Self::IpV6Only => json!({
                "clusterIPs": [maker.cluster_v6()],
                "ipFamilies": ["IPv6"],
                "ports": [http],
            }),
            Self::LoadBalancer => json!({
                "type": "LoadBalancer",
                "clusterIPs": [maker.cluster_v4()],
                "externalIPs": ["192.0.2.78"],
                "ports": [http],
            }),
        }
    }

    fn slices(self, maker: &mut EndpointMaker<'_>) -> Vec<Slice> {
        match self {
            Self::OnePort | Self::LongName | Self::LoadBalancer => {
                vec![v4(maker.plain_endpoints(3))]
            }
            Self::ManyPorts => {
                let ports =
                    json!([service_port("http", 8080, "TCP"), service_port("dns", 5353, "UDP"),]);
                vec![Slice { ports, ..v4(maker.plain_endpoints(1)) }]
            }
            Self::UnnamedPort => {
                let ports = json!([service_port("", 9000, "UDP")]);
                vec![Slice { ports, ..v4(maker.plain_endpoints(1)) }]
            }
            Self::NoEndpoints => vec![v4(Vec::new())],
            Self::DualStack => {
                let six = maker.endpoint("IPv6", json!({}));
                vec![v4(maker.plain_endpoints(1)), v6(vec![six])]
            }
            Self::IpV6Only => vec![v6(vec![maker.endpoint("IPv6", json!({}))])],
        }
    }
}

impl Headless {
    fn slices(self, maker: &mut EndpointMaker<'_>, service: &str) -> Vec<Slice> {
        match self {
            Self::Plain => vec![v4(maker.plain_endpoints(3))],
            Self::StatefulSet => {
                let endpoints = (0..3).map(|index| {
                    let name = format!("{service}-{index}");
                    let pod = json!({ "kind": "Pod", "name": name, "namespace": "any" });
                    maker.endpoint("IPv4", json!({ "hostname": name, "targetRef": pod }))
                });
                vec![v4(endpoints.collect())]
            }
            Self::NotReady => {
                let conditions = [
                    json!({ "ready": false }),
                    json!({ "ready": false, "serving": true, "terminating": true }),
                    json!({ "ready": true, "serving": true, "terminating": true }),
                    json!({ "serving": true }),
                ];
                let endpoints = conditions
                    .map(|conditions| maker.endpoint("IPv4", json!({ "conditions": conditions })));
                vec![v4(endpoints.to_vec())]
            }
            Self::DualStack => vec![
                v4(vec![maker.endpoint("IPv4", json!({ "hostname": "h0" }))]),
                v6(vec![maker.endpoint("IPv6", json!({ "hostname": "h0" }))]),
                v6(vec![maker.endpoint("IPv6", json!({}))]),
            ],
            Self::SharedHostname => {
                let endpoints =
                    (0..3).map(|_| maker.endpoint("IPv4", json!({ "hostname": "one" })));
                vec![v4(endpoints.collect())]
            }
            Self::ManyEndpoints => {
                let (first, second) = (maker.rng.usize(30..50), maker.rng.usize(50..70));
                vec![v4(maker.plain_endpoints(first)), v4(maker.plain_endpoints(second))]
            }
            Self::Duplicates => {
                let first = maker.plain_endpoints(2);
                let mut second = maker.plain_endpoints(1);
                second.push(first[0].clone());
                vec![v4(first), v4(second)]
            }
            Self::NoPorts => {
                let endpoint = maker.endpoint("IPv4", json!({ "hostname": "np0" }));
                vec![Slice { ports: Value::Null, ..v4(vec![endpoint]) }]
            }
            Self::NoSlices => Vec::new(),
        }
    }
}

impl External {
    fn target(self, namespace: &str, name: &str) -> String {
        match self {
            Self::Outside => "www.example.org".to_owned(),
            Self::Inside => "kubernetes.default.svc.cluster.local".to_owned(),
            Self::Missing => "nothing.default.svc.cluster.local".to_owned(),
            Self::Itself => format!("{name}.{namespace}.svc.cluster.local"),
            Self::Chain => format!("chained.{namespace}.svc.cluster.local"),
            Self::Address => "192.0.2.9".to_owned(),
        }
    }
}

fn v4(endpoints: Vec<Value>) -> Slice {
    Slice { family: "IPv4", endpoints, ports: json!([service_port("http", 8080, "TCP")]) }
}

fn v6(endpoints: Vec<Value>) -> Slice {
    Slice { family: "IPv6", ..v4(endpoints) }
}

fn service_port(name: &str, port: u16, protocol: &str) -> Value {
    json!({ "name": name, "port": port, "protocol": protocol })
}
