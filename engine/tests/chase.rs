//! CNAMEs of upstreams that lead to names of the cluster, through a running shard: they end with what the table has, and
//! nothing of that is kept.

mod rig;
mod upstream;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use domain::base::Message;
use domain::base::iana::{Rcode, Rtype};
use domain::rdata::AllRecordData;
use engine::plan::TableSlot;
use rig::{BACKENDS, PATIENCE, Rig, query, wire_name};
use upstream::{Manner, Upstream};
use wire::compile::{EntryWriter, Section};

const ASKED: &str = "shop.example.org";

/// The code, then the answers' types and data, then the authorities' types.
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
    const WEB: &str = "web.default.svc.cluster.local";
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
        // It falls through, so the upstream's word stands.
        ("9.9.96.10.in-addr.arpa", Rtype::A, "RCODE CNAME 9.9.96.10.in-addr.arpa.".to_owned()),
        // As it does for names elsewhere, and where the CNAME itself is asked for.
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
                    // The second time out of the cache, if there is one.
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

/// The CNAME comes out of the cache, what is behind it never does.
#[test]
fn a_change_of_the_cluster_is_seen_behind_a_kept_cname() {
    const WEB: &str = "web.default.svc.cluster.local";
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
