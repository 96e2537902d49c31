//! The names at and below `SVC.NS.svc`: cluster IPs, endpoints and ports (Kubernetes DNS
//! specification, sections 2.3 and 2.4).

use std::net::IpAddr;

use domain::base::Rtype;
use domain::rdata::Srv;
use wire::compile::Section;
use wire::endpoint::list_capacity;

use super::label::{EndpointLabel, Label};
use super::pen::{Pen, compose};
use super::{external, sorted};
use crate::cluster::{Cluster, KeyParts, ModelService, ObjectId, WireName};
use crate::object::{Port, Protocol, ServiceKind};

/// An address behind the name of a Service, and its ports.
#[derive(Clone, Copy)]
pub(super) struct Backend<'c> {
    /// Index of the target of its SRV records.
    target: usize,
    address: IpAddr,
    ports: &'c [Port],
}

/// The target of an SRV record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BackendTarget {
    /// The Service's own name, for cluster IPs.
    Service,
    Endpoint(EndpointLabel),
    /// An endpoint whose label is invalid.
    Nameless,
}

/// The backends of an existing Service.
pub(super) struct Backends<'c> {
    /// Sorted, so the first is `Service`.
    targets: Vec<BackendTarget>,
    /// `None` if the Service has no cluster IPs: its own name then has the addresses of its
    /// endpoints.
    cluster_ips: Option<Vec<Backend<'c>>>,
    /// Sorted by target and address.
    endpoints: Vec<Backend<'c>>,
    list: Option<EndpointList>,
}

/// Endpoints that the entry of their Service lists, so that their names are not stored: see
/// `wire::endpoint`.
struct EndpointList {
    /// Of an SRV record.
    weight: u16,
    /// Sorted.
    ports: Vec<u16>,
    /// Sorted.
    addresses: Vec<IpAddr>,
}

impl EndpointList {
    /// Endpoints whose label spells their address, with the ports that most of them have.
    fn of(backends: &Backends<'_>) -> Option<Self> {
        let alike = backends.by_target().filter_map(|endpoint| {
            let target = backends.targets[endpoint[0].target];
            let BackendTarget::Endpoint(EndpointLabel::Spelled(address)) = target else {
                return None;
            };
            let ports = endpoint[0].ports;
            let is_alike = |one: &Backend<'_>| one.address == address && one.ports == ports;
            endpoint.iter().all(is_alike).then_some((ports, address))
        });
        let mut alike: Vec<(&[Port], IpAddr)> = alike.collect();
        alike.sort_unstable();
        let most = alike.chunk_by(|one, next| one.0 == next.0).max_by_key(|same| same.len())?;
        let ports = most[0].0;
        let mut addresses: Vec<IpAddr> = most.iter().map(|(_, address)| *address).collect();
        let numbered = sorted(ports.iter().filter(|port| port.number.is_some()));
        let weight = weight(numbered.len());
        let ports = sorted(numbered.iter().filter_map(|port| port.number));
        addresses.truncate(list_capacity(ports.len(), &addresses));
        (!addresses.is_empty()).then_some(Self { weight, ports, addresses })
    }
}

/// Of each of this many SRV records.
pub(super) fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}

/// The names of a Service's targets in one zone, by index. Invalid ones are `None`.
type TargetNames = [Option<WireName>];

/// Selects backends by port.
#[derive(Clone, Copy)]
pub(super) enum PortFilter<'n> {
    Any,
    Port(&'n str, Protocol),
}

/// Writes all names of the Service `key`, if it exists.
pub(super) fn write(pen: &mut Pen<'_>, cluster: &Cluster, id: ObjectId) {
    let (Some(service), Some(key)) = (cluster.service(id), cluster.service_key(id)) else { return };
    let (Some(name), Some(namespace)) = (Label::read(key.name), Label::read(key.namespace)) else {
        return pen.refuse(|| {
            format!("Service {}/{}: its name is not a DNS label", key.namespace, key.name)
        });
    };
    if let Some(target) = cluster.alias_of(id, service) {
        external::write(pen, cluster, [&name, &namespace], target);
        if matches!(service.kind, ServiceKind::Headless) {
            let base = [name.as_slice(), namespace.as_slice(), b"svc"];
            write_ports_of_hosts(pen, cluster, (id, key), &base);
        }
        return;
    }
    let Some(backends) = Backends::new(cluster, id, service) else { return };
    let backends = backends.listed();
    for zone in cluster.zones().forward() {
        let labels = [name.as_slice(), namespace.as_slice(), b"svc"];
        if let Some(base) = pen.own_name(&labels, zone, cluster.zones()) {
            write_names(pen, &base, &backends);
        }
    }
}

/// Writes the Service's own name, `base`, and all names below it.
pub(super) fn write_names(pen: &mut Pen<'_>, base: &WireName, backends: &Backends<'_>) {
    let names = backends.target_names(pen, base);
    begin_entry(pen, base, &names, backends.front(), PortFilter::Any);
    if let Some(list) = &backends.list {
        pen.list_endpoints(list.weight, &list.ports, &list.addresses);
    }
    pen.put();
    write_ports(pen, base, &names, backends.front());
    write_endpoints(pen, &names, backends);
}

/// Writes the names of the endpoints below `base`, and `base`, which has no data of its own.
pub(super) fn write_endpoint_names(pen: &mut Pen<'_>, base: &WireName, backends: &Backends<'_>) {
    let names = backends.target_names(pen, base);
    pen.put_empty(base);
    write_endpoints(pen, &names, backends);
}

/// Writes the wildcard below `base`, which stands for `base`.
pub(super) fn write_wildcard(pen: &mut Pen<'_>, base: &WireName, backends: &Backends<'_>) {
    let names = backends.target_names(pen, base);
    if let Some(wildcard) = compose(&[b"*"], base) {
        write_entry(pen, &wildcard, &names, backends.front(), PortFilter::Any);
    }
}

/// Writes the names of the endpoints that are not listed.
fn write_endpoints(pen: &mut Pen<'_>, names: &TargetNames, backends: &Backends<'_>) {
    for endpoint in backends.by_target() {
        if !backends.is_listed(endpoint[0].target)
            && let Some(owner) = &names[endpoint[0].target]
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
    base: &[&[u8]],
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
    let ports = cluster.slices(id).flat_map(|slice| &*slice.ports);
    let ports = sorted(ports.filter(|port| !port.name.is_empty()));
    for zone in cluster.zones().forward() {
        let Some(base) = pen.own_name(base, zone, cluster.zones()) else { continue };
        let mut owners = Vec::new();
        for port in &ports {
            let protocol = protocol_label(port.protocol);
            let Some(label) = Label::underscored(&port.name) else { continue };
            owners.extend(pen.name(&[protocol], &base));
            owners.extend(pen.name(&[label.as_slice(), protocol], &base));
        }
        sorted(owners).iter().for_each(|owner| pen.put_empty(owner));
    }
}

/// Writes `_PORT._PROTO` for each named port, and `_PROTO` above them, which has no data of its own
/// (RFC 8020).
fn write_ports(pen: &mut Pen<'_>, base: &WireName, names: &TargetNames, backends: &[Backend<'_>]) {
    let ports = backends.iter().flat_map(|backend| backend.ports);
    let named = ports.filter(|port| !port.name.is_empty());
    let named = sorted(named.map(|port| (port.protocol, &*port.name)));
    for of_protocol in named.chunk_by(|one, next| one.0 == next.0) {
        let protocol = of_protocol[0].0;
        let mut is_parent = false;
        for (_, port) in of_protocol {
            let Some(label) = Label::underscored(port) else {
                pen.refuse(|| format!("port name {port} of {base} is not a DNS label"));
                continue;
            };
            let labels = [label.as_slice(), protocol_label(protocol)];
            let Some(owner) = pen.name(&labels, base) else { continue };
            write_entry(pen, &owner, names, backends, PortFilter::Port(port, protocol));
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
    owner: &WireName,
    names: &TargetNames,
    backends: &[Backend<'_>],
    having: PortFilter<'_>,
) {
    begin_entry(pen, owner, names, backends, having);
    pen.put();
}

fn begin_entry(
    pen: &mut Pen<'_>,
    owner: &WireName,
    names: &TargetNames,
    backends: &[Backend<'_>],
    having: PortFilter<'_>,
) {
    pen.begin(owner);
    pen.answer_addresses(owner, &addresses(backends, having));
    let with_ports = backends.iter().flat_map(|backend| {
        let ports = backend.ports.iter().filter(move |port| having.has(port));
        ports.map(|port| (backend.target, backend.address, port))
    });
    let entries = sorted(
        with_ports.filter(|(target, _, port)| port.number.is_some() && names[*target].is_some()),
    );
    if !entries.is_empty() {
        let weight = weight(entries.len());
        pen.answer(Rtype::SRV);
        let by_target = || entries.chunk_by(|one, next| one.0 == next.0);
        for entries in by_target() {
            let Some(target) = &names[entries[0].0] else { continue };
            for number in sorted(entries.iter().filter_map(|(_, _, port)| port.number)) {
                pen.record(Section::Answer, owner, &Srv::new(0, weight, number, target));
            }
        }
        for entries in by_target() {
            let Some(target) = &names[entries[0].0] else { continue };
            for address in sorted(entries.iter().map(|(_, address, _)| *address)) {
                pen.address(Section::Additional, target, address);
            }
        }
    }
}

impl<'c> Backends<'c> {
    /// Lists as many endpoints as can be, for a table that has the names of listed ones.
    pub(super) fn listed(mut self) -> Self {
        self.list = EndpointList::of(&self);
        self
    }

    /// The endpoints, by target.
    fn by_target(&self) -> impl Iterator<Item = &[Backend<'c>]> {
        self.endpoints.chunk_by(|one, next| one.target == next.target)
    }

    /// Whether the names of this target need not be stored.
    fn is_listed(&self, target: usize) -> bool {
        match (&self.list, self.targets[target]) {
            (Some(list), BackendTarget::Endpoint(EndpointLabel::Spelled(address))) => {
                list.addresses.binary_search(&address).is_ok()
            }
            (_, _) => false,
        }
    }

    /// `None` if the Service does not exist because it has no endpoints.
    pub(super) fn new(
        cluster: &'c Cluster,
        id: ObjectId,
        service: &'c ModelService,
    ) -> Option<Self> {
        let cluster_ips = match &service.kind {
            ServiceKind::ClusterIp(addresses) => Some(addresses),
            ServiceKind::Headless => None,
            ServiceKind::ExternalName(_) => return None,
        };
        let (targets, endpoints) = endpoints(cluster, id);
        // A host name counts as an endpoint.
        let shows_empty = !cluster.options().ignore_empty_service;
        let may_be_empty = cluster_ips.is_some() && (shows_empty || !cluster.hosts(id).is_empty());
        if endpoints.is_empty() && !may_be_empty {
            return None;
        }
        let cluster_ips = cluster_ips.map(|addresses| {
            let backend =
                |address: &IpAddr| Backend { target: 0, address: *address, ports: &service.ports };
            addresses.iter().map(backend).collect()
        });
        Some(Self { targets, cluster_ips, endpoints, list: None })
    }

    /// Those of a Service that stands for these addresses.
    pub(super) fn of_addresses(addresses: &[IpAddr], ports: &'c [Port]) -> Self {
        let backend = |address: &IpAddr| Backend { target: 0, address: *address, ports };
        Self {
            targets: vec![BackendTarget::Service],
            cluster_ips: Some(addresses.iter().map(backend).collect()),
            endpoints: Vec::new(),
            list: None,
        }
    }

    /// The endpoints of a Service; `None` if it has none.
    pub(super) fn of_endpoints(cluster: &'c Cluster, id: ObjectId) -> Option<Self> {
        let (targets, endpoints) = endpoints(cluster, id);
        let list = None;
        (!endpoints.is_empty()).then_some(Self { targets, cluster_ips: None, endpoints, list })
    }

    /// The name of each target below `base`, without those that no record is written for.
    fn target_names(&self, pen: &mut Pen<'_>, base: &WireName) -> Vec<Option<WireName>> {
        let has_targets_in_front = self.cluster_ips.is_none();
        let names = self.targets.iter().enumerate().map(|(index, target)| match target {
            BackendTarget::Service => Some(base.clone()),
            BackendTarget::Endpoint(label) => {
                let is_written = has_targets_in_front || !self.is_listed(index);
                let label = is_written.then(|| label.label())?;
                pen.name(&[label.as_slice()], base)
            }
            BackendTarget::Nameless => {
                pen.refuse(|| format!("an endpoint's hostname below {base} is not a DNS label"));
                None
            }
        });
        names.collect()
    }

    /// The backends of the Service's own name.
    pub(super) fn front(&self) -> &[Backend<'c>] {
        self.cluster_ips.as_ref().unwrap_or(&self.endpoints)
    }

    /// The backends of the endpoint with this label.
    pub(super) fn endpoint(&self, label: &Label) -> &[Backend<'c>] {
        let target = BackendTarget::Endpoint(EndpointLabel::of_label(*label));
        let Ok(target) = self.targets.binary_search(&target) else {
            return &[];
        };
        let from = self.endpoints.partition_point(|one| one.target < target);
        let len = self.endpoints[from..].partition_point(|one| one.target == target);
        &self.endpoints[from..from + len]
    }
}

/// The endpoints in the Service's slices, and their targets.
fn endpoints<'c>(
    cluster: &'c Cluster,
    service: ObjectId,
) -> (Vec<BackendTarget>, Vec<Backend<'c>>) {
    let endpoints = cluster.slices(service).flat_map(|slice| {
        slice.endpoints().map(|endpoint| {
            let label = EndpointLabel::of(&endpoint);
            let target = label.map_or(BackendTarget::Nameless, BackendTarget::Endpoint);
            (target, endpoint.address, &*slice.ports)
        })
    });
    let mut endpoints: Vec<(BackendTarget, IpAddr, &[Port])> = endpoints.collect();
    // By ports too, so that the order of the slices makes no difference.
    endpoints.sort_unstable();
    let mut targets = vec![BackendTarget::Service];
    let backend = |(target, address, ports)| {
        if targets[targets.len() - 1] != target {
            targets.push(target);
        }
        Backend { target: targets.len() - 1, address, ports }
    };
    let backends = endpoints.into_iter().map(backend).collect();
    (targets, backends)
}

impl PortFilter<'_> {
    fn has(self, port: &Port) -> bool {
        match self {
            Self::Any => true,
            Self::Port(name, protocol) => {
                port.protocol == protocol && port.name.eq_ignore_ascii_case(name)
            }
        }
    }
}

/// The distinct addresses of the backends that pass the filter.
pub(super) fn addresses(backends: &[Backend<'_>], having: PortFilter<'_>) -> Vec<IpAddr> {
    let matching = backends.iter().filter(|backend| match having {
        PortFilter::Any => true,
        PortFilter::Port(..) => backend.ports.iter().any(|port| having.has(port)),
    });
    sorted(matching.map(|backend| backend.address))
}

pub(super) const fn protocol_label(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Tcp => b"_tcp",
        Protocol::Udp => b"_udp",
        Protocol::Sctp => b"_sctp",
    }
}
