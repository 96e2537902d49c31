//! The four kinds in the API server's protobuf: the fields of `raw`, written as the JSON that kube
//! reads.
//!
//! Other fields are skipped. Tags are those of Kubernetes' generated.proto files, which never
//! change. Framing and responses are in `translate`.

use std::collections::BTreeMap;

use prost::bytes::Bytes;
use prost::{DecodeError, Message};
use serde::Serialize;

use crate::raw::Kind;

/// Appends the object to `json`.
pub(super) fn object_to_json(
    kind: Kind,
    object: Bytes,
    json: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    match kind {
        Kind::Namespace => write(&ProtoNamespace::decode(object)?, json),
        Kind::Service => write(&ProtoService::decode(object)?, json),
        Kind::EndpointSlice => write(&ProtoEndpointSlice::decode(object)?, json),
        Kind::Pod => write(&ProtoPod::decode(object)?, json),
    }
    Ok(())
}

pub(super) fn write(message: &impl Serialize, json: &mut Vec<u8>) {
    serde_json::to_writer(json, message).expect("strings and numbers, into memory");
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoMetadata {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "3")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "6")]
    resource_version: Option<String>,
    #[prost(message, optional, tag = "9")]
    deletion_timestamp: Option<ProtoTime>,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
}

/// Only its presence matters.
#[derive(Message, Serialize)]
struct ProtoTime {}

#[derive(Message, Serialize)]
struct ProtoNamespace {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ProtoMetadata>,
}

#[derive(Message, Serialize)]
struct ProtoService {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ProtoMetadata>,
    #[prost(message, optional, tag = "2")]
    spec: Option<ProtoServiceSpec>,
    #[prost(message, optional, tag = "3")]
    status: Option<ProtoServiceStatus>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoServiceSpec {
    #[prost(message, repeated, tag = "1")]
    ports: Vec<ProtoPort>,
    #[prost(string, optional, tag = "3")]
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[prost(string, repeated, tag = "18")]
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[prost(string, optional, tag = "4")]
    r#type: Option<String>,
    #[prost(string, optional, tag = "10")]
    external_name: Option<String>,
    #[prost(string, repeated, tag = "5")]
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    external_ips: Vec<String>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoServiceStatus {
    #[prost(message, optional, tag = "1")]
    load_balancer: Option<ProtoLoadBalancer>,
}

#[derive(Message, Serialize)]
struct ProtoLoadBalancer {
    #[prost(message, repeated, tag = "1")]
    ingress: Vec<ProtoIngress>,
}

#[derive(Message, Serialize)]
struct ProtoIngress {
    #[prost(string, optional, tag = "1")]
    ip: Option<String>,
    #[prost(string, optional, tag = "2")]
    hostname: Option<String>,
}

/// A port of a Service or of an EndpointSlice: both use the same tags.
#[derive(Message, Serialize)]
struct ProtoPort {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    protocol: Option<String>,
    #[prost(int32, optional, tag = "3")]
    port: Option<i32>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoEndpointSlice {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ProtoMetadata>,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<ProtoEndpoint>,
    #[prost(message, repeated, tag = "3")]
    ports: Vec<ProtoPort>,
    #[prost(string, optional, tag = "4")]
    address_type: Option<String>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoEndpoint {
    #[prost(string, repeated, tag = "1")]
    addresses: Vec<String>,
    #[prost(message, optional, tag = "2")]
    conditions: Option<ProtoConditions>,
    #[prost(string, optional, tag = "3")]
    hostname: Option<String>,
    #[prost(message, optional, tag = "4")]
    target_ref: Option<ProtoObjectReference>,
}

#[derive(Message, Serialize)]
struct ProtoConditions {
    #[prost(bool, optional, tag = "1")]
    ready: Option<bool>,
}

#[derive(Message, Serialize)]
struct ProtoObjectReference {
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
}

#[derive(Message, Serialize)]
struct ProtoPod {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ProtoMetadata>,
    #[prost(message, optional, tag = "2")]
    spec: Option<ProtoPodSpec>,
    #[prost(message, optional, tag = "3")]
    status: Option<ProtoPodStatus>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoPodSpec {
    #[prost(bool, optional, tag = "11")]
    host_network: Option<bool>,
}

#[derive(Message, Serialize)]
struct ProtoPodStatus {
    #[prost(string, optional, tag = "1")]
    phase: Option<String>,
    #[prost(string, optional, tag = "6")]
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[prost(message, repeated, tag = "12")]
    #[serde(rename = "podIPs")]
    pod_ips: Vec<ProtoPodIp>,
}

#[derive(Message, Serialize)]
struct ProtoPodIp {
    #[prost(string, optional, tag = "1")]
    ip: Option<String>,
}

/// The wrapper of every object, after the magic bytes.
#[derive(Message)]
pub(super) struct ProtoEnvelope {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) raw: Bytes,
}

/// One event of a watch.
#[derive(Message)]
pub(super) struct ProtoWatchEvent {
    #[prost(string, tag = "1")]
    pub(super) r#type: String,
    #[prost(message, optional, tag = "2")]
    pub(super) object: Option<ProtoRawExtension>,
}

#[derive(Message)]
pub(super) struct ProtoRawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) raw: Bytes,
}

/// An object of any kind. Only the resource version matters, and whether it ends a streaming list.
#[derive(Message, Serialize)]
pub(super) struct ProtoBookmark {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ProtoBookmarkMetadata>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProtoBookmarkMetadata {
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
}

/// A list of any kind. Its items are not decoded.
#[derive(Message)]
pub(super) struct ProtoList {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ProtoListMetadata>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) items: Vec<Bytes>,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProtoListMetadata {
    #[prost(string, tag = "2")]
    resource_version: String,
    #[prost(string, tag = "3")]
    r#continue: String,
}

/// The reason of a failure.
#[derive(Message, Serialize)]
pub(super) struct ProtoStatus {
    #[prost(string, tag = "3")]
    pub(super) message: String,
    #[prost(string, tag = "4")]
    reason: String,
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<ProtoStatusDetails>,
    #[prost(uint32, tag = "6")]
    pub(super) code: u32,
}

#[derive(Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtoStatusDetails {
    #[prost(uint32, tag = "5")]
    retry_after_seconds: u32,
}
