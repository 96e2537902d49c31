//! The names at and below `SVC.NS.svc`: cluster IPs, endpoints and ports (Kubernetes DNS
//! specification, sections 2.3 and 2.4).

use std::net::IpAddr;

use domain::base::Rtype;
use wire::compile::Section;
use wire::name::Name;

use super::backends::{Backend, BackendTarget, Backends, PortFilter, addresses_of};
use super::label::{Label, PortLabel};
use super::pen::Pen;
use super::{external, sort, sorted};
use crate::cluster::{Cluster, KeyParts, ObjectId};
use crate::object::{Port, Protocol, ServiceKind};

/// Of each of this many SRV records.
pub(super) fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}

/// The names of a Service's targets in one zone.
struct TargetNames<'n> {
    /// The Service's own.
    base: &'n Name,
    /// Those of endpoints, from index 1 on. `None`: it is invalid, or no record is written for it.
    endpoints: Vec<Option<Name>>,
}

impl<'n> TargetNames<'n> {
    /// Those below `base`.
    fn new(pen: &mut Pen<'_>, base: &'n Name, backends: &Backends<'_>) -> Self {
        let has_targets_in_front = backends.cluster_ips.is_none();
        if !has_targets_in_front && backends.are_all_listed() {
            return Self { base, endpoints: Vec::new() };
        }
        let endpoints = backends.targets.iter().enumerate().skip(1);
        let names = endpoints.map(|(index, target)| match target {
            BackendTarget::Service => None,
            BackendTarget::Endpoint(label) => {
                let is_written = has_targets_in_front || !backends.is_listed(index);
                is_written.then(|| label.name(pen, base)).flatten()
            }
            BackendTarget::Nameless => {
                pen.refuse(|| format!("an endpoint's hostname below {base} is not a DNS label"));
                None
            }
        });
        Self { base, endpoints: names.collect() }
    }

    /// By the index of the target.
    fn get(&self, target: usize) -> Option<&Name> {
        match target.checked_sub(1) {
            None => Some(self.base),
            Some(endpoint) => self.endpoints.get(endpoint)?.as_ref(),
        }
    }
}

/// A port of a backend: one SRV record, and the address that belongs to it.
pub(super) struct Offer {
    target: usize,
    address: IpAddr,
    port_number: u16,
}

/// Writes all names of the Service `key`, if it exists.
pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, id: ObjectId) {
    let (Some(service), Some(key)) = (cluster.service(id), cluster.service_key(id)) else { return };
    let (Some(name), Some(namespace)) = (Label::read(key.name), Label::read(key.namespace)) else {
        return pen.refuse(|| {
            format!("Service {}/{}: its name is not a DNS label", key.namespace, key.name)
        });
    };
    let labels = [name.as_slice(), namespace.as_slice(), b"svc"];
    if let Some(target) = cluster.alias_of(id, service) {
        external::write(pen, cluster, &labels, target);
        if matches!(service.kind, ServiceKind::Headless) {
            write_ports_of_hosts(pen, cluster, (id, key), &labels);
        }
        return;
    }
    let Some(backends) = Backends::new(cluster, id, service) else { return };
    let backends = backends.listed();
    for zone in cluster.zones().forward() {
        if let Some(base) = pen.own_name(&labels, zone, cluster.zones()) {
            write_names(pen, &base, &backends);
        }
    }
}

/// Writes the Service's own name, `base`, and all names below it.
pub(super) fn write_names(pen: &mut Pen<'_>, base: &Name, backends: &Backends<'_>) {
    let names = TargetNames::new(pen, base, backends);
    begin_entry(pen, base, &names, backends.front(), PortFilter::Any);
    if let Some(list) = &backends.list {
        let weight = weight(list.port_count);
        pen.list_endpoints(weight, &list.port_numbers, &list.addresses);
    }
    pen.put();
    let front = backends.front();
    let lists = front.chunk_by(|one, next| one.ports == next.ports).map(|same| &*same[0].ports);
    write_ports(pen, base, &named_ports(lists), |pen, owner, port, protocol| {
        write_entry(pen, owner, &names, front, PortFilter::Port(port, protocol));
    });
    write_endpoints(pen, &names, backends);
}

/// Writes the names of the endpoints below `base`, and `base`, which has no data of its own.
pub(super) fn write_endpoint_names(pen: &mut Pen<'_>, base: &Name, backends: &Backends<'_>) {
    let names = TargetNames::new(pen, base, backends);
    pen.put_empty(base);
    write_endpoints(pen, &names, backends);
}

/// Writes the wildcard below `base`, which stands for `base`.
pub(super) fn write_wildcard(pen: &mut Pen<'_>, base: &Name, backends: &Backends<'_>) {
    let names = TargetNames::new(pen, base, backends);
    if let Some(wildcard) = Name::compose(&[b"*"], base) {
        write_entry(pen, &wildcard, &names, backends.front(), PortFilter::Any);
    }
}

/// Writes the names of the endpoints that are not listed.
fn write_endpoints(pen: &mut Pen<'_>, names: &TargetNames<'_>, backends: &Backends<'_>) {
    if backends.are_all_listed() {
        return;
    }
    for endpoint in backends.by_target() {
        if !backends.is_listed(endpoint[0].target)
            && let Some(owner) = names.get(endpoint[0].target)
        {
            write_entry(pen, owner, names, endpoint, PortFilter::Any);
        }
    }
}

/// If the endpoints of a Service are host names, its port names exist without data.
fn write_ports_of_hosts(
    pen: &mut Pen<'_>,
    cluster: &Cluster,
    (id, key): (ObjectId, KeyParts<'_>),
    labels: &[&[u8]],
) {
    let host_count = cluster.hosts(id).len();
    if host_count > 1 {
        pen.refuse(|| {
            format!(
                "Service {}/{} has {host_count} host names as endpoints, but a name has at most \
                 one CNAME record (RFC 1034, section 3.6.2): the first is used",
                key.namespace, key.name
            )
        });
    }
    let named = named_ports(cluster.slices(id).map(|slice| &*slice.ports));
    for zone in cluster.zones().forward() {
        if let Some(base) = pen.own_name(labels, zone, cluster.zones()) {
            write_ports(pen, &base, &named, |pen, owner, _, _| pen.put_empty(owner));
        }
    }
}

/// The names of ports, by protocol, each once.
fn named_ports<'p>(lists: impl Iterator<Item = &'p [Port]>) -> Vec<(Protocol, &'p str)> {
    let named = lists.flatten().filter(|port| !port.name.is_empty());
    sorted(named.map(|port| (port.protocol, &*port.name)))
}

/// Writes `_PORT._PROTO` for each named port, and `_PROTO` above them, which has no data of its own
/// (RFC 8020).
fn write_ports(
    pen: &mut Pen<'_>,
    base: &Name,
    named: &[(Protocol, &str)],
    write_port: impl Fn(&mut Pen<'_>, &Name, &str, Protocol),
) {
    for of_protocol in named.chunk_by(|one, next| one.0 == next.0) {
        let protocol = of_protocol[0].0;
        let mut is_parent = false;
        for (_, port) in of_protocol {
            let Some(label) = PortLabel::read(port) else {
                pen.refuse(|| format!("port name {port} of {base} is not a DNS label"));
                continue;
            };
            let labels = [label.as_slice(), protocol_label(protocol)];
            let Some(owner) = pen.name(&labels, base) else { continue };
            write_port(pen, &owner, port, protocol);
            is_parent = true;
        }
        if is_parent && let Some(owner) = pen.name(&[protocol_label(protocol)], base) {
            pen.put_empty(&owner);
        }
    }
}

/// Writes the entry of one name: the addresses of its backends, and an SRV record for each of their
/// ports.
///
/// The weights divide 100 by the number of distinct (target, address, port) triples. CoreDNS counts
/// an endpoint in two slices twice.
fn write_entry(
    pen: &mut Pen<'_>,
    owner: &Name,
    names: &TargetNames<'_>,
    backends: &[Backend<'_>],
    having: PortFilter<'_>,
) {
    begin_entry(pen, owner, names, backends, having);
    pen.put();
}

fn begin_entry(
    pen: &mut Pen<'_>,
    owner: &Name,
    names: &TargetNames<'_>,
    backends: &[Backend<'_>],
    having: PortFilter<'_>,
) {
    pen.begin(owner);
    let mut addresses = std::mem::take(&mut pen.buffers.addresses);
    addresses.clear();
    addresses.extend(addresses_of(backends, having));
    sort(&mut addresses);
    pen.answer_addresses(owner, &addresses);
    pen.buffers.addresses = addresses;

    let mut offers = std::mem::take(&mut pen.buffers.offers);
    offers.clear();
    for Backend { target, address, ports } in backends {
        if names.get(*target).is_some() {
            let numbers =
                ports.iter().filter(|port| having.has(port)).filter_map(|port| port.number);
            offers.extend(numbers.map(|port_number| Offer {
                target: *target,
                address: *address,
                port_number,
            }));
        }
    }
    answer_offers(pen, owner, names, &offers);
    pen.buffers.offers = offers;
}

/// Adds the answer for SRV, if there are any records. `offers`: sorted by target and address.
fn answer_offers(pen: &mut Pen<'_>, owner: &Name, names: &TargetNames<'_>, offers: &[Offer]) {
    if offers.is_empty() {
        return;
    }
    pen.answer(Rtype::SRV);
    let weight = weight(offers.len());
    let mut port_numbers = std::mem::take(&mut pen.buffers.port_numbers);
    for offers in offers.chunk_by(|one, next| one.target == next.target) {
        let Some(target) = names.get(offers[0].target) else { continue };
        port_numbers.clear();
        port_numbers.extend(offers.iter().map(|offer| offer.port_number));
        sort(&mut port_numbers);
        for number in &port_numbers {
            pen.srv(owner, weight, *number, target);
        }
    }
    pen.buffers.port_numbers = port_numbers;
    let is_same =
        |one: &Offer, next: &Offer| one.target == next.target && one.address == next.address;
    for offers in offers.chunk_by(is_same) {
        if let Some(target) = names.get(offers[0].target) {
            pen.address(Section::Additional, target, offers[0].address);
        }
    }
}

pub(super) const fn protocol_label(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Tcp => b"_tcp",
        Protocol::Udp => b"_udp",
        Protocol::Sctp => b"_sctp",
    }
}
