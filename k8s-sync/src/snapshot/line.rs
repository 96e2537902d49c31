//! Objects of the model as lines of JSON, in Kubernetes' spelling: what `raw` reads and `convert`
//! accepts.
//!
//! Invariant: reading a line again gives the object that the model has.

use std::net::IpAddr;

use serde::Serialize;

use crate::cluster::{KeyParts, ModelEndpoint, ModelPod, ModelService, ModelSlice};
use crate::object::{ExternalTarget, ObjectKey, Port, Protocol, ServiceKind};
use crate::raw::Kind;

/// A line, without its end of line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a, T: Serialize> {
    api_version: &'static str,
    kind: &'static str,
    metadata: LineMetadata<'a>,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineMetadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<LineLabels<'a>>,
    /// The object was deleted after its line had been written.
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<&'static str>,
}

#[derive(Serialize)]
struct LineLabels<'a> {
    #[serde(rename = "kubernetes.io/service-name")]
    service: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct ServiceContent<'a> {
    spec: LineServiceSpec<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<LineServiceStatus<'a>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct LineServiceSpec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_name: Option<&'a str>,
    #[serde(rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    cluster_ip: Option<&'static str>,
    #[serde(rename = "clusterIPs", skip_serializing_if = "<[IpAddr]>::is_empty")]
    cluster_ips: &'a [IpAddr],
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    external_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<LinePort<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineServiceStatus<'a> {
    load_balancer: LineLoadBalancer<'a>,
}

#[derive(Serialize)]
struct LineLoadBalancer<'a> {
    ingress: Vec<LineIngress<'a>>,
}

#[derive(Serialize)]
struct LineIngress<'a> {
    hostname: &'a str,
}

#[derive(Serialize)]
struct LinePort<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SliceContent<'a> {
    /// Absent if the addresses are of both families, as those of an IPv4-mapped one.
    #[serde(skip_serializing_if = "Option::is_none")]
    address_type: Option<&'static str>,
    endpoints: Vec<LineEndpoint<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<LinePort<'a>>,
}

#[derive(Serialize)]
struct LineEndpoint<'a> {
    addresses: [LineAddress<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum LineAddress<'a> {
    Ip(IpAddr),
    Host(&'a str),
}

#[derive(Serialize)]
struct PodContent<'a> {
    spec: LinePodSpec,
    status: LinePodStatus<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinePodSpec {
    host_network: bool,
}

#[derive(Serialize)]
struct LinePodStatus<'a> {
    #[serde(rename = "podIPs")]
    pod_ips: Vec<LinePodIp<'a>>,
}

#[derive(Serialize)]
struct LinePodIp<'a> {
    ip: &'a IpAddr,
}

pub(super) fn namespace(name: &str, into: &mut Vec<u8>) -> usize {
    write(Kind::Namespace, metadata("", name), Nothing {}, into)
}

pub(super) fn service(key: KeyParts<'_>, service: &ModelService, into: &mut Vec<u8>) -> usize {
    let mut spec = LineServiceSpec {
        external_ips: service.external_addresses().collect(),
        ports: ports(&service.ports),
        ..LineServiceSpec::default()
    };
    match &service.kind {
        ServiceKind::ClusterIp(addresses) => spec.cluster_ips = addresses,
        ServiceKind::Headless => spec.cluster_ip = Some("None"),
        ServiceKind::ExternalName(name) => {
            (spec.r#type, spec.external_name) = (Some("ExternalName"), Some(&**name));
        }
    }
    let hosts = service.external.iter().filter_map(|target| match target {
        ExternalTarget::Host(host) => Some(LineIngress { hostname: host }),
        ExternalTarget::Address(_) => None,
    });
    let ingress: Vec<_> = hosts.collect();
    let has_hosts = !ingress.is_empty();
    let load_balancer = LineLoadBalancer { ingress };
    let status = has_hosts.then_some(LineServiceStatus { load_balancer });
    write(Kind::Service, of(key), ServiceContent { spec, status }, into)
}

pub(super) fn slice(
    key: KeyParts<'_>,
    service: &str,
    slice: &ModelSlice,
    into: &mut Vec<u8>,
) -> usize {
    let labels = Some(LineLabels { service });
    let addresses = slice.endpoints().map(|ModelEndpoint { address, label }| LineEndpoint {
        addresses: [LineAddress::Ip(address)],
        hostname: label,
    });
    let hosts = slice
        .hosts
        .iter()
        .map(|host| LineEndpoint { addresses: [LineAddress::Host(host)], hostname: None });
    let has_only =
        |is_such: fn(&IpAddr) -> bool| slice.endpoints().all(|endpoint| is_such(&endpoint.address));
    let address_type = match (slice.hosts.is_empty(), has_only(IpAddr::is_ipv4)) {
        (false, _) => Some("FQDN"),
        (true, true) => Some("IPv4"),
        (true, false) => has_only(IpAddr::is_ipv6).then_some("IPv6"),
    };
    let endpoints = addresses.chain(hosts).collect();
    let content = SliceContent { address_type, endpoints, ports: ports(&slice.ports) };
    write(Kind::EndpointSlice, LineMetadata { labels, ..of(key) }, content, into)
}

pub(super) fn pod(key: KeyParts<'_>, pod: &ModelPod, into: &mut Vec<u8>) -> usize {
    let pod_ips = pod.ips.iter().map(|ip| LinePodIp { ip }).collect();
    let content = PodContent {
        spec: LinePodSpec { host_network: pod.is_on_host_network },
        status: LinePodStatus { pod_ips },
    };
    write(Kind::Pod, of(key), content, into)
}

/// Takes back an earlier line of the object.
pub(super) fn deleted(kind: Kind, key: &ObjectKey, into: &mut Vec<u8>) {
    // Only its presence matters.
    let deletion_timestamp = Some("1970-01-01T00:00:00Z");
    write(kind, LineMetadata { deletion_timestamp, ..of(key.into()) }, Nothing {}, into);
}

fn of(key: KeyParts<'_>) -> LineMetadata<'_> {
    metadata(key.namespace, key.name)
}

fn metadata<'a>(namespace: &'a str, name: &'a str) -> LineMetadata<'a> {
    LineMetadata { name, namespace, labels: None, deletion_timestamp: None }
}

fn ports(ports: &[Port]) -> Vec<LinePort<'_>> {
    let protocol = |protocol| match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    let lines = ports.iter().map(|Port { name, protocol: of, number }| LinePort {
        name,
        protocol: protocol(*of),
        port: *number,
    });
    lines.collect()
}

/// Returns the length of all lines so far, as the functions above do.
fn write<T: Serialize>(
    kind: Kind,
    metadata: LineMetadata<'_>,
    content: T,
    into: &mut Vec<u8>,
) -> usize {
    let (api_version, kind) = (kind.api_version(), kind.name());
    line(&Line { api_version, kind, metadata, content }, into);
    into.len()
}

/// Appends any of the file's lines.
pub(super) fn line(line: &impl Serialize, into: &mut Vec<u8>) {
    serde_json::to_writer(&mut *into, line).expect("strings and numbers, into memory");
    into.push(b'\n');
}
