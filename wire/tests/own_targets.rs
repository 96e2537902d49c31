//! Upstreams' CNAMEs that lead to names of this server's tables: what is kept of such a response,
//! and what follows.

mod upstream;

use std::sync::Arc;

use upstream::{asked, message, query, read, shown, uncompressed};
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::name::Name;
use wire::pod::PodMode;
use wire::reply::{End, Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Kind, TtlRule};
use wire::table::{EVERY_TYPE, Found, Table};

/// A table of cluster.local: web has addresses and two ports, ext is an alias of it.
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

/// The client's response if cluster.local is this server's own and the upstream's response is
/// `text`; `None` if the latter is not cut.
fn completed(text: &str, rotation: usize, len_max: usize) -> Option<String> {
    let table = cluster();
    let question = text.split_once(" | ").unwrap().0;
    let [plain, compressed] = [uncompressed(text), message(text)].map(|packet| {
        let (mut out, query) = query(question);
        let zone = upstream::name("cluster.local").as_slice().to_vec();
        let is_own = |name: &Name| name.bytes().ends_with(&zone);
        let (response, name) = (read(&packet), asked(&packet).name);
        let cnames = response.cut_at_own_target(name, is_own);
        // A cached response is recognized as cut or not, and as out of date if other names are own.
        assert_eq!(response.ends_at_own_target(name, is_own), cnames.is_none(), "{text}");
        assert!(response.ends_at_own_target(name, |_| false), "{text}");
        let cnames = cnames?;
        assert!(cnames.ends_at_own_target(name, is_own), "{text}");
        assert!(!cnames.ends_at_own_target(name, |_| false), "{text}");
        assert_eq!(
            (cnames.kind, cnames.own_target().map(|name| is_own(&name))),
            (Kind::OwnTarget, Some(true))
        );
        let found = table.look_up(&cnames.own_target().unwrap(), query.qtype);
        let end = match found {
            Found::Alias(cnames) => {
                let target = Name::from_wire(cnames.target()).unwrap();
                let found = table.look_up(&target, query.qtype);
                End { cnames: Some(cnames), then: None, found: Some((&table, found)) }
            }
            found => End { cnames: None, then: None, found: Some((&table, found)) },
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

/// `~` is short for `cluster.local`.
fn check(text: &str, expected: Option<&str>) {
    const SOA: &str = "~ 5 SOA ns.dns.~ hostmaster.~ 1 7200 1800 86400 5";
    const WEB: &str = "web.~ 5 A 10.0.0.1; web.~ 5 A 10.0.0.2";
    let expand =
        |text: &str| text.replace("$SOA", SOA).replace("$WEB", WEB).replace('~', "cluster.local");
    assert_eq!(completed(&expand(text), 0, MESSAGE_LEN_MAX), expected.map(expand), "{text}");
}

#[test]
fn cnames_to_own_names_end_with_the_tables_records() {
    for (text, expected) in [
        // What the upstream says about own names is dropped: denials and data.
        (
            "a.org A | NXDOMAIN aa rd ra ad | a.org 99 CNAME web.~ | . 900 SOA a b 1 2 3 4 60 |",
            "a.org A | NOERROR aa rd ra | a.org 30 CNAME web.~; $WEB |  |",
        ),
        (
            "a.org A | NOERROR rd ra | web.~ 9 A 192.0.2.66; a.org 9 CNAME b.net; \
                b.net 9 CNAME web.~ | ~ 9 NS x.net | x.net 9 A 192.0.2.66",
            "a.org A | NOERROR rd ra | a.org 9 CNAME b.net; b.net 9 CNAME web.~; $WEB |  |",
        ),
        // So are CNAMEs of own names, and failures.
        (
            "a.org A | NOERROR rd | a.org 9 CNAME web.~; web.~ 9 CNAME c.net; \
                c.net 9 A 192.0.2.66 |  |",
            "a.org A | NOERROR rd | a.org 9 CNAME web.~; $WEB |  |",
        ),
        (
            "a.org A | SERVFAIL rd | a.org 9 CNAME nope.~ |  |",
            "a.org A | NXDOMAIN rd | a.org 9 CNAME nope.~ | $SOA |",
        ),
        (
            "a.org AAAA | NOERROR rd | a.org 9 CNAME web.~ |  |",
            "a.org AAAA | NOERROR rd | a.org 9 CNAME web.~ | $SOA |",
        ),
        (
            "a.org SRV | NOERROR rd | a.org 9 CNAME web.~ |  |",
            "a.org SRV | NOERROR rd | a.org 9 CNAME web.~; web.~ 5 SRV 0 50 80 a.web.~; \
                web.~ 5 SRV 0 50 81 b.web.~ |  | a.web.~ 5 A 10.0.0.9; b.web.~ 5 A 10.0.0.9",
        ),
        // The own name is an alias.
        (
            "a.org A | NOERROR rd | a.org 9 CNAME ext.~ |  |",
            "a.org A | NOERROR rd | a.org 9 CNAME ext.~; ext.~ 5 CNAME web.~; $WEB |  |",
        ),
        (
            "a.org MX | NOERROR rd | a.org 9 CNAME ext.~ |  |",
            "a.org MX | NOERROR rd | a.org 9 CNAME ext.~; ext.~ 5 CNAME web.~ | $SOA |",
        ),
        // A DNAME with signatures, and a question that ends like the own zone.
        (
            "web.x.org A | NOERROR rd | x.org 9 DNAME ~; x.org 9 RRSIG DNAME 7; \
                web.x.org 9 CNAME web.~; web.x.org 9 RRSIG CNAME 8; web.~ 9 RRSIG A 9 |  |",
            "web.x.org A | NOERROR rd | x.org 9 DNAME ~; x.org 9 RRSIG DNAME 7; \
                web.x.org 9 CNAME web.~; web.x.org 9 RRSIG CNAME 8; $WEB |  |",
        ),
        (
            "a.local AAAA | NOERROR rd | a.local 9 CNAME b.cluster.net; \
                b.cluster.net 9 CNAME web.~ |  |",
            "a.local AAAA | NOERROR rd | a.local 9 CNAME b.cluster.net; \
                b.cluster.net 9 CNAME web.~ | $SOA |",
        ),
    ] {
        check(text, Some(expected));
    }
}

#[test]
fn responses_without_an_own_target_are_not_cut() {
    check("a.org A | NOERROR rd | a.org 9 CNAME b.net; b.net 9 A 192.0.2.1 |  |", None);
    // A question for the CNAME itself.
    check("a.org CNAME | NOERROR rd | a.org 9 CNAME web.~ |  |", None);
    // A CNAME that does not belong to the question.
    check("a.org A | NOERROR rd | a.org 9 A 192.0.2.1; b.net 9 CNAME web.~ |  |", None);
}

#[test]
fn the_tables_addresses_rotate_and_are_truncated() {
    let text = "a.org A | NOERROR aa rd | a.org 9 CNAME web.cluster.local |  |";
    let turned = completed(text, 1, MESSAGE_LEN_MAX).unwrap();
    assert!(turned.find("10.0.0.2") < turned.find("10.0.0.1"), "{turned}");
    for question in ["A", "AAAA", "SRV", "MX"] {
        let text = text.replace("org A", &format!("org {question}"));
        let whole = (30..).find(|len| !completed(&text, 0, *len).unwrap().contains(" tc")).unwrap();
        assert_eq!(completed(&text, 0, whole), completed(&text, 0, MESSAGE_LEN_MAX));
    }
}
