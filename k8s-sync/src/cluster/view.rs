//! What `records` reads from the model: which objects exist, and which belong together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Cluster, ModelService, ModelSlice, Zones};
use crate::object::{ObjectKey, ServiceKind};
use crate::options::Options;

impl Cluster {
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    #[must_use]
    pub const fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Whether the namespace exists and is served. Its phase is never read.
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        let names = &self.options.namespaces;
        (names.is_empty() || names.iter().any(|name| name == namespace))
            && self.namespaces.get(namespace).is_some()
    }

    /// The Service, if its Namespace exists.
    #[must_use]
    pub fn service(&self, key: &ObjectKey) -> Option<&ModelService> {
        self.services.get(key).filter(|_| self.has_namespace(&key.namespace))
    }

    /// The slices that name this Service, whether it exists or not, sorted by name.
    pub fn slices(&self, service: &Arc<ObjectKey>) -> impl Iterator<Item = &ModelSlice> {
        self.slices_of.of(Arc::clone(service)).filter_map(|key| self.slices.get(key))
    }

    /// The existing Services with this address as a cluster IP or an endpoint, sorted by name.
    pub fn owners(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = (&Arc<ObjectKey>, &ModelService)> {
        self.owners.of(address).filter_map(|key| Some((key, self.service(key)?)))
    }

    /// Like `owners`, including namespaces that are not served.
    pub fn owners_anywhere(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = (&Arc<ObjectKey>, &ModelService)> {
        self.owners.of(address).filter_map(|key| Some((key, self.services.get(key)?)))
    }

    /// The existing Services with this address outside the cluster, sorted by name.
    pub fn external_owners(&self, address: IpAddr) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.external_owners.of(address).filter(|key| self.service(key).is_some())
    }

    /// The host names that are the endpoints of this Service, sorted. Empty if any endpoint is an
    /// address.
    #[must_use]
    pub fn hosts(&self, service: &Arc<ObjectKey>) -> BTreeSet<&str> {
        let mut hosts = BTreeSet::new();
        for slice in self.slices(service) {
            if !slice.endpoints.is_empty() {
                return BTreeSet::new();
            }
            hosts.extend(slice.hosts.iter().map(|host| &**host));
        }
        hosts
    }

    /// The name that this Service is an alias of: that of an ExternalName, or the host name that is
    /// the endpoint of a headless Service. Of several host names the first counts, because a name
    /// has at most one CNAME record.
    #[must_use]
    pub fn alias_of<'c>(
        &'c self,
        key: &Arc<ObjectKey>,
        service: &'c ModelService,
    ) -> Option<&'c str> {
        match &service.kind {
            ServiceKind::ExternalName(name) => Some(name),
            ServiceKind::Headless => self.hosts(key).into_iter().next(),
            ServiceKind::ClusterIp(_) => None,
        }
    }

    /// Whether a pod of this namespace has this address.
    #[must_use]
    pub fn has_pod(&self, namespace: &str, address: IpAddr) -> bool {
        self.has_namespace(namespace)
            && self.pods_at.of(address).any(|pod| &*pod.namespace == namespace)
    }
}
