//! Which objects a name of the cluster comes from, and why it has no records: `ringdns explain`.
//!
//! It looks at objects as they were received, so that it sees unready endpoints and resource
//! versions, which answers are made without. Invariant: it explains an answer, and decides none.

mod reading;
mod reason;

use std::net::IpAddr;

use crate::convert::{SERVICE_NAME_LABEL, is_label};
use crate::raw::{Kind, RawEndpointSlice, RawMetadata, RawNamespace, RawPod, RawService};
use reading::{
    address_of, cluster_addresses, dashed_address, endpoint_has, endpoints, has_address, ports_of,
};
use reason::{listed, no_address, no_address_of_headless, why_no_endpoint, why_no_port};
use wire::pod::PodMode;

/// Objects of a cluster, as they were received.
#[derive(Debug, Default)]
pub struct ClusterObjects {
    pub namespaces: Vec<RawNamespace>,
    pub services: Vec<RawService>,
    pub slices: Vec<RawEndpointSlice>,
    pub pods: Vec<RawPod>,
    /// Made of Endpoints whose Services have no slices.
    pub mirrored: Vec<RawEndpointSlice>,
    /// Kinds of which objects may be missing here, and why.
    pub incomplete: Vec<(Kind, String)>,
}

/// A name that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct AskedName<'q> {
    /// Lower case, with a final dot.
    pub name: &'q str,
    /// The cluster's zone that it belongs to, in the same form.
    pub zone: &'q str,
    pub qtype: u16,
    pub pods: PodMode,
    /// Endpoints are named after their pods.
    pub endpoint_pod_names: bool,
}

/// Where the answer to a question comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub objects: Vec<ObjectFacts>,
    /// What the objects say about the name, if they say anything beyond its records.
    pub reason: Option<String>,
}

/// An object behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    pub kind: &'static str,
    /// `NAMESPACE/NAME`, or `NAME` of a Namespace.
    pub key: String,
    pub resource_version: Option<String>,
    /// In RFC 3339, as Kubernetes writes it.
    pub created: Option<String>,
}

impl ObjectFacts {
    /// Of an object that slices come from.
    fn of_slice(slice: &RawEndpointSlice, is_mirrored: bool) -> Self {
        let facts = Self::new(Kind::EndpointSlice, &slice.metadata);
        if is_mirrored { Self { kind: "Endpoints", ..facts } } else { facts }
    }

    fn new(kind: Kind, metadata: &RawMetadata) -> Self {
        let key = metadata.key();
        Self {
            kind: kind.name(),
            key: match kind {
                Kind::Namespace => key.name.into(),
                Kind::Service | Kind::EndpointSlice | Kind::Pod => {
                    format!("{}/{}", key.namespace, key.name)
                }
            },
            resource_version: metadata.resource_version.clone(),
            created: metadata.creation_timestamp.clone(),
        }
    }
}

/// The objects that a question may be about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Those of a namespace, but only the pods with this address.
    Namespace(String, Option<IpAddr>),
    /// The pods with this address.
    Pod(IpAddr),
    /// Those of all namespaces, except for pods.
    Cluster,
}

impl AskedName<'_> {
    /// The objects that explain the answer.
    #[must_use]
    pub fn needs(self) -> Needs {
        let labels = self.name.strip_suffix(self.zone).unwrap_or_default();
        let labels: Vec<&str> = labels.split('.').filter(|label| !label.is_empty()).collect();
        match labels.as_slice() {
            [.., label, "svc"] if is_label(label) => Needs::Namespace((*label).to_owned(), None),
            [host, label, "pod"] if is_label(label) => {
                Needs::Namespace((*label).to_owned(), dashed_address(host))
            }
            _ => Needs::Cluster,
        }
    }
}

impl Origin {
    fn because(reason: impl Into<String>) -> Self {
        Self { objects: Vec::new(), reason: Some(reason.into()) }
    }
}

impl ClusterObjects {
    /// Where the answer to a question comes from.
    #[must_use]
    pub fn origin(&self, asked: AskedName<'_>) -> Origin {
        let Some(labels) = asked.name.strip_suffix(asked.zone) else { return Origin::default() };
        if asked.zone.ends_with("arpa.") {
            let address = address_of(asked.name);
            return address.map_or_else(Origin::default, |address| self.of_address(address));
        }
        let labels: Vec<&str> = labels.split('.').filter(|label| !label.is_empty()).collect();
        match labels.as_slice() {
            [] => Origin::default(),
            [.., "svc"] => self.of_service_name(&labels[..labels.len() - 1], asked),
            [.., "pod"] => self.of_pod_name(&labels[..labels.len() - 1], asked.pods),
            [.., last] => Origin::because(format!(
                "{} has names of Services, below svc, and of pods, below pod; '{last}' is neither",
                asked.zone
            )),
        }
    }

    /// The namespace of the pod with this address.
    #[must_use]
    pub fn namespace_at(&self, address: IpAddr) -> Option<String> {
        let pod = self.pods.iter().find(|pod| has_address(pod, address))?;
        Some(pod.metadata.key().namespace.into())
    }

    fn has_namespace(&self, name: &str) -> bool {
        let metadata = self.namespaces.iter().map(|one| &one.metadata);
        metadata.into_iter().any(|one| *one.key().name == *name)
            // A dump may lack the Namespaces of its objects.
            || self.services.iter().any(|one| *one.metadata.key().namespace == *name)
            || self.pods.iter().any(|one| *one.metadata.key().namespace == *name)
    }

    fn of_namespace(&self, name: &str) -> Origin {
        let found = self.namespaces.iter().filter(|one| *one.metadata.key().name == *name);
        let objects = found.map(|one| ObjectFacts::new(Kind::Namespace, &one.metadata)).collect();
        let reason = format!("{name} is a Namespace; a Namespace has no records of its own");
        Origin { objects, reason: Some(reason) }
    }

    /// `labels`: those before `svc`.
    fn of_service_name(&self, labels: &[&str], asked: AskedName<'_>) -> Origin {
        let [below @ .., namespace] = labels else {
            return Origin::because("the names of Services are SERVICE.NAMESPACE.svc");
        };
        if !self.has_namespace(namespace) {
            return self.without_namespace(namespace);
        }
        let [below @ .., service] = below else { return self.of_namespace(namespace) };
        let Some(found) = self.service(namespace, service) else {
            if let Some(reason) = self.unknown(&[Kind::Service]) {
                return Origin::because(reason);
            }
            let known = self.services.iter().map(|one| one.metadata.key());
            let known = known.filter(|key| *key.namespace == **namespace);
            let known: Vec<String> = known.map(|key| key.name.into()).collect();
            return Origin::because(format!(
                "Service {namespace}/{service} does not exist; {}",
                listed(&format!("the Services of {namespace}"), known)
            ));
        };
        self.of_service(found, below, asked)
    }

    /// `below`: the labels before the Service's.
    fn of_service(&self, found: &RawService, below: &[&str], asked: AskedName<'_>) -> Origin {
        let key = found.metadata.key();
        let (namespace, service) = (&*key.namespace, &*key.name);
        let shown = format!("{namespace}/{service}");
        let objects = vec![ObjectFacts::new(Kind::Service, &found.metadata)];
        let spec = found.spec.as_ref();
        let is_type = |name: &str| {
            spec.and_then(|spec| spec.r#type.as_ref()).is_some_and(|kind| kind == name)
        };
        if is_type("ExternalName") {
            let target = spec.and_then(|spec| spec.external_name.as_ref());
            let target = target.map_or("", String::as_str);
            let reason = format!("Service {shown} is an ExternalName: {target}");
            return Origin { objects, reason: Some(reason) };
        }
        let addresses = cluster_addresses(found);
        let found_slices = self.slices_of(namespace, service);
        let with_slices = |mut objects: Vec<ObjectFacts>| {
            let facts = found_slices.iter().map(|(slice, of)| ObjectFacts::of_slice(slice, *of));
            objects.extend(facts);
            // The subsets of one object are several slices.
            objects.dedup();
            objects
        };
        let slices: Vec<&RawEndpointSlice> = found_slices.iter().map(|(slice, _)| *slice).collect();
        let unknown = || self.unknown(&[Kind::EndpointSlice]);
        let is_headless = addresses.is_empty();
        let ports = ports_of(found, &slices, is_headless);
        match below {
            [] if is_headless => {
                let reason = no_address_of_headless(&shown, &slices, asked.qtype);
                let reason = unknown().or(reason);
                Origin { objects: with_slices(objects), reason }
            }
            [] => Origin { objects, reason: no_address(&shown, &addresses, asked.qtype) },
            [host] if !host.starts_with('_') => {
                let reason = why_no_endpoint(&shown, &slices, host, asked.endpoint_pod_names);
                let reason = unknown().or(reason);
                Origin { objects: with_slices(objects), reason }
            }
            [port, protocol] if protocol.starts_with('_') => {
                let reason = why_no_port(&shown, &ports, port, protocol);
                if is_headless {
                    Origin { objects: with_slices(objects), reason: unknown().or(reason) }
                } else {
                    Origin { objects, reason }
                }
            }
            _ => Origin {
                objects,
                reason: Some(format!(
                    "Service {shown} exists, but nothing is named so below it: endpoints are \
                     ENDPOINT.{service}, ports are _PORT._PROTOCOL.{service}"
                )),
            },
        }
    }

    /// `labels`: those before `pod`.
    fn of_pod_name(&self, labels: &[&str], mode: PodMode) -> Origin {
        match mode {
            PodMode::Disabled => {
                return Origin::because(
                    "names of pods are disabled: `pods insecure` or `pods verified` in \
                     `kubernetes` answers them",
                );
            }
            PodMode::Insecure | PodMode::Verified => {}
        }
        let [host @ .., namespace] = labels else {
            return Origin::because("the names of pods are ADDRESS-WITH-DASHES.NAMESPACE.pod");
        };
        if !self.has_namespace(namespace) {
            return self.without_namespace(namespace);
        }
        let [host] = host else { return self.of_namespace(namespace) };
        let Some(address) = dashed_address(host) else {
            return Origin::because(format!(
                "'{host}' is no address with dashes: the names of pods are \
                 ADDRESS-WITH-DASHES.NAMESPACE.pod"
            ));
        };
        let here = |pod: &&RawPod| *pod.metadata.key().namespace == **namespace;
        let pod = self.pods.iter().filter(here).find(|pod| has_address(pod, address));
        let objects: Vec<_> =
            pod.iter().map(|pod| ObjectFacts::new(Kind::Pod, &pod.metadata)).collect();
        let reason = match (mode, pod) {
            (PodMode::Insecure, None) => Some(format!(
                "`pods insecure` answers for every address, whether or not a pod has {address}"
            )),
            (PodMode::Verified, None) => self.unknown(&[Kind::Pod]).or_else(|| {
                Some(format!("no pod of Namespace {namespace} has the address {address}"))
            }),
            (PodMode::Disabled | PodMode::Insecure | PodMode::Verified, _) => None,
        };
        Origin { objects, reason }
    }

    /// The Services and endpoints with an address.
    fn of_address(&self, address: IpAddr) -> Origin {
        let has = |service: &&RawService| cluster_addresses(service).contains(&address);
        let services = self.services.iter().filter(has);
        let services = services.map(|one| ObjectFacts::new(Kind::Service, &one.metadata));
        let has = |slice: &&RawEndpointSlice| {
            endpoints(slice).any(|endpoint| endpoint_has(endpoint, address))
        };
        let slices = self.all_slices().filter(|(slice, _)| has(slice));
        let slices = slices.map(|(slice, of)| ObjectFacts::of_slice(slice, of));
        let mut objects: Vec<_> = services.chain(slices).collect();
        objects.dedup();
        let reason = objects.is_empty().then(|| {
            self.unknown(&[Kind::Service, Kind::EndpointSlice]).unwrap_or_else(|| {
                format!("no Service and no endpoint of the cluster has {address}")
            })
        });
        Origin { objects, reason }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&RawService> {
        self.services.iter().find(|service| {
            let key = service.metadata.key();
            *key.namespace == *namespace && *key.name == *name
        })
    }

    /// All slices, and whether each is made of Endpoints.
    fn all_slices(&self) -> impl Iterator<Item = (&RawEndpointSlice, bool)> {
        let mirrored = self.mirrored.iter().map(|slice| (slice, true));
        self.slices.iter().map(|slice| (slice, false)).chain(mirrored)
    }

    fn slices_of(&self, namespace: &str, service: &str) -> Vec<(&RawEndpointSlice, bool)> {
        let belongs = |(slice, _): &(&RawEndpointSlice, bool)| {
            *slice.metadata.key().namespace == *namespace
                && slice.metadata.label(SERVICE_NAME_LABEL) == Some(service)
        };
        self.all_slices().filter(belongs).collect()
    }

    /// Why objects of these kinds may be missing here. What is missing then proves nothing.
    fn unknown(&self, kinds: &[Kind]) -> Option<String> {
        let reasons = self.incomplete.iter().filter(|(kind, _)| kinds.contains(kind));
        let reasons: Vec<&str> = reasons.map(|(_, reason)| reason.as_str()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn without_namespace(&self, name: &str) -> Origin {
        let unknown = self.unknown(&[Kind::Namespace]);
        Origin::because(unknown.unwrap_or_else(|| format!("Namespace {name} does not exist")))
    }
}

#[cfg(test)]
mod tests;
