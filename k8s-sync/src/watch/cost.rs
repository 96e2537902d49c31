//! The cost of reading a large cluster: from the API server's bytes to events.
//!
//! `RINGDNS_SCALE=10000 cargo test --release -p k8s-sync --lib cost -- --nocapture` measures 10,000
//! Services with three endpoints each, in protobuf and in JSON. By default a few are read, to keep
//! this working. The objects have the managed fields and annotations of real ones: most of their
//! bytes.

use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use kube::client::{Body, DynBody};
use tower::BoxError;

use super::tests::{options, stream};
use super::*;
use crate::object::Change;

/// A Service as written by kubectl apply, with its managed fields.
const SERVICE: &str = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"service-INDEX",
    "namespace":"namespace-7","uid":"0d5e2a0f-1f4c-4a5e-9e0c-0c3b1d2e4f5a",
    "resourceVersion":"1INDEX","creationTimestamp":"2026-11-21T09:26:07Z",
    "labels":{"app":"service-INDEX","team":"payments"},
    "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",
    \"kind\":\"Service\",\"metadata\":{\"annotations\":{},\"labels\":{\"app\":\"service-INDEX\",
    \"team\":\"payments\"},\"name\":\"service-INDEX\",\"namespace\":\"namespace-7\"},
    \"spec\":{\"ports\":[{\"name\":\"http\",\"port\":80}],
    \"selector\":{\"app\":\"service-INDEX\"}}}\n"},
    "managedFields":[{"manager":"kubectl-client-side-apply","operation":"Update",
    "apiVersion":"v1","time":"2026-11-21T09:26:07Z","fieldsType":"FieldsV1",
    "fieldsV1":{"f:metadata":{"f:annotations":{".":{},
    "f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:app":{},
    "f:team":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,
    \"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},
    "f:selector":{},"f:sessionAffinity":{},"f:type":{}}}}]},"spec":{"ports":[{"name":"http",
    "protocol":"TCP","port":80,"targetPort":8080}],"selector":{"app":"service-INDEX"},
    "clusterIP":"10.A.B","clusterIPs":["10.A.B"],"type":"ClusterIP","sessionAffinity":"None",
    "ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"},
    "status":{"loadBalancer":{}}}"#;

/// A slice as written by the EndpointSlice controller.
const SLICE: &str = r#"{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1",
    "metadata":{"name":"service-INDEX-x7k2p","generateName":"service-INDEX-",
    "namespace":"namespace-7","uid":"5a4b3c2d-1e0f-4a5e-9e0c-0c3b1d2e4f5a",
    "resourceVersion":"2INDEX","generation":5,"creationTimestamp":"2026-11-21T09:26:07Z",
    "labels":{"app":"service-INDEX",
    "endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io",
    "kubernetes.io/service-name":"service-INDEX","team":"payments"},
    "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-11-21T09:26:07Z"},
    "ownerReferences":[{"apiVersion":"v1","kind":"Service","name":"service-INDEX",
    "uid":"0d5e2a0f-1f4c-4a5e-9e0c-0c3b1d2e4f5a","controller":true,"blockOwnerDeletion":true}],
    "managedFields":[{"manager":"kube-controller-manager","operation":"Update",
    "apiVersion":"discovery.k8s.io/v1","time":"2026-11-21T09:26:07Z","fieldsType":"FieldsV1",
    "fieldsV1":{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},
    "f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},
    "f:labels":{".":{},"f:app":{},"f:endpointslice.kubernetes.io/managed-by":{},
    "f:kubernetes.io/service-name":{},"f:team":{}},"f:ownerReferences":{".":{},
    "k:{\"uid\":\"0d5e2a0f-1f4c-4a5e-9e0c-0c3b1d2e4f5a\"}":{}}},"f:ports":{}}}]},
    "addressType":"IPv4","endpoints":[ENDPOINT],"ports":[{"name":"http",
    "protocol":"TCP","port":8080}]}"#;
const ENDPOINT: &str = r#"{"addresses":["10.A.B"],
    "conditions":{"ready":true,"serving":true,"terminating":false},
    "targetRef":{"kind":"Pod","namespace":"namespace-7","name":"service-INDEX-6d4cf56db6-x2x7q",
    "uid":"9b8a7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d"},"nodeName":"node-17","zone":"eu-central-1a"}"#;

/// A list of `count` objects in JSON.
fn json_list(template: &str, count: usize) -> Bytes {
    let endpoints = [line(ENDPOINT), line(ENDPOINT), line(ENDPOINT)].join(",");
    let template = line(template).replace("ENDPOINT", &endpoints);
    let object = |index: usize| {
        template.replace("INDEX", &index.to_string()).replace("10.A.B", &address(index))
    };
    let items = (0..count).map(object).collect::<Vec<_>>().join(",");
    Bytes::from(format!(r#"{{"metadata":{{"resourceVersion":"2"}},"items":[{items}]}}"#))
}

fn line(text: &str) -> String {
    text.lines().map(str::trim_start).collect()
}

fn address(index: usize) -> String {
    format!("10.{}.{}.{}", index >> 16, index >> 8 & 255, index & 255)
}

/// A message of protobuf: its fields in order. Numbers are those of Kubernetes' generated.proto.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, tag: u8, mut value: u64) -> Self {
        self.0.extend_from_slice(&prefix(tag, 0));
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn bytes(mut self, tag: u8, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.extend_from_slice(&prefix(tag, 2));
        let mut len = value.len();
        while len >= 0x80 {
            self.0.push(len as u8 | 0x80);
            len >>= 7;
        }
        self.0.push(len as u8);
        self.0.extend_from_slice(value);
        self
    }

    fn nested(self, tag: u8, value: Self) -> Self {
        self.bytes(tag, value.0)
    }
}

/// The key of a field.
fn prefix(tag: u8, wire_type: u8) -> Vec<u8> {
    let key = u16::from(tag) << 3 | u16::from(wire_type);
    if key < 0x80 { vec![key as u8] } else { vec![key as u8 | 0x80, (key >> 7) as u8] }
}

/// `metadata` as in the templates.
fn metadata(json: &serde_json::Value) -> Message {
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let time = || Message::default().varint(1, 1_795_000_000).varint(2, 0);
    let pair = |key: &str, value: &serde_json::Value| {
        Message::default().bytes(1, key).bytes(2, text(value))
    };
    let mut message = Message::default().bytes(1, text(&json["name"])).bytes(2, "");
    message = message.bytes(3, text(&json["namespace"])).bytes(4, "").bytes(5, text(&json["uid"]));
    message = message.bytes(6, text(&json["resourceVersion"])).varint(7, 0).nested(8, time());
    for (key, value) in json["labels"].as_object().expect("a map") {
        message = message.nested(11, pair(key, value));
    }
    for (key, value) in json["annotations"].as_object().expect("a map") {
        message = message.nested(12, pair(key, value));
    }
    for owner in json["ownerReferences"].as_array().into_iter().flatten() {
        let owner = Message::default()
            .bytes(1, text(&owner["kind"]))
            .bytes(3, text(&owner["name"]))
            .bytes(4, text(&owner["uid"]))
            .bytes(5, text(&owner["apiVersion"]))
            .varint(6, 1)
            .varint(7, 1);
        message = message.nested(13, owner);
    }
    for entry in json["managedFields"].as_array().expect("a list") {
        let fields = Message::default().bytes(1, entry["fieldsV1"].to_string());
        let entry = Message::default()
            .bytes(1, text(&entry["manager"]))
            .bytes(2, text(&entry["operation"]))
            .bytes(3, text(&entry["apiVersion"]))
            .nested(4, time())
            .bytes(6, "FieldsV1")
            .nested(7, fields)
            .bytes(8, "");
        message = message.nested(17, entry);
    }
    message
}

fn port(number: u64) -> Message {
    Message::default().bytes(1, "http").bytes(2, "TCP").varint(3, number)
}

fn service(index: usize) -> Message {
    let json = object(SERVICE, index);
    let spec = Message::default()
        .nested(1, port(80).nested(4, Message::default().varint(1, 0).varint(2, 8080).bytes(3, "")))
        .nested(2, Message::default().bytes(1, "app").bytes(2, format!("service-{index}")))
        .bytes(3, address(index))
        .bytes(4, "ClusterIP")
        .bytes(7, "None")
        .bytes(8, "")
        .bytes(10, "")
        .bytes(17, "SingleStack")
        .bytes(18, address(index))
        .bytes(19, "IPv4")
        .bytes(22, "Cluster");
    let status = Message::default().nested(1, Message::default());
    Message::default().nested(1, metadata(&json["metadata"])).nested(2, spec).nested(3, status)
}

fn slice(index: usize) -> Message {
    let json = object(SLICE, index);
    let conditions = Message::default().varint(1, 1).varint(2, 1).varint(3, 0);
    let target = Message::default()
        .bytes(1, "Pod")
        .bytes(2, "namespace-7")
        .bytes(3, format!("service-{index}-6d4cf56db6-x2x7q"))
        .bytes(4, "9b8a7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d")
        .bytes(5, "")
        .bytes(6, "")
        .bytes(7, "");
    let endpoint = Message::default()
        .bytes(1, address(index))
        .nested(2, conditions)
        .nested(4, target)
        .bytes(6, "node-17")
        .bytes(7, "eu-central-1a");
    let mut message = Message::default().nested(1, metadata(&json["metadata"]));
    for _ in 0..3 {
        message = message.nested(2, endpoint.clone());
    }
    message.nested(3, port(8080)).bytes(4, "IPv4")
}

fn object(template: &str, index: usize) -> serde_json::Value {
    let text = line(template).replace("ENDPOINT", "").replace("INDEX", &index.to_string());
    serde_json::from_str(&text).expect("JSON")
}

/// A list of `count` objects in protobuf, in its envelope.
fn protobuf_list(object: fn(usize) -> Message, count: usize) -> Bytes {
    let list = Message::default().nested(1, Message::default().bytes(2, "2"));
    let list = (0..count).fold(list, |list, index| list.nested(2, object(index)));
    let types = Message::default().bytes(1, "v1").bytes(2, "List");
    let envelope = Message::default().nested(1, types).nested(2, list).bytes(3, "").bytes(4, "");
    Bytes::from([b"k8s\0".as_slice(), &envelope.0].concat())
}

/// Lists in one encoding.
#[derive(Clone)]
struct Lists {
    content_type: &'static str,
    namespaces: Bytes,
    services: Bytes,
    slices: Bytes,
}

impl Lists {
    fn json(count: usize) -> Self {
        Self {
            content_type: "application/json",
            namespaces: json_list("", 0),
            services: json_list(SERVICE, count),
            slices: json_list(SLICE, count),
        }
    }

    fn protobuf(count: usize) -> Self {
        Self {
            content_type: "application/vnd.kubernetes.protobuf",
            namespaces: protobuf_list(service, 0),
            services: protobuf_list(service, count),
            slices: protobuf_list(slice, count),
        }
    }
}

/// The body in pieces, as they come from a socket.
fn body(text: Bytes) -> Box<DynBody> {
    let piece_len = 16 * 1024;
    let pieces = (0..text.len()).step_by(piece_len);
    let pieces = pieces.map(move |at| text.slice(at..text.len().min(at + piece_len)));
    let pieces = futures::stream::iter(pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
    Box::new(StreamBody::new(pieces))
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}

/// Returns the CPU time from the first request to the last event.
async fn take_in(lists: Lists, count: usize) -> Duration {
    let options = Options { no_endpoints: false, ..options() };
    let status = Arc::new(SourceStatus::new(&options));
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let text = match request.uri().path() {
            "/api/v1/services" => lists.services.clone(),
            "/apis/discovery.k8s.io/v1/endpointslices" => lists.slices.clone(),
            _ => lists.namespaces.clone(),
        };
        let body = if is_watch { stream(&[], true) } else { body(text) };
        let response = Response::builder().header("content-type", lists.content_type);
        async move { Ok::<_, BoxError>(response.body(body).expect("a response")) }
    });
    let client = kube::Client::new(service, "default");
    let connector = Connector::having(client, Arc::clone(&status));
    let watch = Watch::with_connector(connector, &options, Arc::clone(&status));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
    let began = cpu_time();
    tokio::spawn(watch.run(sender));
    let (mut complete, mut objects) = (0, 0);
    while complete < 3 {
        match receiver.recv().await.expect("the watch does not end") {
            Event::Service(Change::InitApply(_)) => objects += 1,
            Event::EndpointSlice(Change::InitApply(slice)) => {
                assert_eq!(slice.endpoints.len(), 3);
                objects += 1;
            }
            Event::Namespace(Change::InitDone)
            | Event::Service(Change::InitDone)
            | Event::EndpointSlice(Change::InitDone) => complete += 1,
            Event::Namespace(_) | Event::Service(_) | Event::EndpointSlice(_) | Event::Pod(_) => {}
        }
    }
    assert_eq!(objects, 2 * count);
    cpu_time() - began
}

#[tokio::test]
async fn a_large_cluster() {
    let count: usize =
        std::env::var("RINGDNS_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    for (name, lists) in [("protobuf", Lists::protobuf(count)), ("JSON", Lists::json(count))] {
        let kilobytes = (lists.services.len() + lists.slices.len()) / 1_000;
        let mut best = Duration::MAX;
        for _ in 0..9 {
            best = best.min(take_in(lists.clone(), count).await);
        }
        println!("{count} Services, {kilobytes} KB of {name}: {best:?} of CPU at best");
    }
}
