//! What a cluster of 10,000 Services costs: ringdns and CoreDNS in turn on one real API server.
//!
//! ```text
//! cargo build --release -p engine && cargo run --release -p e2e --example at_scale [SERVICES]
//! ```
//! Prints one table: the time from the start of the process to its first right answers, the memory
//! then, and the time from the API server's response for a change to the changed answer. Takes two
//! to three minutes and 1.5 GB.

use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::ask::over_udp;
use e2e::cluster::Cluster;
use e2e::corefile::{Corefile, STOCK};
use e2e::delays::{Delays, until};
use e2e::objects::Objects;
use e2e::question::Question;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use serde_json::{Value, json};

const SERVICE_COUNT: usize = 10_000;
/// The range of cluster addresses holds this many besides the Services of the changes.
const SERVICE_COUNT_MAX: usize = 60_000;
const ENDPOINTS_PER_SERVICE: usize = 3;
const SERVICES_PER_NAMESPACE: usize = 50;

/// Measured starts of each server; one more before them warms the API server's caches.
const ROUND_COUNT: usize = 5;
const CHANGE_COUNT: usize = 200;

/// How long start-up may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a starting server may take to answer a query before it counts as lost.
const QUERY_LIMIT: Duration = Duration::from_millis(100);

/// When memory is measured again: memory needed only for start-up may be freed by then.
const SETTLED: Duration = Duration::from_secs(3);

const KINDS: [Kind; 2] = [Kind::Ringdns, Kind::CoreDns];

fn main() {
    let service_count = std::env::args().nth(1).map_or(SERVICE_COUNT, |word| {
        let count = word.parse().ok().filter(|count| (10..=SERVICE_COUNT_MAX).contains(count));
        count.unwrap_or_else(|| {
            panic!("'{word}' is not a number of Services from 10 to {SERVICE_COUNT_MAX}")
        })
    });
    let Some(tools) = Tools::find("at_scale") else { std::process::exit(3) };
    let cluster = Cluster::start(&tools);
    let began = Instant::now();
    fill(cluster.objects(), service_count);
    println!(
        "{service_count} Services, {service_count} EndpointSlices, {} endpoints made in {:.1?}",
        service_count * ENDPOINTS_PER_SERVICE,
        began.elapsed()
    );
    let scale = Scale {
        corefile: Corefile::new(STOCK).with_kubeconfig(&cluster.kubeconfig()),
        tools: &tools,
        objects: cluster.objects(),
        service_count,
    };
    let mut starts: [Vec<Start>; 2] = [Vec::new(), Vec::new()];
    for round in 0..=ROUND_COUNT {
        for (kind, of_kind) in KINDS.into_iter().zip(&mut starts) {
            let start = scale.start(kind);
            let word = if round == 0 { "not counted" } else { "" };
            println!("start {round}: {kind:?} {start:.3?} {word}");
            if round > 0 {
                of_kind.push(start);
            }
        }
    }
    let changes = KINDS.map(|kind| scale.changes(kind));
    print_table(&starts, &changes);
}

/// The cluster, and what is needed to query it.
struct Scale<'a> {
    corefile: Corefile,
    tools: &'a Tools,
    objects: &'a Objects,
    service_count: usize,
}

/// One start of a server.
#[derive(Clone, Copy, Debug)]
struct Start {
    answered: Duration,
    /// Queries that were neither refused nor answered.
    lost_count: usize,
    cpu_time: Duration,
    resident_kib: u64,
    resident_settled_kib: u64,
}

/// Delays of the changed answers.
struct Changes {
    service_made: Delays,
    endpoint_moved: Delays,
}

impl Scale<'_> {
    fn start(&self, kind: Kind) -> Start {
        let began = Instant::now();
        let (server, lost_count) = self.launch(kind, began);
        let answered = began.elapsed();
        let (cpu_time, resident_kib) = (server.cpu_time(), server.resident_kib());
        // Check all Services, not only the two that were waited for.
        for index in (0..self.service_count).step_by(self.service_count / 10) {
            let answer = server.answer(&service_question(index));
            assert!(is_right(index, &answer), "{kind:?}, Service {index}: {answer:?}");
        }
        std::thread::sleep(SETTLED);
        let resident_settled_kib = server.resident_kib();
        Start { answered, lost_count, cpu_time, resident_kib, resident_settled_kib }
    }

    /// Starts a server and waits until it answers rightly about the last Service of each shape;
    /// also returns how many queries it lost until then.
    fn launch(&self, kind: Kind, began: Instant) -> (Server, usize) {
        let server = Server::launch(kind, &self.corefile, Some(self.tools));
        let mut lost_count = 0;
        for index in [self.service_count - 1, (self.service_count - 1) / 5 * 5] {
            let question = service_question(index);
            loop {
                let asked = Instant::now();
                match over_udp(server.address(), &question, QUERY_LIMIT) {
                    Ok(answer) if is_right(index, &answer) => break,
                    Err(_) if asked.elapsed() >= QUERY_LIMIT => lost_count += 1,
                    Ok(_) | Err(_) => std::thread::sleep(Duration::from_micros(500)),
                }
                assert!(began.elapsed() < START_LIMIT, "{kind:?}:\n{}", server.log());
            }
        }
        (server, lost_count)
    }

    fn changes(&self, kind: Kind) -> Changes {
        let (server, _) = self.launch(kind, Instant::now());
        let made = (0..CHANGE_COUNT).map(|index| {
            let name = format!("made-{index}");
            self.objects.create(&service("team-0", &name, json!({ "ports": ports(80) })));
            let question = question(&format!("{name}.team-0"));
            let delay = until(&server, &question, |answer| !answer.answer.is_empty());
            self.objects.delete("Service", Some("team-0"), &name);
            until(&server, &question, Answer::is_nxdomain);
            delay
        });
        let made = made.collect();
        let moved = (0..CHANGE_COUNT).map(|index| {
            // Every fifth Service is headless, as is the first of each namespace.
            let service = index * 5 % self.service_count;
            let address = format!("10.250.{}.{}", index / 250, 1 + index % 250);
            let endpoint = json!({ "addresses": [address], "conditions": { "ready": true } });
            let patch = json!({ "endpoints": [endpoint] });
            let [namespace, name] = [namespace_of(service), service_name(service)];
            self.objects.patch("EndpointSlice", &namespace, &name, patch);
            let delay = until(&server, &service_question(service), |answer| {
                answer.data_of(Rtype::A) == [&address]
            });
            let patch = json!({ "endpoints": endpoints(service) });
            self.objects.patch("EndpointSlice", &namespace, &name, patch);
            until(&server, &service_question(service), |answer| is_right(service, answer));
            delay
        });
        let moved = moved.collect();
        Changes { service_made: Delays::new(made), endpoint_moved: Delays::new(moved) }
    }
}

fn print_table(starts: &[Vec<Start>; 2], changes: &[Changes; 2]) {
    let millis = |of: fn(&Start) -> Duration| {
        let cell = |starts: &Vec<Start>| {
            let all = Delays::new(starts.iter().map(of).collect());
            let [min, median, max] = [0, 50, 100].map(|percent| all.at(percent).as_millis());
            format!("{median} ms ({min}-{max})")
        };
        [cell(&starts[0]), cell(&starts[1])]
    };
    let mebibytes = |of: fn(&Start) -> u64| {
        let cell = |starts: &Vec<Start>| {
            let mut all: Vec<f64> = starts.iter().map(|start| of(start) as f64 / 1024.0).collect();
            all.sort_by(f64::total_cmp);
            let [min, median, max] = [0, all.len() / 2, all.len() - 1].map(|index| all[index]);
            format!("{median:.0} MiB ({min:.0}-{max:.0})")
        };
        [cell(&starts[0]), cell(&starts[1])]
    };
    let delays =
        |of: fn(&Changes) -> &Delays| [of(&changes[0]).to_string(), of(&changes[1]).to_string()];
    let lost = [&starts[0], &starts[1]]
        .map(|starts| starts.iter().map(|start| start.lost_count).sum::<usize>().to_string());
    println!("\n{:32} {:46} CoreDNS", "", "ringdns");
    for (what, [ringdns, coredns]) in [
        ("start, first right answers", millis(|start| start.answered)),
        ("queries lost in all starts", lost),
        ("time on cores until then", millis(|start| start.cpu_time)),
        ("resident then", mebibytes(|start| start.resident_kib)),
        ("resident 3 s later", mebibytes(|start| start.resident_settled_kib)),
        ("Service made, answered", delays(|changes| &changes.service_made)),
        ("endpoint moved, answered", delays(|changes| &changes.endpoint_moved)),
    ] {
        println!("{what:32} {ringdns:46} {coredns}");
    }
    println!("starts: median (min-max) of {ROUND_COUNT}; changes: {CHANGE_COUNT} each");
}

fn fill(objects: &Objects, service_count: usize) {
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

fn service(namespace: &str, name: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({ "app": name });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
        "spec": spec,
    })
}

fn ports(first: u16) -> Value {
    json!([
        { "name": "http", "port": first, "protocol": "TCP" },
        { "name": "metrics", "port": 9090, "protocol": "TCP" },
    ])
}

/// Headless Services have pods with host names, like a StatefulSet's.
fn endpoints(index: usize) -> Value {
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

fn namespace_of(index: usize) -> String {
    format!("team-{}", index / SERVICES_PER_NAMESPACE)
}

fn service_name(index: usize) -> String {
    format!("service-{index}")
}

fn service_question(index: usize) -> Question {
    question(&format!("{}.{}", service_name(index), namespace_of(index)))
}

fn question(labels: &str) -> Question {
    Question::new(format!("{labels}.svc.cluster.local."), Rtype::A)
}

fn is_right(index: usize, answer: &Answer) -> bool {
    let mut want =
        cluster_address(index).map_or_else(|| endpoint_addresses(index), |one| vec![one]);
    want.sort();
    answer.data_of(Rtype::A) == want
}
