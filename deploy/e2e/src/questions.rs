//! Questions about a cluster: for each object, every name that leads to it, with every type, and
//! similar names that do not exist.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use domain::base::Name;
use domain::base::iana::Rtype;
use fastrand::Rng;
use serde_json::Value;

use crate::objects::text;
use crate::question::Question;
use crate::reverse;

/// The types to query.
pub const RTYPES: [Rtype; 11] = [
    Rtype::A,
    Rtype::AAAA,
    Rtype::SRV,
    Rtype::CNAME,
    Rtype::PTR,
    Rtype::TXT,
    Rtype::NS,
    Rtype::SOA,
    Rtype::MX,
    Rtype::ANY,
    Rtype::HTTPS,
];

/// The types that are queried most for a name that may have records.
const MAIN_RTYPES: [Rtype; 3] = [Rtype::A, Rtype::AAAA, Rtype::SRV];

/// Up to `count` distinct questions about `objects` below `zones`, in an order chosen by `rng`.
pub fn make(objects: &[Value], zones: &[String], rng: &mut Rng, count: usize) -> Vec<Question> {
    let mut asker = Asker { rng, questions: BTreeSet::new() };
    for word in zones {
        for zone in reverse::zones(word).into_iter().take(2) {
            asker.zone(&zone);
        }
    }
    let forward: Vec<String> = zones.iter().flat_map(|word| reverse::zones(word)).collect();
    for zone in forward.iter().filter(|zone| !zone.ends_with(".arpa.")) {
        for object in objects {
            asker.object(object, zone);
        }
        asker.names_without_object(zone);
    }
    let Asker { rng, questions } = asker;
    let mut questions: Vec<Question> = questions.into_iter().collect();
    rng.shuffle(&mut questions);
    questions.truncate(count);
    questions
}

struct Asker<'a> {
    rng: &'a mut Rng,
    questions: BTreeSet<Question>,
}

impl Asker<'_> {
    fn ask(&mut self, name: &str, rtypes: &[Rtype]) {
        // A name that is too long, or has an empty label, cannot be queried.
        if Name::<Vec<u8>>::from_str(name).is_err() {
            return;
        }
        for rtype in rtypes {
            let name = if self.rng.u8(..16) == 0 { self.mixed_case(name) } else { name.to_owned() };
            self.questions.insert(Question::new(name, *rtype));
        }
    }

    fn zone(&mut self, zone: &str) {
        self.ask(zone, &RTYPES);
        for label in ["svc", "pod", "dns", "dns-version", "ns.dns", "nothing", "*", "a.b"] {
            self.ask(&format!("{label}.{zone}"), &RTYPES);
        }
        for labels in ["default.svc", "kubernetes.default.svc", "1-2-3-4.default.pod"] {
            self.ask(&format!("{labels}.{zone}"), &RTYPES);
        }
    }

    fn object(&mut self, object: &Value, zone: &str) {
        let name = text(object, "/metadata/name");
        let namespace = text(object, "/metadata/namespace");
        match text(object, "/kind") {
            "Namespace" => self.namespace(name, zone),
            "Service" => self.service(object, &format!("{name}.{namespace}.svc.{zone}")),
            "EndpointSlice" => {
                let service = object.pointer("/metadata/labels/kubernetes.io~1service-name");
                let service = service.and_then(Value::as_str).unwrap_or_default();
                self.slice(object, &format!("{service}.{namespace}.svc.{zone}"));
            }
            "Pod" => self.pod(object, namespace, zone),
            other => panic!("no questions about a {other}"),
        }
    }

    fn namespace(&mut self, name: &str, zone: &str) {
        for kind in ["svc", "pod"] {
            self.ask(&format!("{name}.{kind}.{zone}"), &RTYPES);
            self.ask(&format!("nothing.{name}.{kind}.{zone}"), &MAIN_RTYPES);
            let almost = self.almost(name);
            self.ask(&format!("{almost}.{kind}.{zone}"), &MAIN_RTYPES);
            self.ask(&format!("*.{name}.{kind}.{zone}"), &MAIN_RTYPES);
        }
        self.ask(&format!("{name}.{zone}"), &MAIN_RTYPES);
        for pod in ["1-2-3-4", "fd00--1", "1-2-3", "1-2-3-256", "a.1-2-3-4", "1-2-3-4-", "--"] {
            self.ask(&format!("{pod}.{name}.pod.{zone}"), &MAIN_RTYPES);
        }
    }

    fn service(&mut self, service: &Value, name: &str) {
        self.ask(name, &RTYPES);
        let (label, below) = name.split_once('.').expect("labels");
        let almost = self.almost(label);
        self.ask(&format!("{almost}.{below}"), &MAIN_RTYPES);
        for deep in ["a", "a.b", "_a._b", "a.b.c", "10-0-0-1", "*", "_tcp", "_udp", "_sctp", "tcp"]
        {
            self.ask(&format!("{deep}.{name}"), &MAIN_RTYPES);
        }
        self.ask(&format!("_tcp.{name}"), &RTYPES);
        let nameless = ["_._tcp", "_._udp", "_.udp", "_http._", "_._"];
        let nameless = nameless[self.rng.usize(..nameless.len())];
        self.ask(&format!("{nameless}.{name}"), &MAIN_RTYPES);
        for port in service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten() {
            let port_name = text(port, "/name");
            let protocol = text(port, "/protocol").to_ascii_lowercase();
            let other = if protocol == "tcp" { "udp" } else { "tcp" };
            self.ask(&format!("_{port_name}._{protocol}.{name}"), &RTYPES);
            for labels in [
                format!("{port_name}.{protocol}"),
                format!("_{port_name}.{protocol}"),
                format!("_{port_name}._{other}"),
                format!("_{}._{protocol}", self.almost(port_name)),
                format!("x._{port_name}._{protocol}"),
            ] {
                self.ask(&format!("{labels}.{name}"), &MAIN_RTYPES);
            }
        }
        let addresses = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
        for address in addresses.into_iter().flatten().filter_map(Value::as_str) {
            self.address(address);
        }
    }

    fn slice(&mut self, slice: &Value, service: &str) {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let address = text(endpoint, "/addresses/0");
            self.address(address);
            let dashed = address.replace(['.', ':'], "-");
            let mut labels = vec![dashed.clone(), format!("{dashed}0"), self.almost(&dashed)];
            labels.push(text(endpoint, "/hostname").to_owned());
            labels.push(text(endpoint, "/targetRef/name").to_owned());
            for label in labels.iter().filter(|label| !label.is_empty()) {
                self.ask(&format!("{label}.{service}"), &MAIN_RTYPES);
            }
            self.ask(&format!("{}.{service}", labels[0]), &[Rtype::TXT, Rtype::ANY]);
            self.ask(&format!("_http._tcp.{}.{service}", labels[0]), &[Rtype::SRV]);
        }
    }

    fn pod(&mut self, pod: &Value, namespace: &str, zone: &str) {
        for address in pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten()
        {
            let address = text(address, "/ip");
            let dashed = address.replace(['.', ':'], "-");
            self.ask(&format!("{dashed}.{namespace}.pod.{zone}"), &RTYPES);
            self.ask(&format!("{dashed}0.{namespace}.pod.{zone}"), &MAIN_RTYPES);
            self.ask(&format!("a.{dashed}.{namespace}.pod.{zone}"), &MAIN_RTYPES);
            self.ask(&format!("{dashed}.default.pod.{zone}"), &MAIN_RTYPES);
            self.ask(
                &format!("{}.{namespace}.pod.{zone}", text(pod, "/metadata/name")),
                &MAIN_RTYPES,
            );
            self.address(address);
        }
    }

    fn address(&mut self, address: &str) {
        let Ok(address) = address.parse::<IpAddr>() else { return };
        let name = reverse::name(address);
        self.ask(&name, &[Rtype::PTR]);
        match self.rng.u8(..8) {
            0 => self.ask(&name, &RTYPES),
            // More labels than an address has.
            1 => {
                let more = "a.".repeat(self.rng.usize(1..5));
                self.ask(&format!("{more}{name}"), &[Rtype::PTR, Rtype::A]);
            }
            // A neighbouring address, and the names above it.
            2 => {
                let beside = format!("{}{}", self.rng.u8(..10), &name[1..]);
                self.ask(&beside, &[Rtype::PTR]);
            }
            3 => {
                let above: Vec<&str> = name.split('.').skip(self.rng.usize(1..4)).collect();
                self.ask(&above.join("."), &[Rtype::PTR, Rtype::A, Rtype::SOA, Rtype::NS]);
            }
            // An IPv4 address in the IPv6 range (RFC 4291, section 2.5.5.2) is a different address.
            4 => {
                if let IpAddr::V4(address) = address {
                    let mapped = reverse::name(address.to_ipv6_mapped().into());
                    self.ask(&mapped, &[Rtype::PTR]);
                }
            }
            _ => {}
        }
    }

    fn names_without_object(&mut self, zone: &str) {
        for _ in 0..50 {
            let labels = self.rng.usize(1..8);
            let name: String = (0..labels).map(|_| self.label() + ".").collect();
            let tree = ["", "svc.", "pod.", "default.svc.", "default.pod."];
            let tree = tree[self.rng.usize(..tree.len())];
            let rtype = RTYPES[self.rng.usize(..RTYPES.len())];
            self.ask(&format!("{name}{tree}{zone}"), &[rtype]);
        }
        for outside in ["www.example.org.", "local.", "xcluster.local.", "cluster.local.example."] {
            self.ask(outside, &[Rtype::A, Rtype::SOA]);
        }
    }

    /// A label that names nothing: letters, dashes, sometimes one octet that needs escaping.
    fn label(&mut self) -> String {
        let len = self.rng.usize(1..20);
        let mut label: String =
            std::iter::repeat_with(|| self.rng.alphanumeric()).take(len).collect();
        if self.rng.u8(..6) == 0 {
            label.push_str("\\000");
        }
        label
    }

    /// `word` with one letter added, removed or changed.
    fn almost(&mut self, word: &str) -> String {
        let mut word = word.to_owned();
        match self.rng.u8(..3) {
            0 => word.push('x'),
            1 if word.len() > 1 => {
                word.pop();
            }
            _ => word.insert(0, 'x'),
        }
        word
    }

    fn mixed_case(&mut self, name: &str) -> String {
        let mixed = name
            .chars()
            .map(|letter| if self.rng.bool() { letter.to_ascii_uppercase() } else { letter });
        mixed.collect()
    }
}
