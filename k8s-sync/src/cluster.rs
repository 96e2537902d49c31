//! The model of the cluster: it takes objects and reports which answers have to be made again.
//!
//! It knows which objects belong together. What an answer contains is in `records`; where it goes
//! is in `publish`. Invariant: an answer is a function of the model, and its key becomes dirty when
//! anything changes that it is made from. Objects arrive in any order: a slice before its Service,
//! a Service before its Namespace.

mod alias;
mod contents;
mod dirty;
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
use std::time::SystemTime;

use rapidhash::fast::RandomState;
use wire::pod::PodMode;
use wire::pod_index::PodIndex;

pub use alias::{Alias, AliasTarget, ServicePart};
pub use dirty::Dirty;
pub(crate) use slim::ModelPod;
pub use slim::{ModelEndpoint, ModelService, ModelSlice};
pub(crate) use store::Numbered;
pub use store::{KeyParts, ObjectId};
pub use zones::{ExternalZones, Zones};

use crate::object::{self, Change, Event, ObjectKey, ServiceKind};
use crate::options::Options;
use dirty::DirtyKeys;
use pairs::Pairs;
use ports::PortLists;
use store::{Difference, Store};

/// A unit of answers that are made together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerKey {
    /// The names of each zone itself: its apex, `svc`, `pod`, `dns`, `ns.dns`, `dns-version`.
    Apex,
    /// `NS.svc` and `NS.pod`.
    Namespace(Arc<str>),
    /// All names at and below `SVC.NS.svc`. Its number may stand for another Service by now.
    Service(ObjectId),
    /// The reverse name of an address.
    Address(IpAddr),
    /// The reverse name of an address outside the cluster, in external zones.
    ExternalAddress(IpAddr),
    /// `1-2-3-4.NS.pod`, for `pods verified`.
    Pod(Arc<str>, IpAddr),
}

/// A change of a Service's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointChange {
    pub(crate) is_headless: bool,
    /// When the pod or Service changed.
    pub(crate) at: SystemTime,
}

/// The API server's objects of the watched kinds.
#[derive(Debug)]
pub struct Cluster {
    options: Arc<Options>,
    zones: Zones,
    /// Their keys have an empty namespace.
    namespaces: Store<()>,
    /// A Service has a number even if it does not exist, while a slice or an alias refers to it.
    services: Store<ModelService>,
    slices: Store<ModelSlice>,
    pods: Store<ModelPod>,
    /// Slices by the Service they name.
    slices_of: Pairs<ObjectId>,
    /// Services by their cluster IPs. This and `slices_at` are restricted to addresses for which
    /// `is_indexed` is true.
    cluster_ips: Pairs<IpAddr>,
    /// Slices by the addresses of their endpoints.
    slices_at: Pairs<IpAddr>,
    /// Services by their addresses outside the cluster.
    external_owners: Pairs<IpAddr>,
    /// Pods by their addresses. Empty without `pods verified`.
    pods_at: Pairs<IpAddr>,
    /// Services that are aliases, by the key that their answers are copied from.
    dependents: Pairs<AnswerKey>,
    /// The inverse of `dependents`.
    copied_from: BTreeMap<ObjectId, AnswerKey>,
    /// Services that may not need their numbers any more.
    unneeded: BTreeSet<ObjectId>,
    port_lists: PortLists,
    endpoint_count: usize,
    dirty: DirtyKeys,
    /// Namespaces that came or went since the last call of `take_dirty`, which finds what is in
    /// them: all at once, because that is a walk over all Services.
    changed_namespaces: HashSet<Box<str>>,
    /// The Services of changed slices, and when the changes happened that led to them.
    triggers: Vec<(ObjectId, SystemTime)>,
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
            cluster_ips: Pairs::new(),
            slices_at: Pairs::new(),
            external_owners: Pairs::new(),
            pods_at: Pairs::new(),
            dependents: Pairs::new(),
            copied_from: BTreeMap::new(),
            unneeded: BTreeSet::new(),
            port_lists: PortLists::default(),
            endpoint_count: 0,
            dirty: DirtyKeys::everything(),
            changed_namespaces: HashSet::new(),
            triggers: Vec::new(),
            has_changed_pods: true,
        }
    }

    /// Applies one step of the cluster's history. Kinds that the options do not watch are ignored.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Namespace(change) => {
                let key = |name| ObjectKey { namespace: "".into(), name };
                let change = slim(change, |namespace| (key(namespace.name), ()), key);
                for Difference { id, .. } in self.namespaces.step(change) {
                    let name = self.namespaces.key(id).map(|key| key.name.into());
                    self.changed_namespaces.extend(name);
                    self.namespaces.free(id);
                }
            }
            Event::Service(change) => {
                let lists = &mut self.port_lists;
                let slim_service = |service: object::Service| {
                    let object::Service { key, kind, ports, external } = service;
                    (key, ModelService::new(kind, ports, external, lists))
                };
                let change = slim(change, slim_service, |key| key);
                for difference in step(&mut self.services, change, &mut self.dirty) {
                    self.service_changed(difference);
                }
            }
            Event::EndpointSlice(change) if self.watches_slices() => {
                let triggered = match &change {
                    // The slices of a list have changed some time before.
                    Change::Apply(slice) => slice.triggered,
                    Change::Init
                    | Change::InitApply(_)
                    | Change::InitDone
                    | Change::InitDropped
                    | Change::Delete(_)
                    | Change::Remembered(_) => None,
                };
                let (pod_names, lists) = (self.options.endpoint_pod_names, &mut self.port_lists);
                let (services, unneeded) = (&mut self.services, &mut self.unneeded);
                let slim_slice = |slice: object::EndpointSlice| {
                    let key = KeyParts { namespace: &slice.key.namespace, name: &slice.service };
                    let service = services.number(key);
                    // It may be needed only until the slice turns out to be known already.
                    if !services.has_value(service) {
                        unneeded.insert(service);
                    }
                    ModelSlice::new(service, slice, pod_names, lists)
                };
                let change = slim(change, slim_slice, |key| key);
                let differences = step(&mut self.slices, change, &mut self.dirty);
                self.make_room(&differences);
                for difference in differences {
                    self.slice_changed(&difference);
                    let service = self.slices.get(difference.id).map(|slice| slice.service);
                    self.triggers.extend(service.zip(triggered));
                    self.slices.free(difference.id);
                }
            }
            Event::Pod(change) if self.watches_pods() => {
                let change = slim(change, ModelPod::new, |key| key);
                for difference in step(&mut self.pods, change, &mut self.dirty) {
                    self.pod_changed(&difference);
                    self.pods.free(difference.id);
                }
            }
            Event::EndpointSlice(_) | Event::Pod(_) => {}
        }
    }

    /// The answers that may have changed since the last call. They have to be made before the next
    /// event, since numbers of deleted Services are used again.
    pub fn take_dirty(&mut self) -> Dirty {
        self.set_namespaces_dirty();
        self.free_services();
        self.dirty.take()
    }

    /// Moves the changes of endpoints since the last call to `into`: when each of them happened,
    /// and whether the Service is headless. Those of other Services are left out.
    pub(crate) fn take_triggers(&mut self, into: &mut Vec<EndpointChange>) {
        for (service, at) in self.triggers.drain(..) {
            let is_headless = match self.services.get(service).map(|service| &service.kind) {
                Some(ServiceKind::Headless) => true,
                Some(ServiceKind::ClusterIp(_)) => false,
                Some(ServiceKind::ExternalName(_)) | None => continue,
            };
            into.push(EndpointChange { is_headless, at });
        }
    }

    /// Frees the numbers of Services that neither exist nor are referred to. Until then, a Service
    /// that is made again has its number again.
    fn free_services(&mut self) {
        // The slices of a list that is being received refer to Services too.
        if self.slices.is_listing() {
            return;
        }
        for id in std::mem::take(&mut self.unneeded) {
            let is_referred_to = self.slices_of.of(id).next().is_some()
                || self.dependents.of(AnswerKey::Service(id)).next().is_some();
            if !is_referred_to {
                self.services.free(id);
            }
        }
    }

    /// The keys of all answers, in the order of the objects in memory. An address or a pod that
    /// several objects have may come more than once.
    pub fn keys(&self) -> impl Iterator<Item = AnswerKey> {
        let is_first = |index: &Pairs<IpAddr>, address: &IpAddr, id| {
            self.zones.has_address(*address) && index.is_first(address, id)
        };
        let of_services = self.services.iter().flat_map(move |(id, _, service)| {
            let ips = cluster_ips(Some(service)).iter().copied();
            let ips = ips.filter(move |address| is_first(&self.cluster_ips, address, id));
            std::iter::once(AnswerKey::Service(id)).chain(ips.map(AnswerKey::Address))
        });
        let of_slices = self.slices.iter().flat_map(move |(id, _, slice)| {
            let addresses = slice.endpoints().map(|endpoint| endpoint.address);
            let addresses = addresses.filter(move |address| is_first(&self.slices_at, address, id));
            addresses.map(AnswerKey::Address)
        });
        let has_pods = self.options.pods == PodMode::Verified;
        let of_pods = self.pods.iter().filter(move |_| has_pods).flat_map(|(_, key, pod)| {
            let namespace: Arc<str> = key.namespace.into();
            pod.ips.iter().map(move |address| AnswerKey::Pod(Arc::clone(&namespace), *address))
        });
        std::iter::once(AnswerKey::Apex)
            .chain(self.namespace_keys())
            .chain(of_services)
            .chain(of_slices)
            .chain(of_pods)
    }

    /// The keys of all answers in external zones.
    pub fn external_keys(&self) -> impl Iterator<Item = AnswerKey> {
        let services = self.services.iter().map(|(id, ..)| id);
        let addresses = self.external_owners.keys().copied().map(AnswerKey::ExternalAddress);
        std::iter::once(AnswerKey::Apex)
            .chain(self.namespace_keys())
            .chain(services.map(AnswerKey::Service))
            .chain(addresses)
    }

    fn namespace_keys(&self) -> impl Iterator<Item = AnswerKey> {
        self.namespaces.iter().map(|(_, key, ())| AnswerKey::Namespace(key.name.into()))
    }

    /// The index of all pods, if it may have changed since the last call. `None` before all pods
    /// are listed, and if the options need no index.
    pub fn take_pod_index(&mut self) -> Option<PodIndex> {
        if !self.has_pod_index_changed() {
            return None;
        }
        self.has_changed_pods = false;
        Some(PodIndex::new(self.pods.iter().flat_map(|(_, key, pod)| {
            let namespace = (!pod.is_on_host_network).then_some(key.namespace);
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

    /// Marks dirty what is in the changed namespaces now. What has left them since has marked
    /// itself.
    fn set_namespaces_dirty(&mut self) {
        let names = std::mem::take(&mut self.changed_namespaces);
        if names.is_empty() || self.dirty.is_everything() {
            return;
        }
        let services = self.services.iter().filter(|(_, key, _)| names.contains(key.namespace));
        let services: Vec<ObjectId> = services.map(|(id, ..)| id).collect();
        for id in services {
            let addresses = self.addresses_of(id);
            self.set_addresses_dirty(addresses);
            for address in external_addresses(self.services.get(id)) {
                self.set_dirty(AnswerKey::ExternalAddress(address));
            }
            self.set_dirty(AnswerKey::Service(id));
        }
        if self.options.pods == PodMode::Verified {
            let pods = self.pods.iter().filter(|(_, key, _)| names.contains(key.namespace));
            let pods = pods.flat_map(|(_, key, pod)| pod.ips.iter().map(move |ip| (key, *ip)));
            let pods: BTreeSet<AnswerKey> =
                pods.map(|(key, address)| AnswerKey::Pod(key.namespace.into(), address)).collect();
            pods.into_iter().for_each(|key| self.set_dirty(key));
        }
        names.into_iter().for_each(|name| self.set_dirty(AnswerKey::Namespace(name.into())));
    }

    fn service_changed(&mut self, difference: Difference<ModelService>) {
        let Difference { id, before } = difference;
        let (before, after) = (before.as_ref(), self.services.get(id));
        let (ips_before, ips_after) = (cluster_ips(before), cluster_ips(after));
        let gone = ips_before.iter().filter(|ip| !ips_after.contains(ip)).map(|ip| (*ip, false));
        let here = ips_after.iter().filter(|ip| !ips_before.contains(ip)).map(|ip| (*ip, true));
        let changed_cluster_ips: Vec<(IpAddr, bool)> = gone.chain(here).collect();
        let mut changed: Vec<IpAddr> = changed_cluster_ips.iter().map(|(ip, _)| *ip).collect();
        let kind =
            |service: Option<&ModelService>| service.map(|service| discriminant(&service.kind));
        if kind(before) != kind(after) && !self.dirty.is_everything() {
            changed.extend(self.addresses_of(id));
        }
        let (external_before, external_after) =
            (external_addresses(before), external_addresses(after));
        for address in external_before.difference(&external_after) {
            self.external_owners.remove(*address, id);
            self.set_dirty(AnswerKey::ExternalAddress(*address));
        }
        for address in external_after.difference(&external_before) {
            self.external_owners.insert(*address, id);
            self.set_dirty(AnswerKey::ExternalAddress(*address));
        }
        if self.services.get(id).is_none() {
            self.unneeded.insert(id);
        }
        for (address, is_here) in changed_cluster_ips {
            if is_here && self.is_indexed(address) {
                self.cluster_ips.insert(address, id);
            } else {
                self.cluster_ips.remove(address, id);
            }
        }
        self.set_alias(id);
        self.set_addresses_dirty(changed);
        self.set_dirty(AnswerKey::Service(id));
    }

    fn slice_changed(&mut self, difference: &Difference<ModelSlice>) {
        let Difference { id, before } = difference;
        let (before, after) = (before.as_ref(), self.slices.get(*id));
        let len = |slice: Option<&ModelSlice>| slice.map_or(0, ModelSlice::len);
        self.endpoint_count = self.endpoint_count + len(after) - len(before);
        let (service_before, service_after) = (service_of(before), service_of(after));
        let is_same_service = service_before == service_after;
        let gone = addresses_without(before, after.filter(|_| is_same_service));
        let here = addresses_without(after, before.filter(|_| is_same_service));
        let staying = after.filter(|_| !gone.is_empty());
        let staying: HashSet<IpAddr, RandomState> =
            staying.into_iter().flat_map(ModelSlice::endpoints).map(|one| one.address).collect();
        for address in gone.iter().filter(|address| !staying.contains(address)) {
            self.slices_at.remove(*address, *id);
        }
        for address in &here {
            if self.is_indexed(*address) {
                self.slices_at.insert(*address, *id);
            }
        }
        if service_before != service_after
            && let Some(service) = service_before
        {
            self.slices_of.remove(service, *id);
            self.unneeded.insert(service);
            self.set_alias(service);
            self.set_dirty(AnswerKey::Service(service));
        }
        if let Some(service) = service_after {
            self.slices_of.insert(service, *id);
            self.set_alias(service);
            self.set_dirty(AnswerKey::Service(service));
        }
        self.set_addresses_dirty(gone.into_iter().chain(here));
    }

    /// Indexes that are as large as a first list makes them need not grow step by step.
    fn make_room(&mut self, differences: &[Difference<ModelSlice>]) {
        if self.slices_of.is_empty() {
            let slices = differences.iter().filter_map(|one| self.slices.get(one.id));
            self.slices_at.reserve(slices.map(ModelSlice::len).sum());
            self.slices_of.reserve(differences.len());
        }
    }

    fn pod_changed(&mut self, difference: &Difference<ModelPod>) {
        self.has_changed_pods = true;
        if self.options.pods != PodMode::Verified {
            return;
        }
        let Difference { id, before } = difference;
        let ips = |pod: Option<&ModelPod>| pod.map(|pod| pod.ips.clone()).unwrap_or_default();
        let (before, after) = (ips(before.as_ref()), ips(self.pods.get(*id)));
        let came: Vec<IpAddr> = after.iter().filter(|ip| !before.contains(ip)).copied().collect();
        let gone: Vec<IpAddr> = before.iter().filter(|ip| !after.contains(ip)).copied().collect();
        let Some(key) = self.pods.key(*id) else { return };
        let namespace: Arc<str> = key.namespace.into();
        for address in gone {
            self.pods_at.remove(address, *id);
            self.set_dirty(AnswerKey::Pod(Arc::clone(&namespace), address));
        }
        for address in came {
            self.pods_at.insert(address, *id);
            self.set_dirty(AnswerKey::Pod(Arc::clone(&namespace), address));
        }
    }

    /// Updates `dependents` to the current alias of the Service.
    fn set_alias(&mut self, service: ObjectId) {
        let found = self.services.get(service);
        let alias = found.and_then(|found| self.alias_of(service, found));
        if alias.is_none() && self.copied_from.is_empty() {
            return;
        }
        let alias = alias.and_then(|name| Alias::read(name, &self.zones));
        let now = alias.and_then(|alias| self.dependency(alias.target));
        let before = match &now {
            Some(key) => self.copied_from.insert(service, key.clone()),
            None => self.copied_from.remove(&service),
        };
        if before == now {
            return;
        }
        if let Some(before) = before {
            if let AnswerKey::Service(target) = before {
                self.unneeded.insert(target);
            }
            self.dependents.remove(before, service);
        }
        if let Some(now) = now {
            self.dependents.insert(now, service);
        }
    }

    /// The key that the answers of an alias with this target are copied from. `None` if the target
    /// is not ours.
    fn dependency(&mut self, target: AliasTarget) -> Option<AnswerKey> {
        match target {
            AliasTarget::Outside | AliasTarget::Nowhere => None,
            AliasTarget::NameServers => Some(AnswerKey::Apex),
            AliasTarget::Service(key, _) => {
                Some(AnswerKey::Service(self.services.number((&key).into())))
            }
            AliasTarget::Pod { namespace, address, .. } => match self.options.pods {
                PodMode::Disabled => None,
                PodMode::Insecure => Some(AnswerKey::Namespace(namespace.into())),
                PodMode::Verified => Some(AnswerKey::Pod(namespace.into(), address)),
            },
        }
    }

    /// All addresses of a Service, whether it exists or not.
    fn addresses_of(&self, service: ObjectId) -> Vec<IpAddr> {
        let endpoints = self.slices(service).flat_map(ModelSlice::endpoints);
        let ips = cluster_ips(self.services.get(service)).iter().copied();
        endpoints.map(|endpoint| endpoint.address).chain(ips).collect()
    }

    /// Whether anything needs the Services with this address: its reverse name, or the name servers
    /// of the zone.
    fn is_indexed(&self, address: IpAddr) -> bool {
        self.is_own_address(address) || self.zones.has_address(address)
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.options.server_addresses.contains(&address)
    }

    fn set_addresses_dirty(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if self.dirty.is_everything() {
            return;
        }
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
        if self.dirty.is_everything() {
            return;
        }
        let (mut next, mut pending) = (Some(key), Vec::new());
        while let Some(key) = next {
            if self.dirty.insert(key.clone()) {
                if let AnswerKey::Service(service) = key
                    && self.is_name_server(service)
                {
                    pending.push(AnswerKey::Apex);
                }
                if !self.dependents.is_empty() {
                    pending.extend(self.dependents.of(key).map(AnswerKey::Service));
                }
            }
            next = pending.pop();
        }
    }

    fn is_name_server(&self, service: ObjectId) -> bool {
        let addresses = &self.options.server_addresses;
        addresses.iter().any(|address| {
            let mut slices = self.slices_at.of(*address).filter_map(|slice| self.slices.get(slice));
            self.cluster_ips.contains(address, service)
                || slices.any(|slice| slice.service == service)
        })
    }
}

/// Applies one step of the history of a kind. The first list touches everything.
fn step<V: PartialEq>(
    objects: &mut Store<V>,
    change: Change<(ObjectKey, V), ObjectKey>,
    dirty: &mut DirtyKeys,
) -> Vec<Difference<V>> {
    let was_synced = objects.is_synced();
    let differences = objects.step(change);
    if objects.is_synced() && !was_synced {
        dirty.insert_everything();
    }
    differences
}

/// The same change, applied to the model's form of the object.
fn slim<T, D, K, V>(
    change: Change<T, D>,
    mut object: impl FnMut(T) -> (K, V),
    key: impl FnOnce(D) -> K,
) -> Change<(K, V), K> {
    match change {
        Change::Init => Change::Init,
        Change::InitApply(whole) => Change::InitApply(object(whole)),
        Change::InitDone => Change::InitDone,
        Change::InitDropped => Change::InitDropped,
        Change::Apply(whole) => Change::Apply(object(whole)),
        Change::Delete(gone) => Change::Delete(key(gone)),
        Change::Remembered(all) => Change::Remembered(all.into_iter().map(object).collect()),
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

fn service_of(slice: Option<&ModelSlice>) -> Option<ObjectId> {
    slice.map(|slice| slice.service)
}

/// The addresses of the endpoints that a slice has and another lacks. Endpoints with different
/// labels differ.
fn addresses_without(slice: Option<&ModelSlice>, other: Option<&ModelSlice>) -> Vec<IpAddr> {
    let other: HashSet<ModelEndpoint<'_>, RandomState> =
        other.into_iter().flat_map(ModelSlice::endpoints).collect();
    let endpoints = slice.into_iter().flat_map(ModelSlice::endpoints);
    let only = endpoints.filter(|endpoint| !other.contains(endpoint));
    only.map(|endpoint| endpoint.address).collect()
}

#[cfg(test)]
mod tests;
