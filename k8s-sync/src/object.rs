//! The cluster's objects, cut down to what DNS needs.
//!
//! Here: plain data, already validated. Not here: where it came from (`watch`, `manifests`) or what it means (`records`).
//! Invariant: an object of these types can be rendered; what could not be is refused where it is read.

use std::net::IpAddr;

/// Namespace and name, as the API server keys namespaced objects. Lower case by the API server's own validation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

/// `v1.Namespace`: its existence is all that answers depend on; the phase is never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub name: Box<str>,
}

/// `v1.Service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub key: ObjectKey,
    pub kind: ServiceKind,
    pub ports: Box<[Port]>,
}

/// What a Service's name stands for (Kubernetes DNS specification, sections 2.3 to 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// `spec.clusterIPs`, else `spec.clusterIP`.
    ClusterIp(Box<[IpAddr]>),
    /// `clusterIP: None`: the endpoints themselves.
    Headless,
    /// `spec.externalName`, as written.
    ExternalName(Box<str>),
}

/// A port of a Service (`spec.ports[]`) or of a slice (`ports[]`). An unnamed port has an empty `name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    pub name: Box<str>,
    pub protocol: Protocol,
    /// 1 to 65535. `None`: "all ports" of a slice, or a number that was invalid.
    pub number: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// `discovery.k8s.io/v1.EndpointSlice`. Of one whose `addressType` is FQDN the endpoints are `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub key: ObjectKey,
    /// Label `kubernetes.io/service-name`.
    pub service: Box<str>,
    pub endpoints: Box<[Endpoint]>,
    /// Names of ready endpoints, as written.
    pub hosts: Box<[Box<str>]>,
    pub ports: Box<[Port]>,
}

/// `endpoints[]` of a slice: one per ready address set. Endpoints that are not ready (`conditions.ready: false`) are left out
/// where the slice is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addresses: Box<[IpAddr]>,
    pub hostname: Option<Box<str>>,
    /// `targetRef.name`, for `endpoint_pod_names`.
    pub pod_name: Option<Box<str>>,
}

/// `v1.Pod`, watched for `pods verified` only; finished and deleted pods are refused where they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub key: ObjectKey,
    pub ips: Box<[IpAddr]>,
}

/// What happened to the objects of one kind, in the words of kube's watcher.
///
/// `Init` begins a fresh list, beside the state that is being served; `InitApply` adds to it; `InitDone` puts it in place, and
/// what it did not name is gone. `Apply` and `Delete` change single objects in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T, K> {
    Init,
    InitApply(T),
    InitDone,
    Apply(T),
    Delete(K),
}

/// One step of the cluster's history, as a source (`watch` or `manifests`) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Namespace(Change<Namespace, Box<str>>),
    Service(Change<Service, ObjectKey>),
    EndpointSlice(Change<EndpointSlice, ObjectKey>),
    Pod(Change<Pod, ObjectKey>),
}
