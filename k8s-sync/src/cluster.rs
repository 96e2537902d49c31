//! The model of the cluster: it takes objects and reports which answers have to be made again.
//!
//! It knows which objects belong together. What an answer contains is in `records`; where it goes
//! is in `publish`. Invariant: an answer is a function of the model, and its key becomes dirty when
//! anything changes that it is made from. Objects arrive in any order: a slice before its Service,
//! a Service before its Namespace.

mod alias;
mod pairs;
mod ports;
mod slim;
mod store;
mod view;
mod zones;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::discriminant;
use std::net::IpAddr;
use std::sync::Arc;

use wire::pod::PodMode;
use wire::pod_index::PodIndex;

pub use alias::{Alias, AliasTarget, ServicePart};
pub use slim::{ModelEndpoint, ModelService, ModelSlice};
pub use zones::{ExternalZones, WireName, Zones};

use crate::object::{self, Change, Event, ObjectKey, ServiceKind};
use crate::options::Options;
use pairs::Pairs;
use ports::PortLists;
use slim::ModelPod;
use store::{Difference, Store};

/// A unit of answers that are made together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerKey {
    /// The names of each zone itself: its apex, `svc`, `pod`, `dns`, `ns.dns`, `dns-version`.
    Apex,
    /// `NS.svc` and `NS.pod`.
    Namespace(Arc<str>),
    /// All names at and below `SVC.NS.svc`.
    Service(Arc<ObjectKey>),
    /// The reverse name of an address.
    Address(IpAddr),
    /// The reverse name of an address outside the cluster, in external zones.
    ExternalAddress(IpAddr),
    /// `1-2-3-4.NS.pod`, for `pods verified`.
    Pod(Arc<str>, IpAddr),
}

/// The API server's objects of the watched kinds.
#[derive(Debug)]
pub struct Cluster {
    options: Arc<Options>,
    zones: Zones,
    namespaces: Store<Arc<str>, ()>,
    services: Store<Arc<ObjectKey>, ModelService>,
    slices: Store<Arc<ObjectKey>, ModelSlice>,
    pods: Store<Arc<ObjectKey>, ModelPod>,
    /// Slices by the Service they name.
    slices_of: Pairs<Arc<ObjectKey>>,
    /// Services by their cluster IPs and the addresses of their endpoints. Restricted to addresses
    /// for which `has_owners` is true.
    owners: Pairs<IpAddr>,
    /// Services by their addresses outside the cluster.
    external_owners: Pairs<IpAddr>,
    /// Pods by their addresses. Empty without `pods verified`.
    pods_at: Pairs<IpAddr>,
    /// Services that are aliases, by the key that their answers are copied from.
    dependents: Pairs<AnswerKey>,
    /// The inverse of `dependents`.
    copied_from: BTreeMap<Arc<ObjectKey>, AnswerKey>,
    port_lists: PortLists,
    endpoint_count: usize,
    dirty: BTreeSet<AnswerKey>,
    /// The index of pods has to be made again.
    has_changed_pods: bool,
}

impl Cluster {
    #[must_use]
    pub fn new(options: Arc<Options>) -> Self {
        Self {
            zones: Zones::new(&options.zones),
            options,
            namespaces: Store::new(),
            services: Store::new(),
            slices: Store::new(),
            pods: Store::new(),
            slices_of: Pairs::new(),
            owners: Pairs::new(),
            external_owners: Pairs::new(),
            pods_at: Pairs::new(),
            dependents: Pairs::new(),
            copied_from: BTreeMap::new(),
            port_lists: PortLists::default(),
            endpoint_count: 0,
            dirty: BTreeSet::from([AnswerKey::Apex]),
            has_changed_pods: true,
        }
    }

    /// Applies one step of the cluster's history. Kinds that the options do not watch are ignored.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Namespace(change) => {
                let change = slim(change, |namespace| (namespace.name.into(), ()), Arc::from);
                for difference in self.namespaces.step(change) {
                    self.namespace_changed(&difference.key);
                }
            }
            Event::Service(change) => {
                let lists = &mut self.port_lists;
                let slim_service = |service: object::Service| {
                    let object::Service { key, kind, ports, external } = service;
                    let key = shared(&self.services, &self.slices_of, key);
                    (key, ModelService::new(kind, ports, external, lists))
                };
                let change = slim(change, slim_service, Arc::new);
                for difference in self.services.step(change) {
                    self.service_changed(difference);
                }
            }
            Event::EndpointSlice(change) if self.watches_slices() => {
                let (pod_names, lists) = (self.options.endpoint_pod_names, &mut self.port_lists);
                let slim_slice = |slice: object::EndpointSlice| {
                    let name = slice.service.clone();
                    let service = ObjectKey { namespace: slice.key.namespace.clone(), name };
                    let service = shared(&self.services, &self.slices_of, service);
                    let key = Arc::new(slice.key.clone());
                    (key, ModelSlice::new(service, slice, pod_names, lists))
                };
                let change = slim(change, slim_slice, Arc::new);
                for difference in self.slices.step(change) {
                    self.slice_changed(&difference);
                }
            }
            Event::Pod(change) if self.watches_pods() => {
                let change = slim(change, ModelPod::new, Arc::new);
                for difference in self.pods.step(change) {
                    self.pod_changed(&difference);
                }
            }
            Event::EndpointSlice(_) | Event::Pod(_) => {}
        }
    }

    /// The keys whose answers may have changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<AnswerKey> {
        std::mem::take(&mut self.dirty)
    }

    /// The keys of all answers in external zones, for a table that begins with the cluster as it
    /// is.
    #[must_use]
    pub fn external_keys(&self) -> BTreeSet<AnswerKey> {
        let nothing = ObjectKey { namespace: "".into(), name: "".into() };
        let namespaces = self.namespaces.from("").map(|(key, ())| Arc::clone(key));
        let services = self.services.from(&nothing).map(|(key, _)| Arc::clone(key));
        let addresses = self.external_owners.keys().map(AnswerKey::ExternalAddress);
        std::iter::once(AnswerKey::Apex)
            .chain(namespaces.map(AnswerKey::Namespace))
            .chain(services.map(AnswerKey::Service))
            .chain(addresses)
            .collect()
    }

    /// The index of all pods, if it may have changed since the last call. `None` before all pods
    /// are listed, and if the options need no index.
    pub fn take_pod_index(&mut self) -> Option<PodIndex> {
        if !self.has_pod_index_changed() {
            return None;
        }
        self.has_changed_pods = false;
        let first = ObjectKey { namespace: "".into(), name: "".into() };
        Some(PodIndex::new(self.pods.from(&first).flat_map(|(key, pod)| {
            let namespace = (!pod.is_on_host_network).then_some(&*key.namespace);
            pod.ips.iter().map(move |address| (*address, namespace))
        })))
    }

    /// Whether `take_pod_index` makes one.
    #[must_use]
    pub fn has_pod_index_changed(&self) -> bool {
        self.options.indexes_pods && self.pods.is_synced() && self.has_changed_pods
    }

    /// The watched kinds without a complete list so far, by their resource names.
    pub fn unsynced_kinds(&self) -> impl Iterator<Item = &'static str> {
        let kinds = [
            ("namespaces", self.namespaces.is_synced()),
            ("services", self.services.is_synced()),
            ("endpointslices", self.slices.is_synced() || !self.watches_slices()),
            ("pods", self.pods.is_synced() || !self.watches_pods()),
        ];
        kinds.into_iter().filter(|(_, is_synced)| !is_synced).map(|(kind, _)| kind)
    }

    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Addresses of ready endpoints. An address counts once per slice.
    #[must_use]
    pub const fn endpoint_count(&self) -> usize {
        self.endpoint_count
    }
}

/// Marks keys dirty after a change.
impl Cluster {
    fn watches_slices(&self) -> bool {
        !self.options.no_endpoints
    }

    fn watches_pods(&self) -> bool {
        self.options.indexes_pods || self.options.pods == PodMode::Verified
    }

    fn namespace_changed(&mut self, namespace: &Arc<str>) {
        let first = ObjectKey { namespace: (&**namespace).into(), name: "".into() };
        self.set_dirty(AnswerKey::Namespace(Arc::clone(namespace)));
        let is_inside = |key: &Arc<ObjectKey>| *key.namespace == **namespace;
        let services = self.services.from(&first).map(|(key, _)| Arc::clone(key));
        let services: Vec<Arc<ObjectKey>> = services.take_while(is_inside).collect();
        for service in services {
            let addresses = self.addresses_of(&service);
            self.set_addresses_dirty(addresses);
            for address in external_addresses(self.services.get(&service)) {
                self.set_dirty(AnswerKey::ExternalAddress(address));
            }
            self.set_dirty(AnswerKey::Service(service));
        }
        if self.options.pods != PodMode::Verified {
            return;
        }
        let pods = self.pods.from(&first).take_while(|(key, _)| is_inside(key));
        let addresses: BTreeSet<IpAddr> =
            pods.flat_map(|(_, pod)| pod.ips.iter().copied()).collect();
        for address in addresses {
            self.set_dirty(AnswerKey::Pod(Arc::clone(namespace), address));
        }
    }

    fn service_changed(&mut self, difference: Difference<Arc<ObjectKey>, ModelService>) {
        let Difference { key, before } = difference;
        let (before, after) = (before.as_ref(), self.services.get(&key));
        let mut changed = ChangedAddresses::new(cluster_ips(before), cluster_ips(after));
        let kind =
            |service: Option<&ModelService>| service.map(|service| discriminant(&service.kind));
        if kind(before) != kind(after) {
            changed.here.extend(self.addresses_of(&key));
        }
        let (external_before, external_after) =
            (external_addresses(before), external_addresses(after));
        for address in external_before.difference(&external_after) {
            self.external_owners.remove(*address, &key);
            self.set_dirty(AnswerKey::ExternalAddress(*address));
        }
        for address in external_after.difference(&external_before) {
            self.external_owners.insert(*address, &key);
            self.set_dirty(AnswerKey::ExternalAddress(*address));
        }
        self.set_alias(&key);
        self.set_owner(&key, changed);
        self.set_dirty(AnswerKey::Service(key));
    }

    fn slice_changed(&mut self, difference: &Difference<Arc<ObjectKey>, ModelSlice>) {
        let Difference { key, before } = difference;
        let after = self.slices.get(key);
        let (service_before, service_after) = (service_of(before.as_ref()), service_of(after));
        let (before, after) = (endpoints_of(before.as_ref()), endpoints_of(after));
        self.endpoint_count = self.endpoint_count + after.len() - before.len();
        let changes = if service_before == service_after {
            [
                (service_before, ChangedAddresses::of_endpoints(before, after)),
                (None, ChangedAddresses::default()),
            ]
        } else {
            [
                (service_before, ChangedAddresses::of_endpoints(before, &[])),
                (service_after, ChangedAddresses::of_endpoints(&[], after)),
            ]
        };
        for (service, changed) in changes {
            let Some(service) = service else { continue };
            if self.slices.get(key).is_some_and(|slice| slice.service == service) {
                self.slices_of.insert(Arc::clone(&service), key);
            } else {
                self.slices_of.remove(Arc::clone(&service), key);
            }
            self.set_owner(&service, changed);
            self.set_alias(&service);
            self.set_dirty(AnswerKey::Service(service));
        }
    }

    fn pod_changed(&mut self, difference: &Difference<Arc<ObjectKey>, ModelPod>) {
        self.has_changed_pods = true;
        if self.options.pods != PodMode::Verified {
            return;
        }
        let Difference { key, before } = difference;
        let ips = |pod: Option<&ModelPod>| pod.map(|pod| pod.ips.clone()).unwrap_or_default();
        let (before, after) = (ips(before.as_ref()), ips(self.pods.get(key)));
        let came: Vec<IpAddr> = after.iter().filter(|ip| !before.contains(ip)).copied().collect();
        let gone: Vec<IpAddr> = before.iter().filter(|ip| !after.contains(ip)).copied().collect();
        let namespace = self.namespace_key(&key.namespace);
        for address in gone {
            self.pods_at.remove(address, key);
            self.set_dirty(AnswerKey::Pod(Arc::clone(&namespace), address));
        }
        for address in came {
            self.pods_at.insert(address, key);
            self.set_dirty(AnswerKey::Pod(Arc::clone(&namespace), address));
        }
    }

    /// Updates `dependents` to the current alias of the Service.
    fn set_alias(&mut self, service: &Arc<ObjectKey>) {
        let found = self.services.get(service);
        let alias = found.and_then(|found| self.alias_of(service, found));
        let now = alias.and_then(|name| self.dependency(name));
        let before = match &now {
            Some(key) => self.copied_from.insert(Arc::clone(service), key.clone()),
            None => self.copied_from.remove(service),
        };
        if before == now {
            return;
        }
        if let Some(before) = before {
            self.dependents.remove(before, service);
        }
        if let Some(now) = now {
            self.dependents.insert(now, service);
        }
    }

    /// The name of a namespace. It shares memory with the Namespace if there is one.
    fn namespace_key(&self, namespace: &str) -> Arc<str> {
        self.namespaces.key(namespace).map_or_else(|| namespace.into(), Arc::clone)
    }

    /// The key that the answers of an alias with this target are copied from. `None` if the target
    /// is not ours.
    fn dependency(&self, external_name: &str) -> Option<AnswerKey> {
        match Alias::read(external_name, &self.zones)?.target {
            AliasTarget::Outside | AliasTarget::Nowhere => None,
            AliasTarget::NameServers => Some(AnswerKey::Apex),
            AliasTarget::Service(key, _) => {
                Some(AnswerKey::Service(shared(&self.services, &self.slices_of, key)))
            }
            AliasTarget::Pod { namespace, address, .. } => match self.options.pods {
                PodMode::Disabled => None,
                PodMode::Insecure => Some(AnswerKey::Namespace(self.namespace_key(&namespace))),
                PodMode::Verified => Some(AnswerKey::Pod(self.namespace_key(&namespace), address)),
            },
        }
    }

    /// All addresses of a Service, whether it exists or not.
    fn addresses_of(&self, service: &Arc<ObjectKey>) -> BTreeSet<IpAddr> {
        let endpoints = self.slices(service).flat_map(|slice| slice.endpoints.iter());
        let ips = cluster_ips(self.services.get(service)).iter().copied();
        endpoints.map(|endpoint| endpoint.address).chain(ips).collect()
    }

    /// Updates `owners` after addresses of the Service were added, removed or relabelled.
    fn set_owner(&mut self, service: &Arc<ObjectKey>, changed: ChangedAddresses) {
        for address in &changed.here {
            if self.has_owners(*address) {
                self.owners.insert(*address, service);
            }
        }
        if !changed.gone.is_empty() {
            let now = self.addresses_of(service);
            for address in changed.gone.difference(&now) {
                self.owners.remove(*address, service);
            }
        }
        self.set_addresses_dirty(changed.here);
        self.set_addresses_dirty(changed.gone);
    }

    /// Whether anything needs the owners of this address: its reverse name, or the name servers of
    /// the zone.
    fn has_owners(&self, address: IpAddr) -> bool {
        self.is_own_address(address) || self.zones.has_address(address)
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.options.server_addresses.contains(&address)
    }

    fn set_addresses_dirty(&mut self, addresses: BTreeSet<IpAddr>) {
        for address in addresses {
            if self.is_own_address(address) {
                self.set_dirty(AnswerKey::Apex);
            }
            if self.zones.has_address(address) {
                self.set_dirty(AnswerKey::Address(address));
            }
        }
    }

    /// Marks a key dirty, with all keys that are copied from it. A key that is dirty already has
    /// marked its dependents.
    fn set_dirty(&mut self, key: AnswerKey) {
        let mut pending = vec![key];
        while let Some(key) = pending.pop() {
            if !self.dirty.insert(key.clone()) {
                continue;
            }
            pending.extend(
                self.dependents.of(key.clone()).map(|service| AnswerKey::Service(service.clone())),
            );
            if let AnswerKey::Service(service) = &key
                && self.is_name_server(service)
            {
                pending.push(AnswerKey::Apex);
            }
        }
    }

    fn is_name_server(&self, service: &Arc<ObjectKey>) -> bool {
        let addresses = &self.options.server_addresses;
        addresses.iter().any(|address| self.owners.contains(*address, service))
    }
}

/// The key of a Service. It shares memory with an object that contains it already.
fn shared(
    services: &Store<Arc<ObjectKey>, ModelService>,
    slices_of: &Pairs<Arc<ObjectKey>>,
    key: ObjectKey,
) -> Arc<ObjectKey> {
    if let Some(known) = services.key(&key) {
        return Arc::clone(known);
    }
    let key = Arc::new(key);
    slices_of.key(&key).map_or_else(|| Arc::clone(&key), Arc::clone)
}

/// The same change, applied to the model's form of the object.
fn slim<T, D, K, V>(
    change: Change<T, D>,
    object: impl FnOnce(T) -> (K, V),
    key: impl FnOnce(D) -> K,
) -> Change<(K, V), K> {
    match change {
        Change::Init => Change::Init,
        Change::InitApply(whole) => Change::InitApply(object(whole)),
        Change::InitDone => Change::InitDone,
        Change::Apply(whole) => Change::Apply(object(whole)),
        Change::Delete(gone) => Change::Delete(key(gone)),
    }
}

fn cluster_ips(service: Option<&ModelService>) -> &[IpAddr] {
    match service.map(|service| &service.kind) {
        Some(ServiceKind::ClusterIp(addresses)) => addresses,
        Some(ServiceKind::Headless | ServiceKind::ExternalName(_)) | None => &[],
    }
}

fn external_addresses(service: Option<&ModelService>) -> BTreeSet<IpAddr> {
    service.into_iter().flat_map(ModelService::external_addresses).collect()
}

fn service_of(slice: Option<&ModelSlice>) -> Option<Arc<ObjectKey>> {
    slice.map(|slice| Arc::clone(&slice.service))
}

fn endpoints_of(slice: Option<&ModelSlice>) -> &[ModelEndpoint] {
    slice.map(|slice| &*slice.endpoints).unwrap_or_default()
}

/// The changed addresses of a Service.
#[derive(Default)]
struct ChangedAddresses {
    /// Added addresses.
    here: BTreeSet<IpAddr>,
    /// Addresses that one object no longer has. Another object may still have them.
    gone: BTreeSet<IpAddr>,
}

impl ChangedAddresses {
    fn new(before: &[IpAddr], after: &[IpAddr]) -> Self {
        let without = |from: &[IpAddr], other: &[IpAddr]| {
            from.iter().filter(|address| !other.contains(address)).copied().collect()
        };
        Self { here: without(after, before), gone: without(before, after) }
    }

    /// An endpoint with a new label counts as removed and added.
    fn of_endpoints(before: &[ModelEndpoint], after: &[ModelEndpoint]) -> Self {
        let without = |from: &[ModelEndpoint], other: &[ModelEndpoint]| {
            let other: HashSet<&ModelEndpoint> = other.iter().collect();
            let only = from.iter().filter(|endpoint| !other.contains(endpoint));
            only.map(|endpoint| endpoint.address).collect()
        };
        Self { here: without(after, before), gone: without(before, after) }
    }
}
