//! The API server's protobuf, decoded to the objects of `raw`.
//!
//! Only the fields that DNS needs are read; all others, which are most of the bytes, are skipped
//! without being copied or checked. Tags are those of Kubernetes' generated.proto files, which
//! never change. Where a message begins and ends in a body is in `events` and `list`.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde::de::IgnoredAny;

use super::request::{FailureDetails, ServerFailure};
use crate::convert::SERVICE_NAME_LABEL;
use crate::convert::raw_object::RawObject;
use crate::raw::field::Field;
use crate::raw::{
    LAST_CHANGE_TRIGGER_TIME, RawConditions, RawEndpoint, RawEndpointSlice, RawIngress,
    RawLoadBalancer, RawMetadata, RawNamespace, RawPod, RawPodIp, RawPodSpec, RawPodStatus,
    RawPort, RawService, RawServiceSpec, RawServiceStatus, RawTargetRef,
};

/// The first bytes of every object and list.
pub(super) const MAGIC: &[u8] = b"k8s\0";
/// Tag of the message in the envelope that wraps every object and list, after the magic bytes.
pub(super) const ENVELOPE_RAW: u32 = 2;
/// Tags of a list of any kind.
pub(super) const LIST_METADATA: u32 = 1;
pub(super) const LIST_ITEM: u32 = 2;

/// Why a message cannot be read.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) String);

impl From<DecodeError> for Malformed {
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

impl From<&str> for Malformed {
    fn from(cause: &str) -> Self {
        Self(cause.to_owned())
    }
}

type Decoded<T> = Result<T, Malformed>;

/// An object that the API server sends in protobuf.
pub(super) trait ProtoObject: RawObject {
    fn decode(message: &[u8], wanted: Wanted) -> Result<Self, Malformed>;
}

/// Fields that only some options need.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// `targetRef.name` of endpoints.
    pub(super) endpoint_pod_names: bool,
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'m> {
    Number(u64),
    /// A string or a message.
    Bytes(&'m [u8]),
    /// Of a type that no needed field has.
    Other,
}

impl<'m> Value<'m> {
    fn bytes(self) -> Decoded<&'m [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Other => Err("a field of another type than expected".into()),
        }
    }

    fn str(self) -> Decoded<&'m str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a string that is not UTF-8".into())
    }

    /// As JSON has it: the server does not check every string, and an odd one must not make all
    /// objects unreadable.
    fn string(self) -> Decoded<String> {
        let bytes = self.bytes()?;
        let lossy = |_| String::from_utf8_lossy(bytes).into_owned();
        Ok(std::str::from_utf8(bytes).map_or_else(lossy, str::to_owned))
    }

    fn text(self) -> Decoded<Field<String>> {
        self.string().map(Field::Is)
    }

    fn number(self) -> Decoded<u64> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) | Self::Other => Err("a field of another type than expected".into()),
        }
    }
}

/// Passes each field of the message to `take`, which ignores those that it does not need.
#[inline]
fn each_field<'m>(
    mut message: &'m [u8],
    mut take: impl FnMut(u32, Value<'m>) -> Decoded<()>,
) -> Decoded<()> {
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut message)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut message)?;
                let split = usize::try_from(len).ok().and_then(|len| message.split_at_checked(len));
                let (value, rest) = split.ok_or("a field that is longer than its message")?;
                message = rest;
                Value::Bytes(value)
            }
            WireType::SixtyFourBit
            | WireType::ThirtyTwoBit
            | WireType::StartGroup
            | WireType::EndGroup => {
                skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
                Value::Other
            }
        };
        take(tag, value)?;
    }
    Ok(())
}

/// Adds to a list that may not exist yet.
fn push<T>(list: &mut Field<Vec<Field<T>>>, element: T) {
    match list {
        Field::Is(list) => list.push(Field::Is(element)),
        Field::Absent | Field::WrongType(_) => *list = Field::Is(vec![Field::Is(element)]),
    }
}

impl ProtoObject for RawNamespace {
    fn decode(message: &[u8], _: Wanted) -> Decoded<Self> {
        let mut namespace = Self::default();
        each_field(message, |tag, value| {
            if tag == 1 {
                namespace.metadata = metadata(value.bytes()?)?;
            }
            Ok(())
        })?;
        Ok(namespace)
    }
}

impl ProtoObject for RawService {
    fn decode(message: &[u8], _: Wanted) -> Decoded<Self> {
        let mut service = Self::default();
        each_field(message, |tag, value| {
            match tag {
                1 => service.metadata = metadata(value.bytes()?)?,
                2 => service.spec = Field::Is(service_spec(value.bytes()?)?),
                3 => service.status = Field::Is(service_status(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(service)
    }
}

impl ProtoObject for RawEndpointSlice {
    fn decode(message: &[u8], wanted: Wanted) -> Decoded<Self> {
        let mut slice = Self::default();
        each_field(message, |tag, value| {
            match tag {
                1 => slice.metadata = metadata(value.bytes()?)?,
                2 => push(&mut slice.endpoints, endpoint(value.bytes()?, wanted)?),
                3 => push(&mut slice.ports, port(value.bytes()?)?),
                4 => slice.address_type = value.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(slice)
    }
}

impl ProtoObject for RawPod {
    fn decode(message: &[u8], _: Wanted) -> Decoded<Self> {
        let mut pod = Self::default();
        each_field(message, |tag, value| {
            match tag {
                1 => pod.metadata = metadata(value.bytes()?)?,
                2 => pod.spec = Field::Is(pod_spec(value.bytes()?)?),
                3 => pod.status = Field::Is(pod_status(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(pod)
    }
}

fn metadata(message: &[u8]) -> Decoded<RawMetadata> {
    let mut metadata = RawMetadata::default();
    each_field(message, |tag, value| {
        match tag {
            1 => metadata.name = value.text()?,
            3 => metadata.namespace = value.text()?,
            6 => metadata.resource_version = Some(value.string()?),
            9 => metadata.deletion_timestamp = Some(IgnoredAny),
            // The server has applied the selectors, so only the label that ties a slice to its
            // Service is left to read.
            11 => {
                let (key, label) = entry(value.bytes()?)?;
                if key == SERVICE_NAME_LABEL.as_bytes() {
                    let label = Value::Bytes(label).text()?;
                    metadata.labels = Field::Is(vec![(SERVICE_NAME_LABEL.into(), label)]);
                }
            }
            12 => {
                let (key, text) = entry(value.bytes()?)?;
                if key == LAST_CHANGE_TRIGGER_TIME.as_bytes() {
                    let time = Value::Bytes(text).str().ok();
                    metadata.annotations.last_change_trigger_time = time.map(str::to_owned);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(metadata)
}

/// An entry of a map of strings.
fn entry(message: &[u8]) -> Decoded<(&[u8], &[u8])> {
    let (mut key, mut text): (&[u8], &[u8]) = (&[], &[]);
    each_field(message, |tag, value| {
        match tag {
            1 => key = value.bytes()?,
            2 => text = value.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, text))
}

fn service_spec(message: &[u8]) -> Decoded<RawServiceSpec> {
    let mut spec = RawServiceSpec::default();
    each_field(message, |tag, value| {
        match tag {
            1 => push(&mut spec.ports, port(value.bytes()?)?),
            3 => spec.cluster_ip = value.text()?,
            4 => spec.r#type = value.text()?,
            5 => push(&mut spec.external_ips, value.string()?),
            10 => spec.external_name = value.text()?,
            18 => push(&mut spec.cluster_ips, value.string()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(spec)
}

fn service_status(message: &[u8]) -> Decoded<RawServiceStatus> {
    let mut status = RawServiceStatus::default();
    each_field(message, |tag, value| {
        if tag == 1 {
            status.load_balancer = Field::Is(load_balancer(value.bytes()?)?);
        }
        Ok(())
    })?;
    Ok(status)
}

fn load_balancer(message: &[u8]) -> Decoded<RawLoadBalancer> {
    let mut balancer = RawLoadBalancer::default();
    each_field(message, |tag, value| {
        if tag == 1 {
            push(&mut balancer.ingress, ingress(value.bytes()?)?);
        }
        Ok(())
    })?;
    Ok(balancer)
}

fn ingress(message: &[u8]) -> Decoded<RawIngress> {
    let mut ingress = RawIngress::default();
    each_field(message, |tag, value| {
        match tag {
            1 => ingress.ip = value.text()?,
            2 => ingress.hostname = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(ingress)
}

/// A port of a Service or of an EndpointSlice: both use the same tags.
fn port(message: &[u8]) -> Decoded<RawPort> {
    let mut port = RawPort::default();
    each_field(message, |tag, value| {
        match tag {
            1 => port.name = value.text()?,
            2 => port.protocol = value.text()?,
            // An int32, which takes ten bytes if it is negative.
            3 => port.port = Field::Is(i64::from(value.number()? as i32)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(port)
}

fn endpoint(message: &[u8], wanted: Wanted) -> Decoded<RawEndpoint> {
    let mut endpoint = RawEndpoint::default();
    each_field(message, |tag, value| {
        match tag {
            1 => push(&mut endpoint.addresses, value.string()?),
            2 => endpoint.conditions = Field::Is(conditions(value.bytes()?)?),
            3 => endpoint.hostname = value.text()?,
            4 if wanted.endpoint_pod_names => {
                endpoint.target_ref = Field::Is(target_ref(value.bytes()?)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(endpoint)
}

fn conditions(message: &[u8]) -> Decoded<RawConditions> {
    let mut conditions = RawConditions::default();
    each_field(message, |tag, value| {
        if tag == 1 {
            conditions.ready = Field::Is(value.number()? != 0);
        }
        Ok(())
    })?;
    Ok(conditions)
}

fn target_ref(message: &[u8]) -> Decoded<RawTargetRef> {
    let mut target = RawTargetRef::default();
    each_field(message, |tag, value| {
        if tag == 3 {
            target.name = value.text()?;
        }
        Ok(())
    })?;
    Ok(target)
}

fn pod_spec(message: &[u8]) -> Decoded<RawPodSpec> {
    let mut spec = RawPodSpec::default();
    each_field(message, |tag, value| {
        if tag == 11 {
            spec.host_network = Field::Is(value.number()? != 0);
        }
        Ok(())
    })?;
    Ok(spec)
}

fn pod_status(message: &[u8]) -> Decoded<RawPodStatus> {
    let mut status = RawPodStatus::default();
    each_field(message, |tag, value| {
        match tag {
            1 => status.phase = value.text()?,
            6 => status.pod_ip = value.text()?,
            12 => push(&mut status.pod_ips, pod_ip(value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(status)
}

fn pod_ip(message: &[u8]) -> Decoded<RawPodIp> {
    let mut address = RawPodIp::default();
    each_field(message, |tag, value| {
        if tag == 1 {
            address.ip = value.text()?;
        }
        Ok(())
    })?;
    Ok(address)
}

/// The object in its envelope.
fn open(object: &[u8]) -> Decoded<&[u8]> {
    let message = object.strip_prefix(MAGIC).ok_or("object without the magic bytes k8s")?;
    let mut raw: &[u8] = &[];
    each_field(message, |tag, value| {
        if tag == ENVELOPE_RAW {
            raw = value.bytes()?;
        }
        Ok(())
    })?;
    Ok(raw)
}

/// The type of a watch event, and its object.
pub(super) fn watch_event(message: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (mut what, mut object): (&str, &[u8]) = ("", &[]);
    each_field(message, |tag, value| {
        match tag {
            1 => what = value.str()?,
            2 => {
                each_field(value.bytes()?, |tag, value| {
                    if tag == 1 {
                        object = value.bytes()?;
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((what, open(object)?))
}

/// The resource version of a bookmark, which is an object of the watched kind with nothing else.
pub(super) fn bookmark(message: &[u8]) -> Result<String, Malformed> {
    let mut resource_version = String::new();
    each_field(message, |tag, value| {
        if tag != 1 {
            return Ok(());
        }
        each_field(value.bytes()?, |tag, value| {
            if tag == 6 {
                resource_version = value.string()?;
            }
            Ok(())
        })
    })?;
    Ok(resource_version)
}

/// `metadata` of a list.
#[derive(Debug, Default)]
pub(super) struct ProtoListMetadata {
    pub(super) resource_version: String,
    /// Empty if the list is complete.
    pub(super) continue_token: String,
}

pub(super) fn list_metadata(message: &[u8]) -> Result<ProtoListMetadata, Malformed> {
    let mut metadata = ProtoListMetadata::default();
    each_field(message, |tag, value| {
        match tag {
            2 => metadata.resource_version = value.string()?,
            3 => metadata.continue_token = value.string()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(metadata)
}

/// A failure, as the body of a response.
pub(super) fn failure_body(body: &[u8]) -> Result<ServerFailure, Malformed> {
    failure(open(body)?)
}

/// A failure, as the object of a watch event.
pub(super) fn failure(message: &[u8]) -> Result<ServerFailure, Malformed> {
    let mut failure = ServerFailure::default();
    each_field(message, |tag, value| {
        match tag {
            3 => failure.message = value.string()?,
            5 => failure.details = Some(failure_details(value.bytes()?)?),
            6 => failure.code = value.number()? as u16,
            _ => {}
        }
        Ok(())
    })?;
    Ok(failure)
}

fn failure_details(message: &[u8]) -> Decoded<FailureDetails> {
    let mut details = FailureDetails::default();
    each_field(message, |tag, value| {
        if tag == 5 {
            details.retry_after_seconds = value.number()? as u32;
        }
        Ok(())
    })?;
    Ok(details)
}
