//! `SVC.NS.svc` of an ExternalName Service (Kubernetes DNS specification, section 2.5).
//!
//! A CNAME answers every type. If it points at one of our names, the entry already contains the
//! addresses there; a look-up finds everything else when it is needed. CoreDNS omits the CNAME if
//! nothing is found there; this server does not.

use std::net::IpAddr;

use domain::base::Rtype;
use wire::compile::Section;
use wire::endpoint::AddressLabel;
use wire::name::Name;
use wire::pod::PodMode;
use wire::table::EVERY_TYPE;

use super::apex;
use super::backends::{Backends, PortFilter, addresses};
use super::label::Label;
use super::pen::Pen;
use crate::cluster::{Alias, AliasTarget, Cluster, ServicePart};
use crate::object::ObjectKey;

/// Maximum number of CNAME records in an answer. CoreDNS follows about as many.
const CHAIN_LEN_MAX: usize = 10;

/// `labels`: those of the Service below a zone.
pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, labels: &[&[u8]], external_name: &str) {
    let Some(alias) = Alias::read(external_name, cluster.zones()) else {
        return pen.refuse(|| format!("externalName {external_name:?} is not a host name"));
    };
    for zone in cluster.zones().forward() {
        let Some(owner) = pen.own_name(labels, zone, cluster.zones()) else { continue };
        write_entry(pen, cluster, &owner, alias.clone());
    }
}

fn write_entry(pen: &mut Pen<'_>, cluster: &Cluster, owner: &Name, alias: Alias) {
    let (chain, last) = follow(cluster, owner, alias);
    let addresses = last.map(|target| addresses_at(cluster, &target)).unwrap_or_default();
    let end = chain.last().map_or(owner, |(_, target)| target);
    let put_chain = |pen: &mut Pen<'_>, rtype: Rtype, len: usize| {
        pen.answer(rtype);
        for (owner, target) in &chain[..len] {
            pen.pointer(owner, Rtype::CNAME, target);
        }
    };
    pen.begin(owner);
    if chain.len() > 1 {
        put_chain(pen, Rtype::CNAME, 1);
    }
    for (rtype, is_v4) in [(Rtype::A, true), (Rtype::AAAA, false)] {
        let of_type = addresses.iter().filter(|address| address.is_ipv4() == is_v4);
        let mut of_type = of_type.peekable();
        if of_type.peek().is_some() {
            put_chain(pen, rtype, chain.len());
            for address in of_type {
                pen.address(Section::Answer, end, *address);
            }
        }
    }
    put_chain(pen, Rtype::from_int(EVERY_TYPE), chain.len());
    pen.put();
}

/// The CNAMEs from `owner` on, as (owner, target), and what the last one leads to; `None` if that
/// is a loop.
fn follow(
    cluster: &Cluster,
    owner: &Name,
    first: Alias,
) -> (Vec<(Name, Name)>, Option<AliasTarget>) {
    let mut chain = vec![(owner.clone(), first.name)];
    let mut destination = first.target;
    while chain.len() < CHAIN_LEN_MAX {
        let AliasTarget::Service(key, ServicePart::Whole) = &destination else { break };
        let next =
            cluster.service_id(key).and_then(|id| cluster.alias_of(id, cluster.service(id)?));
        let Some(next) = next else { break };
        let here = chain[chain.len() - 1].1.clone();
        if chain.iter().any(|(owner, _)| *owner == here) {
            return (chain, None);
        }
        let Some(next) = Alias::read(next, cluster.zones()) else { return (chain, None) };
        chain.push((here, next.name));
        destination = next.target;
    }
    (chain, Some(destination))
}

/// The addresses of one of our names, sorted.
fn addresses_at(cluster: &Cluster, target: &AliasTarget) -> Vec<IpAddr> {
    match target {
        AliasTarget::Outside | AliasTarget::Nowhere => Vec::new(),
        AliasTarget::NameServers => apex::name_server_addresses(cluster),
        AliasTarget::Service(key, part) => service_addresses(cluster, key, part),
        AliasTarget::Pod { namespace, label, address } => {
            let exists = match cluster.options().pods {
                PodMode::Disabled => false,
                PodMode::Insecure => cluster.has_namespace(namespace),
                PodMode::Verified => {
                    AddressLabel::of_pod(*address).as_slice() == label.as_bytes()
                        && cluster.has_pod(namespace, *address)
                }
            };
            exists.then_some(*address).into_iter().collect()
        }
    }
}

fn service_addresses(cluster: &Cluster, key: &ObjectKey, part: &ServicePart) -> Vec<IpAddr> {
    let id = cluster.service_id(key);
    let backends = id.and_then(|id| Backends::new(cluster, id, cluster.service(id)?));
    let Some(backends) = backends else { return Vec::new() };
    match part {
        ServicePart::Whole => addresses(backends.front(), PortFilter::Any),
        ServicePart::Endpoint(label) => Label::read(label)
            .map_or_else(Vec::new, |label| addresses(backends.endpoint(label), PortFilter::Any)),
        ServicePart::Port(name, protocol) => {
            addresses(backends.front(), PortFilter::Port(name, *protocol))
        }
    }
}
