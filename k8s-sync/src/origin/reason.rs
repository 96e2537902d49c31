//! Why a name of a Service has no records, in words. Invariant: `None` if it should have them.

use std::net::IpAddr;

use super::reading::{
    addresses_of, dashed, dashed_address, endpoint_has, endpoints, is_ready, own_label, pod_name,
};
use crate::raw::{RawEndpoint, RawEndpointSlice};

/// Names listed in a reason.
const LISTED_MAX: usize = 8;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// `the ports are http, metrics`, or that there are none.
pub(super) fn listed(what: &str, mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(LISTED_MAX);
    names.truncate(LISTED_MAX);
    match (names.is_empty(), more) {
        (true, _) => format!("{what}: none"),
        (false, 0) => format!("{what}: {}", names.join(", ")),
        (false, more) => format!("{what}: {}, and {more} more", names.join(", ")),
    }
}

pub(super) fn no_address(shown: &str, addresses: &[IpAddr], qtype: u16) -> Option<String> {
    let lacks = |is_fit: fn(&IpAddr) -> bool, family: &str| {
        (!addresses.iter().any(is_fit))
            .then(|| format!("Service {shown} exists, but has no {family} address"))
    };
    match qtype {
        TYPE_A => lacks(IpAddr::is_ipv4, "IPv4"),
        TYPE_AAAA => lacks(IpAddr::is_ipv6, "IPv6"),
        _ => None,
    }
}

pub(super) fn no_address_of_headless(
    shown: &str,
    slices: &[&RawEndpointSlice],
    qtype: u16,
) -> Option<String> {
    let all: Vec<_> = slices.iter().flat_map(|slice| endpoints(slice)).collect();
    let of_family = |endpoint: &&&RawEndpoint| {
        addresses_of(endpoint).any(|address| match qtype {
            TYPE_A => address.is_ipv4(),
            TYPE_AAAA => address.is_ipv6(),
            _ => true,
        })
    };
    let fit: Vec<_> = all.iter().filter(of_family).collect();
    let ready = fit.iter().filter(|endpoint| is_ready(endpoint)).count();
    match (all.len(), fit.len(), ready) {
        (0, _, _) => Some(format!("Service {shown} exists; it has no endpoints")),
        (_, 0, _) => Some(format!(
            "Service {shown} exists; none of its {} endpoints has an address of this family",
            all.len()
        )),
        (_, 1, 0) => Some(format!("Service {shown} exists; 1 endpoint, not ready")),
        (_, count, 0) => Some(format!("Service {shown} exists; {count} endpoints, none ready")),
        (_, count, ready) if ready < count => {
            Some(format!("Service {shown}: {count} endpoints, {ready} ready"))
        }
        _ => None,
    }
}

/// `host`: the label of an endpoint.
pub(super) fn why_no_endpoint(
    shown: &str,
    slices: &[&RawEndpointSlice],
    host: &str,
    endpoint_pod_names: bool,
) -> Option<String> {
    let asked = dashed_address(host);
    let all = slices.iter().flat_map(|slice| endpoints(slice));
    let is_named = |endpoint: &&RawEndpoint| match own_label(endpoint, endpoint_pod_names) {
        Some(label) => label == host,
        None => asked.is_some_and(|address| endpoint_has(endpoint, address)),
    };
    let named: Vec<_> = all.clone().filter(is_named).collect();
    if named.iter().any(|endpoint| is_ready(endpoint)) {
        return None;
    }
    if !named.is_empty() {
        return Some(format!("the endpoint {host} of Service {shown} is not ready"));
    }
    let labels = |endpoint: &RawEndpoint| match own_label(endpoint, endpoint_pod_names) {
        Some(label) => vec![label.to_owned()],
        None => addresses_of(endpoint).map(dashed).collect(),
    };
    let mut others = all.clone().filter(|endpoint| addresses_of(endpoint).next().is_some());
    let has_address =
        |endpoint: &&RawEndpoint| asked.is_some_and(|address| endpoint_has(endpoint, address));
    if let Some(endpoint) = others.clone().find(has_address) {
        return Some(format!(
            "Service {shown} has no endpoint {host}; the endpoint with this address is named {}",
            labels(endpoint).join(", ")
        ));
    }
    if let Some(endpoint) = others.find(|endpoint| pod_name(endpoint) == Some(host)) {
        let names = labels(endpoint).join(", ");
        let is_by_address = own_label(endpoint, true) == Some(host);
        let option = if is_by_address { "; `endpoint_pod_names` is off" } else { "" };
        return Some(format!(
            "Service {shown} has no endpoint {host}; the endpoint of this pod is named {names}\
             {option}"
        ));
    }
    let known = all.filter(|endpoint| is_ready(endpoint)).flat_map(labels).collect();
    Some(format!(
        "Service {shown} has no endpoint {host}; {}",
        listed("those that are ready", known)
    ))
}

pub(super) fn why_no_port(
    shown: &str,
    ports: &[(String, String)],
    port: &str,
    protocol: &str,
) -> Option<String> {
    let (port, protocol) = (port.trim_start_matches('_'), protocol.trim_start_matches('_'));
    if ports.iter().any(|(name, of)| name == port && of == protocol) {
        return None;
    }
    let known = ports.iter().filter(|(name, _)| !name.is_empty());
    let known: Vec<_> = known.map(|(name, protocol)| format!("{name} ({protocol})")).collect();
    let what = match known.is_empty() {
        true => "its ports have no names".to_owned(),
        false => listed("the ports are", known).replace("are: ", "are "),
    };
    Some(format!("Service {shown} has no port {port} ({protocol}): {what}"))
}
