//! The reverse name of an address: PTR records of cluster IPs and endpoints (Kubernetes DNS
//! specification, sections 2.3.3 and 2.4.3).

use std::net::IpAddr;

use wire::endpoint::AddressLabel;
use wire::name::{NAME_LEN_MAX, Name};

use super::label::{EndpointLabel, Label};
use super::pen::Pen;
use super::sorted;
use crate::cluster::{Cluster, KeyParts};
use crate::object::ServiceKind;

/// A name that an address points to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Target<'c> {
    service: KeyParts<'c>,
    /// `None` for a cluster IP: the Service's own name.
    endpoint: Option<EndpointLabel<'c>>,
}

pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) {
    if !cluster.zones().has_address(address) {
        return;
    }
    let targets = targets(cluster, address);
    if let [Target { service, endpoint: Some(EndpointLabel::Spelled(spelled)) }] = &targets[..]
        && *spelled == address
        && let Some(service) = stored_name(cluster, *service)
        && service.bytes().len() + 1 + AddressLabel::LEN_MAX <= NAME_LEN_MAX
    {
        return pen.point(address, &service);
    }
    let Some(owner) = cluster.zones().reverse_name(address) else { return };
    // Invalid names have been noted with the forward names.
    let names = targets.iter().filter_map(|target| {
        let service = service_name(cluster, target.service)?;
        match target.endpoint {
            Some(endpoint) => endpoint.with_text(|label| Name::compose(&[label], &service)),
            None => Some(service),
        }
    });
    pen.put_pointers(&owner, names);
}

/// A cluster IP has one name; if two Services have it, the first by name counts. Any other address
/// has the names of all its endpoints.
///
/// As in CoreDNS, a Service hidden by `ignore empty_service` keeps its PTR record.
fn targets(cluster: &Cluster, address: IpAddr) -> Vec<Target<'_>> {
    if let Some(id) = cluster.with_cluster_ip(address) {
        let key = cluster.service_key(id);
        let target = |service| Target { service, endpoint: None };
        return key.map(target).into_iter().collect();
    }
    let targets = cluster.slices_at(address).flat_map(|(slice, service)| {
        let service = match &service.kind {
            ServiceKind::ClusterIp(_) | ServiceKind::Headless => cluster.service_key(slice.service),
            ServiceKind::ExternalName(_) => None,
        };
        let endpoints = slice.endpoints().filter(move |endpoint| endpoint.address == address);
        endpoints.filter_map(move |endpoint| {
            Some(Target { service: service?, endpoint: Some(EndpointLabel::of(&endpoint)?) })
        })
    });
    sorted(targets)
}

/// The name of a Service with endpoints, if the table stores it under the zone of PTR records.
fn stored_name(cluster: &Cluster, service: KeyParts<'_>) -> Option<Name> {
    let zone = cluster.zones().forward().first()?;
    service_name(cluster, service).filter(|name| cluster.zones().is_own(name, zone))
}

fn service_name(cluster: &Cluster, service: KeyParts<'_>) -> Option<Name> {
    let zone = cluster.zones().primary()?;
    let (name, namespace) = (Label::read(service.name)?, Label::read(service.namespace)?);
    Name::compose(&[name.as_slice(), namespace.as_slice(), b"svc"], zone)
}
