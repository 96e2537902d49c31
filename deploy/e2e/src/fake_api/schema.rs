//! The objects as the API server's protobuf and JSON have them: one definition for both.
//!
//! Tags are those of Kubernetes' generated.proto files. Only fields that real objects of these
//! kinds usually have are here, so that the bytes are about as many as a real API server sends.

use std::collections::BTreeMap;

use prost::Message;
use serde::{Serialize, Serializer};

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[prost(string, tag = "5")]
    pub uid: String,
    #[prost(string, tag = "6")]
    pub resource_version: String,
    #[prost(message, optional, tag = "8")]
    #[serde(serialize_with = "date")]
    pub creation_timestamp: Option<Timestamp>,
    #[prost(message, optional, tag = "9")]
    #[serde(serialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "11")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "17")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Vec<ManagedFields>,
}

/// `metav1.Time`; JSON has a text.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub unix_secs: i64,
}

/// Who set which fields: about half of a real object.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedFields {
    #[prost(string, tag = "1")]
    pub manager: String,
    #[prost(string, tag = "2")]
    pub operation: String,
    #[prost(string, tag = "3")]
    pub api_version: String,
    #[prost(message, optional, tag = "4")]
    #[serde(serialize_with = "date")]
    pub time: Option<Timestamp>,
    #[prost(string, tag = "6")]
    pub fields_type: String,
    #[prost(message, optional, tag = "7")]
    #[serde(rename = "fieldsV1", serialize_with = "raw")]
    pub fields: Option<Fields>,
}

/// JSON as text.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Fields {
    #[prost(string, tag = "1")]
    pub json: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub struct FakeNamespace {
    #[prost(message, required, tag = "1")]
    pub metadata: Metadata,
    #[prost(message, optional, tag = "3")]
    pub status: Option<Phase>,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Phase {
    #[prost(string, tag = "1")]
    pub phase: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub struct FakeService {
    #[prost(message, required, tag = "1")]
    pub metadata: Metadata,
    #[prost(message, required, tag = "2")]
    pub spec: ServiceSpec,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<FakePort>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub selector: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[prost(string, tag = "4")]
    pub r#type: String,
    #[prost(string, tag = "7")]
    pub session_affinity: String,
    #[prost(string, tag = "17")]
    pub ip_family_policy: String,
    #[prost(string, repeated, tag = "18")]
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    #[prost(string, repeated, tag = "19")]
    pub ip_families: Vec<String>,
    #[prost(string, tag = "22")]
    pub internal_traffic_policy: String,
}

/// A port of a Service or of an EndpointSlice.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct FakePort {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub protocol: String,
    #[prost(int32, tag = "3")]
    pub port: i32,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FakeSlice {
    #[prost(message, required, tag = "1")]
    pub metadata: Metadata,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<FakeEndpoint>,
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<FakePort>,
    #[prost(string, tag = "4")]
    pub address_type: String,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FakeEndpoint {
    #[prost(string, repeated, tag = "1")]
    pub addresses: Vec<String>,
    #[prost(message, required, tag = "2")]
    pub conditions: Conditions,
    #[prost(string, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub target_ref: Option<TargetRef>,
    #[prost(string, tag = "6")]
    pub node_name: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct Conditions {
    #[prost(bool, optional, tag = "1")]
    pub ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub terminating: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct TargetRef {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub uid: String,
}

/// An object without all but its metadata.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct OnlyMetadata {
    #[prost(message, required, tag = "1")]
    pub metadata: Metadata,
}

/// A failure.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Failure {
    #[prost(string, tag = "2")]
    pub status: String,
    #[prost(string, tag = "3")]
    pub message: String,
    #[prost(string, tag = "4")]
    pub reason: String,
    #[prost(int32, tag = "6")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMetadata {
    #[prost(string, tag = "2")]
    pub resource_version: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#continue: String,
}

/// The wrapper of every object.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Envelope {
    #[prost(message, required, tag = "1")]
    pub type_meta: TypeMeta,
    #[prost(bytes = "vec", tag = "2")]
    pub raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TypeMeta {
    #[prost(string, tag = "1")]
    pub api_version: String,
    #[prost(string, tag = "2")]
    pub kind: String,
}

/// One event of a watch.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchFrame {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(message, required, tag = "2")]
    pub object: RawExtension,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct RawExtension {
    #[prost(bytes = "vec", tag = "1")]
    pub raw: Vec<u8>,
}

/// Serde passes a reference to the field.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn date<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        // The dates of these objects do not matter.
        Some(_) => serializer.serialize_str("2026-01-01T00:00:00Z"),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn raw<S: Serializer>(fields: &Option<Fields>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = fields.as_ref().map_or("{}", |fields| &fields.json);
    let value: serde_json::Value = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
    value.serialize(serializer)
}
