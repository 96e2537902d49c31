//! The four kinds of objects as Kubernetes spells them in JSON, cut down to the fields that DNS reads.
//!
//! Here: what serde accepts. Not here: what is valid (`convert`) or where it comes from (`watch`, `manifests`).
//! Every field may be absent or null, so that one odd object cannot spoil a list; fields that are not named here
//! (managedFields, most of status) are skipped without being stored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::convert::{self, Refusal};
use crate::object::{self, Change, Event, ObjectKey};

/// The kinds of objects that answers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Namespace,
    Service,
    EndpointSlice,
    Pod,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Namespace, Self::Service, Self::EndpointSlice, Self::Pod];

    /// `kind` of an object.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
        }
    }

    /// The API group, empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Pod => "",
            Self::EndpointSlice => "discovery.k8s.io",
        }
    }

    /// `apiVersion` of an object: group and version.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Pod => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// The resource's name in URLs and in RBAC rules.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Pod => "pods",
        }
    }
}

/// One of the four kinds: what turns it into events, whatever it was read from.
pub trait RawObject: DeserializeOwned + Clone + std::fmt::Debug + Send + 'static {
    const KIND: Kind;
    /// The object that answers are made of.
    type Object;
    /// What a deletion names.
    type Key;

    fn metadata(&self) -> &Metadata;
    fn metadata_mut(&mut self) -> &mut Metadata;
    /// Namespaces are cluster-wide: the name alone names them.
    fn key(key: ObjectKey) -> Self::Key;

    /// `None`: a valid object that has no part in any answer.
    fn convert(self) -> Result<Option<Self::Object>, Refusal>;

    fn event(change: Change<Self::Object, Self::Key>) -> Event;
}

/// `metadata` of any object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub resource_version: Option<String>,
    /// Only whether it is there.
    pub deletion_timestamp: Option<IgnoredAny>,
    pub labels: Option<BTreeMap<String, String>>,
}

impl Metadata {
    /// Empty strings where the object has no name or no namespace.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let boxed = |field: &Option<String>| Box::from(field.as_deref().unwrap_or_default());
        ObjectKey { namespace: boxed(&self.namespace), name: boxed(&self.name) }
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        Some(self.labels.as_ref()?.get(key)?)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: Metadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Metadata,
    pub spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    pub r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub external_name: Option<String>,
    pub ports: Option<Vec<Port>>,
}

/// `ports[]` of a Service or of an EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: Metadata,
    pub address_type: Option<String>,
    pub endpoints: Option<Vec<Endpoint>>,
    pub ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    pub addresses: Option<Vec<String>>,
    pub conditions: Option<Conditions>,
    pub hostname: Option<String>,
    pub target_ref: Option<TargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Metadata,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    pub ip: Option<String>,
}

impl RawObject for Namespace {
    const KIND: Kind = Kind::Namespace;
    type Object = object::Namespace;
    type Key = Box<str>;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> Box<str> {
        key.name
    }
    fn convert(self) -> Result<Option<object::Namespace>, Refusal> {
        convert::namespace(self).map(Some)
    }
    fn event(change: Change<object::Namespace, Box<str>>) -> Event {
        Event::Namespace(change)
    }
}

impl RawObject for Service {
    const KIND: Kind = Kind::Service;
    type Object = object::Service;
    type Key = ObjectKey;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> ObjectKey {
        key
    }
    fn convert(self) -> Result<Option<object::Service>, Refusal> {
        convert::service(self).map(Some)
    }
    fn event(change: Change<object::Service, ObjectKey>) -> Event {
        Event::Service(change)
    }
}

impl RawObject for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    type Object = object::EndpointSlice;
    type Key = ObjectKey;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> ObjectKey {
        key
    }
    fn convert(self) -> Result<Option<object::EndpointSlice>, Refusal> {
        convert::endpoint_slice(self)
    }
    fn event(change: Change<object::EndpointSlice, ObjectKey>) -> Event {
        Event::EndpointSlice(change)
    }
}

impl RawObject for Pod {
    const KIND: Kind = Kind::Pod;
    type Object = object::Pod;
    type Key = ObjectKey;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> ObjectKey {
        key
    }
    fn convert(self) -> Result<Option<object::Pod>, Refusal> {
        convert::pod(self)
    }
    fn event(change: Change<object::Pod, ObjectKey>) -> Event {
        Event::Pod(change)
    }
}
