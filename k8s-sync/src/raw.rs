//! The four kinds of objects, and the older Endpoints, as Kubernetes spells them in JSON. Only the
//! fields that DNS needs are here.
//!
//! This is what serde accepts. What is valid is in `convert`; where it comes from is in `watch` and
//! `manifests`. Every field may be absent, null or of the wrong type (`field`), so that one invalid
//! object cannot spoil a list. Other fields (managedFields, most of status) are skipped without
//! being stored.

pub mod field;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess};

use crate::object::ObjectKey;
use field::{Field, Shape};

/// The kinds of objects that answers are made from.
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

    /// The name of the resource in URLs and RBAC rules.
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

/// `metadata` of any object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawMetadata {
    pub name: Field<String>,
    pub namespace: Field<String>,
    #[serde(deserialize_with = "field::good")]
    pub resource_version: Option<String>,
    #[serde(deserialize_with = "field::good")]
    pub creation_timestamp: Option<String>,
    /// Only its presence matters.
    pub deletion_timestamp: Option<IgnoredAny>,
    pub labels: Field<RawLabels>,
    #[serde(deserialize_with = "field::good_or_default")]
    pub annotations: RawAnnotations,
}

/// The annotation that says when the change of a pod or Service happened that led to an
/// EndpointSlice.
pub const LAST_CHANGE_TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// `metadata.annotations`: the one that matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawAnnotations {
    /// `LAST_CHANGE_TRIGGER_TIME`, in RFC 3339.
    #[serde(
        rename = "endpoints.kubernetes.io/last-change-trigger-time",
        deserialize_with = "field::good"
    )]
    pub last_change_trigger_time: Option<String>,
}

/// In the order of the object. Of a duplicate key, the last one counts.
pub type RawLabels = Vec<(Cow<'static, str>, Field<String>)>;

impl RawMetadata {
    /// The parts that the object lacks are empty strings.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let boxed = |field: &Field<String>| field.as_ref().map_or("", String::as_str).into();
        ObjectKey { namespace: boxed(&self.namespace), name: boxed(&self.name) }
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let mut labels = self.labels.as_ref()?.iter().rev();
        let (_, value) = labels.find(|(found, _)| found == key)?;
        value.as_ref().map(String::as_str)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawNamespace {
    #[serde(deserialize_with = "field::good_or_default")]
    pub metadata: RawMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawService {
    #[serde(deserialize_with = "field::good_or_default")]
    pub metadata: RawMetadata,
    pub spec: Field<RawServiceSpec>,
    pub status: Field<RawServiceStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawServiceSpec {
    pub r#type: Field<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Field<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Field<Vec<Field<String>>>,
    pub external_name: Field<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Field<Vec<Field<String>>>,
    pub ports: Field<Vec<Field<RawPort>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawServiceStatus {
    pub load_balancer: Field<RawLoadBalancer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawLoadBalancer {
    pub ingress: Field<Vec<Field<RawIngress>>>,
}

/// `status.loadBalancer.ingress[]`: where a load balancer can be reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawIngress {
    pub ip: Field<String>,
    pub hostname: Field<String>,
}

/// `ports[]` of a Service, of an EndpointSlice or of a subset of Endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawPort {
    pub name: Field<String>,
    pub protocol: Field<String>,
    pub port: Field<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawEndpointSlice {
    #[serde(deserialize_with = "field::good_or_default")]
    pub metadata: RawMetadata,
    pub address_type: Field<String>,
    pub endpoints: Field<Vec<Field<RawEndpoint>>>,
    pub ports: Field<Vec<Field<RawPort>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawEndpoint {
    pub addresses: Field<Vec<Field<String>>>,
    pub conditions: Field<RawConditions>,
    pub hostname: Field<String>,
    pub target_ref: Field<RawTargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawConditions {
    pub ready: Field<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawTargetRef {
    pub name: Field<String>,
}

/// `v1.Endpoints`, superseded by EndpointSlices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawEndpoints {
    #[serde(deserialize_with = "field::good_or_default")]
    pub metadata: RawMetadata,
    pub subsets: Field<Vec<Field<RawSubset>>>,
}

/// Addresses and their ports. No answer is made of those that are not ready.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawSubset {
    pub addresses: Field<Vec<Field<RawEndpointAddress>>>,
    pub not_ready_addresses: Field<Vec<Field<RawEndpointAddress>>>,
    pub ports: Field<Vec<Field<RawPort>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawEndpointAddress {
    pub ip: Field<String>,
    pub hostname: Field<String>,
    pub target_ref: Field<RawTargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawPod {
    #[serde(deserialize_with = "field::good_or_default")]
    pub metadata: RawMetadata,
    pub spec: Field<RawPodSpec>,
    pub status: Field<RawPodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawPodSpec {
    pub host_network: Field<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawPodStatus {
    pub phase: Field<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Field<String>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Field<Vec<Field<RawPodIp>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawPodIp {
    pub ip: Field<String>,
}

macro_rules! maps {
    ($($object:ty),*) => {
        $(impl Shape for $object {
            const EXPECTED: &'static str = "a map";

            fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
                Self::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }
        })*
    };
}

maps!(
    RawMetadata,
    RawAnnotations,
    RawServiceSpec,
    RawServiceStatus,
    RawLoadBalancer,
    RawIngress,
    RawPort,
    RawEndpoint,
    RawConditions,
    RawTargetRef,
    RawSubset,
    RawEndpointAddress,
    RawPodSpec,
    RawPodStatus,
    RawPodIp
);
