//! What is behind the name of a Service: its cluster IPs and its endpoints, with their ports.
//!
//! The names and records that they get are in `service`. Invariant: lists of backends are sorted by
//! target and address, and have each address of a target once, in whatever order the slices came.

use std::borrow::Cow;
use std::net::IpAddr;

use wire::endpoint::list_capacity;

use super::label::{EndpointLabel, Label};
use super::sorted;
use crate::cluster::{Cluster, ModelService, ObjectId};
use crate::object::{Port, Protocol, ServiceKind};

/// An address behind the name of a Service, and its ports.
pub(super) struct Backend<'c> {
    /// Index of the target of its SRV records.
    pub(super) target: usize,
    pub(super) address: IpAddr,
    /// Sorted, each once.
    pub(super) ports: Cow<'c, [Port]>,
}

/// The target of an SRV record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BackendTarget<'c> {
    /// The Service's own name, for cluster IPs.
    Service,
    Endpoint(EndpointLabel<'c>),
    /// An endpoint whose label is invalid.
    Nameless,
}

/// The backends of an existing Service.
pub(super) struct Backends<'c> {
    /// Sorted, so the first is `Service`.
    pub(super) targets: Vec<BackendTarget<'c>>,
    /// `None` if the Service has no cluster IPs: its own name then has the addresses of its
    /// endpoints.
    pub(super) cluster_ips: Option<Vec<Backend<'c>>>,
    endpoints: Vec<Backend<'c>>,
    pub(super) list: Option<EndpointList>,
}

/// Endpoints that the entry of their Service lists, so that their names are not stored: see
/// `wire::endpoint`.
pub(super) struct EndpointList {
    /// Ports with a number.
    pub(super) port_count: usize,
    /// Sorted.
    pub(super) port_numbers: Vec<u16>,
    /// Sorted.
    pub(super) addresses: Vec<IpAddr>,
}

impl EndpointList {
    /// Endpoints whose label spells their address, with the ports that most of them have.
    fn of(backends: &Backends<'_>) -> Option<Self> {
        let alike = backends.by_target().filter_map(|endpoint| {
            let [Backend { target, address, ports }] = endpoint else { return None };
            let label = BackendTarget::Endpoint(EndpointLabel::Spelled(*address));
            (backends.targets[*target] == label).then_some((&**ports, *address))
        });
        let alike: Vec<(&[Port], IpAddr)> = sorted(alike);
        let most = alike.chunk_by(|one, next| one.0 == next.0).max_by_key(|same| same.len())?;
        let numbers = most[0].0.iter().filter_map(|port| port.number);
        let port_count = numbers.clone().count();
        let port_numbers = sorted(numbers);
        let mut addresses: Vec<IpAddr> = most.iter().map(|(_, address)| *address).collect();
        addresses.truncate(list_capacity(port_numbers.len(), &addresses));
        (!addresses.is_empty()).then_some(Self { port_count, port_numbers, addresses })
    }
}

/// Selects backends by port.
#[derive(Clone, Copy)]
pub(super) enum PortFilter<'n> {
    Any,
    Port(&'n str, Protocol),
}

impl<'c> Backend<'c> {
    /// Of the Service itself, sorted.
    fn of_service(addresses: &[IpAddr], ports: &'c [Port]) -> Vec<Self> {
        let addresses = sorted(addresses.iter().copied());
        let backend = |address| Self { target: 0, address, ports: Cow::Borrowed(ports) };
        addresses.into_iter().map(backend).collect()
    }
}

impl<'c> Backends<'c> {
    /// Lists as many endpoints as can be, for a table that has the names of listed ones.
    pub(super) fn listed(mut self) -> Self {
        self.list = EndpointList::of(&self);
        self
    }

    /// The endpoints, by target.
    pub(super) fn by_target(&self) -> impl Iterator<Item = &[Backend<'c>]> {
        self.endpoints.chunk_by(|one, next| one.target == next.target)
    }

    /// Whether the names of this target need not be stored.
    pub(super) fn is_listed(&self, target: usize) -> bool {
        match (&self.list, self.targets[target]) {
            (Some(list), BackendTarget::Endpoint(EndpointLabel::Spelled(address))) => {
                list.addresses.binary_search(&address).is_ok()
            }
            (_, _) => false,
        }
    }

    pub(super) fn are_all_listed(&self) -> bool {
        let listed_count = self.list.as_ref().map_or(0, |list| list.addresses.len());
        listed_count == self.targets.len() - 1
    }

    /// `None` if the Service does not exist because it has no endpoints.
    pub(super) fn new(
        cluster: &'c Cluster,
        id: ObjectId,
        service: &'c ModelService,
    ) -> Option<Self> {
        let cluster_ips = match &service.kind {
            ServiceKind::ClusterIp(addresses) => {
                Some(Backend::of_service(addresses, &service.ports))
            }
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
        Some(Self { targets, cluster_ips, endpoints, list: None })
    }

    /// Those of a Service that stands for these addresses.
    pub(super) fn of_addresses(addresses: &[IpAddr], ports: &'c [Port]) -> Self {
        Self {
            targets: vec![BackendTarget::Service],
            cluster_ips: Some(Backend::of_service(addresses, ports)),
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

    /// The backends of the Service's own name.
    pub(super) fn front(&self) -> &[Backend<'c>] {
        self.cluster_ips.as_ref().unwrap_or(&self.endpoints)
    }

    /// The backends of the endpoint with this label.
    pub(super) fn endpoint(&self, label: Label<'_>) -> &[Backend<'c>] {
        let target = BackendTarget::Endpoint(EndpointLabel::of_label(label));
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
) -> (Vec<BackendTarget<'c>>, Vec<Backend<'c>>) {
    let found = cluster.slices(service).flat_map(|slice| {
        slice.endpoints().map(|endpoint| {
            let label = EndpointLabel::of(&endpoint);
            let target = label.map_or(BackendTarget::Nameless, BackendTarget::Endpoint);
            (target, endpoint.address, &*slice.ports)
        })
    });
    // By ports too, so that the order of the slices makes no difference.
    let found: Vec<(BackendTarget<'c>, IpAddr, &'c [Port])> = sorted(found);
    let mut targets = Vec::with_capacity(1 + found.len());
    targets.push(BackendTarget::Service);
    let mut endpoints = Vec::with_capacity(found.len());
    for same in found.chunk_by(|one, next| one.0 == next.0 && one.1 == next.1) {
        let (target, address, ports) = same[0];
        if targets.last() != Some(&target) {
            targets.push(target);
        }
        let ports = match same {
            [_] => Cow::Borrowed(ports),
            // The endpoint is in several slices, with different ports.
            _ => sorted(same.iter().flat_map(|(.., ports)| *ports).cloned()).into(),
        };
        endpoints.push(Backend { target: targets.len() - 1, address, ports });
    }
    (targets, endpoints)
}

impl PortFilter<'_> {
    pub(super) fn has(self, port: &Port) -> bool {
        match self {
            Self::Any => true,
            Self::Port(name, protocol) => {
                port.protocol == protocol && port.name.eq_ignore_ascii_case(name)
            }
        }
    }
}

/// The distinct addresses of the backends that pass the filter, sorted.
pub(super) fn addresses(backends: &[Backend<'_>], having: PortFilter<'_>) -> Vec<IpAddr> {
    sorted(addresses_of(backends, having))
}

pub(super) fn addresses_of(
    backends: &[Backend<'_>],
    having: PortFilter<'_>,
) -> impl Iterator<Item = IpAddr> {
    let matching = backends.iter().filter(move |backend| match having {
        PortFilter::Any => true,
        PortFilter::Port(..) => backend.ports.iter().any(|port| having.has(port)),
    });
    matching.map(|backend| backend.address)
}
