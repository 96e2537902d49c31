//! A cluster generated from a seed: every shape of Service, EndpointSlice and Pod that affects an
//! answer, several times, with names and addresses chosen by the seed.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::sample_endpoint::EndpointMaker;
use crate::sample_service::{SHAPES, Shape, Slice};

/// Namespaces with objects; the first three are labelled `env: prod`.
pub const NAMESPACES: [&str; 5] = ["shop", "team-a", "x", "kube-system", "default"];

/// A namespace without objects, and one that is terminating.
pub const EMPTY_NAMESPACE: &str = "hollow";
pub const TERMINATING_NAMESPACE: &str = "leaving";

/// The label that the Corefile with `labels` selects; about half of the objects have it.
pub const LABEL: (&str, &str) = ("dns", "public");

/// The objects of the cluster, in the form that [`crate::objects::Objects::apply`] takes.
pub fn make(rng: &mut Rng) -> Vec<Value> {
    let mut maker = Maker { endpoints: EndpointMaker::new(rng), objects: Vec::new() };
    for (index, name) in NAMESPACES.iter().chain(&[EMPTY_NAMESPACE]).enumerate() {
        let env = if index < 3 { "prod" } else { "test" };
        maker.objects.push(namespace(name, json!({ "env": env })));
    }
    let mut leaving = namespace(TERMINATING_NAMESPACE, json!({ "env": "prod" }));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    maker.objects.push(leaving);
    for namespace in NAMESPACES.iter().chain(&[TERMINATING_NAMESPACE]) {
        for shape in SHAPES {
            maker.service(namespace, shape);
        }
        maker.pods(namespace);
    }
    maker.objects
}

/// Makes objects.
struct Maker<'a> {
    endpoints: EndpointMaker<'a>,
    objects: Vec<Value>,
}

impl Maker<'_> {
    fn service(&mut self, namespace: &str, shape: Shape) {
        let letter = || self.endpoints.rng.alphanumeric().to_ascii_lowercase();
        let word: String = std::iter::repeat_with(letter).take(4).collect();
        let name = shape.service_name(&word);
        let labels = self.labels();
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": shape.spec(&mut self.endpoints, namespace, &name),
        });
        if let Some(first) = service.pointer("/spec/clusterIPs/0").cloned() {
            service["spec"]["clusterIP"] = first;
        }
        if service["spec"]["type"] == "LoadBalancer" {
            let ingress = json!([{ "ip": "192.0.2.77" }]);
            service["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        }
        self.objects.push(service);
        for slice in shape.slices(&mut self.endpoints, &name) {
            self.slice(namespace, &name, &labels, slice);
        }
    }

    fn slice(&mut self, namespace: &str, service: &str, labels: &Value, slice: Slice) {
        let mut labels = labels.clone();
        labels["kubernetes.io/service-name"] = json!(service);
        let name = format!("{:.40}-{}", service, self.objects.len());
        self.objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "addressType": slice.family,
            "endpoints": slice.endpoints,
            "ports": slice.ports,
        }));
    }

    fn pods(&mut self, namespace: &str) {
        for (index, phase) in ["Running", "Running", "Pending", "Succeeded"].iter().enumerate() {
            let mut addresses = vec![json!({ "ip": self.endpoints.pod_v4() })];
            if index == 0 {
                addresses.push(json!({ "ip": self.endpoints.pod_v6() }));
            }
            let name = format!("pod-{index}");
            let labels = self.labels();
            self.objects.push(json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": name, "namespace": namespace, "labels": labels },
                "spec": { "containers": [{ "name": "c", "image": "none.invalid/none" }] },
                "status": { "phase": phase, "podIP": addresses[0]["ip"], "podIPs": addresses },
            }));
        }
    }

    fn labels(&mut self) -> Value {
        if self.endpoints.rng.bool() { json!({ LABEL.0: LABEL.1 }) } else { json!({}) }
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": labels },
    })
}
