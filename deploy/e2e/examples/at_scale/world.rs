//! The objects of a large cluster, and the right answers about them.
//!
//! Fifty Services per namespace, each with one EndpointSlice. Every fifth Service is headless, and
//! its endpoints have host names.

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::objects::Objects;
use e2e::question::Question;
use serde_json::{Value, json};

pub(crate) const ENDPOINTS_PER_SERVICE: usize = 3;
const SERVICES_PER_NAMESPACE: usize = 50;
/// That of the first Services.
pub(crate) const POD_NAMESPACE: &str = "team-0";
const PODS_PER_NODE: usize = 100;

/// Creates the namespaces, Services and EndpointSlices.
pub(crate) fn fill(objects: &Objects, service_count: usize) {
    let namespace_count = service_count.div_ceil(SERVICES_PER_NAMESPACE);
    objects.create_all((0..namespace_count).map(|index| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": format!("team-{index}") },
        })
    }));
    objects.create_all((0..service_count).map(|index| {
        let spec = match cluster_address(index) {
            Some(address) => json!({ "clusterIP": address, "ports": ports(80) }),
            None => json!({ "clusterIP": "None", "ports": ports(80) }),
        };
        service(&namespace_of(index), &service_name(index), spec)
    }));
    objects.create_all((0..service_count).map(|index| {
        let name = service_name(index);
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": namespace_of(index),
                "labels": { "app": name, "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "endpoints": endpoints(index),
            "ports": ports(8080),
        })
    }));
}

/// Running pods, without the status that a kubelet reports.
pub(crate) fn pod(index: usize) -> Value {
    let name = pod_name(index);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": POD_NAMESPACE,
            "labels": { "app": format!("app-{}", index / 10), "pod-template-hash": "6d4cf56db6" },
        },
        "spec": {
            "nodeName": format!("node-{}", index / PODS_PER_NODE),
            "automountServiceAccountToken": false,
            "containers": [{ "name": "app", "image": "registry.example/app:1.0" }],
        },
    })
}

/// The status that a kubelet reports.
pub(crate) fn pod_status(index: usize) -> Value {
    let address = pod_address(index);
    let node = index / PODS_PER_NODE;
    json!({ "status": {
        "phase": "Running",
        "hostIP": format!("192.168.{}.{}", node / 250, node % 250),
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    }})
}

pub(crate) fn pod_name(index: usize) -> String {
    format!("app-{}-6d4cf56db6-{:05}", index / 10, index)
}

fn pod_address(index: usize) -> String {
    format!("10.{}.{}.{}", 64 + index / 62_500, index / 250 % 250, 1 + index % 250)
}

/// The question for a pod's name, and its answer.
pub(crate) fn pod_question(index: usize) -> (Question, String) {
    let address = pod_address(index);
    let label = address.replace('.', "-");
    let name = format!("{label}.{POD_NAMESPACE}.pod.cluster.local.");
    (Question::new(name, Rtype::A), address)
}

pub(crate) fn service(namespace: &str, name: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({ "app": name });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
        "spec": spec,
    })
}

pub(crate) fn ports(first: u16) -> Value {
    json!([
        { "name": "http", "port": first, "protocol": "TCP" },
        { "name": "metrics", "port": 9090, "protocol": "TCP" },
    ])
}

/// Headless Services have pods with host names, like a StatefulSet's.
pub(crate) fn endpoints(index: usize) -> Value {
    let endpoint = |(number, address): (usize, String)| {
        let pod = format!("{}-{number}", service_name(index));
        let mut endpoint = json!({
            "addresses": [address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": format!("node-{}", index % 100),
            "targetRef": { "kind": "Pod", "name": pod, "namespace": namespace_of(index) },
        });
        if cluster_address(index).is_none() {
            endpoint["hostname"] = json!(pod);
        }
        endpoint
    };
    Value::Array(endpoint_addresses(index).into_iter().enumerate().map(endpoint).collect())
}

fn endpoint_addresses(index: usize) -> Vec<String> {
    let numbers = (0..ENDPOINTS_PER_SERVICE).map(|number| index * ENDPOINTS_PER_SERVICE + number);
    numbers
        .map(|number| format!("10.{}.{}.{}", 128 + (number >> 16), number >> 8 & 255, number & 255))
        .collect()
}

/// `None` for one Service in five, which is headless.
fn cluster_address(index: usize) -> Option<String> {
    (!index.is_multiple_of(5)).then(|| format!("10.96.{}.{}", 16 + index / 256, index % 256))
}

pub(crate) fn namespace_of(index: usize) -> String {
    format!("team-{}", index / SERVICES_PER_NAMESPACE)
}

pub(crate) fn service_name(index: usize) -> String {
    format!("service-{index}")
}

pub(crate) fn service_question(index: usize) -> Question {
    question(&format!("{}.{}", service_name(index), namespace_of(index)))
}

pub(crate) fn question(labels: &str) -> Question {
    Question::new(format!("{labels}.svc.cluster.local."), Rtype::A)
}

pub(crate) fn is_right(index: usize, answer: &Answer) -> bool {
    let mut want =
        cluster_address(index).map_or_else(|| endpoint_addresses(index), |one| vec![one]);
    want.sort();
    answer.data_of(Rtype::A) == want
}
