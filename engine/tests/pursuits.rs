//! Answers that need several look-ups, through a running shard: failures, and queries that are
//! dropped.

mod rig;
mod upstream;

use std::net::Ipv4Addr;

use engine::fleet::Backend;
use engine::limits::PURSUITS_MAX;
use engine::metrics::Format;
use rig::query::{query, wire_name};
use rig::{PATIENCE, Rig, SILENCE};
use upstream::{Manner, Upstream};

fn start(lines: &str) -> Rig {
    Rig::start_with(Backend::Mmsg, (Ipv4Addr::LOCALHOST, 0).into(), lines)
}

/// The next response is SERVFAIL, and the error log says why.
fn check_failure(rig: &Rig, answer: &[u8], name: &str, why: &str) {
    assert_eq!(answer[3] & 15, 2, "SERVFAIL");
    let report = rig.errors.recv_timeout(PATIENCE).expect("an error line");
    assert_eq!(report.message.as_deref(), Some(why));
    assert_eq!(report.name.bytes(), wire_name(name));
}

#[test]
fn failures_are_logged() {
    let rig =
        start("template IN A deep.cluster.local {\nanswer \"{{.Name}} 1 IN CNAME x.{{.Name}}\"\n}");
    let answer = rig.ask_udp(&query("deep.cluster.local", 1), PATIENCE).expect("an answer");
    let name = "x.x.x.x.x.x.x.x.deep.cluster.local";
    check_failure(&rig, &answer, name, "look-ups for one another are nested over 8 deep");
    rig.fleet.stop(PATIENCE);

    let upstream = Upstream::start(60, Manner::Silent);
    let rig = start(&format!("dns64 {{\nallow_ipv4\n}}\nforward . {}", upstream.address));
    let socket = rig.udp();
    for number in 0..=PURSUITS_MAX {
        // One by one, so that the socket loses none of them.
        socket.send(&query(&format!("n{number}.test"), 28)).expect("a query");
        if number % 64 == 0 {
            rig.ask_udp(&query("web.default.svc.cluster.local", 1), PATIENCE).expect("an answer");
        }
    }
    let mut answer = [0; 512];
    let len = socket.recv(&mut answer).expect("an answer");
    let why = "more than 1024 answers that need other look-ups first";
    check_failure(&rig, &answer[..len], &format!("n{PURSUITS_MAX}.test"), why);
    rig.fleet.stop(PATIENCE);
}

/// As in CoreDNS: it counts as a query with an empty response, of NOERROR and of no plugin.
#[test]
fn dropped_queries_are_counted() {
    let rig = start("dns64 {\nallow_ipv4\n}\nacl drop.cluster.local {\ndrop\n}");
    let name = "a.drop.cluster.local";
    for (count, qtype) in [1, 28].into_iter().enumerate() {
        // For AAAA the look-up of dns64 is dropped.
        assert_eq!(rig.ask_udp(&query(name, qtype), SILENCE), None);
        let text = String::from_utf8(rig.metrics.scrape(Format::Prometheus)).expect("text");
        let value = |family: &str, label: &str| {
            let line = text.lines().find(|line| line.starts_with(family) && line.contains(label));
            let value = line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value);
            value.unwrap_or("0").parse::<f64>().expect("a number") as usize
        };
        let is_type = if qtype == 1 { "type=\"A\"" } else { "type=\"AAAA\"" };
        assert_eq!(value("coredns_dns_requests_total", is_type), 1, "{text}");
        let count = count + 1;
        assert_eq!(value("coredns_dns_responses_total{plugin=\"\",rcode=\"NOERROR\"", ""), count);
        assert_eq!(value("coredns_dns_request_duration_seconds_count", ""), count);
        assert_eq!(value("coredns_dns_response_size_bytes_bucket", "le=\"0\""), count);
        assert_eq!(value("coredns_acl_dropped_requests_total", ""), count);
        assert_eq!(value("ringdns_datagrams_dropped_total", "ignored"), 0);
    }
    rig.fleet.stop(PATIENCE);
}
