//! Objects as the model stores them: only what answers are made from.
//!
//! Invariant: addresses are canonical (an IPv4-mapped IPv6 address becomes the IPv4 address), and
//! what the options make irrelevant is not stored.

use std::net::IpAddr;
use std::sync::Arc;

use super::ports::PortLists;
use crate::object::{self, ExternalTarget, ObjectKey, Port, ServiceKind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelService {
    pub kind: ServiceKind,
    pub ports: Arc<[Port]>,
    /// Where it can be reached from outside the cluster. Sorted: addresses first.
    pub external: Box<[ExternalTarget]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSlice {
    /// The Service of these endpoints. It need not exist.
    pub service: Arc<ObjectKey>,
    pub endpoints: Box<[ModelEndpoint]>,
    /// Endpoints that are host names: lower case, without a final dot.
    pub hosts: Box<[Box<str>]>,
    pub ports: Arc<[Port]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelPod {
    pub(super) ips: Box<[IpAddr]>,
    pub(super) is_on_host_network: bool,
}

/// One address of a ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelEndpoint {
    pub address: IpAddr,
    /// The endpoint's own label. `None`: the label is made from the address.
    pub label: Option<Box<str>>,
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
    /// `service`: the Service that the label of the slice names; the key is shared.
    pub(super) fn new(
        service: Arc<ObjectKey>,
        slice: object::EndpointSlice,
        endpoint_pod_names: bool,
        lists: &mut PortLists,
    ) -> Self {
        let endpoints = slice.endpoints.into_iter().flat_map(|endpoint| {
            let pod_name = endpoint.pod_name.filter(|name| endpoint_pod_names && is_label(name));
            let label = endpoint.hostname.filter(|name| !name.is_empty()).or(pod_name);
            canonical(endpoint.addresses)
                .into_iter()
                .map(move |address| ModelEndpoint { address, label: label.clone() })
        });
        let hosts = slice.hosts.iter().map(|host| {
            host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into_boxed_str()
        });
        Self {
            service,
            endpoints: endpoints.collect(),
            hosts: hosts.collect(),
            ports: lists.share(slice.ports),
        }
    }
}

impl ModelPod {
    pub(super) fn new(pod: object::Pod) -> (Arc<ObjectKey>, Self) {
        let object::Pod { key, ips, is_on_host_network } = pod;
        (Arc::new(key), Self { ips: canonical(ips), is_on_host_network })
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
