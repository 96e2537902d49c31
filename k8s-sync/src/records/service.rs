//! The names at and below `SVC.NS.svc`: cluster IPs, endpoints, ports (Kubernetes DNS specification, sections 2.3 and 2.4).

use std::net::IpAddr;
use std::sync::Arc;

use domain::base::Rtype;
use domain::rdata::Srv;
use wire::compile::Section;

use super::label::Label;
use super::pen::{Pen, compose};
use super::{external, sorted};
use crate::cluster::{Cluster, Endpoint, Port, Service, WireName};
use crate::object::{ObjectKey, Protocol, ServiceKind};

/// An address that stands behind a Service's name, and the ports that it has there.
#[derive(Clone, Copy)]
pub(super) struct Backend<'c> {
    target: Target,
    address: IpAddr,
    ports: &'c [Port],
}

/// What an SRV record for a backend points at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// The Service's own name: for cluster IPs.
    Service,
    Endpoint(Label),
    /// An endpoint whose label can be none.
    Nameless,
}

/// The backends of a Service that exists.
pub(super) struct Backends<'c> {
    /// Of a Service that has them; else its own name is that of its endpoints.
    cluster_ips: Option<Vec<Backend<'c>>>,
    /// In the order of their labels, those of one label together.
    endpoints: Vec<Backend<'c>>,
}

/// Which backends, by a port that they have.
#[derive(Clone, Copy)]
pub(super) enum Having<'n> {
    Any,
    Port(&'n str, Protocol),
}

/// All names of the Service `key`, if there is one.
pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, key: &Arc<ObjectKey>) {
    let Some(service) = cluster.service(key) else { return };
    let (Some(name), Some(namespace)) = (Label::read(&key.name), Label::read(&key.namespace))
    else {
        return pen.refuse(|| format!("Service {}/{}: no label", key.namespace, key.name));
    };
    if let ServiceKind::ExternalName(external_name) = &service.kind {
        return external::write(pen, cluster, [&name, &namespace], external_name);
    }
    let Some(backends) = Backends::new(cluster, key, service) else { return };
    for endpoint in backends.endpoints.iter().filter(|backend| backend.target == Target::Nameless) {
        let address = endpoint.address;
        pen.refuse(|| format!("endpoint {address} of {}/{}: no label", key.namespace, key.name));
    }
    for zone in cluster.zones().forward() {
        let labels = [name.as_slice(), namespace.as_slice(), b"svc"];
        let Some(base) = pen.name(&labels, zone) else { continue };
        write_entry(pen, &base, &base, backends.front(), Having::Any);
        write_ports(pen, &base, backends.front());
        for endpoint in backends.endpoints.chunk_by(|one, next| one.target == next.target) {
            let Target::Endpoint(label) = endpoint[0].target else { continue };
            if let Some(owner) = pen.name(&[label.as_slice()], &base) {
                write_entry(pen, &owner, &base, endpoint, Having::Any);
            }
        }
    }
}

/// `_PORT._PROTO` for each named port, and `_PROTO` above them, which has no data of its own (RFC 8020).
fn write_ports(pen: &mut Pen<'_>, base: &WireName, backends: &[Backend<'_>]) {
    let ports = backends.iter().flat_map(|backend| backend.ports);
    let named = ports.filter(|port| !port.name.is_empty());
    let named = sorted(named.map(|port| (port.protocol, &*port.name)));
    for of_protocol in named.chunk_by(|one, next| one.0 == next.0) {
        let protocol = of_protocol[0].0;
        let mut is_parent = false;
        for (_, port) in of_protocol {
            let Some(label) = Label::underscored(port) else {
                pen.refuse(|| format!("port {port} of {base}: no label"));
                continue;
            };
            let labels = [label.as_slice(), protocol_label(protocol)];
            let Some(owner) = pen.name(&labels, base) else { continue };
            write_entry(pen, &owner, base, backends, Having::Port(port, protocol));
            is_parent = true;
        }
        if is_parent && let Some(owner) = pen.name(&[protocol_label(protocol)], base) {
            pen.put_empty(&owner);
        }
    }
}

/// The entry of one name: the addresses of its backends, and an SRV record for each of their ports.
///
/// The weights share out 100 among the entries, counted as (target, address, port) without repetition; CoreDNS counts an
/// endpoint that stands in two slices twice.
fn write_entry(
    pen: &mut Pen<'_>,
    owner: &WireName,
    base: &WireName,
    backends: &[Backend<'_>],
    having: Having<'_>,
) {
    pen.begin(owner);
    pen.answer_addresses(owner, &addresses(backends, having));
    let with_ports = backends.iter().flat_map(|backend| {
        let ports = backend.ports.iter().filter(move |port| having.has(port));
        ports.map(|port| (&backend.target, backend.address, port))
    });
    let can_be_target = |target: &Target| target_name(target, base).is_some();
    let entries = sorted(
        with_ports.filter(|(target, _, port)| port.number.is_some() && can_be_target(target)),
    );
    if !entries.is_empty() {
        let weight = (100 / entries.len()).max(1) as u16;
        pen.answer(Rtype::SRV);
        for of_target in entries.chunk_by(|one, next| one.0 == next.0) {
            let target = target_name(of_target[0].0, base).expect("left out above");
            for number in sorted(of_target.iter().filter_map(|(_, _, port)| port.number)) {
                pen.record(Section::Answer, owner, &Srv::new(0, weight, number, &target));
            }
        }
        for of_target in entries.chunk_by(|one, next| one.0 == next.0) {
            let target = target_name(of_target[0].0, base).expect("left out above");
            for address in sorted(of_target.iter().map(|(_, address, _)| *address)) {
                pen.address(Section::Additional, &target, address);
            }
        }
    }
    pen.put();
}

impl<'c> Backends<'c> {
    /// `None`: by its endpoints, or for want of them, the Service does not exist.
    pub(super) fn new(
        cluster: &'c Cluster,
        key: &Arc<ObjectKey>,
        service: &'c Service,
    ) -> Option<Self> {
        let endpoints = cluster.slices(key).flat_map(|slice| {
            slice.endpoints.iter().map(|endpoint| Backend {
                target: endpoint_label(endpoint).map_or(Target::Nameless, Target::Endpoint),
                address: endpoint.address,
                ports: &slice.ports,
            })
        });
        let mut endpoints: Vec<Backend<'c>> = endpoints.collect();
        endpoints.sort_by_key(|backend| (backend.target, backend.address));
        match &service.kind {
            ServiceKind::ClusterIp(addresses) => {
                if endpoints.is_empty() && cluster.options().ignore_empty_service {
                    return None;
                }
                let cluster_ip = |address: &IpAddr| Backend {
                    target: Target::Service,
                    address: *address,
                    ports: &service.ports,
                };
                let cluster_ips = Some(addresses.iter().map(cluster_ip).collect());
                Some(Self { cluster_ips, endpoints })
            }
            ServiceKind::Headless if endpoints.is_empty() => None,
            ServiceKind::Headless => Some(Self { cluster_ips: None, endpoints }),
            ServiceKind::ExternalName(_) => None,
        }
    }

    /// Those of the Service's own name.
    pub(super) fn front(&self) -> &[Backend<'c>] {
        self.cluster_ips.as_ref().unwrap_or(&self.endpoints)
    }

    /// Those of the endpoint with this label.
    pub(super) fn endpoint(&self, label: &Label) -> &[Backend<'c>] {
        let from = self.endpoints.partition_point(|one| one.target < Target::Endpoint(*label));
        let rest = &self.endpoints[from..];
        &rest[..rest.partition_point(|one| one.target == Target::Endpoint(*label))]
    }
}

impl Having<'_> {
    fn has(self, port: &Port) -> bool {
        match self {
            Self::Any => true,
            Self::Port(name, protocol) => {
                port.protocol == protocol && port.name.eq_ignore_ascii_case(name)
            }
        }
    }
}

/// The distinct addresses of those backends that have such a port.
pub(super) fn addresses(backends: &[Backend<'_>], having: Having<'_>) -> Vec<IpAddr> {
    let matching = backends.iter().filter(|backend| match having {
        Having::Any => true,
        Having::Port(..) => backend.ports.iter().any(|port| having.has(port)),
    });
    sorted(matching.map(|backend| backend.address))
}

/// An endpoint's label: its own, or its address.
pub(super) fn endpoint_label(endpoint: &Endpoint) -> Option<Label> {
    match &endpoint.label {
        Some(label) => Label::read(label),
        None => Some(Label::of_endpoint(endpoint.address)),
    }
}

fn target_name(target: &Target, base: &WireName) -> Option<WireName> {
    match target {
        Target::Service => Some(base.clone()),
        Target::Endpoint(label) => compose(&[label.as_slice()], base),
        Target::Nameless => None,
    }
}

const fn protocol_label(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Tcp => b"_tcp",
        Protocol::Udp => b"_udp",
        Protocol::Sctp => b"_sctp",
    }
}
