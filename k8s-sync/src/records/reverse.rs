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

/// An endpoint that an address points to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Target<'c> {
    service: KeyParts<'c>,
    label: EndpointLabel<'c>,
}

/// A cluster IP has one name; if two Services have it, the first by name counts. Any other address
/// has the names of all its endpoints.
///
/// As in CoreDNS, a Service hidden by `ignore empty_service` keeps its PTR record.
pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) {
    if !cluster.zones().has_address(address) {
        return;
    }
    let cluster_ip_of = cluster.with_cluster_ip(address);
    if cluster_ip_of.is_none()
        && let Some(service) = only_service(pen, cluster, address)
    {
        return pen.point(address, &service);
    }
    let Some(owner) = cluster.zones().reverse_name(address) else { return };
    match cluster_ip_of {
        Some(id) => {
            let name = cluster.service_key(id).and_then(|key| service_name(pen, cluster, key));
            pen.put_pointers(&owner, name.as_slice());
        }
        None => {
            let targets = sorted(targets(cluster, address));
            let names = targets.iter().filter_map(|Target { service, label }| {
                let service = service_name(pen, cluster, *service)?;
                label.name(pen, &service)
            });
            let names: Vec<Name> = names.collect();
            pen.put_pointers(&owner, &names);
        }
    }
}

/// The name of the Service, if the address has a single endpoint whose label spells it, and the
/// table stores that name under the zone of PTR records. Very long names are left out.
fn only_service(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) -> Option<Name> {
    let mut targets = targets(cluster, address);
    let target = targets.next()?;
    // An endpoint may be in several slices, or twice in one.
    let is_only = targets.all(|other| other == target);
    if !is_only || target.label != EndpointLabel::Spelled(address) {
        return None;
    }
    let zone = cluster.zones().forward().first()?;
    let name = service_name(pen, cluster, target.service)?;
    let leaves_room = name.bytes().len() + 1 + AddressLabel::LEN_MAX <= NAME_LEN_MAX;
    (leaves_room && cluster.zones().is_own(&name, zone)).then_some(name)
}

fn targets(cluster: &Cluster, address: IpAddr) -> impl Iterator<Item = Target<'_>> {
    cluster.slices_at(address).flat_map(move |(slice, service)| {
        let service = match &service.kind {
            ServiceKind::ClusterIp(_) | ServiceKind::Headless => cluster.service_key(slice.service),
            ServiceKind::ExternalName(_) => None,
        };
        let endpoints = slice.endpoints().filter(move |endpoint| endpoint.address == address);
        endpoints.filter_map(move |endpoint| {
            Some(Target { service: service?, label: EndpointLabel::of(&endpoint)? })
        })
    })
}

/// Invalid labels have been noted with the forward names.
fn service_name(pen: &mut Pen<'_>, cluster: &Cluster, service: KeyParts<'_>) -> Option<Name> {
    let zone = cluster.zones().primary()?;
    let (name, namespace) = (Label::read(service.name)?, Label::read(service.namespace)?);
    pen.name(&[name.as_slice(), namespace.as_slice(), b"svc"], zone)
}
