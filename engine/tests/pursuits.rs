//! Answers that need several look-ups, through a running shard: what goes wrong with them, which
//! scenarios cannot see.

mod rig;
mod upstream;

use std::net::Ipv4Addr;

use engine::fleet::Backend;
use engine::limits::PURSUITS_MAX;
use rig::query::{query, wire_name};
use rig::{PATIENCE, Rig};
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
