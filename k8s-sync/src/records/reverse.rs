//! The reverse name of an address: PTR records of cluster IPs and endpoints (Kubernetes DNS
//! specification, sections 2.3.3 and 2.4.3).

use std::net::IpAddr;

use super::label::Label;
use super::pen::Pen;
use super::{service, sorted};
use crate::cluster::{Cluster, WireName};
use crate::object::{ObjectKey, ServiceKind};

pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) {
    let Some(owner) = cluster.zones().reverse_name(address) else { return };
    let targets = targets(pen, cluster, address);
    pen.put_pointers(&owner, &targets);
}

/// A cluster IP has one name; if two Services have it, the first by name counts. Any other address
/// has the names of all its endpoints.
///
/// As in CoreDNS, a Service hidden by `ignore empty_service` keeps its PTR record.
fn targets(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) -> Vec<WireName> {
    let owners: Vec<_> = cluster.owners(address).collect();
    let cluster_ip = owners.iter().find(|(_, service)| match &service.kind {
        ServiceKind::ClusterIp(addresses) => addresses.contains(&address),
        ServiceKind::Headless | ServiceKind::ExternalName(_) => false,
    });
    if let Some((key, _)) = cluster_ip {
        return target(pen, cluster, None, key).into_iter().collect();
    }
    let mut names = Vec::new();
    for (key, found) in owners {
        if matches!(found.kind, ServiceKind::ExternalName(_)) {
            continue;
        }
        let endpoints = cluster.slices(key).flat_map(|slice| &slice.endpoints);
        let labels = endpoints
            .filter(|endpoint| endpoint.address == address)
            .filter_map(service::endpoint_label);
        for label in sorted(labels) {
            names.extend(target(pen, cluster, Some(label), key));
        }
    }
    names
}

/// Invalid names have been noted with the forward names.
fn target(
    pen: &mut Pen<'_>,
    cluster: &Cluster,
    endpoint: Option<Label>,
    service: &ObjectKey,
) -> Option<WireName> {
    let zone = cluster.zones().primary()?;
    let (name, namespace) = (Label::read(&service.name)?, Label::read(&service.namespace)?);
    let labels: Vec<&[u8]> = endpoint
        .iter()
        .map(Label::as_slice)
        .chain([name.as_slice(), namespace.as_slice(), b"svc"])
        .collect();
    pen.name(&labels, zone)
}
