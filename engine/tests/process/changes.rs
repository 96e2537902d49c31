//! Changed and broken Corefiles and manifests, and what the log says of both.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::port;
use crate::server::{Server, cluster};

#[test]
fn changed_manifests_are_served_and_broken_ones_change_nothing() {
    let server = Server::start(&[]);
    let manifests = server.path("cluster.yaml");
    fs::write(&manifests, cluster(&[("web", "10.0.0.2"), ("new", "10.0.0.3")])).unwrap();
    server.until("the change is seen", |server| {
        (server.address("web"), server.address("new")) == (Some(2), Some(3))
    });
    fs::write(&manifests, "kind: [oh no").unwrap();
    server.until("the log names the place", |server| server.log().contains("cluster.yaml:1:"));
    assert_eq!((server.address("web"), server.address("new")), (Some(2), Some(3)));
    fs::write(&manifests, cluster(&[("web", "10.0.0.4")])).unwrap();
    server.until("the correction is seen", |server| {
        server.address("web") == Some(4) && server.address("new").is_none()
    });
    server.signal("TERM");
    assert_eq!(server.ended().0, Some(0));
}

/// Replaces a file in one step: a busy server could read one that is being written.
fn replace(path: &Path, text: String) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn a_changed_corefile_is_loaded_and_a_broken_one_is_not() {
    let server = Server::start(&[]);
    let corefile = server.path("Corefile");
    assert!(server.get("/ready").ends_with("OK"));
    replace(&corefile, server.corefile("cluster.local", 77));
    let ttl =
        |server: &Server| server.ask("web", "cluster.local").map(|answer| answer[answer.len() - 7]);
    server.until("the TTL is 77", |server| ttl(server) == Some(77));
    replace(&corefile, server.corefile("cluster.local", 77).replace("ttl", "ttll"));
    server.until("the failure is counted", |server| {
        server.get("/metrics").contains("coredns_reload_failed_total 1")
    });
    assert_eq!(ttl(&server), Some(77));
    replace(&corefile, "# emptied\n".to_owned());
    server.until("the failure is counted", |server| {
        server.get("/metrics").contains("coredns_reload_failed_total 2")
    });
    assert_eq!(ttl(&server), Some(77));
    // Another zone: names of the old one are refused, and health and readiness stay.
    replace(&corefile, server.corefile("other.zone", 78));
    server.signal("USR1");
    server.until("the other zone is served", |server| {
        server.ask("web", "other.zone").is_some_and(|answer| answer[3] & 0xF == 0)
    });
    let refused = server.ask("web", "cluster.local").unwrap();
    assert_eq!(refused[3] & 0xF, 5);
    for path in ["/health", "/ready"] {
        let response = server.get(path);
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{path}: {response}");
    }
    // The note about the emptied file goes once everything is applied.
    server.until("nothing is wrong", |server| server.get("/ready").ends_with("\r\n\r\nOK"));
    server.signal("TERM");
    let (code, log) = server.ended();
    assert_eq!(code, Some(0));
    assert!(log.contains("ttll") && log.contains("ttl"), "the log underlines the word:\n{log}");
    // CoreDNS's own test of reloads searches for this line.
    assert!(log.contains("[INFO] Reloading complete") && !log.contains("[PANIC]"), "{log}");
}

/// However few descriptors are left, a reload opens its new port or fails. The old port is served.
#[test]
fn a_reload_without_descriptors_takes_nothing_away() {
    let server = Server::start(&["--shards", "2"]);
    let pid = Pid::from_child(&server.child);
    let before = prlimit(Some(pid), Resource::Nofile, getrlimit(Resource::Nofile)).unwrap();
    let corefile = server.path("Corefile");
    let text = server.corefile("cluster.local", 30);
    let reload = |text: String| {
        let ends = |log: &str| {
            log.matches("Reloading complete").count()
                + log.matches("still serving the last one").count()
        };
        let count = ends(&server.log());
        replace(&corefile, text);
        server.signal("USR1");
        server.until("the reload has ended", |server| ends(&server.log()) > count);
    };
    let mut failed_count = 0;
    for left in 0..36 {
        let is_free = |number: &u64| !Path::new(&format!("/proc/{pid}/fd/{number}")).exists();
        let limit = (0..).find(is_free).map(|first| first + left);
        let limit = Rlimit { current: limit, ..before };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
        let other = format!("cluster.local:{} cluster.local:", port::free());
        reload(text.replacen("cluster.local:", &other, 1));
        failed_count += usize::from(!server.log().contains("Reloading complete"));
        for _ in 0..8 {
            assert_eq!(server.address("web"), Some(1), "{left} left:\n{}", server.log());
        }
        prlimit(Some(pid), Resource::Nofile, before).unwrap();
        reload(text.clone());
    }
    let log = server.log();
    assert!(failed_count > 0 && log.contains("Reloading complete"), "{log}");
    assert!(!log.contains("new thread") && !log.contains("has ended"), "{log}");
}

/// The new address takes packets from the old one as soon as it is bound.
#[test]
fn a_reload_without_one_of_its_ports_takes_nothing_away() {
    let server = Server::start(&[]);
    let corefile = server.path("Corefile");
    let here = server.corefile("cluster.local", 30);
    let everywhere = here.replace("    bind 127.0.0.1\n", "");
    replace(&corefile, everywhere);
    server.signal("USR1");
    server.until("it has been reloaded", |server| server.log().contains("Reloading complete"));
    let port = port::free();
    let _holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let elsewhere = format!("127.0.0.1:{}", port::free());
    // `health` moves as well.
    let next = here.replacen(&format!("health {}", server.http), &format!("health {elsewhere}"), 1);
    replace(&corefile, format!("{next}x.test:{port} {{\n    bind 127.0.0.1\n    whoami\n}}\n"));
    server.signal("USR1");
    let mut count = 0;
    server.until("the reload has failed", |server| {
        count += 1;
        assert_eq!(server.address("web"), Some(1), "after {count} queries");
        assert!(server.get("/health").ends_with("OK"), "after {count} queries");
        server.log().contains("still serving the last one")
    });
    assert!(count > 10, "{count}");
}

/// A log in the folder of the Corefile, as here, changes that folder with each line.
#[test]
fn a_failed_corefile_is_not_tried_again_for_another_files_changes() {
    let server = Server::start(&[]);
    let corefile = server.path("Corefile");
    let text = server.corefile("cluster.local", 30).replace("reload 2s 1s", "reload 1h");
    replace(&corefile, text.clone());
    server.until("it has been reloaded", |server| server.log().contains("Reloading complete"));
    // A documentation address, which no interface has.
    let block = format!(":{} {{\n    bind 203.0.113.1\n    whoami\n}}\n", server.dns.port());
    for (index, zone) in ["one.test", "two.test", "three.test"].into_iter().enumerate() {
        replace(&corefile, format!("{text}{zone}{block}"));
        let count = format!("coredns_reload_failed_total {}\n", index + 1);
        server.until("it has failed", |server| server.get("/metrics").contains(&count));
        for word in ["one", "two"] {
            fs::write(server.path("beside"), word).unwrap();
            // The Corefile is read again, which nothing shows.
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(server.get("/metrics").contains(&count), "{}", server.log());
    }
    let log = server.log();
    assert_eq!(log.matches("[INFO] Reloading\n").count(), 4, "{log}");
    server.signal("USR1");
    server.until("a signal tries it again", |server| {
        server.get("/metrics").contains("coredns_reload_failed_total 4\n")
    });
}

/// External zones come and go while the cluster is served from what has been read.
#[test]
fn a_change_of_external_zones_does_not_read_the_cluster_again() {
    let server = Server::start(&[]);
    let manifests = cluster(&[("web", "10.0.0.2")]);
    let manifests = manifests.replace("ports:", "externalIPs: [192.0.2.7], ports:");
    fs::write(server.path("cluster.yaml"), manifests).unwrap();
    server.until("the change is seen", |server| server.address("web") == Some(2));
    let answer = |server: &Server| server.ask("web", "out.cluster.local");
    let ttl = |server: &Server| {
        let answer = answer(server)?;
        (answer[7] == 1 && answer.ends_with(&[192, 0, 2, 7])).then(|| answer[answer.len() - 7])
    };
    for ttl_secs in [40, 41] {
        let lines = format!("k8s_external svc.out.cluster.local {{\n ttl {ttl_secs}\n}}\n reload");
        let corefile = server.corefile("cluster.local", 30).replace("reload", &lines);
        fs::write(server.path("Corefile"), corefile).unwrap();
        server.signal("USR1");
        server.until("the external zone is served", |server| ttl(server) == Some(ttl_secs));
        let metric = "zone=\"svc.out.cluster.local.\"} 1";
        server.until(metric, |server| server.get("/metrics").contains(metric));
    }
    fs::write(server.path("Corefile"), server.corefile("cluster.local", 30)).unwrap();
    server.signal("USR1");
    server.until("the external zone is gone", |server| {
        answer(server).is_some_and(|answer| answer[3] & 0xF == 3)
    });
    assert_eq!(server.address("web"), Some(2));
    server.signal("TERM");
    let (_, log) = server.ended();
    assert_eq!(log.matches("manifests read").count(), 2, "{log}");
}

/// However often a file is read again: one log line, and a number in the metrics each time.
#[test]
fn unusual_objects_are_logged_once_and_counted() {
    let odd = "---
apiVersion: v1
kind: List
items:
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0]}]
- {apiVersion: v1, kind: Service, metadata: {namespace: default, name: bad},
   spec: {clusterIP: 10.0.0.300}}
- {apiVersion: v1, kind: Service, metadata: {namespace: lost, name: web},
   spec: {clusterIP: 10.0.0.9}}
- {apiVersion: v2, kind: Service, metadata: {namespace: default, name: new}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,
   metadata: {namespace: default, name: stray}, addressType: IPv4}
- {apiVersion: v1, kind: Service, metadata: {namespace: lost, name: web},
   spec: {clusterIP: 10.0.0.9}}
";
    let server = Server::start(&[]);
    let manifests = server.path("cluster.yaml");
    for last in [2, 3] {
        let cluster = cluster(&[("web", &format!("10.0.0.{last}"))]);
        fs::write(&manifests, cluster + odd).unwrap();
        server.until("the change is seen", |server| server.address("web") == Some(last));
    }
    let counted = |what: &str, kind: &str, count: u32| {
        let labels = format!(r#"kind="{kind}",table="0",zone="cluster.local.""#);
        let line = format!("ringdns_kubernetes_{what}_total{{{labels}}} {count}");
        server.until(&line, |server| server.get("/metrics").contains(&line));
    };
    counted("odd_parts", "EndpointSlice", 2);
    counted("objects_refused", "Service", 2);
    server.signal("TERM");
    let (_, log) = server.ended();
    for line in [
        "endpoints[1].addresses[0] is \"10.1.0\", which is not an IP address",
        "spec.clusterIP is \"10.0.0.300\", which is not an IP address",
        "objects are in namespaces that no manifest defines: lost (2)",
        "more than once, and the last valid definition counts (1): Service lost/web at ",
        "no label kubernetes.io/service-name (1): default/stray at ",
        "objects of an unsupported version are left out: 1 (Service v2 (1))",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
}

#[test]
fn similar_errors_are_counted() {
    let server = Server::start(&[]);
    let consolidate =
        "errors {\n        consolidate 1h \"^plugin/kubernetes: no\" warning show_first\n    }\n";
    let corefile = server.corefile("cluster.local", 30);
    let corefile = corefile.replace("errors\n", consolidate).replace("ttl 30", "fallthrough");
    fs::write(server.path("Corefile"), corefile).unwrap();
    server.signal("USR1");
    let mut failed_count = 0;
    server.until("three questions have failed", |server| {
        let answer = server.ask("gone", "cluster.local");
        failed_count += u32::from(answer.is_some_and(|answer| answer[3] & 0xF == 2));
        failed_count == 3
    });
    server.signal("TERM");
    let (_, log) = server.ended();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("plugin/errors")).collect();
    let expected = [
        "[WARNING] plugin/errors: 2 gone.default.svc.cluster.local. A: plugin/kubernetes: no next \
         plugin found",
        "[WARNING] plugin/errors: 3 errors like '^plugin/kubernetes: no' occurred in last 1h0m0s",
    ];
    assert_eq!(lines, expected, "{log}");
}

/// As with CoreDNS 1.15: REFUSED if no plugin of the block sees queries, otherwise SERVFAIL at the
/// end of the chain.
#[test]
fn a_block_without_an_answer() {
    const SERVFAIL: u8 = 2;
    const REFUSED: u8 = 5;
    let server = Server::start(&[]);
    let http = server.http;
    let rows = [
        ("".to_owned(), REFUSED),
        ("reload".into(), REFUSED),
        ("bind 127.0.0.1".into(), REFUSED),
        (format!("health {http}"), REFUSED),
        (format!("ready {http}"), REFUSED),
        ("timeouts {\nread 1s\n}".into(), REFUSED),
        ("errors".into(), SERVFAIL),
        ("cache".into(), SERVFAIL),
        ("loop".into(), SERVFAIL),
        ("loadbalance".into(), SERVFAIL),
        (format!("prometheus {http}"), SERVFAIL),
        ("errors\ncache 30\nloop".into(), SERVFAIL),
        ("forward a.example 127.0.0.1:1".into(), SERVFAIL),
    ];
    let mut corefile = String::new();
    for (index, (lines, _)) in rows.iter().enumerate() {
        let bind = if lines.starts_with("bind") { "" } else { "bind 127.0.0.1\n" };
        corefile += &format!("zone{index}:{} {{\n{bind}{lines}\n}}\n", server.dns.port());
    }
    fs::write(server.path("Corefile"), corefile).unwrap();
    server.signal("USR1");
    let rcode = |zone: &str| server.ask("web", zone).map(|answer| answer[3] & 15);
    server.until("it has reloaded", |_| rcode("zone6") == Some(SERVFAIL));
    for (index, (lines, expected)) in rows.iter().enumerate() {
        assert_eq!(rcode(&format!("zone{index}")), Some(*expected), "{lines}");
    }
}
