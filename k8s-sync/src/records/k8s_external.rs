//! The names of Services outside the cluster, for CoreDNS's `k8s_external`: `SVC.NS` with external
//! addresses, and with `headless` those of endpoints.
//!
//! The Kubernetes DNS specification knows no such names. A look-up makes the SOA record. Invariant:
//! the apex's own label hides a namespace of the same name.

use std::net::IpAddr;

use domain::base::Rtype;
use wire::apex::ApexLabel;
use wire::compile::Section;
use wire::name::Name;
use wire::table::EVERY_TYPE;

use super::backends::Backends;
use super::label::{Label, PortLabel};
use super::pen::Pen;
use super::service;
use super::{External, sorted};
use crate::cluster::{Alias, AnswerKey, Cluster, ModelService, ModelSlice, ObjectId};
use crate::object::{ExternalTarget, ServiceKind};

pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, external: &External, key: &AnswerKey) {
    match key {
        AnswerKey::Apex => write_apex(pen, cluster, external),
        AnswerKey::Namespace(namespace) => write_namespace(pen, cluster, external, namespace),
        AnswerKey::Service(service) => write_service(pen, cluster, external, *service),
        AnswerKey::ExternalAddress(address) => write_address(pen, cluster, external, *address),
        AnswerKey::Address(_) | AnswerKey::Pod(..) => {}
    }
}

/// The zone itself, `dns`, and `ns1.dns`, which has the external addresses of this server.
fn write_apex(pen: &mut Pen<'_>, cluster: &Cluster, external: &External) {
    let addresses = name_server_addresses(cluster, external.is_headless);
    let label = external.apex.text();
    for zone in external.zones.names() {
        let Some(parent) = Name::compose(&[label], zone) else { continue };
        let Some(server) = pen.name(&[b"ns1", label], zone) else { continue };
        pen.begin(zone);
        pen.answer(Rtype::NS);
        pen.pointer(zone, Rtype::NS, &server);
        for address in &addresses {
            pen.address(Section::Additional, &server, *address);
        }
        pen.put();
        // Another zone may begin at one of these names, and have records of its own there.
        if external.zones.is_own(&parent, zone) {
            pen.put_empty(&parent);
        }
        if external.zones.is_own(&server, zone) {
            pen.begin(&server);
            pen.answer_addresses(&server, &addresses);
            pen.put();
        }
    }
}

/// The external addresses of the Services that have this server among their endpoints, or with
/// `headless` their endpoints; without such a Service the addresses of the server itself. Sorted.
fn name_server_addresses(cluster: &Cluster, is_headless: bool) -> Vec<IpAddr> {
    let own = &cluster.options().server_addresses;
    let mut owners = own.iter().flat_map(|address| cluster.owners_anywhere(*address)).peekable();
    if owners.peek().is_none() {
        return sorted(own.iter().copied());
    }
    sorted(owners.flat_map(|(id, found)| match found.kind {
        ServiceKind::Headless if is_headless => {
            let endpoints = cluster.slices(id).flat_map(ModelSlice::endpoints);
            endpoints.map(|endpoint| endpoint.address).collect::<Vec<_>>()
        }
        ServiceKind::Headless | ServiceKind::ClusterIp(_) | ServiceKind::ExternalName(_) => {
            found.external_addresses().collect()
        }
    }))
}

/// `NS` has no data of its own, but it exists.
fn write_namespace(pen: &mut Pen<'_>, cluster: &Cluster, external: &External, namespace: &str) {
    // An invalid name has been noted already.
    let Some(label) = visible(namespace, &external.apex) else { return };
    for zone in external.zones.forward() {
        let Some(owner) = pen.name(&[label.as_slice()], zone) else { continue };
        if !external.zones.is_own(&owner, zone) {
            continue;
        }
        if cluster.has_namespace(namespace) {
            pen.put_empty(&owner);
        } else {
            pen.remove(&owner);
        }
    }
}

/// The label of a namespace, unless the apex's label hides it.
fn visible<'n>(namespace: &'n str, apex: &ApexLabel) -> Option<Label<'n>> {
    Label::read(namespace).filter(|label| label.as_slice() != apex.text())
}

fn write_service(pen: &mut Pen<'_>, cluster: &Cluster, external: &External, id: ObjectId) {
    let (Some(found), Some(key)) = (cluster.service(id), cluster.service_key(id)) else { return };
    let names = Label::read(key.name).zip(visible(key.namespace, &external.apex));
    let Some((name, namespace)) = names else { return };
    for zone in external.zones.forward() {
        let labels = [name.as_slice(), namespace.as_slice()];
        if let Some(base) = pen.name(&labels, zone)
            && external.zones.is_own(&base, zone)
        {
            write_below(pen, cluster, external, &base, (id, found));
        }
    }
}

/// The names at and below that of a Service. External addresses count before endpoints.
fn write_below(
    pen: &mut Pen<'_>,
    cluster: &Cluster,
    external: &External,
    base: &Name,
    (id, found): (ObjectId, &ModelService),
) {
    let addresses: Vec<IpAddr> = found.external_addresses().collect();
    if !addresses.is_empty() {
        let backends = Backends::of_addresses(&addresses, &found.ports);
        service::write_names(pen, base, &backends);
        // As in CoreDNS, any label before the name of such a Service makes no difference.
        return service::write_wildcard(pen, base, &backends);
    }
    let hosts = found.external.iter().filter_map(|target| match target {
        ExternalTarget::Host(host) => Alias::name(host),
        ExternalTarget::Address(_) => None,
    });
    let hosts: Vec<Name> = hosts.collect();
    if !hosts.is_empty() {
        return write_hosts(pen, base, &hosts, found);
    }
    if !external.is_headless {
        return;
    }
    let Some(backends) = Backends::of_endpoints(cluster, id) else { return };
    match found.kind {
        ServiceKind::Headless => service::write_names(pen, base, &backends),
        ServiceKind::ClusterIp(_) | ServiceKind::ExternalName(_) => {
            service::write_endpoint_names(pen, base, &backends);
        }
    }
}

/// A Service whose load balancer has host names. A name has at most one CNAME record (RFC 1034,
/// section 3.6.2): the first host counts.
fn write_hosts(pen: &mut Pen<'_>, base: &Name, hosts: &[Name], found: &ModelService) {
    write_alias(pen, base, hosts, found.ports.iter().filter_map(|port| port.number));
    if let Some(wildcard) = Name::compose(&[b"*"], base) {
        write_alias(pen, &wildcard, hosts, found.ports.iter().filter_map(|port| port.number));
    }
    let named = found.ports.iter().filter(|port| !port.name.is_empty());
    let named = sorted(named.map(|port| (port.protocol, &*port.name)));
    for (protocol, name) in named {
        let Some(label) = PortLabel::read(name) else { continue };
        let labels = [label.as_slice(), service::protocol_label(protocol)];
        let Some(owner) = pen.name(&labels, base) else { continue };
        let ports = found.ports.iter();
        let ports = ports.filter(|port| port.protocol == protocol && &*port.name == name);
        write_alias(pen, &owner, hosts, ports.filter_map(|port| port.number));
    }
}

/// A CNAME to the first host, and SRV records for all. A look-up follows the CNAME.
fn write_alias(pen: &mut Pen<'_>, owner: &Name, hosts: &[Name], ports: impl Iterator<Item = u16>) {
    let ports = sorted(ports);
    pen.begin(owner);
    if !ports.is_empty() {
        let weight = service::weight(hosts.len() * ports.len());
        pen.answer(Rtype::SRV);
        for host in hosts {
            for port in &ports {
                pen.srv(owner, weight, *port, host);
            }
        }
    }
    pen.answer(Rtype::from_int(EVERY_TYPE));
    pen.pointer(owner, Rtype::CNAME, &hosts[0]);
    pen.put();
}

/// The PTR records of an external address.
fn write_address(pen: &mut Pen<'_>, cluster: &Cluster, external: &External, address: IpAddr) {
    let Some(owner) = external.zones.reverse_name(address) else { return };
    let zone = external.zones.primary();
    let owners = cluster.external_owners(address).into_iter();
    let targets = owners.filter_map(|(id, _)| {
        let key = cluster.service_key(id)?;
        let (name, namespace) = (Label::read(key.name)?, Label::read(key.namespace)?);
        Name::compose(&[name.as_slice(), namespace.as_slice()], zone?)
    });
    let targets: Vec<Name> = targets.collect();
    pen.put_pointers(&owner, &targets);
}
