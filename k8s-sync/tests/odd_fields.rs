//! Replaces every field of a valid object by invalid values, one at a time. It must never cost more
//! than the part it belongs to.
//!
//! All variants are in one file, so none may cost the file. Each is also read like the JSON of the
//! API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_sync::convert::raw_object::RawObject;
use k8s_sync::fault::Faults;
use k8s_sync::manifests::Manifests;
use k8s_sync::object::{Change, EndpointSlice, Event, Service, ServiceKind};
use k8s_sync::options::{Options, Source};
use k8s_sync::raw::{Kind, RawEndpointSlice, RawService};
use k8s_sync::status::SourceStatus;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wire::pod::PodMode;

/// Suffix of a key that stands for a second key of the same name.
const TWICE: &str = "~twice";

fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(65_536),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("x y\u{0}\n"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([[], {}, null, 7, "x"]),
        json!({}),
        json!({"x": {"y": []}}),
    ]
}

/// The paths of all values inside, as JSON pointers.
fn pointers(value: &Value, here: &str, into: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => {
            list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in below {
        let path = format!("{here}/{}", key.replace('~', "~0").replace('/', "~1"));
        into.push(path.clone());
        pointers(value, &path, into);
    }
}

/// Puts each odd value at each path, either instead of the good one or after it under the same
/// key. Variants are named `web-NUMBER`.
fn variants(good: &Value) -> Vec<(String, Value)> {
    let mut paths = Vec::new();
    pointers(good, "", &mut paths);
    // Changing these would make it another object.
    paths.retain(|path| {
        !matches!(path.as_str(), "/apiVersion" | "/kind" | "/metadata" | "/metadata/name")
    });
    let mut variants = Vec::new();
    for path in paths {
        for odd in odd_values() {
            let mut instead = good.clone();
            *instead.pointer_mut(&path).expect("a path within") = odd.clone();
            variants.push((path.clone(), instead));
            let (parent, key) = path.rsplit_once('/').expect("a path");
            let mut twice = good.clone();
            if let Some(Value::Object(map)) = twice.pointer_mut(parent) {
                let key = key.replace("~1", "/");
                map.insert(format!("{key}{TWICE}"), odd);
                variants.push((path.clone(), twice));
            }
        }
    }
    for (number, (_, variant)) in variants.iter_mut().enumerate() {
        variant["metadata"]["name"] = json!(format!("web-{number}"));
    }
    variants
}

/// Converts the variant as if the API server had sent it. The API server never sends duplicate
/// keys.
fn as_from_the_api<T: RawObject + DeserializeOwned>(variant: &Value) -> Option<T::Object> {
    let text = variant.to_string();
    if text.contains(TWICE) {
        return None;
    }
    let raw: T = serde_json::from_str(&text).expect("a field of any type is read");
    raw.convert(&mut Faults::default()).ok().flatten()
}

/// Slices and Services of one file, by name, and the number of invalid parts that were counted.
#[tokio::main(flavor = "current_thread")]
async fn read(
    variants: &[(String, Value)],
) -> (BTreeMap<String, EndpointSlice>, BTreeMap<String, Service>, u64) {
    let options = Options {
        zones: Vec::new(),
        source: Source::Manifests(Vec::new()),
        namespaces: Vec::new(),
        namespace_labels: None,
        labels: None,
        pods: PodMode::Disabled,
        indexes_pods: false,
        endpoint_pod_names: false,
        ttl_secs: 5,
        no_endpoints: false,
        ignore_empty_service: false,
        server_addresses: Vec::new(),
        startup_timeout: std::time::Duration::from_secs(5),
    };
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("x.json");
    let text: Vec<String> = variants.iter().map(|(_, variant)| variant.to_string()).collect();
    let text = text.join("\n").replace(&format!("{TWICE}\""), "\"");
    std::fs::write(&file, text).expect("a file");
    let status = Arc::new(SourceStatus::new(&options));
    let manifests = Manifests::load(&[file], &options, Arc::clone(&status));
    let manifests = manifests.expect("well-formed text");
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let running = tokio::spawn(manifests.run(sender));
    let (mut slices, mut services) = (BTreeMap::new(), BTreeMap::new());
    loop {
        match events.recv().await.expect("lists of three kinds") {
            Event::EndpointSlice(Change::InitApply(slice)) => {
                slices.insert(slice.key.name.to_string(), slice);
            }
            Event::Service(Change::InitApply(service)) => {
                services.insert(service.key.name.to_string(), service);
            }
            Event::EndpointSlice(Change::InitDone) => break,
            Event::Namespace(_) | Event::Service(_) | Event::EndpointSlice(_) | Event::Pod(_) => {}
        }
    }
    drop(events);
    running.await.expect("the task ends with its receiver");
    let odd = [Kind::Service, Kind::EndpointSlice].map(|kind| {
        let report = status.kind(kind).report();
        report.odd_parts + report.refused
    });
    (slices, services, odd.iter().sum())
}

/// The index after `list` in a path, if there is one.
fn index(path: &str, list: &str) -> Option<usize> {
    path.strip_prefix(list)?.split('/').next()?.parse().ok()
}

#[test]
fn invalid_fields_of_a_slice() {
    let endpoint = |number: usize| {
        json!({
            "addresses": [format!("10.0.0.{number}"), format!("10.0.1.{number}")],
            "conditions": {"ready": true},
            "hostname": format!("web-{number}"),
            "targetRef": {"kind": "Pod", "name": format!("pod-{number}")},
        })
    };
    let good = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "a",
            "name": "web",
            "labels": {"kubernetes.io/service-name": "web", "app": "web"},
            "annotations": {"b": "c"},
        },
        "addressType": "IPv4",
        "endpoints": (0..3).map(endpoint).collect::<Vec<_>>(),
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    });
    let whole = as_from_the_api::<RawEndpointSlice>(&good).expect("a good slice");
    let variants = variants(&good);
    let (from_file, _, odd) = read(&variants);
    assert!(odd as usize > variants.len() / 2, "{odd} of {}", variants.len());
    for (number, (path, variant)) in variants.iter().enumerate() {
        let from_file = from_file.get(&format!("web-{number}")).cloned();
        let from_api = as_from_the_api::<RawEndpointSlice>(variant);
        if !variant.to_string().contains(TWICE) {
            assert_eq!(from_file, from_api, "{path}");
        }
        let names_it = [
            "/metadata/namespace",
            "/metadata/labels",
            "/metadata/labels/kubernetes.io~1service-name",
        ];
        let Some(slice) = from_file else {
            assert!(names_it.contains(&path.as_str()), "{path} cost the slice");
            continue;
        };
        let (bad_endpoint, bad_port) = (index(path, "/endpoints/"), index(path, "/ports/"));
        for (at, endpoint) in whole.endpoints.iter().enumerate() {
            let may_be_gone = path == "/endpoints" || bad_endpoint == Some(at);
            assert!(slice.endpoints.contains(endpoint) || may_be_gone, "{path} cost endpoint {at}");
        }
        for (at, port) in whole.ports.iter().enumerate() {
            let may_be_gone = path == "/ports" || bad_port == Some(at);
            assert!(slice.ports.contains(port) || may_be_gone, "{path} cost port {at}");
        }
        // An invalid part other than addresses and readiness costs a name at most.
        if path.contains("/hostname") || path.contains("/targetRef") {
            assert_eq!(slice.endpoints.len(), 3, "{path}");
        }
    }
}

#[test]
fn invalid_fields_of_a_service() {
    let good = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "a", "name": "web", "labels": {"app": "web"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53}],
            "selector": {"app": "web"},
        },
        "status": {"loadBalancer": {}},
    });
    let whole = as_from_the_api::<RawService>(&good).expect("a good Service");
    let variants = variants(&good);
    let (_, from_file, _) = read(&variants);
    for (number, (path, variant)) in variants.iter().enumerate() {
        let from_file = from_file.get(&format!("web-{number}")).cloned();
        if !variant.to_string().contains(TWICE) {
            assert_eq!(from_file, as_from_the_api::<RawService>(variant), "{path}");
        }
        let Some(service) = from_file else {
            let is_all = matches!(path.as_str(), "/metadata/namespace" | "/spec");
            assert!(is_all, "{path} cost the Service");
            continue;
        };
        match &service.kind {
            ServiceKind::ClusterIp(ips) => {
                let is_here = |ip: &str| ips.contains(&ip.parse().expect("an address"));
                assert!(is_here("10.96.0.1") || path == "/spec/clusterIPs/0", "{path}: {ips:?}");
                assert!(is_here("fd00::1") || path.starts_with("/spec/clusterIPs"), "{path}");
            }
            kind @ (ServiceKind::Headless | ServiceKind::ExternalName(_)) => {
                panic!("{path} made it {kind:?}")
            }
        }
        for (at, port) in whole.ports.iter().enumerate() {
            let may_be_gone = path == "/spec/ports" || index(path, "/spec/ports/") == Some(at);
            assert!(service.ports.contains(port) || may_be_gone, "{path} cost port {at}");
        }
    }
}
