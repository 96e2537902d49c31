//! Objects of a fake API server: how tests make them, and their bytes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use prost::Message;
use prost::bytes::Bytes;
use serde::Serialize;

use super::schema::{
    Conditions, Envelope, FakeEndpoint, FakeNamespace, FakePort, FakeService, FakeSlice, Fields,
    ManagedFields, Metadata, OnlyMetadata, Phase, ServiceSpec, TargetRef, Timestamp, TypeMeta,
};

/// The kinds that a DNS server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Namespaces,
    Services,
    Slices,
    Pods,
}

impl Resource {
    pub const ALL: [Self; 4] = [Self::Namespaces, Self::Services, Self::Slices, Self::Pods];

    pub(super) fn index(self) -> usize {
        Self::ALL.into_iter().position(|one| one == self).expect("one of all")
    }

    pub(super) fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Namespaces => "/api/v1/namespaces",
            Self::Services => "/api/v1/services",
            Self::Slices => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Pods => "/api/v1/pods",
        }
    }

    /// Version and kind of an object.
    pub(super) fn type_meta(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespaces => ("v1", "Namespace"),
            Self::Services => ("v1", "Service"),
            Self::Slices => ("discovery.k8s.io/v1", "EndpointSlice"),
            Self::Pods => ("v1", "Pod"),
        }
    }
}

/// One object. There are no pods.
#[derive(Clone, Debug, PartialEq)]
pub enum FakeObject {
    Namespace(FakeNamespace),
    Service(FakeService),
    Slice(FakeSlice),
}

impl From<FakeNamespace> for FakeObject {
    fn from(namespace: FakeNamespace) -> Self {
        Self::Namespace(namespace)
    }
}

impl From<FakeService> for FakeObject {
    fn from(service: FakeService) -> Self {
        Self::Service(service)
    }
}

impl From<FakeSlice> for FakeObject {
    fn from(slice: FakeSlice) -> Self {
        Self::Slice(slice)
    }
}

impl FakeObject {
    pub fn resource(&self) -> Resource {
        match self {
            Self::Namespace(_) => Resource::Namespaces,
            Self::Service(_) => Resource::Services,
            Self::Slice(_) => Resource::Slices,
        }
    }

    pub(super) fn metadata(&self) -> &Metadata {
        match self {
            Self::Namespace(one) => &one.metadata,
            Self::Service(one) => &one.metadata,
            Self::Slice(one) => &one.metadata,
        }
    }

    pub(super) fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Self::Namespace(one) => &mut one.metadata,
            Self::Service(one) => &mut one.metadata,
            Self::Slice(one) => &mut one.metadata,
        }
    }

    /// Namespace and name.
    pub fn key(&self) -> (String, String) {
        let metadata = self.metadata();
        (metadata.namespace.clone(), metadata.name.clone())
    }

    /// The message as protobuf, without the envelope.
    pub(super) fn to_protobuf(&self, only_metadata: bool) -> Bytes {
        if only_metadata {
            let metadata = self.metadata().clone();
            return OnlyMetadata { metadata }.encode_to_vec().into();
        }
        match self {
            Self::Namespace(one) => one.encode_to_vec(),
            Self::Service(one) => one.encode_to_vec(),
            Self::Slice(one) => one.encode_to_vec(),
        }
        .into()
    }

    /// A JSON object with its version and kind.
    pub(super) fn to_json(&self, only_metadata: bool) -> Bytes {
        let (api_version, kind) = self.resource().type_meta();
        if only_metadata {
            let metadata = self.metadata().clone();
            return typed_json(
                "meta.k8s.io/v1",
                "PartialObjectMetadata",
                &OnlyMetadata { metadata },
            );
        }
        match self {
            Self::Namespace(one) => typed_json(api_version, kind, one),
            Self::Service(one) => typed_json(api_version, kind, one),
            Self::Slice(one) => typed_json(api_version, kind, one),
        }
    }
}

/// JSON with version and kind in front.
pub(super) fn typed_json(api_version: &str, kind: &str, object: &impl Serialize) -> Bytes {
    let fields = serde_json::to_string(object).expect("strings and numbers");
    let head = format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","#);
    format!("{head}{}", &fields[1..]).into()
}

/// An object in protobuf, as it stands alone.
pub(super) fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let envelope = Envelope { type_meta, raw: raw.to_vec() };
    [b"k8s\0".as_slice(), &envelope.encode_to_vec()].concat()
}

/// A namespace.
pub fn namespace(name: &str) -> FakeNamespace {
    let metadata = metadata("", name, &[("kubernetes.io/metadata.name", name)], NAMESPACE_FIELDS);
    FakeNamespace { metadata, status: Some(Phase { phase: "Active".to_owned() }) }
}

/// A namespace that is being deleted.
pub fn terminating_namespace(name: &str) -> FakeNamespace {
    let mut terminating = namespace(name);
    terminating.metadata.deletion_timestamp = Some(SOME_TIME);
    terminating.status = Some(Phase { phase: "Terminating".to_owned() });
    terminating
}

/// A Service with one address, or a headless one.
pub fn service(namespace: &str, name: &str, address: Option<Ipv4Addr>) -> FakeService {
    let cluster_ip = address.map_or_else(|| "None".to_owned(), |address| address.to_string());
    FakeService {
        metadata: metadata(namespace, name, &[("app", name)], SERVICE_FIELDS),
        spec: ServiceSpec {
            ports: ports(80),
            selector: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            cluster_ips: vec![cluster_ip.clone()],
            cluster_ip,
            r#type: "ClusterIP".to_owned(),
            session_affinity: "None".to_owned(),
            ip_family_policy: "SingleStack".to_owned(),
            ip_families: vec!["IPv4".to_owned()],
            internal_traffic_policy: "Cluster".to_owned(),
        },
    }
}

/// A slice of ready endpoints of a Service.
pub fn slice(namespace: &str, name: &str, service: &str, addresses: &[Ipv4Addr]) -> FakeSlice {
    let labels = [
        ("app", service),
        ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
        ("kubernetes.io/service-name", service),
    ];
    let endpoint = |address: &Ipv4Addr| FakeEndpoint {
        addresses: vec![address.to_string()],
        conditions: Conditions { ready: Some(true), serving: Some(true), terminating: Some(false) },
        hostname: None,
        target_ref: Some(TargetRef {
            kind: "Pod".to_owned(),
            namespace: namespace.to_owned(),
            name: format!("{service}-6d4cf56db6-{}", address.to_bits() % 100_000),
            uid: uid(address.to_bits().into()),
        }),
        node_name: format!("node-{}", address.octets()[2]),
    };
    let mut metadata = metadata(namespace, name, &labels, SLICE_FIELDS);
    let trigger = "endpoints.kubernetes.io/last-change-trigger-time";
    metadata.annotations.insert(trigger.to_owned(), "2026-01-01T00:00:00Z".to_owned());
    FakeSlice {
        metadata,
        endpoints: addresses.iter().map(endpoint).collect(),
        ports: ports(8080),
        address_type: "IPv4".to_owned(),
    }
}

fn ports(first: i32) -> Vec<FakePort> {
    let port =
        |name: &str, port| FakePort { name: name.to_owned(), protocol: "TCP".to_owned(), port };
    vec![port("http", first), port("metrics", 9090)]
}

const SOME_TIME: Timestamp = Timestamp { unix_secs: 1_767_225_600 };

fn metadata(namespace: &str, name: &str, labels: &[(&str, &str)], fields: &str) -> Metadata {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Metadata {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels: labels.collect(),
        creation_timestamp: Some(SOME_TIME),
        managed_fields: vec![ManagedFields {
            manager: "kube-controller-manager".to_owned(),
            operation: "Update".to_owned(),
            api_version: "v1".to_owned(),
            time: Some(SOME_TIME),
            fields_type: "FieldsV1".to_owned(),
            fields: Some(Fields { json: fields.to_owned() }),
        }],
        ..Metadata::default()
    }
}

/// In the form of a UUID.
pub(super) fn uid(number: u64) -> String {
    format!("{number:08x}-0000-4000-8000-{number:012x}")
}

const NAMESPACE_FIELDS: &str =
    r#"{"f:metadata":{"f:labels":{".":{},"f:kubernetes.io/metadata.name":{}}}}"#;

const SERVICE_FIELDS: &str = concat!(
    r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:clusterIP":{},"f:interna"#,
    r#"lTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"#,
    r#""f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}},"k:{\"port\":9090,\"proto"#,
    r#"col\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"#,
    r#""f:selector":{},"f:sessionAffinity":{},"f:type":{}}}"#,
);

const SLICE_FIELDS: &str = concat!(
    r#"{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},"f:endpoi"#,
    r#"nts.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":"#,
    r#"{},"f:app":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service"#,
    r#"-name":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"d8c5f21e-0000-4000-8000-0000000"#,
    r#"00000\"}":{}}},"f:ports":{}}"#,
);
