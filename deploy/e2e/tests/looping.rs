//! Upstreams that send our queries back to us.
//!
//! `loop` excludes them and logs how to fix the loop; `loop fatal` exits as CoreDNS does; without
//! `loop`, no loop amplifies itself. Also resolv.conf, the source of most loops: when it changes,
//! the upstreams change.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::ask::over_udp;
use e2e::corefile::Corefile;
use e2e::deadline::poll;
use e2e::http::{get, metric};
use e2e::knot::Knot;
use e2e::port;
use e2e::question::Question;
use e2e::relay::Relay;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::{Tools, Upstreams};

/// Deadline for effects that are due within a second.
const SOON: Duration = Duration::from_secs(5);

/// How long a client waits: more than the five seconds that a query may take.
const PATIENCE: Duration = Duration::from_secs(7);

const RECORDS: &str = "@ 300 SOA ns hostmaster 1 3600 600 86400 300
@ 300 NS ns
ns 300 A 127.0.0.1
* 300 A 192.0.2.1
";

#[test]
fn a_looping_upstream_is_excluded() {
    let Some(programs) = Upstreams::find("looping::a_looping_upstream_is_excluded") else {
        return;
    };
    let knot = Knot::start(&programs.knotd, "example.", RECORDS);
    let [metrics, ready] = [port::free(), port::free()].map(loopback);
    let started = Instant::now();
    let server = start(&format!(
        "loop
prometheus {metrics}
ready {ready}
forward example 127.0.0.1:5353 {} {{
policy round_robin
}}
forward . 127.0.0.1:5353",
        knot.address()
    ));
    let itself = server.address();
    let loops = format!("to=\"{itself}\"");
    poll(SOON, "both lines to have found out", || {
        let count = metric(metrics, "ringdns_forward_upstream_loops", &[&loops]);
        (count > 1.5).then_some(())
    });
    say(&format!("looping: detected {:?} after start-up", started.elapsed()));
    let message = format!(
        "upstream {itself} sends our own queries back, so it gets no more queries: a loopback \
         address is this server itself: forward to the real resolvers' addresses"
    );
    poll(SOON, "the line of the log", || {
        server.log().contains(&format!("[ERROR] plugin/loop: {message}")).then_some(())
    });
    assert_eq!(server.log().matches("plugin/loop").count(), 1, "logged once:\n{}", server.log());
    let (code, page) = get(ready, "/ready").expect("/ready");
    assert_eq!(code, 200, "{page}");
    assert!(page.starts_with("OK") && page.contains(&message), "{page}");

    // Everything else still works: the cluster, and the line with a second upstream, which now
    // serves alone.
    assert_eq!(answer(&server, "kubernetes.default.svc.cluster.local.").rcode, "NOERROR");
    let questions_before = questions(metrics);
    for index in 0..20 {
        let began = Instant::now();
        let answer = answer(&server, &format!("n{index}.example."));
        assert_eq!(answer.data_of(Rtype::A), ["192.0.2.1"]);
        assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
    }
    assert_eq!(answer(&server, "elsewhere.test.").rcode, "SERVFAIL");
    let questions = questions(metrics) - questions_before;
    assert!((20.5..21.5).contains(&questions), "21 queries were sent, and {questions} arrived");
}

/// A stub resolver of the node, such as systemd-resolved at 127.0.0.53, that forwards to the
/// cluster's DNS server, which forwards to the name servers of resolv.conf.
#[test]
fn a_looping_node_resolver_is_reported_until_resolv_conf_changes() {
    let test = "looping::a_looping_node_resolver_is_reported_until_resolv_conf_changes";
    let Some(programs) = Upstreams::find(test) else { return };
    // resolv.conf has no ports.
    let [stub, resolver] = [53, 54].map(|host| {
        let [high, low] = port::free().to_be_bytes();
        SocketAddr::from(([127, high, low, host], 53))
    });
    if let Err(error) = UdpSocket::bind(stub) {
        say(&format!(
            "e2e: !!! {test} WAS SKIPPED: cannot listen on {stub}: {error}. Run it as root, or \
             after 'sysctl net.ipv4.ip_unprivileged_port_start=53'."
        ));
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let resolv_conf = dir.path().join("resolv.conf");
    let name_server = |address: SocketAddr| {
        let text = format!("search example\nnameserver {}\noptions ndots:5\n", address.ip());
        std::fs::write(&resolv_conf, text).expect("resolv.conf");
    };
    name_server(stub);
    let [metrics, ready] = [port::free(), port::free()].map(loopback);
    let server = start(&format!(
        "loop\nprometheus {metrics}\nready {ready}\nforward . {}",
        resolv_conf.display()
    ));
    let _stub = Relay::start_at(stub, server.address());
    let _knot = Knot::start_at(resolver, &programs.knotd, "example.", RECORDS);

    let file = resolv_conf.display();
    let message = format!(
        "upstream {stub} (from {file}) sends our own queries back, so it gets no more queries: a \
         loopback address is this server itself, and {file} lists it for a resolver of the node: \
         forward to /run/systemd/resolve/resolv.conf or to the real resolvers' addresses"
    );
    let page = poll(SOON, "/ready to report the loop", || {
        let (code, page) = get(ready, "/ready").expect("/ready");
        assert_eq!(code, 200, "{page}");
        page.contains("loop: ").then_some(page)
    });
    assert!(page.contains(&message), "{page}");
    poll(SOON, "the log to report it", || server.log().contains(&message).then_some(()));
    assert_eq!(answer(&server, "kubernetes.default.svc.cluster.local.").rcode, "NOERROR");
    assert_eq!(answer(&server, "www.example.").rcode, "SERVFAIL");

    let changed = Instant::now();
    name_server(resolver);
    poll(SOON, "a query to the new name server", || {
        (answer(&server, "www.example.").data_of(Rtype::A) == ["192.0.2.1"]).then_some(())
    });
    say(&format!("looping: a changed resolv.conf took effect after {:?}", changed.elapsed()));
    poll(SOON, "/ready without a loop", || {
        (get(ready, "/ready").expect("/ready") == (200, "OK".to_owned())).then_some(())
    });
    assert!(metric(metrics, "ringdns_forward_upstream_loops", &[]) < 0.5);

    // A file without name servers changes nothing.
    std::fs::write(&resolv_conf, "search example\n").expect("resolv.conf");
    poll(SOON, "the line of the log", || {
        server.log().contains("it has no line `nameserver ADDRESS`").then_some(())
    });
    assert_eq!(answer(&server, "www.example.").data_of(Rtype::A), ["192.0.2.1"]);
}

/// The same last log line and the same exit code.
#[test]
fn loop_fatal_exits_like_coredns() {
    let ringdns = last_words(Kind::Ringdns, "loop fatal", None);
    let Some(tools) = Tools::find("looping::loop_fatal_exits_like_coredns") else { return };
    let coredns = last_words(Kind::CoreDns, "loop", Some(&tools));
    assert_eq!(ringdns, coredns);
    say(&format!("looping: with `loop fatal` both exit: {} {}", ringdns.0, ringdns.1));
}

/// The exit code, and the part of the message that two servers can share, without its numbers.
fn last_words(kind: Kind, looping: &str, tools: Option<&Tools>) -> (i32, String) {
    let corefile = Corefile::new(format!(
        ".:5353 {{\nbind 127.0.0.1\nerrors\n{looping}\nforward . 127.0.0.1:5353\n}}\n"
    ));
    let mut server = Server::launch(kind, &corefile, tools);
    let status = poll(Duration::from_secs(20), "the end of a loop", || server.exit_status());
    let log = server.log();
    let line = log.lines().find_map(|line| line.split_once("Loop (").map(|(_, words)| words));
    let line = line.unwrap_or_else(|| panic!("{kind:?} did not report a loop:\n{log}"));
    let (head, _) = line.split_once("HINFO ").expect("a question");
    let masked = head.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter });
    let mut message: String = masked.collect();
    while message.contains("##") {
        message = message.replace("##", "#");
    }
    (status.code().expect("no signal"), message)
}

/// A query that comes back finds itself in flight: an endless loop becomes a few packets and
/// SERVFAIL.
#[test]
fn without_loop_no_query_multiplies() {
    let metrics = loopback(port::free());
    let server = start(&format!("prometheus {metrics}\nforward . 127.0.0.1:5353"));
    let before = questions(metrics);
    let began = Instant::now();
    assert_eq!(answer(&server, "www.example.").rcode, "SERVFAIL");
    let count = questions(metrics) - before;
    say(&format!(
        "looping: without `loop` a query came back {count} times, and got SERVFAIL after {:?}",
        began.elapsed()
    ));
    // Each shard may send each of its four tries once to each shard.
    assert!(count < 100.0, "{count}");
    assert_eq!(answer(&server, "kubernetes.default.svc.cluster.local.").rcode, "NOERROR");
}

/// The number of queries that the server has answered.
fn questions(metrics: SocketAddr) -> f64 {
    metric(metrics, "coredns_dns_requests_total", &[])
}

/// Starts ringdns with a cluster and these lines.
fn start(lines: &str) -> Server {
    let corefile = Corefile::new(format!(
        ".:5353 {{
bind 127.0.0.1
errors
kubernetes cluster.local {{
manifests -
}}
{lines}
}}
"
    ));
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example/cluster");
    Server::start(Kind::Ringdns, &corefile.with_manifests(&cluster), None)
}

fn answer(server: &Server, name: &str) -> Answer {
    let question = Question::new(name, Rtype::A);
    over_udp(server.address(), &question, PATIENCE).expect("an answer")
}

fn loopback(port: u16) -> SocketAddr {
    (IpAddr::from(Ipv4Addr::LOCALHOST), port).into()
}
