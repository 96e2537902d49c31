//! Upstreams' CNAMEs that lead to names which this server's tables speak for: what is left of such a response, and what is
//! written behind it.

mod upstream;

use std::sync::Arc;

use upstream::{asked, message, query, read, shown, uncompressed};
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::kubernetes::PodMode;
use wire::name::Name;
use wire::reply::{End, Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Kind, TtlRule};
use wire::table::{EVERY_TYPE, Found, Table};

/// A table of cluster.local: web has an address and two ports, ext is an alias of it.
fn cluster() -> Arc<Table> {
    let wire_name = |text: &str| upstream::name(text).as_slice().to_vec();
    let zones = vec![wire_name("cluster.local")];
    let options = TableOptions::kubernetes(zones, PodMode::Disabled, 5);
    let mut builder = TableBuilder::new(options, HashSeed::new(1));
    let mut writer = EntryWriter::new();
    let [web, ext] = ["web.cluster.local", "ext.cluster.local"].map(wire_name);
    writer.begin(&web);
    writer.answer(1);
    for host in 1..=2 {
        writer.record(Section::Answer, &web, 1, 5, &[10, 0, 0, host]);
    }
    writer.answer(33);
    for (port, target) in [(80, "a.web.cluster.local"), (81, "b.web.cluster.local")] {
        let rdata = [&[0, 0, 0, 50, 0, port][..], &wire_name(target)].concat();
        writer.record(Section::Answer, &web, 33, 5, &rdata);
    }
    for target in ["a.web.cluster.local", "b.web.cluster.local"] {
        writer.record(Section::Additional, &wire_name(target), 1, 5, &[10, 0, 0, 9]);
    }
    builder.insert(writer.finish());
    writer.begin(&ext);
    writer.answer(EVERY_TYPE);
    writer.record(Section::Answer, &ext, 5, 5, &web);
    builder.insert(writer.finish());
    builder.set_synced();
    builder.publish(1)
}

/// What `text` comes to for the client where cluster.local is this server's own; `None` where the upstream's word stands.
fn led(text: &str, rotation: usize, len_max: usize) -> Option<String> {
    let table = cluster();
    let question = text.split_once(" | ").unwrap().0;
    let [plain, compressed] = [uncompressed(text), message(text)].map(|packet| {
        let (mut out, query) = query(question);
        let zone = upstream::name("cluster.local").as_slice().to_vec();
        let is_ours = |name: &Name| name.bytes().ends_with(&zone);
        let (response, name) = (read(&packet), asked(&packet).name);
        let cnames = response.cut_at_own_target(name, is_ours);
        // Kept either way, it is known for what it is; and for what it is not where other names are ours.
        assert_eq!(response.ends_at_own_target(name, is_ours), cnames.is_none(), "{text}");
        assert!(response.ends_at_own_target(name, |_| false), "{text}");
        let cnames = cnames?;
        assert!(cnames.ends_at_own_target(name, is_ours), "{text}");
        assert!(!cnames.ends_at_own_target(name, |_| false), "{text}");
        assert_eq!(
            (cnames.kind, cnames.own_target().map(|name| is_ours(&name))),
            (Kind::OwnTarget, Some(true))
        );
        let found = table.look_up(&cnames.own_target().unwrap(), query.qtype);
        let end = match found {
            Found::Alias(cnames) => {
                let target = Name::from_wire(cnames.target()).unwrap();
                let found = table.look_up(&target, query.qtype);
                End { cnames: Some(cnames), found: Some((&table, found)) }
            }
            found => End { cnames: None, found: Some((&table, found)) },
        };
        out.resize(MESSAGE_LEN_MAX, 0);
        let envelope = Envelope { len_max, rotation };
        let ttl = TtlRule::Aged { age_secs: 0, secs_min: 0, secs_max: 30 };
        let stamped = response::stamp(&query, &cnames, ttl, None, Some(&end), envelope, &mut out);
        assert!(stamped.len <= len_max);
        out.truncate(stamped.len);
        Some(shown(&out))
    });
    assert_eq!(plain, compressed, "{text}");
    plain
}

#[test]
fn cnames_that_lead_to_us_end_with_what_we_have() {
    const SOA: &str =
        "cluster.local 5 SOA ns.dns.cluster.local hostmaster.cluster.local 1 7200 1800 86400 5";
    const ROOT: &str = ". 900 SOA a b 1 2 3 4 60";
    let rows = [
        // The upstream has no word on our names: neither a denial nor data.
        (
            format!("a.org A | NXDOMAIN aa rd ra ad | a.org 99 CNAME web.cluster.local | {ROOT} |"),
            Some("a.org A | NOERROR aa rd ra | a.org 30 CNAME web.cluster.local; web.cluster.local 5 A 10.0.0.1; web.cluster.local 5 A 10.0.0.2 |  |".to_owned()),
        ),
        (
            "a.org A | NOERROR rd ra | web.cluster.local 9 A 192.0.2.66; a.org 9 CNAME b.net; b.net 9 CNAME web.cluster.local | cluster.local 9 NS x.net | x.net 9 A 192.0.2.66".to_owned(),
            Some("a.org A | NOERROR rd ra | a.org 9 CNAME b.net; b.net 9 CNAME web.cluster.local; web.cluster.local 5 A 10.0.0.1; web.cluster.local 5 A 10.0.0.2 |  |".to_owned()),
        ),
        // What leads on behind is not believed, nor what failed there.
        (
            "a.org A | NOERROR rd | a.org 9 CNAME web.cluster.local; web.cluster.local 9 CNAME c.net; c.net 9 A 192.0.2.66 |  |".to_owned(),
            Some("a.org A | NOERROR rd | a.org 9 CNAME web.cluster.local; web.cluster.local 5 A 10.0.0.1; web.cluster.local 5 A 10.0.0.2 |  |".to_owned()),
        ),
        (
            "a.org A | SERVFAIL rd | a.org 9 CNAME nope.cluster.local |  |".to_owned(),
            Some(format!("a.org A | NXDOMAIN rd | a.org 9 CNAME nope.cluster.local | {SOA} |")),
        ),
        (
            "a.org AAAA | NOERROR rd | a.org 9 CNAME web.cluster.local |  |".to_owned(),
            Some(format!("a.org AAAA | NOERROR rd | a.org 9 CNAME web.cluster.local | {SOA} |")),
        ),
        (
            "a.org SRV | NOERROR rd | a.org 9 CNAME web.cluster.local |  |".to_owned(),
            Some("a.org SRV | NOERROR rd | a.org 9 CNAME web.cluster.local; web.cluster.local 5 SRV 0 50 80 a.web.cluster.local; web.cluster.local 5 SRV 0 50 81 b.web.cluster.local |  | a.web.cluster.local 5 A 10.0.0.9; b.web.cluster.local 5 A 10.0.0.9".to_owned()),
        ),
        // An alias of ours behind the upstream's.
        (
            "a.org A | NOERROR rd | a.org 9 CNAME ext.cluster.local |  |".to_owned(),
            Some("a.org A | NOERROR rd | a.org 9 CNAME ext.cluster.local; ext.cluster.local 5 CNAME web.cluster.local; web.cluster.local 5 A 10.0.0.1; web.cluster.local 5 A 10.0.0.2 |  |".to_owned()),
        ),
        (
            "a.org MX | NOERROR rd | a.org 9 CNAME ext.cluster.local |  |".to_owned(),
            Some(format!("a.org MX | NOERROR rd | a.org 9 CNAME ext.cluster.local; ext.cluster.local 5 CNAME web.cluster.local | {SOA} |")),
        ),
        // By a DNAME, signed, and from below a name that ends alike.
        (
            "web.x.org A | NOERROR rd | x.org 9 DNAME cluster.local; x.org 9 RRSIG DNAME 7; web.x.org 9 CNAME web.cluster.local; web.x.org 9 RRSIG CNAME 8; web.cluster.local 9 RRSIG A 9 |  |".to_owned(),
            Some("web.x.org A | NOERROR rd | x.org 9 DNAME cluster.local; x.org 9 RRSIG DNAME 7; web.x.org 9 CNAME web.cluster.local; web.x.org 9 RRSIG CNAME 8; web.cluster.local 5 A 10.0.0.1; web.cluster.local 5 A 10.0.0.2 |  |".to_owned()),
        ),
        (
            "a.local AAAA | NOERROR rd | a.local 9 CNAME b.cluster.net; b.cluster.net 9 CNAME web.cluster.local |  |".to_owned(),
            Some(format!("a.local AAAA | NOERROR rd | a.local 9 CNAME b.cluster.net; b.cluster.net 9 CNAME web.cluster.local | {SOA} |")),
        ),
        // Elsewhere the upstream's word stands, and where the CNAME itself was asked for.
        ("a.org A | NOERROR rd | a.org 9 CNAME b.net; b.net 9 A 192.0.2.1 |  |".to_owned(), None),
        ("a.org CNAME | NOERROR rd | a.org 9 CNAME web.cluster.local |  |".to_owned(), None),
        ("a.org A | NOERROR rd | a.org 9 A 192.0.2.1; b.net 9 CNAME web.cluster.local |  |".to_owned(), None),
    ];
    for (text, expected) in rows {
        assert_eq!(led(&text, 0, MESSAGE_LEN_MAX), expected, "{text}");
    }
    // Our addresses rotate, and are cut off where there is no room.
    let text = "a.org A | NOERROR rd | a.org 9 CNAME web.cluster.local |  |";
    let turned = led(text, 1, MESSAGE_LEN_MAX).unwrap();
    assert!(turned.find("10.0.0.2") < turned.find("10.0.0.1"), "{turned}");
    for question in ["A", "AAAA", "SRV", "MX"] {
        let text = text.replace("org A", &format!("org {question}"));
        let whole = (30..).find(|len| !led(&text, 0, *len).unwrap().contains(" tc")).unwrap();
        assert_eq!(led(&text, 0, whole), led(&text, 0, MESSAGE_LEN_MAX));
    }
}
