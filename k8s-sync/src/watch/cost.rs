//! The cost of reading a large cluster: from the API server's JSON, through kube, to events.
//!
//! `RINGDNS_SCALE=10000 cargo test --release -p k8s-sync --lib cost -- --nocapture` measures 10,000
//! Services with three endpoints each. By default a few are read, to keep this working.

use std::fmt::Write;

use futures::StreamExt;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use kube::client::{Body, ClientBuilder, DynBody};
use tower::BoxError;

use super::tests::{END, options};
use super::*;

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
    "addressType":"IPv4","endpoints":[ENDPOINT,ENDPOINT,ENDPOINT],"ports":[{"name":"http",
    "protocol":"TCP","port":8080}]}"#;
const ENDPOINT: &str = r#"{"addresses":["10.A.B"],
    "conditions":{"ready":true,"serving":true,"terminating":false},
    "targetRef":{"kind":"Pod","namespace":"namespace-7","name":"service-INDEX-6d4cf56db6-x2x7q",
    "uid":"9b8a7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d"},"nodeName":"node-17","zone":"eu-central-1a"}"#;

/// A streaming list of `count` objects.
fn list_of(template: &str, count: usize) -> Bytes {
    // An event is one line.
    let line = |text: &str| text.lines().map(str::trim_start).collect::<String>();
    let template = line(template).replace("ENDPOINT", &line(ENDPOINT));
    let mut text = String::new();
    for index in 0..count {
        let address = format!("{}.{}.{}", index >> 16, index >> 8 & 255, index & 255);
        let object = template.replace("INDEX", &index.to_string()).replace("A.B", &address);
        writeln!(text, r#"{{"type":"ADDED","object":{object}}}"#).expect("memory");
    }
    Bytes::from(text + END + "\n")
}

/// The body in pieces, as they come from a socket. It stays open.
fn body(text: Bytes) -> Box<DynBody> {
    let piece_len = 16 * 1024;
    let pieces = (0..text.len()).step_by(piece_len);
    let pieces = pieces.map(move |at| text.slice(at..text.len().min(at + piece_len)));
    let pieces = futures::stream::iter(pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
    Box::new(StreamBody::new(pieces.chain(futures::stream::pending())))
}

/// Returns the bytes of JSON, and the time from the first request to the last event.
async fn take_in(count: usize) -> (usize, Duration) {
    let options = Options { no_endpoints: false, ..options() };
    let status = Arc::new(SourceStatus::new(&options));
    let (services, slices) = (list_of(SERVICE, count), list_of(SLICE, count));
    let json_len = services.len() + slices.len();
    let service = tower::service_fn(move |request: Request<Body>| {
        let text = match request.uri().path() {
            "/api/v1/services" => services.clone(),
            "/apis/discovery.k8s.io/v1/endpointslices" => slices.clone(),
            _ => list_of("", 0),
        };
        async move { Ok::<_, BoxError>(Response::new(body(text))) }
    });
    let layer = layer::ApiLayer::new(Arc::clone(&status));
    let client = ClientBuilder::new(service, "default").with_layer(&layer).build();
    let connector = Connector::having(client, Arc::clone(&status));
    let watch = Watch::with_connector(connector, &options, Arc::clone(&status));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
    let began = Instant::now();
    tokio::spawn(watch.run(sender));
    let (mut lists, mut objects) = (0, 0);
    while lists < 3 {
        match receiver.recv().await.expect("the watch does not end") {
            Event::Service(Change::InitApply(_)) => objects += 1,
            Event::EndpointSlice(Change::InitApply(slice)) => {
                assert_eq!(slice.endpoints.len(), 3);
                objects += 1;
            }
            Event::Namespace(Change::InitDone)
            | Event::Service(Change::InitDone)
            | Event::EndpointSlice(Change::InitDone) => lists += 1,
            Event::Namespace(_) | Event::Service(_) | Event::EndpointSlice(_) | Event::Pod(_) => {}
        }
    }
    assert_eq!(objects, 2 * count);
    (json_len, began.elapsed())
}

#[tokio::test]
async fn a_large_cluster() {
    let count: usize =
        std::env::var("RINGDNS_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (json_len, took) = take_in(count).await;
        println!("{count} Services, {} KB of JSON in {took:?}", json_len / 1_000);
        best = best.min(took);
    }
    println!("best: {best:?}");
}
