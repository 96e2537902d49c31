//! The objects of the cluster, reduced to what DNS needs.
//!
//! Plain, validated data. Where it comes from is in `watch` and `manifests`; what it means is in
//! `records`. Invariant: records can be made from every object of these types; invalid input is
//! refused where it is read.

use std::net::IpAddr;
use std::time::SystemTime;

/// Namespace and name: the key of a namespaced object. The API server allows only lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

/// `v1.Namespace`. Answers depend only on its existence; the phase is never read.
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
    /// Where it can be reached from outside the cluster.
    pub external: Box<[ExternalTarget]>,
}

/// `spec.externalIPs[]`, or `status.loadBalancer.ingress[]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExternalTarget {
    Address(IpAddr),
    /// A host name, as written.
    Host(Box<str>),
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

/// A port of a Service (`spec.ports[]`) or of a slice (`ports[]`). An unnamed port has an empty
/// `name`.
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

/// `discovery.k8s.io/v1.EndpointSlice`. If its `addressType` is FQDN, its endpoints are in `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub key: ObjectKey,
    /// Label `kubernetes.io/service-name`.
    pub service: Box<str>,
    pub endpoints: Box<[Endpoint]>,
    /// Host names of ready endpoints, as written.
    pub hosts: Box<[Box<str>]>,
    pub ports: Box<[Port]>,
    /// When the change of a pod or Service happened that led to this slice.
    pub triggered: Option<SystemTime>,
}

/// `endpoints[]` of a slice. Endpoints with `conditions.ready: false` are dropped where the slice
/// is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addresses: Box<[IpAddr]>,
    pub hostname: Option<Box<str>>,
    /// `targetRef.name`, for `endpoint_pod_names`.
    pub pod_name: Option<Box<str>>,
}

/// `v1.Pod`, watched only for `pods verified` and for the namespaces of clients. Finished and
/// deleted pods are dropped where they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub key: ObjectKey,
    pub ips: Box<[IpAddr]>,
    /// `spec.hostNetwork`: its addresses are its node's.
    pub is_on_host_network: bool,
}

/// A change to the objects of one kind.
///
/// `Init` begins a new list beside the state that is being served. `InitApply` adds to the list.
/// `InitDone` puts it in place, which removes every object that it does not name. `InitDropped`
/// forgets it: it broke off, and single changes follow instead of another list. In between, `Apply`
/// and `Delete` change single objects. `Remembered` is a whole list from before the start:
/// it counts until a list is complete, and does not disturb one that is being received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T, K> {
    Init,
    InitApply(T),
    InitDone,
    InitDropped,
    Apply(T),
    Delete(K),
    Remembered(Vec<T>),
}

/// One step of the cluster's history, as reported by a source (`watch` or `manifests`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Namespace(Change<Namespace, Box<str>>),
    Service(Change<Service, ObjectKey>),
    EndpointSlice(Change<EndpointSlice, ObjectKey>),
    Pod(Change<Pod, ObjectKey>),
}

impl Event {
    /// Whether it belongs to a list that is not complete, so that it changes no answer yet.
    #[must_use]
    pub const fn is_of_list(&self) -> bool {
        const fn is_of_list<T, K>(change: &Change<T, K>) -> bool {
            matches!(change, Change::Init | Change::InitApply(_) | Change::InitDropped)
        }
        match self {
            Self::Namespace(change) => is_of_list(change),
            Self::Service(change) => is_of_list(change),
            Self::EndpointSlice(change) => is_of_list(change),
            Self::Pod(change) => is_of_list(change),
        }
    }
}
