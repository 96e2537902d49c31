//! Validates Kubernetes objects and turns them into the objects that answers are made from. This is
//! the only place that validates them.
//!
//! Invariant: records can be made from the results. Names are single lower-case labels, addresses
//! parse and have the declared family, ports and protocols exist. An invalid part costs only
//! itself: a bad address costs its endpoint, a bad port its SRV record. An object is refused only
//! if nothing usable is left. Every fault is reported with its path.

pub(crate) mod address;
mod ports;
pub mod raw_object;

use std::fmt::Display;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::fault::{Fault, Faults, Problem};
use crate::object::{
    Endpoint, EndpointSlice, ExternalTarget, Namespace, ObjectKey, Pod, Port, Service, ServiceKind,
};
use crate::raw::field::{Field, Shape};
use crate::raw::{
    RawEndpointSlice, RawEndpoints, RawIngress, RawLabels, RawMetadata, RawNamespace, RawPod,
    RawPort, RawService, RawServiceStatus, RawTargetRef,
};
use address::{AddressType, Addresses, address};
use ports::{PortNumber, ports};

/// The label that ties a slice to its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Ignores the phase: a Namespace that is Terminating still exists, and so do its names.
///
/// # Errors
/// It has no name.
pub fn namespace(raw: RawNamespace, faults: &mut Faults) -> Result<Namespace, Fault> {
    check_labels(&raw.metadata, faults);
    Ok(Namespace { name: required(raw.metadata.name, "metadata.name", Problem::NoName)? })
}

/// # Errors
/// The Service has no name or no address, or its ExternalName is not a host name.
pub fn service(raw: RawService, faults: &mut Faults) -> Result<Service, Fault> {
    check_labels(&raw.metadata, faults);
    let key = ObjectKey {
        namespace: required(raw.metadata.namespace, "metadata.namespace", Problem::NoNamespace)?,
        name: required(raw.metadata.name, "metadata.name", Problem::NoName)?,
    };
    let spec = faults.read(raw.spec, "spec").unwrap_or_default();
    let is_external =
        faults.read(spec.r#type, "spec.type").is_some_and(|name| name == "ExternalName");
    let kind = if is_external {
        ServiceKind::ExternalName(external_name(spec.external_name)?)
    } else {
        cluster_ips(spec.cluster_ips, spec.cluster_ip, faults)?
    };
    let ports = ports(spec.ports, "spec.ports", faults, |path, port, faults| {
        if port.number == PortNumber::Absent {
            faults.note(format_args!("{path}.port"), Problem::NoPort);
        }
        Port { name: port.name, protocol: port.protocol, number: port.number.good() }
    });
    let external = external_targets(spec.external_ips, raw.status, faults);
    Ok(Service { key, kind, ports, external })
}

/// `None` if the slice names no Service, and so does not affect any answer.
///
/// # Errors
/// It has no name, or the name of its Service is invalid.
pub fn endpoint_slice(
    raw: RawEndpointSlice,
    faults: &mut Faults,
) -> Result<Option<EndpointSlice>, Fault> {
    check_labels(&raw.metadata, faults);
    let Some(service) = raw.metadata.label(SERVICE_NAME_LABEL).map(str::to_owned) else {
        return Ok(None);
    };
    let triggered = triggered(&raw.metadata);
    let key = slice_key(raw.metadata)?;
    if !is_label(&service) {
        let field = format!("metadata.labels[{SERVICE_NAME_LABEL:?}]");
        return Err(Fault::new(field, Problem::Label(service.into())));
    }
    let address_type = match faults.read(raw.address_type, "addressType").as_deref() {
        Some("IPv4") => AddressType::V4,
        Some("IPv6") => AddressType::V6,
        Some("FQDN") => AddressType::Fqdn,
        other => {
            let value = other.unwrap_or_default().into();
            faults.note("addressType", Problem::AddressType(value));
            AddressType::Unknown
        }
    };
    let found = faults.read(raw.endpoints, "endpoints").unwrap_or_default();
    let (mut endpoints, mut hosts) = (Vec::with_capacity(found.len()), Vec::new());
    for (index, endpoint) in found.into_iter().enumerate() {
        let path = format_args!("endpoints[{index}]");
        let Some(endpoint) = read_element(endpoint, path, faults) else { continue };
        // Kubernetes, EndpointConditions: nil means unknown, which consumers should interpret as
        // ready.
        let conditions = faults.read(endpoint.conditions, format_args!("{path}.conditions"));
        let ready = conditions.map(|conditions| conditions.ready).unwrap_or_default();
        if faults.read(ready, format_args!("{path}.conditions.ready")) == Some(false) {
            continue;
        }
        let list = format_args!("{path}.addresses");
        if address_type == AddressType::Fqdn {
            let texts = texts(endpoint.addresses, list, faults);
            if texts.is_empty() {
                faults.note(list, Problem::NoAddress);
            }
            hosts.extend(texts.into_iter().filter_map(|(index, text)| {
                let path = format_args!("{list}[{index}]");
                host_name(text).map_err(|text| faults.note(path, Problem::HostName(text))).ok()
            }));
            continue;
        }
        let addresses = endpoint_addresses(endpoint.addresses, list, address_type, faults);
        if !addresses.is_empty() {
            let names = (endpoint.hostname, endpoint.target_ref);
            endpoints.push(named_endpoint(addresses, names, path, faults));
        }
    }
    let ports = slice_ports(raw.ports, "ports", faults);
    let (endpoints, hosts) = (endpoints.into(), hosts.into());
    Ok(Some(EndpointSlice { key, service: service.into(), endpoints, hosts, ports, triggered }))
}

/// Returns one slice per subset, as Kubernetes' own mirroring does. Their names cannot be those of
/// real slices.
///
/// # Errors
/// It has no name.
pub fn endpoints(raw: RawEndpoints, faults: &mut Faults) -> Result<Vec<EndpointSlice>, Fault> {
    check_labels(&raw.metadata, faults);
    let key = ObjectKey {
        namespace: required(raw.metadata.namespace, "metadata.namespace", Problem::NoNamespace)?,
        name: required(raw.metadata.name, "metadata.name", Problem::NoName)?,
    };
    let mut slices = Vec::new();
    let subsets = faults.read(raw.subsets, "subsets").unwrap_or_default();
    for (index, subset) in subsets.into_iter().enumerate() {
        let path = format_args!("subsets[{index}]");
        let Some(subset) = read_element(subset, path, faults) else { continue };
        let mut endpoints = Vec::new();
        let list = format_args!("{path}.addresses");
        let found = faults.read(subset.addresses, list).unwrap_or_default();
        for (index, address) in found.into_iter().enumerate() {
            let path = format_args!("{list}[{index}]");
            let Some(address) = read_element(address, path, faults) else { continue };
            let ip = faults.read(address.ip, format_args!("{path}.ip")).unwrap_or_default();
            let mut addresses = Addresses::with_capacity(AddressType::Unknown, 1);
            addresses.add(&ip, format_args!("{path}.ip"), faults);
            let addresses = addresses.into_boxed();
            if !addresses.is_empty() {
                let names = (address.hostname, address.target_ref);
                endpoints.push(named_endpoint(addresses, names, path, faults));
            }
        }
        let ports = slice_ports(subset.ports, format_args!("{path}.ports"), faults);
        let name = format!("{}/{index}", key.name).into();
        slices.push(EndpointSlice {
            key: ObjectKey { namespace: key.namespace.clone(), name },
            service: key.name.clone(),
            endpoints: endpoints.into(),
            hosts: Box::default(),
            ports,
            triggered: None,
        });
    }
    Ok(slices)
}

/// `None` for Pods that have ended, are being deleted, or have no address yet.
///
/// # Errors
/// It has no name or no namespace.
pub fn pod(raw: RawPod, faults: &mut Faults) -> Result<Option<Pod>, Fault> {
    check_labels(&raw.metadata, faults);
    let status = faults.read(raw.status, "status").unwrap_or_default();
    let phase = faults.read(status.phase, "status.phase");
    let is_over = matches!(phase.as_deref(), Some("Succeeded" | "Failed" | "Unknown"));
    if is_over || raw.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let key = slice_key(raw.metadata)?;
    let spec = faults.read(raw.spec, "spec").unwrap_or_default();
    let is_on_host_network = faults.read(spec.host_network, "spec.hostNetwork").unwrap_or_default();
    let many = faults.read(status.pod_ips, "status.podIPs").unwrap_or_default();
    let many = many.into_iter().enumerate().filter_map(|(index, pod)| {
        let ip = faults.read(pod, format_args!("status.podIPs[{index}]"))?.ip;
        Some((index, faults.read(ip, format_args!("status.podIPs[{index}].ip"))?))
    });
    let many: Vec<(usize, String)> = many.collect();
    let mut ips = Addresses::with_capacity(AddressType::Unknown, many.len());
    for (index, ip) in many {
        ips.add(&ip, format_args!("status.podIPs[{index}].ip"), faults);
    }
    if ips.is_empty() {
        let one = faults.read(status.pod_ip, "status.podIP").filter(|ip| !ip.is_empty());
        if let Some(ip) = one {
            ips.add(&ip, "status.podIP", faults);
        }
    }
    let ips = ips.into_boxed();
    Ok((!ips.is_empty()).then_some(Pod { key, ips, is_on_host_network }))
}

/// Selectors read labels, and a label ties a slice to its Service. An invalid label counts as
/// absent.
fn check_labels(metadata: &RawMetadata, faults: &mut Faults) {
    match &metadata.labels {
        Field::Absent => {}
        Field::WrongType(found) => {
            let expected = RawLabels::EXPECTED;
            faults.note("metadata.labels", Problem::WrongType { found: found.clone(), expected });
        }
        Field::Is(labels) => {
            for (key, value) in labels {
                if let Field::WrongType(found) = value {
                    let (found, expected) = (found.clone(), String::EXPECTED);
                    let path = format_args!("metadata.labels[{key:?}]");
                    faults.note(path, Problem::WrongType { found, expected });
                }
            }
        }
    }
}

/// The name of a slice or Pod is not part of any answer. The API server allows dots in it.
fn slice_key(metadata: RawMetadata) -> Result<ObjectKey, Fault> {
    let namespace = required(metadata.namespace, "metadata.namespace", Problem::NoNamespace)?;
    match metadata.name {
        Field::Is(name) if !name.is_empty() => Ok(ObjectKey { namespace, name: name.into() }),
        Field::WrongType(found) => {
            let problem = Problem::WrongType { found, expected: String::EXPECTED };
            Err(Fault::new("metadata.name", problem))
        }
        Field::Is(_) | Field::Absent => Err(Fault::new("metadata.name", Problem::NoName)),
    }
}

/// An invalid time counts as none: it affects a metric only.
fn triggered(metadata: &RawMetadata) -> Option<SystemTime> {
    let time: jiff::Timestamp =
        metadata.annotations.last_change_trigger_time.as_ref()?.parse().ok()?;
    Some(time.into())
}

/// An element of a list. Like in Go, null stands for an element without fields.
fn read_element<T: Shape + Default>(
    element: Field<T>,
    path: impl Display,
    faults: &mut Faults,
) -> Option<T> {
    match element {
        Field::Absent => Some(T::default()),
        element => faults.read(element, path),
    }
}

/// The strings of a list, with their indexes.
fn texts(
    list: Field<Vec<Field<String>>>,
    path: impl Display + Copy,
    faults: &mut Faults,
) -> Vec<(usize, String)> {
    let list = faults.read(list, path).unwrap_or_default();
    let texts = list.into_iter().enumerate().filter_map(|(index, text)| {
        let text = read_element(text, format_args!("{path}[{index}]"), faults)?;
        Some((index, text))
    });
    texts.collect()
}

/// The addresses of an endpoint, which must have one.
fn endpoint_addresses(
    list: Field<Vec<Field<String>>>,
    path: impl Display + Copy,
    address_type: AddressType,
    faults: &mut Faults,
) -> Box<[IpAddr]> {
    let list = faults.read(list, path).unwrap_or_default();
    let mut addresses = Addresses::with_capacity(address_type, list.len());
    let mut has_text = false;
    for (index, text) in list.into_iter().enumerate() {
        let path = format_args!("{path}[{index}]");
        if let Some(text) = read_element(text, path, faults) {
            has_text = true;
            addresses.add(&text, path, faults);
        }
    }
    if !has_text {
        faults.note(path, Problem::NoAddress);
    }
    addresses.into_boxed()
}

/// `names` is (`hostname`, `targetRef`). The endpoint is kept if either is invalid.
fn named_endpoint(
    addresses: Box<[IpAddr]>,
    (hostname, target): (Field<String>, Field<RawTargetRef>),
    path: impl Display,
    faults: &mut Faults,
) -> Endpoint {
    let hostname = faults.read(hostname, format_args!("{path}.hostname"));
    let hostname = hostname.filter(|name| !name.is_empty()).and_then(|name| {
        let read = label(name);
        read.map_err(|problem| faults.note(format_args!("{path}.hostname"), problem)).ok()
    });
    // Like CoreDNS, accept any kind of target. If the name is not a label, the address is used
    // instead.
    let target = faults.read(target, format_args!("{path}.targetRef"));
    let target = target.map(|target| target.name).unwrap_or_default();
    let pod_name = faults.read(target, format_args!("{path}.targetRef.name"));
    let pod_name = pod_name.filter(|name| is_label(name)).map(Box::from);
    Endpoint { addresses, hostname, pod_name }
}

/// `spec.clusterIPs`, else `spec.clusterIP`. The first valid value decides whether the Service is
/// headless.
fn cluster_ips(
    many: Field<Vec<Field<String>>>,
    one: Field<String>,
    faults: &mut Faults,
) -> Result<ServiceKind, Fault> {
    let many = texts(many, "spec.clusterIPs", faults);
    let one = faults.read(one, "spec.clusterIP").filter(|text| !text.is_empty());
    if let (Some(one), Some((_, first))) = (&one, many.first())
        && !first.is_empty()
        && one != first
        && (address(one), address(first)) != (None, None)
        && address(one) != address(first)
    {
        let (one, first) = (one.as_str().into(), first.as_str().into());
        faults.note("spec.clusterIP", Problem::ClusterIpsDisagree { one, first });
    }
    let one: Vec<_> = one.map(|text| (0, text)).into_iter().collect();
    let (mut bad, mut addresses) = (Vec::new(), Vec::with_capacity(many.len()));
    for (list, is_many) in [(many, true), (one, false)] {
        for (index, text) in list {
            let path = || match is_many {
                true => format!("spec.clusterIPs[{index}]"),
                false => "spec.clusterIP".to_owned(),
            };
            match (text.as_str(), address(&text)) {
                ("", _) => {}
                ("None", _) if addresses.is_empty() => {
                    bad.into_iter().for_each(|fault| faults.add(fault));
                    return Ok(ServiceKind::Headless);
                }
                (_, None) => bad.push(Fault::new(path(), Problem::Address(text.into()))),
                (_, Some(address)) if addresses.contains(&address) => {
                    bad.push(Fault::new(path(), Problem::AddressTwice(address)));
                }
                (_, Some(address)) => addresses.push(address),
            }
        }
        if !addresses.is_empty() {
            bad.into_iter().for_each(|fault| faults.add(fault));
            return Ok(ServiceKind::ClusterIp(addresses.into()));
        }
    }
    let none = || Fault::new("spec.clusterIP", Problem::NoClusterIp);
    Err(bad.into_iter().next().unwrap_or_else(none))
}

/// `spec.externalIPs`, and what the load balancer reports. Sorted, without duplicates.
fn external_targets(
    ips: Field<Vec<Field<String>>>,
    status: Field<RawServiceStatus>,
    faults: &mut Faults,
) -> Box<[ExternalTarget]> {
    const IPS: &str = "spec.externalIPs";
    let ips = texts(ips, IPS, faults);
    let mut addresses = Addresses::with_capacity(AddressType::Unknown, ips.len());
    for (index, ip) in ips {
        addresses.add(&ip, format_args!("{IPS}[{index}]"), faults);
    }
    let addresses = addresses.into_boxed().into_iter();
    let mut targets: Vec<_> = addresses.map(ExternalTarget::Address).collect();
    let balancer = faults.read(status, "status").unwrap_or_default().load_balancer;
    let balancer = faults.read(balancer, "status.loadBalancer").unwrap_or_default();
    const LIST: &str = "status.loadBalancer.ingress";
    let found = faults.read(balancer.ingress, LIST).unwrap_or_default();
    for (index, ingress) in found.into_iter().enumerate() {
        let path = format_args!("{LIST}[{index}]");
        let ingress = read_element(ingress, path, faults);
        targets.extend(ingress.and_then(|ingress| external_target(ingress, path, faults)));
    }
    targets.sort();
    targets.dedup();
    targets.into()
}

/// The address counts; without one, the host name.
fn external_target(
    ingress: RawIngress,
    path: impl Display,
    faults: &mut Faults,
) -> Option<ExternalTarget> {
    let ip = faults.read(ingress.ip, format_args!("{path}.ip")).unwrap_or_default();
    if !ip.is_empty() {
        let address = address(&ip);
        if address.is_none() {
            faults.note(format_args!("{path}.ip"), Problem::Address(ip.into()));
        }
        return address.map(ExternalTarget::Address);
    }
    let host = faults.read(ingress.hostname, format_args!("{path}.hostname")).unwrap_or_default();
    if host.is_empty() {
        return None;
    }
    let host = host_name(host);
    host.map_err(|host| faults.note(format_args!("{path}.hostname"), Problem::HostName(host)))
        .ok()
        .map(ExternalTarget::Host)
}

fn external_name(name: Field<String>) -> Result<Box<str>, Fault> {
    let problem = match name {
        Field::WrongType(found) => Problem::WrongType { found, expected: String::EXPECTED },
        Field::Absent => Problem::HostName(Box::default()),
        Field::Is(name) => match host_name(name) {
            Ok(name) => return Ok(name),
            Err(name) => Problem::HostName(name),
        },
    };
    Err(Fault::new("spec.externalName", problem))
}

/// Returns the name unchanged as an error if it is not a host name.
fn host_name(name: String) -> Result<Box<str>, Box<str>> {
    let relative = name.strip_suffix('.').unwrap_or(&name);
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_host_name = relative.len() <= 253
        && relative
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(is_host_byte));
    if is_host_name { Ok(name.into()) } else { Err(name.into()) }
}

/// A mandatory name.
fn required(name: Field<String>, path: &str, missing: Problem) -> Result<Box<str>, Fault> {
    let problem = match name {
        Field::Absent => missing,
        Field::Is(name) if name.is_empty() => missing,
        Field::Is(name) => match label(name) {
            Ok(name) => return Ok(name),
            Err(problem) => problem,
        },
        Field::WrongType(found) => Problem::WrongType { found, expected: String::EXPECTED },
    };
    Err(Fault::new(path, problem))
}

fn label(name: String) -> Result<Box<str>, Problem> {
    if is_label(&name) { Ok(name.into()) } else { Err(Problem::Label(name.into())) }
}

/// Whether this is an RFC 1123 label by the rules of Kubernetes: lower-case letters, digits and
/// hyphens, not beginning or ending with a hyphen.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn slice_ports(
    found: Field<Vec<Field<RawPort>>>,
    list: impl Display + Copy,
    faults: &mut Faults,
) -> Box<[Port]> {
    ports(found, list, faults, |_, port, _| Port {
        name: port.name,
        protocol: port.protocol,
        number: port.number.good(),
    })
}
