//! Objects as the model stores them: only what answers are made from.
//!
//! Invariant: addresses are canonical (an IPv4-mapped IPv6 address becomes the IPv4 address), and
//! what the options make irrelevant is not stored.

use std::net::IpAddr;
use std::sync::Arc;

use super::ports::PortLists;
use super::store::ObjectId;
use crate::object::{self, ExternalTarget, ObjectKey, Port, ServiceKind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelService {
    pub kind: ServiceKind,
    /// Sorted, each once.
    pub ports: Arc<[Port]>,
    /// Where it can be reached from outside the cluster. Sorted: addresses first.
    pub external: Box<[ExternalTarget]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSlice {
    /// The Service of these endpoints. It need not exist.
    pub service: ObjectId,
    /// The addresses of ready endpoints.
    addresses: Box<[IpAddr]>,
    /// The label of each of them, in lower case, or nothing if none has one.
    labels: Box<[Option<Box<str>>]>,
    /// Endpoints that are host names: lower case, without a final dot.
    pub hosts: Box<[Box<str>]>,
    /// Sorted, each once.
    pub ports: Arc<[Port]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelPod {
    pub(crate) ips: Box<[IpAddr]>,
    pub(crate) is_on_host_network: bool,
}

/// One address of a ready endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelEndpoint<'m> {
    pub address: IpAddr,
    /// The endpoint's own label, in lower case. `None`: the label is made from the address.
    pub label: Option<&'m str>,
}

impl ModelService {
    pub(super) fn new(
        kind: ServiceKind,
        ports: Box<[Port]>,
        external: Box<[ExternalTarget]>,
        lists: &mut PortLists,
    ) -> Self {
        let kind = match kind {
            ServiceKind::ClusterIp(addresses) => ServiceKind::ClusterIp(canonical(addresses)),
            kind @ (ServiceKind::Headless | ServiceKind::ExternalName(_)) => kind,
        };
        Self { kind, ports: lists.share(ports), external }
    }

    /// Its addresses outside the cluster.
    pub fn external_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.external.iter().filter_map(|target| match target {
            ExternalTarget::Address(address) => Some(*address),
            ExternalTarget::Host(_) => None,
        })
    }
}

impl ModelSlice {
    /// The number of addresses.
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    pub fn endpoints(&self) -> impl Iterator<Item = ModelEndpoint<'_>> {
        self.addresses.iter().enumerate().map(|(index, address)| ModelEndpoint {
            address: *address,
            label: self.labels.get(index).and_then(Option::as_deref),
        })
    }

    /// `service`: the Service that the label of the slice names.
    pub(super) fn new(
        service: ObjectId,
        slice: object::EndpointSlice,
        endpoint_pod_names: bool,
        lists: &mut PortLists,
    ) -> (ObjectKey, Self) {
        let object::EndpointSlice { key, endpoints, hosts, ports, .. } = slice;
        let mut addresses = Vec::with_capacity(endpoints.len());
        let mut labels = Vec::new();
        for endpoint in endpoints {
            let pod_name = endpoint.pod_name.filter(|name| endpoint_pod_names && is_label(name));
            let mut label = endpoint.hostname.filter(|name| !name.is_empty()).or(pod_name);
            label.iter_mut().for_each(|label| label.make_ascii_lowercase());
            if label.is_some() {
                labels.resize(addresses.len(), None);
            }
            addresses.extend(endpoint.addresses.iter().map(IpAddr::to_canonical));
            if label.is_some() {
                labels.resize(addresses.len(), label);
            }
        }
        if !labels.is_empty() {
            labels.resize(addresses.len(), None);
        }
        let hosts = hosts.iter().map(|host| {
            host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into_boxed_str()
        });
        let slice = Self {
            service,
            addresses: addresses.into(),
            labels: labels.into(),
            hosts: hosts.collect(),
            ports: lists.share(ports),
        };
        (key, slice)
    }
}

impl ModelPod {
    pub(super) fn new(pod: object::Pod) -> (ObjectKey, Self) {
        let object::Pod { key, ips, is_on_host_network } = pod;
        (key, Self { ips: canonical(ips), is_on_host_network })
    }
}

fn canonical(mut addresses: Box<[IpAddr]>) -> Box<[IpAddr]> {
    for address in &mut addresses {
        *address = address.to_canonical();
    }
    addresses
}

/// The name of a pod is a DNS subdomain. If it is not a single label, it cannot name an endpoint.
fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.contains('.')
}
