//! What objects as received say: addresses, endpoints, ports; and the addresses in names.
//!
//! Invariant: an invalid part is left out, as in `convert`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::convert::address::address;
use crate::convert::is_label;
use crate::raw::field::Field;
use crate::raw::{RawEndpoint, RawEndpointSlice, RawPod, RawPort, RawService};
use wire::endpoint::AddressLabel;

/// Addresses of the cluster; none if it is headless.
pub(super) fn cluster_addresses(service: &RawService) -> Vec<IpAddr> {
    let Some(spec) = service.spec.as_ref() else { return Vec::new() };
    let first = spec.cluster_ip.as_ref().into_iter();
    let others = spec.cluster_ips.as_ref().into_iter().flatten().filter_map(Field::as_ref);
    let mut addresses: Vec<IpAddr> = first.chain(others).filter_map(|text| address(text)).collect();
    addresses.dedup();
    addresses
}

pub(super) fn endpoints(slice: &RawEndpointSlice) -> impl Iterator<Item = &RawEndpoint> + Clone {
    slice.endpoints.as_ref().into_iter().flatten().filter_map(Field::as_ref)
}

pub(super) fn addresses_of(endpoint: &RawEndpoint) -> impl Iterator<Item = IpAddr> {
    let texts = endpoint.addresses.as_ref().into_iter().flatten().filter_map(Field::as_ref);
    texts.filter_map(|text| address(text))
}

pub(super) fn endpoint_has(endpoint: &RawEndpoint, address: IpAddr) -> bool {
    addresses_of(endpoint).any(|one| one == address)
}

/// The pod behind an endpoint.
pub(super) fn pod_name(endpoint: &RawEndpoint) -> Option<&str> {
    let name = endpoint.target_ref.as_ref()?.name.as_ref()?;
    is_label(name).then_some(name.as_str())
}

/// The label that an endpoint has instead of its addresses, by the same rules as in answers.
pub(super) fn own_label(endpoint: &RawEndpoint, endpoint_pod_names: bool) -> Option<&str> {
    let hostname = endpoint.hostname.as_ref().map(String::as_str).filter(|name| is_label(name));
    hostname.or_else(|| pod_name(endpoint).filter(|_| endpoint_pod_names))
}

/// As Kubernetes defines it: an endpoint that does not say is ready.
pub(super) fn is_ready(endpoint: &RawEndpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|one| one.ready.as_ref()).is_none_or(|ready| *ready)
}

pub(super) fn has_address(pod: &RawPod, wanted: IpAddr) -> bool {
    let Some(status) = pod.status.as_ref() else { return false };
    let others = status.pod_ips.as_ref().into_iter().flatten().filter_map(Field::as_ref);
    let others = others.filter_map(|one| one.ip.as_ref());
    let mut texts = status.pod_ip.as_ref().into_iter().chain(others);
    texts.any(|text| address(text) == Some(wanted))
}

/// Names and protocols.
pub(super) fn ports_of(
    service: &RawService,
    slices: &[&RawEndpointSlice],
    is_headless: bool,
) -> Vec<(String, String)> {
    let shown = |port: &RawPort| {
        let name = port.name.as_ref().cloned().unwrap_or_default();
        let protocol = port.protocol.as_ref().map_or("TCP", String::as_str);
        (name, protocol.to_ascii_lowercase())
    };
    let own = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let of_slices = slices.iter().filter_map(|slice| slice.ports.as_ref());
    let lists: Vec<_> = match is_headless {
        true => of_slices.collect(),
        false => own.into_iter().collect(),
    };
    let mut ports: Vec<_> =
        lists.into_iter().flatten().filter_map(Field::as_ref).map(shown).collect();
    ports.sort();
    ports.dedup();
    ports
}

/// The label of an endpoint that has no other.
pub(super) fn dashed(address: IpAddr) -> String {
    String::from_utf8_lossy(AddressLabel::of_endpoint(address).as_slice()).into_owned()
}

/// The address of `10-0-0-1` or `fd00--1`.
pub(super) fn dashed_address(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address of a name below in-addr.arpa or ip6.arpa.
pub(super) fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa.") {
        let parts: Vec<&str> = labels.split('.').rev().collect();
        return parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let labels = name.strip_suffix(".ip6.arpa.")?;
    let nibbles: String = labels.split('.').rev().collect();
    let is_whole = nibbles.len() == 32 && labels.len() == 63;
    let number = u128::from_str_radix(&nibbles, 16).ok().filter(|_| is_whole)?;
    Some(IpAddr::V6(Ipv6Addr::from(number)))
}
