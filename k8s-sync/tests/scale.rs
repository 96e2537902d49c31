//! The cost of a large cluster: time to the first table, time from a change to its table, memory.
//!
//! `RINGDNS_SCALE=10000 cargo test --release -p k8s-sync --test scale -- --nocapture` measures
//! 10,000 Services with three endpoints each; 100000 uses five endpoints. By default a small
//! cluster is built, to keep this working.

mod objects;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_sync::object::{Change, Event};
use k8s_sync::options::Options;
use k8s_sync::publish::Publisher;
use objects::{apply, ask, delete, usual};
use wire::hash::HashSeed;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0)
        * 4096
}

/// Most resident memory since the last call of `forget_peak`.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Where the kernel allows it; elsewhere the peak is that of the whole process.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// CPU time of this thread, which other load does not affect.
fn on_core() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn list(event: Event) -> Event {
    match event {
        Event::Namespace(Change::Apply(one)) => Event::Namespace(Change::InitApply(one)),
        Event::Service(Change::Apply(one)) => Event::Service(Change::InitApply(one)),
        Event::EndpointSlice(Change::Apply(one)) => Event::EndpointSlice(Change::InitApply(one)),
        other => other,
    }
}

/// Fifty Services per namespace. Every fifth is headless with host names.
fn lines(services: usize, endpoints: usize) -> impl Iterator<Item = String> {
    let namespaces = (0..services.div_ceil(50)).map(|index| format!("ns team-{index}"));
    let key = |index: usize| format!("team-{}/service-{index}", index / 50);
    let of_services = (0..services).map(move |index| {
        let (b, c, d) = (index >> 16, (index >> 8) & 255, index & 255);
        let what =
            if index % 5 == 0 { "headless".into() } else { format!("10.{}.{c}.{d}", 96 + b) };
        format!("svc {} {what} http:80/tcp metrics:9090/tcp", key(index))
    });
    let of_slices = (0..services).map(move |index| {
        let addresses = (0..endpoints).map(|n| {
            let number = index * endpoints + n;
            let host = if index % 5 == 0 { format!("+pod-{n}") } else { String::new() };
            let (b, c, d) = (number >> 16, (number >> 8) & 255, number & 255);
            format!("10.{}.{c}.{d}{host}", 128 + b)
        });
        let addresses: Vec<String> = addresses.collect();
        format!(
            "eps {}-x7k2p service-{index} {} http:8080/tcp metrics:9090/tcp",
            key(index),
            addresses.join(" ")
        )
    });
    namespaces.chain(of_services).chain(of_slices)
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0))
}

#[test]
fn a_large_cluster() {
    let services: usize =
        std::env::var("RINGDNS_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let endpoints = if services >= 100_000 { 5 } else { 3 };
    let before = resident_bytes();
    let mut publisher = Publisher::new(Arc::new(usual()), HashSeed::new(7));
    let marks = objects::synced();
    [&marks[0], &marks[2], &marks[4]].into_iter().for_each(|mark| publisher.apply(mark.clone()));
    #[expect(clippy::needless_collect, reason = "what they take is measured apart")]
    let events: Vec<Event> = lines(services, endpoints).map(|line| list(apply(&line))).collect();
    let with_events = resident_bytes() - before;
    let began_apply = on_core();
    events.into_iter().for_each(|event| publisher.apply(event));
    [&marks[1], &marks[3], &marks[5]].into_iter().for_each(|mark| publisher.apply(mark.clone()));
    let model = resident_bytes() - before;
    let began_publish = on_core();
    publisher.publish(1).expect("a first table");
    let (in_apply, first) = (began_publish - began_apply, on_core() - began_publish);
    let status = publisher.status();
    println!(
        "{services} Services, {} endpoints, {} names: events {in_apply:?}, first table {first:?} \
         on a core; resident +{} MB, of which events {} MB, then the model {} MB, the table's \
         own bytes {} MB",
        status.endpoints,
        status.names,
        (resident_bytes() - before) >> 20,
        with_events >> 20,
        model >> 20,
        publisher.table_bytes() >> 20,
    );
    publisher.apply(apply("svc team-0/large headless http:80/tcp"));
    let slice_of_large = |slice: usize, last: usize| {
        let addresses = (0..=last).map(|n| format!("10.200.{slice}.{n}"));
        let addresses: Vec<String> = addresses.collect();
        apply(&format!("eps team-0/large-{slice} large {} http:80/tcp", addresses.join(" ")))
    };
    (0..10).for_each(|slice| publisher.apply(slice_of_large(slice, 99)));
    let mut newest = publisher.publish(2).expect("it differs");
    let changes: [(&str, &dyn Fn(usize) -> Event); 4] = [
        ("a Service's port", &|n| {
            apply(&format!("svc team-0/service-1 10.96.0.1 http:{}/tcp metrics:9090/tcp", 81 + n))
        }),
        ("an endpoint added or removed", &|n| {
            let more = if n % 2 == 0 { "10.255.255.254" } else { "" };
            apply(&format!("eps team-0/service-2-x7k2p service-2 10.128.0.6 {more} http:8080/tcp"))
        }),
        ("a Service added or removed", &|n| {
            let line = "svc team-0/new 10.97.255.1 http:80/tcp";
            if n % 2 == 0 { apply(line) } else { delete(line) }
        }),
        ("one of a thousand endpoints", &|n| slice_of_large(0, 98 + n % 2)),
    ];
    for (what, event) in changes {
        let times = (0..200).map(|n| {
            let event = event(n);
            let began = Instant::now();
            publisher.apply(event);
            let table = publisher.publish(2).expect("it differs");
            // As the thread does once the shards have the new one.
            let before = Arc::into_inner(std::mem::replace(&mut newest, table));
            publisher.recycle(None, before.expect("nobody else holds it"));
            began.elapsed()
        });
        println!("{what}: {}", percentiles(times.collect()));
    }
    println!("resident +{} MB in the end", (resident_bytes() - before) >> 20);
    assert_eq!(publisher.status().services, services + 1);
    assert_eq!(ask(&newest, "service-1.team-0.svc.cluster.local A"), "A 10.96.0.1");
    assert_eq!(ask(&newest, "new.team-0.svc.cluster.local A"), "NXDOMAIN");
    list_again(&mut publisher, services, endpoints);
    assert_eq!(publisher.status().services, services);
}

/// All kinds are listed again, as after an outage: the same objects, without those that the changes
/// have added.
fn list_again(publisher: &mut Publisher, services: usize, endpoints: usize) {
    let before = resident_bytes();
    forget_peak();
    let began = on_core();
    let mut in_kinds: [Vec<String>; 3] = Default::default();
    for line in lines(services, endpoints) {
        let kind = ["ns ", "svc ", "eps "].iter().position(|word| line.starts_with(word));
        in_kinds[kind.expect("a kind")].push(line);
    }
    let made = on_core() - began;
    let began = on_core();
    let marks = objects::synced();
    for (index, lines) in in_kinds.iter().enumerate() {
        publisher.apply(marks[2 * index].clone());
        lines.iter().for_each(|line| publisher.apply(list(apply(line))));
        publisher.apply(marks[2 * index + 1].clone());
    }
    publisher.publish(3).expect("it differs");
    println!(
        "listed again: {:?} on a core, of which {made:?} were for the test's text; \
         peak +{} MB, then +{} MB",
        on_core() - began + made,
        peak_bytes().saturating_sub(before) >> 20,
        resident_bytes().saturating_sub(before) >> 20
    );
}

/// Each has one Service. Those that come after their Services, one event each, cost one walk over
/// the Services per table, not one per namespace.
#[test]
fn namespaces_after_their_services() {
    let indexes = 0..2000;
    let namespaces: Vec<Event> = indexes.clone().map(|n| apply(&format!("ns n{n}"))).collect();
    let service = |n: usize| format!("svc n{n}/web 10.96.{}.{} http:80/tcp", n >> 8, n & 255);
    let services: Vec<Event> = indexes.map(|n| apply(&service(n))).collect();
    let took = |events: [&[Event]; 2]| {
        let began = on_core();
        let mut publisher = objects::publisher(usual(), &[]);
        events.concat().into_iter().for_each(|event| publisher.apply(event));
        let table = publisher.publish(1).expect("a first table");
        assert_eq!(ask(&table, "web.n1999.svc.cluster.local A"), "A 10.96.7.207");
        on_core() - began
    };
    let (before, after) = (took([&namespaces, &services]), took([&services, &namespaces]));
    println!("namespaces before their Services: {before:?}, after them: {after:?}");
    assert!(after < 2 * before, "{after:?}, and {before:?} in the other order");
}

/// What the namespaces of clients cost: the list of pods here, and the index in the shards.
#[test]
fn the_pods_of_a_large_cluster() {
    let pods: usize =
        std::env::var("RINGDNS_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let before = resident_bytes();
    let options = Options { indexes_pods: true, ..usual() };
    let mut publisher = Publisher::new(Arc::new(options), HashSeed::new(7));
    let line = |pod: usize| {
        let (node, last) = (pod / 100, pod % 100 + 1);
        let namespace = pod / 50 % 200;
        format!(
            "pod team-{namespace}/deployment-{pod}-6d4cf56db6-x7k2p 10.{}.{}.{last}",
            node >> 8,
            node & 0xFF
        )
    };
    publisher.apply(Event::Pod(Change::Init));
    for pod in 0..pods {
        match apply(&line(pod)) {
            Event::Pod(Change::Apply(pod)) => publisher.apply(Event::Pod(Change::InitApply(pod))),
            other => panic!("not a pod: {other:?}"),
        }
    }
    publisher.apply(Event::Pod(Change::InitDone));
    let model = resident_bytes() - before;
    let began = on_core();
    let index = publisher.take_pod_index().expect("a first index");
    let first = on_core() - began;
    let times = (0..20).map(|n| {
        let moved = format!("pod team-0/deployment-0-6d4cf56db6-x7k2p 10.255.0.{}", n + 1);
        publisher.apply(apply(&moved));
        let began = on_core();
        publisher.take_pod_index().expect("it differs");
        on_core() - began
    });
    println!(
        "{pods} pods: resident +{model} bytes, {} per pod; first index {first:?}, next {}; \
         {} bytes in a shard, {:.1} per pod",
        model / pods,
        percentiles(times.collect()),
        index.byte_count(),
        index.byte_count() as f64 / pods as f64
    );
    assert_eq!(index.address_count(), pods);
}
