//! The addresses of a sample cluster, and the endpoints that have them.
//!
//! Invariant: each address is handed out once.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use serde_json::{Value, json};

/// Makes endpoints and addresses by the choices of the seed.
pub(crate) struct EndpointMaker<'a> {
    pub(crate) rng: &'a mut Rng,
    /// The last address used, as its offset in its network.
    address_count: u32,
}

impl<'a> EndpointMaker<'a> {
    pub(crate) fn new(rng: &'a mut Rng) -> Self {
        Self { rng, address_count: 0 }
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

    pub(crate) fn cluster_v4(&mut self) -> String {
        let number = self.next_number();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 64, 0)) + number).to_string()
    }

    pub(crate) fn cluster_v6(&mut self) -> String {
        let number = self.next_number();
        let base: Ipv6Addr = "fd00:10:96::".parse().expect("an address");
        Ipv6Addr::from(u128::from(base) + u128::from(0x4000 + number)).to_string()
    }

    pub(crate) fn pod_v4(&mut self) -> String {
        let number = self.next_number();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number).to_string()
    }

    pub(crate) fn pod_v6(&mut self) -> String {
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
