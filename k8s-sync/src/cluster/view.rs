//! What `records` reads from the model: which objects exist, and which belong together.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::store::{KeyParts, ObjectId};
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
            && self.namespaces.object_id(KeyParts { namespace: "", name: namespace }).is_some()
    }

    /// The key of a Service, which need not exist. `None` if the number stands for none any more.
    #[must_use]
    pub fn service_key(&self, service: ObjectId) -> Option<KeyParts<'_>> {
        self.services.key(service)
    }

    #[must_use]
    pub fn service_id(&self, key: &ObjectKey) -> Option<ObjectId> {
        self.services.find(key.into())
    }

    /// The Service, if its Namespace exists.
    #[must_use]
    pub fn service(&self, service: ObjectId) -> Option<&ModelService> {
        let key = self.services.key(service)?;
        self.services.get(service).filter(|_| self.has_namespace(key.namespace))
    }

    /// The slices that name this Service, whether it exists or not, in no particular order.
    pub fn slices(&self, service: ObjectId) -> impl Iterator<Item = &ModelSlice> {
        self.slices_of.of(service).filter_map(|slice| self.slices.get(slice))
    }

    /// The existing Service with this address as a cluster IP: of several, the first by name.
    #[must_use]
    pub fn with_cluster_ip(&self, address: IpAddr) -> Option<ObjectId> {
        let existing = |id: &ObjectId| self.service(*id).is_some();
        self.cluster_ips.of(address).filter(existing).min_by_key(|id| self.services.key(*id))
    }

    /// The slices with this address, of existing Services.
    pub fn slices_at(&self, address: IpAddr) -> impl Iterator<Item = (&ModelSlice, &ModelService)> {
        let slices = self.slices_at.of(address).filter_map(|slice| self.slices.get(slice));
        slices.filter_map(|slice| Some((slice, self.service(slice.service)?)))
    }

    /// The Services with this address as a cluster IP or an endpoint, sorted by name, including
    /// namespaces that are not served.
    #[must_use]
    pub fn owners_anywhere(&self, address: IpAddr) -> Vec<(ObjectId, &ModelService)> {
        let slices = self.slices_at.of(address).filter_map(|slice| self.slices.get(slice));
        let ids = self.cluster_ips.of(address).chain(slices.map(|slice| slice.service));
        let ids: BTreeSet<ObjectId> = ids.collect();
        let existing = |id| Some((id, self.services.get(id)?));
        self.sorted_by_name(ids.into_iter().filter_map(existing).collect())
    }

    /// The existing Services with this address outside the cluster, sorted by name.
    #[must_use]
    pub fn external_owners(&self, address: IpAddr) -> Vec<(ObjectId, &ModelService)> {
        let existing = |id| Some((id, self.service(id)?));
        self.sorted_by_name(self.external_owners.of(address).filter_map(existing).collect())
    }

    fn sorted_by_name<'c>(
        &'c self,
        mut services: Vec<(ObjectId, &'c ModelService)>,
    ) -> Vec<(ObjectId, &'c ModelService)> {
        services.sort_by_key(|(id, _)| self.services.key(*id));
        services
    }

    /// The host names that are the endpoints of this Service, sorted. Empty if any endpoint is an
    /// address.
    #[must_use]
    pub fn hosts(&self, service: ObjectId) -> BTreeSet<&str> {
        let mut hosts = BTreeSet::new();
        for slice in self.slices(service) {
            if slice.len() > 0 {
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
    pub fn alias_of<'c>(&'c self, id: ObjectId, service: &'c ModelService) -> Option<&'c str> {
        match &service.kind {
            ServiceKind::ExternalName(name) => Some(name),
            ServiceKind::Headless => self.hosts(id).into_iter().next(),
            ServiceKind::ClusterIp(_) => None,
        }
    }

    /// Whether a pod of this namespace has this address.
    #[must_use]
    pub fn has_pod(&self, namespace: &str, address: IpAddr) -> bool {
        let is_here = |pod| self.pods.key(pod).is_some_and(|key| key.namespace == namespace);
        self.has_namespace(namespace) && self.pods_at.of(address).any(is_here)
    }
}
