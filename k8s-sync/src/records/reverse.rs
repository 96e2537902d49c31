//! The reverse name of an address: PTR records of cluster IPs and endpoints (Kubernetes DNS
//! specification, sections 2.3.3 and 2.4.3).

use std::net::IpAddr;

use wire::name::NAME_LEN_MAX;

use super::label::{EndpointLabel, Label};
use super::pen::Pen;
use super::sorted;
use crate::cluster::{Cluster, KeyParts, WireName};
use crate::object::ServiceKind;

/// A name that an address points to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Target<'c> {
    service: KeyParts<'c>,
    /// `None` for a cluster IP: the Service's own name.
    endpoint: Option<EndpointLabel>,
}

pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) {
    let Some(owner) = cluster.zones().reverse_name(address) else { return };
    let targets = targets(cluster, address);
    if let [Target { service, endpoint: Some(label @ EndpointLabel::Spelled(spelled)) }] =
        &targets[..]
        && *spelled == address
        && let Some(service) = stored_name(pen, cluster, *service)
        && service.len() + 1 + label.label().as_slice().len() <= NAME_LEN_MAX
    {
        return pen.point(&owner, address, &service);
    }
    let names = targets.iter().filter_map(|target| {
        let label = target.endpoint.map(EndpointLabel::label);
        name(pen, cluster, label.as_ref().map(Label::as_slice), target.service)
    });
    let names: Vec<WireName> = names.collect();
    pen.put_pointers(&owner, &names);
}

/// A cluster IP has one name; if two Services have it, the first by name counts. Any other address
/// has the names of all its endpoints.
///
/// As in CoreDNS, a Service hidden by `ignore empty_service` keeps its PTR record.
fn targets(cluster: &Cluster, address: IpAddr) -> Vec<Target<'_>> {
    if let Some((id, _)) = cluster.with_cluster_ip(address).first() {
        let key = cluster.service_key(*id);
        let target = |service| Target { service, endpoint: None };
        return key.map(target).into_iter().collect();
    }
    let mut targets = Vec::new();
    for (slice, service) in cluster.slices_at(address) {
        match &service.kind {
            ServiceKind::ClusterIp(_) | ServiceKind::Headless => {}
            ServiceKind::ExternalName(_) => continue,
        }
        let Some(service) = cluster.service_key(slice.service) else { continue };
        let endpoints = slice.endpoints().filter(|endpoint| endpoint.address == address);
        let labels = endpoints.filter_map(|endpoint| EndpointLabel::of(&endpoint));
        targets.extend(labels.map(|label| Target { service, endpoint: Some(label) }));
    }
    sorted(targets)
}

/// The name of a Service with endpoints, if the table stores it under the zone of PTR records.
fn stored_name(pen: &mut Pen<'_>, cluster: &Cluster, service: KeyParts<'_>) -> Option<WireName> {
    let zone = cluster.zones().forward().first()?;
    name(pen, cluster, None, service).filter(|name| cluster.zones().is_own(name, zone))
}

/// Invalid names have been noted with the forward names.
fn name(
    pen: &mut Pen<'_>,
    cluster: &Cluster,
    endpoint: Option<&[u8]>,
    service: KeyParts<'_>,
) -> Option<WireName> {
    let zone = cluster.zones().primary()?;
    let (name, namespace) = (Label::read(service.name)?, Label::read(service.namespace)?);
    let service = [name.as_slice(), namespace.as_slice(), b"svc"];
    match endpoint {
        Some(endpoint) => pen.name(&[endpoint, service[0], service[1], service[2]], zone),
        None => pen.name(&service, zone),
    }
}
