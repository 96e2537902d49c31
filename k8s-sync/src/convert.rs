//! Kubernetes objects to the objects that answers are made of: the one place where what others wrote is checked.
//!
//! Invariant: what leaves here can be rendered. Names are single lower-case labels, addresses parse and are of the family
//! that was promised, ports and protocols exist. An object that breaks a rule is refused as a whole; the others are not
//! touched by it (the caller logs and counts it).

use std::net::IpAddr;

use crate::object::{
    Endpoint, EndpointSlice, Namespace, ObjectKey, Pod, Protocol, Service, ServiceKind,
    ServicePort, SlicePort,
};
use crate::raw;

/// The label that ties a slice to its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Why an object is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a lower-case DNS label of 1 to 63 bytes (RFC 1123, section 2.1), the form that Kubernetes itself demands.
    Label { field: &'static str, value: Box<str> },
    /// Not a host name of at most 253 bytes with labels of 1 to 63 bytes (RFC 1035, section 2.3.4).
    ExternalName(Box<str>),
    /// Not an address in its strict spelling (no leading zeros, no zone, no IPv4 inside IPv6).
    Address { field: &'static str, value: Box<str> },
    /// An address of the other family than the slice's `addressType`.
    Family { address: IpAddr, address_type: Box<str> },
    /// The same address twice in one Service.
    DuplicateAddress(IpAddr),
    /// A Service that is neither headless nor an ExternalName and has no address.
    NoClusterIp,
    /// Not TCP, UDP or SCTP.
    Protocol(Box<str>),
    /// Not 1 to 65535.
    Port(Option<i64>),
    /// Neither IPv4, IPv6 nor FQDN.
    AddressType(Box<str>),
    /// Fields of other types than Kubernetes gives them: serde's words.
    Shape(Box<str>),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label { field, value } => {
                write!(
                    f,
                    "{field} is {value:?}, which is not a lower-case DNS label (1 to 63 bytes)"
                )
            }
            Self::ExternalName(value) => {
                write!(f, "spec.externalName is {value:?}, which is not a host name")
            }
            Self::Address { field, value } => {
                write!(f, "{field} holds {value:?}, which is not an IP address")
            }
            Self::Family { address, address_type } => {
                write!(f, "addressType is {address_type}, but an endpoint has {address}")
            }
            Self::DuplicateAddress(address) => write!(f, "spec.clusterIPs holds {address} twice"),
            Self::NoClusterIp => write!(
                f,
                "it has no clusterIP: the API server gives one to each Service; write clusterIP: None if it is headless"
            ),
            Self::Protocol(value) => write!(f, "protocol {value:?} is none of TCP, UDP, SCTP"),
            Self::Port(Some(value)) => write!(f, "port {value} is not within 1 to 65535"),
            Self::Port(None) => write!(f, "a port has no number"),
            Self::AddressType(value) => {
                write!(f, "addressType {value:?} is none of IPv4, IPv6, FQDN")
            }
            Self::Shape(cause) => write!(f, "{cause}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// The phase is not read: a Namespace that is Terminating still exists, and so do the names in it.
pub fn namespace(raw: raw::Namespace) -> Result<Namespace, Refusal> {
    Ok(Namespace { name: label("metadata.name", raw.metadata.name)? })
}

pub fn service(raw: raw::Service) -> Result<Service, Refusal> {
    let key = ObjectKey {
        namespace: label("metadata.namespace", raw.metadata.namespace)?,
        name: label("metadata.name", raw.metadata.name)?,
    };
    let spec = raw.spec;
    let kind = if spec.r#type.as_deref() == Some("ExternalName") {
        ServiceKind::ExternalName(external_name(spec.external_name)?)
    } else {
        cluster_ips(spec.cluster_ips, spec.cluster_ip)?
    };
    let ports = spec.ports.unwrap_or_default().into_iter().map(|port| {
        Ok(ServicePort {
            name: port_name(port.name)?,
            protocol: protocol(port.protocol.as_deref())?,
            port: port_number(port.port)?.ok_or(Refusal::Port(None))?,
        })
    });
    let ports = ports.collect::<Result<_, Refusal>>()?;
    Ok(Service { key, kind, ports })
}

/// `None` where a slice has no part in answers: it names no Service, or its addresses are host names.
pub fn endpoint_slice(raw: raw::EndpointSlice) -> Result<Option<EndpointSlice>, Refusal> {
    let mut metadata = raw.metadata;
    let Some(service) = metadata.labels.as_mut().and_then(|all| all.remove(SERVICE_NAME_LABEL))
    else {
        return Ok(None);
    };
    let address_type = raw.address_type.unwrap_or_default();
    let is_ipv4 = match address_type.as_str() {
        "IPv4" => true,
        "IPv6" => false,
        "FQDN" => return Ok(None),
        other => return Err(Refusal::AddressType(other.into())),
    };
    // A slice's own name is no part of any answer: the API server allows dots in it.
    let namespace = label("metadata.namespace", metadata.namespace)?;
    let key = ObjectKey { namespace, name: metadata.name.unwrap_or_default().into() };
    let service = label("label kubernetes.io/service-name", Some(service))?;

    let mut endpoints = Vec::new();
    for endpoint in raw.endpoints.unwrap_or_default() {
        // Kubernetes, EndpointConditions: nil is unknown, which consumers should read as ready.
        if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
            continue;
        }
        let endpoint = convert_endpoint(endpoint, is_ipv4, &address_type)?;
        if !endpoint.addresses.is_empty() {
            endpoints.push(endpoint);
        }
    }
    let ports = raw.ports.unwrap_or_default().into_iter().map(|port| {
        Ok(SlicePort {
            name: port_name(port.name)?,
            protocol: protocol(port.protocol.as_deref())?,
            port: port_number(port.port)?,
        })
    });
    let ports = ports.collect::<Result<_, Refusal>>()?;
    Ok(Some(EndpointSlice { key, service, endpoints: endpoints.into(), ports }))
}

fn convert_endpoint(
    raw: raw::Endpoint,
    is_ipv4: bool,
    address_type: &str,
) -> Result<Endpoint, Refusal> {
    let mut addresses = Vec::with_capacity(raw.addresses.as_ref().map_or(0, Vec::len));
    for text in raw.addresses.unwrap_or_default() {
        let address = address("endpoints[].addresses", &text)?;
        if address.is_ipv4() != is_ipv4 {
            return Err(Refusal::Family { address, address_type: address_type.into() });
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let hostname = match raw.hostname {
        Some(name) if !name.is_empty() => Some(label("endpoints[].hostname", Some(name))?),
        Some(_) | None => None,
    };
    // Like CoreDNS, whatever the kind of the target; a name that is no label gives way to the address.
    let target_name = raw.target_ref.and_then(|target| target.name);
    let pod_name = target_name.filter(|name| is_label(name)).map(Box::from);
    Ok(Endpoint { addresses: addresses.into(), hostname, pod_name })
}

/// `None` for Pods that have ended, are being deleted, or have no address yet.
pub fn pod(raw: raw::Pod) -> Result<Option<Pod>, Refusal> {
    let is_over = matches!(raw.status.phase.as_deref(), Some("Succeeded" | "Failed" | "Unknown"));
    if is_over || raw.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let namespace = label("metadata.namespace", raw.metadata.namespace)?;
    let key = ObjectKey { namespace, name: raw.metadata.name.unwrap_or_default().into() };
    let from_list = raw.status.pod_ips.unwrap_or_default().into_iter().filter_map(|pod| pod.ip);
    let mut texts: Vec<String> = from_list.collect();
    if texts.is_empty() {
        texts.extend(raw.status.pod_ip.filter(|ip| !ip.is_empty()));
    }
    let ips = texts.iter().map(|text| address("status.podIPs", text));
    let ips: Box<[IpAddr]> = ips.collect::<Result<_, Refusal>>()?;
    Ok((!ips.is_empty()).then_some(Pod { key, ips }))
}

/// `spec.clusterIPs`, else `spec.clusterIP`; the first decides whether the Service is headless.
fn cluster_ips(many: Option<Vec<String>>, one: Option<String>) -> Result<ServiceKind, Refusal> {
    let mut texts = many.unwrap_or_default();
    if texts.is_empty() {
        texts.extend(one);
    }
    match texts.first().map(String::as_str) {
        None | Some("") => return Err(Refusal::NoClusterIp),
        Some("None") => return Ok(ServiceKind::Headless),
        Some(_) => {}
    }
    let mut addresses = Vec::with_capacity(texts.len());
    for text in &texts {
        let address = address("spec.clusterIPs", text)?;
        if addresses.contains(&address) {
            return Err(Refusal::DuplicateAddress(address));
        }
        addresses.push(address);
    }
    Ok(ServiceKind::ClusterIp(addresses.into()))
}

fn external_name(name: Option<String>) -> Result<Box<str>, Refusal> {
    let name = name.unwrap_or_default();
    let relative = name.strip_suffix('.').unwrap_or(&name);
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_host_name = relative.len() <= 253
        && relative
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(is_host_byte));
    if is_host_name { Ok(name.into()) } else { Err(Refusal::ExternalName(name.into())) }
}

fn address(field: &'static str, text: &str) -> Result<IpAddr, Refusal> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(Refusal::Address { field, value: text.into() })
        }
        Ok(address) => Ok(address),
        Err(_) => Err(Refusal::Address { field, value: text.into() }),
    }
}

fn label(field: &'static str, value: Option<String>) -> Result<Box<str>, Refusal> {
    let value = value.unwrap_or_default();
    if is_label(&value) {
        Ok(value.into())
    } else {
        Err(Refusal::Label { field, value: value.into() })
    }
}

/// RFC 1123 label as Kubernetes has it: lower-case letters, digits, hyphens, neither first nor last byte a hyphen.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// Empty where the port has no name.
fn port_name(name: Option<String>) -> Result<Box<str>, Refusal> {
    match name {
        Some(name) if !name.is_empty() => label("ports[].name", Some(name)),
        Some(_) | None => Ok(Box::default()),
    }
}

fn port_number(port: Option<i64>) -> Result<Option<u16>, Refusal> {
    let Some(number) = port else { return Ok(None) };
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(Some(port)),
        Ok(_) | Err(_) => Err(Refusal::Port(Some(number))),
    }
}

/// TCP where it is not given, as the API server fills in.
fn protocol(name: Option<&str>) -> Result<Protocol, Refusal> {
    match name {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(Refusal::Protocol(other.into())),
    }
}
