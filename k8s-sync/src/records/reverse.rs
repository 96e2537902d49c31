//! The reverse name of an address: PTR records of cluster IPs and endpoints (Kubernetes DNS
//! specification, sections 2.3.3 and 2.4.3).

use std::net::IpAddr;

use wire::endpoint::AddressLabel;
use wire::name::{NAME_LEN_MAX, Name};

use super::apex;
use super::label::{EndpointLabel, Label};
use super::pen::{NamedService, Pen};
use super::sorted;
use crate::cluster::{Cluster, KeyParts, ObjectId};
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
    if let Some(zone) = cluster.zones().of_address(address) {
        return apex::write_reverse(pen, cluster, zone);
    }
    let cluster_ip_of = cluster.with_cluster_ip(address);
    if cluster_ip_of.is_none()
        && let Some(service) = only_service(cluster, address)
        && prepare_name(pen, cluster, service)
    {
        return pen.point(address);
    }
    let Some(owner) = cluster.zones().reverse_name(address) else { return };
    let names = names(pen, cluster, address, cluster_ip_of);
    pen.put_pointers(&owner, &names);
}

/// The names that the address's PTR records point to. `cluster_ip_of`: the Service, if it is one.
pub(super) fn names(
    pen: &mut Pen<'_>,
    cluster: &Cluster,
    address: IpAddr,
    cluster_ip_of: Option<ObjectId>,
) -> Vec<Name> {
    if let Some(id) = cluster_ip_of {
        let name = cluster.service_key(id).and_then(|key| service_name(pen, cluster, key));
        return name.into_iter().collect();
    }
    let targets = sorted(targets(cluster, address));
    let names = targets.iter().filter_map(|Target { service, label }| {
        let service = service_name(pen, cluster, *service)?;
        label.name(pen, &service)
    });
    names.collect()
}

/// The Service, if the address has a single endpoint whose label spells it.
fn only_service(cluster: &Cluster, address: IpAddr) -> Option<KeyParts<'_>> {
    let mut targets = targets(cluster, address);
    let target = targets.next()?;
    // An endpoint may be in several slices, or twice in one.
    let is_only = targets.all(|other| other == target);
    (is_only && target.label == EndpointLabel::Spelled(address)).then_some(target.service)
}

/// Makes the name of the Service the one that `Pen::point` points to. False if the table does not
/// store that name under the zone of PTR records. Very long names are left out.
///
/// The endpoints of a Service come one after the other, so most find it made already.
fn prepare_name(pen: &mut Pen<'_>, cluster: &Cluster, service: KeyParts<'_>) -> bool {
    if pen.buffers.pointed_to.as_ref().is_some_and(|known| known.is_of(service)) {
        return true;
    }
    let Some(zone) = cluster.zones().forward().first() else { return false };
    let Some(name) = service_name(pen, cluster, service) else { return false };
    let leaves_room = name.bytes().len() + 1 + AddressLabel::LEN_MAX <= NAME_LEN_MAX;
    let is_stored = leaves_room && cluster.zones().is_own(&name, zone);
    if is_stored {
        pen.buffers.pointed_to = Some(NamedService::new(service, name));
    }
    is_stored
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
