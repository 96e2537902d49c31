//! The reverse name of an address: PTR records of cluster IPs and of endpoints (Kubernetes DNS specification, sections 2.3.3
//! and 2.4.3).

use std::net::IpAddr;

use domain::base::Rtype;
use domain::rdata::Ptr;
use wire::compile::Section;

use super::label::Label;
use super::pen::Pen;
use super::{service, sorted};
use crate::cluster::{Cluster, WireName};
use crate::object::{ObjectKey, ServiceKind};

pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, address: IpAddr) {
    let Some(owner) = cluster.zones().reverse_name(address) else { return };
    let targets = targets(pen, cluster, address);
    if targets.is_empty() {
        return pen.remove(&owner);
    }
    pen.begin(&owner);
    pen.answer(Rtype::PTR);
    for target in targets {
        pen.record(Section::Answer, &owner, &Ptr::new(&target));
    }
    pen.put();
}

/// One name for a cluster IP: were it given to two Services, the first by name. Else those of all endpoints that have it.
///
/// A Service hidden by `ignore empty_service` keeps its PTR record, as in CoreDNS.
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

/// What cannot be a name has been noted where it stands forward.
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
