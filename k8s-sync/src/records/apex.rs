//! The names of each zone itself: its name servers, `svc`, `pod`, `dns`, `ns.dns` and
//! `dns-version`.
//!
//! A look-up makes the SOA record from the zone's name.

use std::net::IpAddr;

use domain::base::Rtype;
use domain::rdata::Txt;
use wire::compile::Section;
use wire::name::Name;
use wire::reverse;

use super::label::{EndpointLabel, Label};
use super::pen::Pen;
use super::sorted;
use crate::cluster::{Cluster, ModelSlice, Zones};
use crate::object::ServiceKind;

/// The version of the specification, and the TTL of that record (Kubernetes DNS specification,
/// section 2.2).
const SCHEMA_VERSION: &[u8] = b"1.1.0";
const SCHEMA_VERSION_TTL_SECS: u32 = 28_800;

pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster) {
    let zones = cluster.zones();
    let servers = name_servers(cluster);
    for zone in zones.forward() {
        write_zone(pen, zones, zone, &servers, &[]);
        for label in [&b"svc"[..], b"pod"] {
            put_empty(pen, zones, label, zone);
        }
        let Some(version) = pen.own_name(&[b"dns-version"], zone, zones) else { continue };
        pen.set_ttl(SCHEMA_VERSION_TTL_SECS);
        pen.begin(&version);
        pen.answer(Rtype::TXT);
        let text: Txt<Vec<u8>> = Txt::build_from_slice(SCHEMA_VERSION).expect("a short text");
        pen.record(Section::Answer, &version, &text);
        pen.put();
        pen.set_ttl(cluster.options().ttl_secs);
    }
    let unnamed = unnamed(servers);
    for zone in zones.reverse() {
        write_reverse_with(pen, cluster, zone, &unnamed);
    }
}

/// The names of one reverse zone.
pub(super) fn write_reverse(pen: &mut Pen<'_>, cluster: &Cluster, zone: &Name) {
    write_reverse_with(pen, cluster, zone, &unnamed(name_servers(cluster)));
}

/// A zone that is the name of one address has its PTR records.
fn write_reverse_with(pen: &mut Pen<'_>, cluster: &Cluster, zone: &Name, servers: &[NameServer]) {
    let address = reverse::address(zone);
    let names = address.map(|address| {
        let cluster_ip_of = cluster.with_cluster_ip(address);
        super::reverse::names(pen, cluster, address, cluster_ip_of)
    });
    write_zone(pen, cluster.zones(), zone, servers, &names.unwrap_or_default());
}

/// No Service has a name in a reverse zone.
fn unnamed(servers: Vec<NameServer>) -> Vec<NameServer> {
    sorted(servers.into_iter().map(|server| NameServer { labels: vec![], ..server }))
}

/// The zone's NS records, the PTR records of its own name, and `ns.dns`.
fn write_zone(
    pen: &mut Pen<'_>,
    zones: &Zones,
    zone: &Name,
    servers: &[NameServer],
    pointed_to: &[Name],
) {
    let Some(default) = pen.name(&[b"ns", b"dns"], zone) else { return };
    pen.begin(zone);
    write_name_servers(pen, zone, &default, servers);
    pen.answer_pointers(zone, pointed_to);
    pen.put();
    put_empty(pen, zones, b"dns", zone);
    if zones.is_own(&default, zone) {
        pen.begin(&default);
        let addresses = sorted(servers.iter().map(|server| server.address));
        pen.answer_addresses(&default, &addresses);
        pen.put();
    }
}

/// The name of this label exists, unless it is a zone itself.
fn put_empty(pen: &mut Pen<'_>, zones: &Zones, label: &[u8], zone: &Name) {
    if let Some(owner) = Name::compose(&[label], zone).filter(|owner| zones.is_own(owner, zone)) {
        pen.put_empty(&owner);
    }
}

/// The addresses of the zone's name servers, sorted.
pub(super) fn name_server_addresses(cluster: &Cluster) -> Vec<IpAddr> {
    sorted(name_servers(cluster).into_iter().map(|server| server.address))
}

/// A name server: its labels below the zone (none for `ns.dns`), and one address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct NameServer {
    labels: Vec<Vec<u8>>,
    address: IpAddr,
}

/// The Services that have one of this server's addresses, as an endpoint or as a cluster IP. If
/// there is none, the server itself.
///
/// As in CoreDNS, they may be in a namespace that is not served: usually kube-system, whatever
/// `namespaces` says.
fn name_servers(cluster: &Cluster) -> Vec<NameServer> {
    let own = &cluster.options().server_addresses;
    let owners = own.iter().flat_map(|address| cluster.owners_anywhere(*address));
    let servers = owners.flat_map(|(id, found)| {
        let key = cluster.service_key(id);
        let service = key.and_then(|key| Label::read(key.name).zip(Label::read(key.namespace)));
        let addresses: Vec<(Option<EndpointLabel<'_>>, IpAddr)> = match &found.kind {
            ServiceKind::ClusterIp(addresses) => {
                addresses.iter().map(|address| (None, *address)).collect()
            }
            ServiceKind::Headless => {
                let endpoints = cluster.slices(id).flat_map(ModelSlice::endpoints);
                let named = endpoints.filter_map(|endpoint| {
                    Some((Some(EndpointLabel::of(&endpoint)?), endpoint.address))
                });
                named.collect()
            }
            ServiceKind::ExternalName(_) => Vec::new(),
        };
        addresses.into_iter().filter_map(move |(endpoint, address)| {
            let (name, namespace) = service?;
            let endpoint = endpoint.map(|label| label.with_text(<[u8]>::to_vec));
            let service = [name.as_slice(), namespace.as_slice(), b"svc"].map(<[u8]>::to_vec);
            Some(NameServer { labels: endpoint.into_iter().chain(service).collect(), address })
        })
    });
    let servers = sorted(servers);
    if servers.is_empty() {
        return sorted(own.iter().map(|address| NameServer { labels: vec![], address: *address }));
    }
    servers
}

fn write_name_servers(pen: &mut Pen<'_>, apex: &Name, default: &Name, servers: &[NameServer]) {
    let target = |server: &NameServer| match server.labels.as_slice() {
        [] => Some(default.clone()),
        labels => {
            let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
            Name::compose(&labels, apex)
        }
    };
    if servers.iter().any(|server| target(server).is_some()) {
        pen.answer(Rtype::NS);
        for of_name in servers.chunk_by(|one, next| one.labels == next.labels) {
            if let Some(target) = target(&of_name[0]) {
                pen.pointer(apex, Rtype::NS, &target);
            }
        }
        for server in servers {
            if let Some(target) = target(server) {
                pen.address(Section::Additional, &target, server.address);
            }
        }
    }
}
