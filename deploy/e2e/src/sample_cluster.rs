//! A cluster generated from a seed: every shape of Service, EndpointSlice and Pod that affects an
//! answer, several times, with names and addresses chosen by the seed.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use serde_json::{Value, json};

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
    let mut maker = Maker { rng, objects: Vec::new(), address_count: 0 };
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

/// Creates objects: holds the seed's choices and hands out each address once.
pub(crate) struct Maker<'a> {
    pub(crate) rng: &'a mut Rng,
    objects: Vec<Value>,
    /// The last address used, as its offset in its network.
    address_count: u32,
}

impl Maker<'_> {
    fn service(&mut self, namespace: &str, shape: Shape) {
        let word: String = std::iter::repeat_with(|| self.rng.alphanumeric().to_ascii_lowercase())
            .take(4)
            .collect();
        let name = shape.service_name(&word);
        let labels = self.labels();
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": shape.spec(self, namespace, &name),
        });
        if let Some(first) = service.pointer("/spec/clusterIPs/0").cloned() {
            service["spec"]["clusterIP"] = first;
        }
        if service["spec"]["type"] == "LoadBalancer" {
            let ingress = json!([{ "ip": "192.0.2.77" }]);
            service["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        }
        self.objects.push(service);
        for slice in shape.slices(self, &name) {
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

    /// Ready IPv4 endpoints, every second one with a pod's name.
    pub(crate) fn plain_endpoints(&mut self, count: usize) -> Vec<Value> {
        let pod = |index: usize| json!({ "kind": "Pod", "name": format!("pod-{index}-q") });
        let endpoints = (0..count).map(|index| {
            let target =
                if index % 2 == 0 { json!({}) } else { json!({ "targetRef": pod(index) }) };
            self.endpoint("IPv4", target)
        });
        endpoints.collect()
    }

    /// An endpoint with its own address; ready unless `more` says otherwise.
    pub(crate) fn endpoint(&mut self, family: &str, more: Value) -> Value {
        let address = if family == "IPv4" { self.pod_v4() } else { self.pod_v6() };
        let mut endpoint = json!({ "addresses": [address], "conditions": { "ready": true } });
        for (field, value) in more.as_object().expect("fields") {
            endpoint[field] = value.clone();
        }
        endpoint
    }

    fn pods(&mut self, namespace: &str) {
        for (index, phase) in ["Running", "Running", "Pending", "Succeeded"].iter().enumerate() {
            let mut addresses = vec![json!({ "ip": self.pod_v4() })];
            if index == 0 {
                addresses.push(json!({ "ip": self.pod_v6() }));
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
        if self.rng.bool() { json!({ LABEL.0: LABEL.1 }) } else { json!({}) }
    }

    pub(crate) fn cluster_v4(&mut self) -> String {
        let number = self.next_number();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 64, 0)) + number).to_string()
    }

    pub(crate) fn cluster_v6(&mut self) -> String {
        let number = self.next_number();
        let base: Ipv6Addr = "fd00:10:96::".parse().expect("an address");
        Ipv6Addr::from(u128::from(base) + u128::from(0x4000 + number)).to_string()
    }

    fn pod_v4(&mut self) -> String {
        let number = self.next_number();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number).to_string()
    }

    fn pod_v6(&mut self) -> String {
        // Some end in zeros: then the address ends in '::' and its dashed name in '-'.
        let number = self.next_number();
        let shift = if self.rng.bool() { 64 } else { 0 };
        let base: Ipv6Addr = "fd00:244::".parse().expect("an address");
        Ipv6Addr::from(u128::from(base) + (u128::from(number) << shift)).to_string()
    }

    fn next_number(&mut self) -> u32 {
        self.address_count += self.rng.u32(1..4);
        self.address_count
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": labels },
    })
}
