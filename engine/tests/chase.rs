//! CNAMEs of upstreams that lead to names of the cluster, through a running shard. The table
//! completes them, and the cache keeps none of the completion.

mod rig;
mod upstream;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use domain::base::Message;
use domain::base::iana::{Rcode, Rtype};
use domain::rdata::AllRecordData;
use engine::client::ListenerId;
use engine::io::socket::{self, PortClaim};
use engine::plan::{Block, ListenerPlan, Plan, TableSlot};
use engine::steering::Company;
use rig::query::{query, wire_name};
use rig::{BACKENDS, PATIENCE, Rig};
use upstream::{Manner, Upstream};
use wire::compile::{EntryWriter, Section};
use wire::zone::ZoneSet;

const ASKED: &str = "shop.example.org";
const WEB: &str = "web.default.svc.cluster.local";

/// The code, then the types and data of the answers, then the types of the authorities.
fn shown(answer: &[u8]) -> String {
    let message = Message::from_octets(answer).expect("a message");
    let (_, answers, authorities, _) = message.sections().expect("sections");
    let mut text = message.header().rcode().to_string();
    for record in answers.limit_to::<AllRecordData<_, _>>() {
        let record = record.expect("a record");
        text += &format!(" {} {}", record.rtype(), record.data());
    }
    for record in authorities {
        text += &format!(" | {}", record.expect("a record").rtype());
    }
    text
}

fn ask(rig: &Rig, qtype: Rtype) -> [String; 2] {
    let packet = query(ASKED, qtype.to_int());
    let answers = [rig.ask_udp(&packet, PATIENCE), rig.ask_tcp(&packet, PATIENCE)];
    answers.map(|answer| shown(&answer.expect("an answer")))
}

#[test]
fn an_upstreams_cname_ends_in_the_table() {
    const NONE: &str = "none.default.svc.cluster.local";
    let rows = [
        (WEB, Rtype::A, format!("NOERROR CNAME {WEB}. A 10.96.0.0")),
        (WEB, Rtype::AAAA, format!("NOERROR CNAME {WEB}. | SOA")),
        (WEB, Rtype::MX, format!("NOERROR CNAME {WEB}. | SOA")),
        (NONE, Rtype::A, format!("NXDOMAIN CNAME {NONE}. | SOA")),
        (
            "1-2-3-4.default.pod.cluster.local",
            Rtype::A,
            "NOERROR CNAME 1-2-3-4.default.pod.cluster.local. A 1.2.3.4".to_owned(),
        ),
        // Falls through, so the upstream's answer is used.
        ("9.9.96.10.in-addr.arpa", Rtype::A, "RCODE CNAME 9.9.96.10.in-addr.arpa.".to_owned()),
        // The same for names elsewhere, and for queries for the CNAME itself.
        ("www.example.net", Rtype::A, "RCODE CNAME www.example.net.".to_owned()),
        (WEB, Rtype::CNAME, format!("RCODE CNAME {WEB}.")),
    ];
    for backend in BACKENDS {
        for (target, qtype, expected) in &rows {
            for rcode in [Rcode::NOERROR, Rcode::NXDOMAIN] {
                let upstream = Upstream::start(3600, Manner::Leads(target, rcode));
                for lines in ["", "cache"] {
                    let lines = format!("{lines}\nforward . {}", upstream.address);
                    let rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines);
                    let expected = expected.replace("RCODE", &rcode.to_string());
                    // The second one from the cache, if there is one.
                    for _ in 0..2 {
                        let what = format!("{target} {qtype} {rcode}, {backend:?}, {lines}");
                        assert_eq!(ask(&rig, *qtype), [&*expected; 2], "{what}");
                    }
                    rig.fleet.stop(PATIENCE);
                }
            }
        }
    }
}

/// One listener serves the name from the table, another asks an upstream, and both share a cache.
#[test]
fn each_listener_completes_a_cached_cname_its_own_way() {
    for backend in BACKENDS {
        let upstream = Upstream::start(3600, Manner::LeadsOn(WEB));
        let lines = format!("cache\nforward . {}", upstream.address);
        let mut rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines);
        let sockets = socket::bind((Ipv4Addr::LOCALHOST, 0).into(), 1, PortClaim::Alone).unwrap();
        let addresses = [rig.address, sockets[0].own.tcp.local_addr().unwrap()];
        let mut plan = Plan::clone(&rig.plan);
        plan.listeners.push(ListenerPlan {
            zones: ZoneSet::new(&[[0]]),
            blocks: vec![plan.blocks.len()],
            ..ListenerPlan::default()
        });
        plan.blocks.push(without_table(&plan.blocks[0]));
        rig.fleet.set_plan(&Arc::new(plan));
        rig.fleet.open(ListenerId(1), sockets, Company::None);
        let ours = format!("NOERROR CNAME {WEB}. A 10.96.0.0");
        let theirs = format!("NOERROR CNAME {WEB}. A 192.0.2.1");
        for (index, expected) in [(0, &ours), (1, &theirs), (1, &theirs), (0, &ours), (0, &ours)] {
            rig.address = addresses[index];
            assert_eq!(ask(&rig, Rtype::A), [expected.as_str(); 2], "{backend:?} {index}");
        }
        // An entry of another listener is requested again; an entry of the same listener is not.
        assert_eq!(upstream.seen_count(), 3, "{backend:?}");
        rig.fleet.stop(PATIENCE);
    }
}

/// The block before `kubernetes` is added to it.
fn without_table(block: &Block) -> Block {
    Block { own: Box::default(), ..block.clone() }
}

#[test]
fn a_reload_moves_cached_names_into_the_table() {
    for backend in BACKENDS {
        let upstream = Upstream::start(3600, Manner::LeadsOn(WEB));
        let lines = format!("cache\nforward . {}", upstream.address);
        let rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines);
        let blocks = rig.plan.blocks.iter().map(without_table).collect();
        let without = Arc::new(Plan { blocks, ..Plan::clone(&rig.plan) });
        let ours = format!("NOERROR CNAME {WEB}. A 10.96.0.0");
        let theirs = format!("NOERROR CNAME {WEB}. A 192.0.2.1");
        let puts = |plan, expected: &str| {
            rig.fleet.set_plan(plan);
            let deadline = Instant::now() + PATIENCE;
            while ask(&rig, Rtype::A) != [expected; 2] {
                assert!(Instant::now() < deadline, "{backend:?}: {:?}", ask(&rig, Rtype::A));
            }
        };
        puts(&without, &theirs);
        puts(&rig.plan, &ours);
        puts(&without, &theirs);
        assert_eq!(upstream.seen_count(), 3, "{backend:?}");
        // Nor is the cached entry used when the upstream fails.
        upstream.behave(Manner::Says(Rcode::SERVFAIL));
        puts(&rig.plan, "SERVFAIL");
        rig.fleet.stop(PATIENCE);
    }
}

/// The CNAME comes from the cache, its target never does.
#[test]
fn a_change_of_the_cluster_shows_after_a_cached_cname() {
    for backend in BACKENDS {
        let upstream = Upstream::start(3600, Manner::Leads(WEB, Rcode::NXDOMAIN));
        let lines = format!("cache\nforward . {}", upstream.address);
        let mut rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines);
        let before = format!("NOERROR CNAME {WEB}. A 10.96.0.0");
        assert_eq!(ask(&rig, Rtype::A), [&*before; 2], "{backend:?}");
        let mut writer = EntryWriter::new();
        let owner = wire_name(WEB);
        writer.begin(&owner);
        writer.answer(1);
        writer.record(Section::Answer, &owner, 1, 30, &[10, 96, 0, 99]);
        let hash = rig.builder.insert(writer.finish());
        let changed = rig.builder.publish(2);
        rig.builder.remove(hash);
        let gone = rig.builder.publish(3);
        for (table, expected) in [
            (&changed, format!("NOERROR CNAME {WEB}. A 10.96.0.99")),
            (&gone, format!("NXDOMAIN CNAME {WEB}. | SOA")),
        ] {
            for deliver in rig.fleet.deliveries(TableSlot(0)) {
                assert!(deliver(Arc::clone(table)));
            }
            let deadline = Instant::now() + PATIENCE;
            while ask(&rig, Rtype::A) != [&*expected; 2] {
                assert!(Instant::now() < deadline, "{backend:?}: {:?}", ask(&rig, Rtype::A));
            }
        }
        assert_eq!(upstream.seen_count(), 1, "{backend:?}");
        rig.fleet.stop(PATIENCE);
    }
}
