//! Queries to a small table, and the responses as an independent parser (`domain`) reads them.

use std::fmt::Write as _;
use std::sync::Arc;

use domain::base::iana::Rtype;
use domain::base::name::ToName;
use domain::base::{Message, MessageBuilder, Name as DomainName, Record, Ttl};
use domain::rdata::AllRecordData;
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::header::{TYPE_A, TYPE_SRV};
use wire::name::Name;
use wire::pod::PodMode;
use wire::query::{self, ClientPacket};
use wire::reply::{self, End, Envelope, MESSAGE_LEN_MAX, UDP_LEN_MAX};
use wire::table::{EVERY_TYPE, Found, Table};

fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().unwrap().as_slice().to_vec()
}

fn srv(port: u16, target: &str) -> Vec<u8> {
    let mut rdata = vec![0, 0, 0, 50];
    rdata.extend(port.to_be_bytes());
    rdata.extend(wire_name(target));
    rdata
}

/// Services: web (two addresses, SRV), its port _http._tcp, ext (a CNAME), many (100 addresses),
/// listed (endpoints that are not stored), and aliases.
fn builder(pods: PodMode) -> TableBuilder {
    let zones = ["cluster.local", "in-addr.arpa"].map(wire_name).to_vec();
    let mut builder =
        TableBuilder::new(TableOptions::kubernetes(zones, pods, 30), HashSeed::new(42));
    let mut writer = EntryWriter::new();
    let web = wire_name("web.default.svc.cluster.local");
    for name in ["web.default.svc.cluster.local", "_http._tcp.web.default.svc.cluster.local"] {
        let owner = wire_name(name);
        writer.begin(&owner);
        writer.answer(TYPE_A);
        writer.record(Section::Answer, &owner, TYPE_A, 30, &[10, 96, 0, 1]);
        writer.record(Section::Answer, &owner, TYPE_A, 30, &[10, 96, 0, 2]);
        writer.answer(TYPE_SRV);
        writer.record(
            Section::Answer,
            &owner,
            TYPE_SRV,
            30,
            &srv(80, "web.default.svc.cluster.local"),
        );
        writer.record(Section::Additional, &web, TYPE_A, 30, &[10, 96, 0, 1]);
        builder.insert(writer.finish());
    }
    writer.begin(&wire_name("ext.default.svc.cluster.local"));
    writer.answer(EVERY_TYPE);
    let ext = wire_name("ext.default.svc.cluster.local");
    writer.record(Section::Answer, &ext, 5, 30, &wire_name("www.example.org"));
    builder.insert(writer.finish());
    insert_aliases(&mut builder, &mut writer);
    let listed = wire_name("listed.default.svc.cluster.local");
    writer.begin(&listed);
    writer.list_endpoints(50, &[80, 9090], &[[10, 1, 0, 1].into(), "fd00::1".parse().unwrap()]);
    builder.insert(writer.finish());
    builder.insert_pointer([10, 1, 0, 1].into(), &Name::from_wire(&listed).unwrap());
    let many = wire_name("many.default.svc.cluster.local");
    writer.begin(&many);
    writer.answer(TYPE_A);
    for host in 0..100 {
        writer.record(Section::Answer, &many, TYPE_A, 30, &[10, 0, 0, host]);
    }
    builder.insert(writer.finish());
    for name in [
        "cluster.local",
        "svc.cluster.local",
        "default.svc.cluster.local",
        "default.pod.cluster.local",
    ] {
        writer.begin(&wire_name(name));
        builder.insert(writer.finish());
    }
    let pointer = wire_name("1.0.96.10.in-addr.arpa");
    writer.begin(&pointer);
    writer.answer(12);
    writer.record(Section::Answer, &pointer, 12, 30, &web);
    builder.insert(writer.finish());
    builder.set_synced();
    builder
}

/// Aliases of names in the table, by one CNAME and by two. One alias has the addresses stored with
/// it.
fn insert_aliases(builder: &mut TableBuilder, writer: &mut EntryWriter) {
    // A name of 250 bytes: longer than a query for its alias.
    let long = ["a", "b", "c"].map(|label| label.repeat(63)).join(".")
        + &format!(".{}.default", "d".repeat(30));
    let web = wire_name("web.default.svc.cluster.local");
    for (alias, target) in [
        ("in", "web.default"),
        ("gone", "nope.default"),
        ("endpoint", "10-1-0-1.listed.default"),
        ("pod", "1-2-3-4.default.pod"),
        ("far", "a.b.1-2-3-4.default.pod"),
        ("bare", "http.tcp.web.default"),
        ("up", ""),
        ("long", &long),
    ] {
        let owner = wire_name(&format!("{alias}.default.svc.cluster.local"));
        let target = match target {
            "" => "cluster.local".to_owned(),
            pod if pod.ends_with("pod") => format!("{pod}.cluster.local"),
            service => format!("{service}.svc.cluster.local"),
        };
        writer.begin(&owner);
        writer.answer(EVERY_TYPE);
        writer.record(Section::Answer, &owner, 5, 30, &wire_name(&target));
        builder.insert(writer.finish());
    }
    let [two, middle] =
        ["two", "middle"].map(|name| wire_name(&format!("{name}.default.svc.cluster.local")));
    writer.begin(&two);
    writer.answer(TYPE_A);
    writer.record(Section::Answer, &two, 5, 30, &middle);
    writer.record(Section::Answer, &middle, 5, 30, &web);
    writer.record(Section::Answer, &web, TYPE_A, 30, &[10, 96, 0, 1]);
    writer.answer(EVERY_TYPE);
    writer.record(Section::Answer, &two, 5, 30, &middle);
    writer.record(Section::Answer, &middle, 5, 30, &web);
    builder.insert(writer.finish());
}

fn question(name: &str, qtype: u16, edns_len: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec().question();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let name: DomainName<Vec<u8>> = name.parse().unwrap();
    builder.push((name, Rtype::from_int(qtype))).unwrap();
    let mut builder = builder.additional();
    if let Some(len) = edns_len {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(len);
                Ok(())
            })
            .unwrap();
    }
    builder.finish()
}

/// The response to a query. CNAMEs are followed once, within the table.
fn ask(table: &Table, packet: &[u8], envelope: impl Fn(&query::Query) -> Envelope) -> Vec<u8> {
    let mut name = Name::default();
    let ClientPacket::Query(query) = query::read(packet, &mut name) else { panic!("not a query") };
    let found = table.look_up(&name, query.qtype);
    let mut message = packet.to_vec();
    message.resize(MESSAGE_LEN_MAX, 0);
    let behind = |cnames: wire::answer::Answer<'_>| {
        table.look_up(&Name::from_wire(cnames.target()).unwrap(), query.qtype)
    };
    let stamped = match found {
        Found::Alias(cnames) if !matches!(behind(cnames), Found::Outside) => {
            let end =
                End { cnames: Some(cnames), then: None, found: Some((table, behind(cnames))) };
            reply::stamp_end(&query, &end, envelope(&query), &mut message)
        }
        found => reply::stamp(&query, table, &found, envelope(&query), &mut message),
    };
    message.truncate(stamped.len);
    message
}

fn udp(query: &query::Query) -> Envelope {
    Envelope { len_max: Envelope::udp_len_max(query.edns, UDP_LEN_MAX), rotation: 0 }
}

/// Header and records in one line: rcode, flags, then the records, with `|` between the sections.
fn shown(reply: &[u8]) -> String {
    let message = Message::from_octets(reply).unwrap();
    let header = message.header();
    let mut line = format!("{}", header.rcode());
    for (flag, set) in
        [("aa", header.aa()), ("tc", header.tc()), ("rd", header.rd()), ("ra", header.ra())]
    {
        if set {
            write!(line, " {flag}").unwrap();
        }
    }
    let (_, answers, authorities, additionals) = message.sections().unwrap();
    for section in [answers, authorities, additionals] {
        line.push_str(" |");
        for record in section {
            let record: Record<_, AllRecordData<_, _>> = record.unwrap().into_any_record().unwrap();
            let owner: DomainName<Vec<u8>> = record.owner().to_name();
            if record.rtype() == Rtype::OPT {
                write!(line, " OPT").unwrap();
                continue;
            }
            let _: Ttl = record.ttl();
            write!(line, " {owner} {} {}", record.rtype(), record.data()).unwrap();
        }
    }
    line
}

/// `asked`: a name and a type. `expected`: see `shown`. `~` is short for the Services' part of a
/// name, `%` for the pods'; in `expected`, `@` is the name asked for, and `$SOA` and `$REVERSE_SOA`
/// are those of the two zones.
fn check(table: &Table, asked: &str, expected: &str) {
    let expand = |text: &str| {
        text.replace('~', ".default.svc.cluster.local").replace('%', ".default.pod.cluster.local")
    };
    let (name, rtype) = asked.split_once(' ').unwrap();
    let (name, rtype) = (expand(name), rtype.parse::<Rtype>().unwrap());
    let expected = expand(expected)
        .replace('@', &name)
        .replace("$SOA", SOA)
        .replace("$REVERSE_SOA", &SOA.replace("cluster.local", "in-addr.arpa"));
    let response = ask(table, &question(&name, rtype.to_int(), None), udp);
    assert_eq!(shown(&response), expected, "{asked}");
}

const SOA: &str =
    "cluster.local SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 30";

#[test]
fn questions_are_answered() {
    let table = builder(PodMode::Insecure).publish(7);
    for (asked, expected) in [
        ("web~ A", "NOERROR aa rd | @ A 10.96.0.1 @ A 10.96.0.2 | |"),
        ("WEB.default.svc.Cluster.Local A", "NOERROR aa rd | @ A 10.96.0.1 @ A 10.96.0.2 | |"),
        ("web~ AAAA", "NOERROR aa rd | | $SOA |"),
        ("web~ SRV", "NOERROR aa rd | @ SRV 0 50 80 @ | | @ A 10.96.0.1"),
        ("_http._tcp.web~ SRV", "NOERROR aa rd | @ SRV 0 50 80 web~ | | web~ A 10.96.0.1"),
        ("http.tcp.web~ SRV", "NOERROR aa rd | @ SRV 0 50 80 web~ | | web~ A 10.96.0.1"),
        ("http._tcp.web~ A", "NOERROR aa rd | @ A 10.96.0.1 @ A 10.96.0.2 | |"),
        ("http.sip.web~ A", "NXDOMAIN aa rd | | $SOA |"),
        ("nope~ A", "NXDOMAIN aa rd | | $SOA |"),
        ("nope~ SOA", "NOERROR aa rd | | $SOA |"),
        ("cluster.local SOA", "NOERROR aa rd | $SOA | |"),
        ("cluster.local A", "NOERROR aa rd | | $SOA |"),
        ("default.svc.cluster.local ANY", "NOERROR aa rd | | $SOA |"),
        ("ext~ TXT", "NOERROR aa rd | @ CNAME www.example.org. | |"),
        ("1-2-3-4% A", "NOERROR aa rd | @ A 1.2.3.4 | |"),
        ("a.b.1-2-3-4% A", "NOERROR aa rd | @ A 1.2.3.4 | |"),
        ("fd00--1% AAAA", "NOERROR aa rd | @ AAAA fd00::1 | |"),
        ("fd00--1% A", "NOERROR aa rd | | $SOA |"),
        ("1-2-3-4% SRV", "NOERROR aa rd | @ SRV 0 100 0 @ | | @ A 1.2.3.4"),
        ("256-1-1-1% A", "NXDOMAIN aa rd | | $SOA |"),
        ("1-2-3-4.nons.pod.cluster.local A", "NXDOMAIN aa rd | | $SOA |"),
        ("listed~ A", "NOERROR aa rd | | $SOA |"),
        ("10-1-0-1.listed~ A", "NOERROR aa rd | @ A 10.1.0.1 | |"),
        ("10-1-0-1.listed~ AAAA", "NOERROR aa rd | | $SOA |"),
        (
            "10-1-0-1.listed~ SRV",
            "NOERROR aa rd | @ SRV 0 50 80 @ @ SRV 0 50 9090 @ | | @ A 10.1.0.1",
        ),
        ("fd00--1.listed~ AAAA", "NOERROR aa rd | @ AAAA fd00::1 | |"),
        ("FD00--1.Listed.default.svc.cluster.local AAAA", "NOERROR aa rd | @ AAAA fd00::1 | |"),
        ("10-1-0-01.listed~ A", "NXDOMAIN aa rd | | $SOA |"),
        ("10-1-0-2.listed~ A", "NXDOMAIN aa rd | | $SOA |"),
        ("10-1-0-1.web~ A", "NXDOMAIN aa rd | | $SOA |"),
        ("a.10-1-0-1.listed~ A", "NXDOMAIN aa rd | | $SOA |"),
        ("1.0.1.10.in-addr.arpa PTR", "NOERROR aa rd | @ PTR 10-1-0-1.listed~. | |"),
        ("1.0.1.10.in-addr.arpa A", "NXDOMAIN aa rd | | $REVERSE_SOA |"),
        ("2.0.1.10.in-addr.arpa PTR", "NXDOMAIN aa rd | | $REVERSE_SOA |"),
        ("1.0.96.10.in-addr.arpa PTR", "NOERROR aa rd | @ PTR web~. | |"),
        ("1.0.96.10.in-addr.arpa A", "NXDOMAIN aa rd | | $REVERSE_SOA |"),
    ] {
        check(&table, asked, expected);
    }
}

#[test]
fn aliases_end_as_their_targets_do() {
    let table = builder(PodMode::Insecure).publish(7);
    for (asked, expected) in [
        ("ext~ A", "NOERROR aa rd | @ CNAME www.example.org. | |"),
        ("in~ A", "NOERROR aa rd | @ CNAME web~. web~ A 10.96.0.1 web~ A 10.96.0.2 | |"),
        ("In~ A", "NOERROR aa rd | @ CNAME web~. web~ A 10.96.0.1 web~ A 10.96.0.2 | |"),
        ("in~ AAAA", "NOERROR aa rd | @ CNAME web~. | $SOA |"),
        ("in~ MX", "NOERROR aa rd | @ CNAME web~. | $SOA |"),
        ("in~ SRV", "NOERROR aa rd | @ CNAME web~. web~ SRV 0 50 80 web~ | | web~ A 10.96.0.1"),
        ("in~ CNAME", "NOERROR aa rd | @ CNAME web~. | |"),
        ("in~ ANY", "NOERROR aa rd | @ CNAME web~. | |"),
        ("two~ A", "NOERROR aa rd | @ CNAME middle~. middle~ CNAME web~. web~ A 10.96.0.1 | |"),
        ("two~ AAAA", "NOERROR aa rd | @ CNAME middle~. middle~ CNAME web~. | $SOA |"),
        ("gone~ A", "NXDOMAIN aa rd | @ CNAME nope~. | $SOA |"),
        ("gone~ TXT", "NXDOMAIN aa rd | @ CNAME nope~. | $SOA |"),
        ("up~ A", "NOERROR aa rd | @ CNAME cluster.local. | $SOA |"),
        (
            "endpoint~ A",
            "NOERROR aa rd | @ CNAME 10-1-0-1.listed~. 10-1-0-1.listed~ A 10.1.0.1 | |",
        ),
        ("pod~ A", "NOERROR aa rd | @ CNAME 1-2-3-4%. 1-2-3-4% A 1.2.3.4 | |"),
        ("pod~ AAAA", "NOERROR aa rd | @ CNAME 1-2-3-4%. | $SOA |"),
        (
            "pod~ SRV",
            "NOERROR aa rd | @ CNAME 1-2-3-4%. 1-2-3-4% SRV 0 100 0 1-2-3-4% | | 1-2-3-4% \
            A 1.2.3.4",
        ),
        (
            "bare~ SRV",
            "NOERROR aa rd | @ CNAME http.tcp.web~. http.tcp.web~ SRV 0 50 80 web~ | | \
            web~ A 10.96.0.1",
        ),
    ] {
        check(&table, asked, expected);
    }
}

#[test]
fn aliases_are_truncated_between_records() {
    let table = builder(PodMode::Insecure).publish(7);
    for (name, rtype) in [
        ("in", 1),
        ("in", 28),
        ("in", 33),
        ("pod", 1),
        ("pod", 33),
        ("endpoint", 1),
        ("endpoint", 33),
        ("10-1-0-1.listed", 33),
        ("two", 28),
        ("long", 1),
    ] {
        let packet = question(&format!("{name}.default.svc.cluster.local"), rtype, None);
        let whole = ask(&table, &packet, udp).len();
        for len_max in packet.len()..whole {
            let cut = ask(&table, &packet, |_| Envelope { len_max, rotation: 0 });
            assert!(cut.len() <= len_max, "{name} {rtype}: {} of {len_max}", cut.len());
            assert!(shown(&cut).contains(" aa tc rd |"), "{name} {rtype} in {len_max}");
        }
    }
}

#[test]
fn pods_that_are_not_stored_do_not_exist() {
    for pods in [PodMode::Disabled, PodMode::Verified] {
        check(&builder(pods).publish(7), "1-2-3-4% A", "NXDOMAIN aa rd | | $SOA |");
    }
}

#[test]
fn absent_names_are_servfail_before_the_first_sync() {
    let zones = vec![wire_name("cluster.local")];
    let options = TableOptions::kubernetes(zones, PodMode::Disabled, 30);
    let table = TableBuilder::new(options, HashSeed::new(1)).publish(0);
    let unsynced = format!("SERVFAIL aa rd | | {} |", SOA.replace(" 7 ", " 0 "));
    check(&table, "web~ A", &unsynced);
}

#[test]
fn answers_are_truncated_between_records() {
    let table = builder(PodMode::Disabled).publish(7);
    for (edns_len, expected_len_max, expected_count) in
        [(None, 512, 29), (Some(100), 512, 28), (Some(1232), 1232, 73), (Some(4096), 1232, 73)]
    {
        let packet = question("many.default.svc.cluster.local", 1, edns_len);
        let reply = ask(&table, &packet, udp);
        let message = Message::from_octets(reply.as_slice()).unwrap();
        assert!(message.header().tc());
        assert_eq!(message.header_counts().ancount(), expected_count, "{edns_len:?}");
        assert!(reply.len() <= expected_len_max);
        assert_eq!(message.opt().is_some(), edns_len.is_some());
    }
    let whole = ask(&table, &question("many.default.svc.cluster.local", 1, None), |_| Envelope {
        len_max: MESSAGE_LEN_MAX,
        rotation: 0,
    });
    let message = Message::from_octets(whole.as_slice()).unwrap();
    assert!(!message.header().tc());
    assert_eq!(message.header_counts().ancount(), 100);
}

/// The last byte of each address, in the order of the response.
fn hosts(reply: &[u8]) -> Vec<u8> {
    let message = Message::from_octets(reply).unwrap();
    let records = message.answer().unwrap().limit_to::<domain::rdata::A>();
    records.map(|record| record.unwrap().data().addr().octets()[3]).collect()
}

#[test]
fn rotation_comes_before_truncation() {
    let table = builder(PodMode::Disabled).publish(7);
    let packet = question("many.default.svc.cluster.local", 1, None);
    // By the golden ratio, so that every second response has other addresses first too.
    for (rotation, first) in [(0, 0), (1, 61), (2, 23), (3, 85), (100, 80), (250, 50)] {
        let cut = ask(&table, &packet, |query| Envelope { rotation, ..udp(query) });
        let whole = ask(&table, &packet, |_| Envelope { len_max: MESSAGE_LEN_MAX, rotation });
        let expected: Vec<u8> = (0..100).map(|index| ((first + index) % 100) as u8).collect();
        assert_eq!(hosts(&whole), expected);
        assert_eq!(hosts(&cut), expected[..29]);
    }
}

#[test]
fn generations_share_unchanged_segments() {
    let mut builder = builder(PodMode::Disabled);
    let first = builder.publish(7);
    let mut writer = EntryWriter::new();
    let owner = wire_name("web.default.svc.cluster.local");
    writer.begin(&owner);
    writer.answer(TYPE_A);
    writer.record(Section::Answer, &owner, TYPE_A, 30, &[10, 96, 0, 9]);
    let hash = builder.insert(writer.finish());
    let second = builder.publish(8);
    assert_eq!((first.generation(), second.generation()), (1, 2));
    assert_eq!(first.segments_shared_with(&second), first.segment_count() - 1);
    builder.remove(hash);
    let third: Arc<Table> = builder.publish(9);
    let soa = SOA.replace(" 7 ", " 9 ");
    check(&third, "web~ A", &format!("NXDOMAIN aa rd | | {soa} |"));
    check(&first, "web~ AAAA", "NOERROR aa rd | | $SOA |");
}

#[test]
fn a_large_headless_service_fits_a_tcp_message() {
    let mut builder = builder(PodMode::Disabled);
    let mut writer = EntryWriter::new();
    let owner = wire_name("big.default.svc.cluster.local");
    writer.begin(&owner);
    writer.answer(TYPE_SRV);
    for host in 0..1000u16 {
        let target = format!("big-{host}.big.default.svc.cluster.local");
        writer.record(Section::Answer, &owner, TYPE_SRV, 30, &srv(80, &target));
    }
    for host in 0..1000u16 {
        let target = wire_name(&format!("big-{host}.big.default.svc.cluster.local"));
        let [high, low] = host.to_be_bytes();
        writer.record(Section::Additional, &target, TYPE_A, 30, &[10, 1, high, low]);
    }
    builder.insert(writer.finish());
    let table = builder.publish(7);
    let packet = question("big.default.svc.cluster.local", 33, Some(1232));
    let tcp = ask(&table, &packet, |_| Envelope { len_max: MESSAGE_LEN_MAX, rotation: 0 });
    assert!(tcp.len() > 60_000 && tcp.len() <= MESSAGE_LEN_MAX, "{} bytes", tcp.len());
    let message = Message::from_octets(tcp.as_slice()).unwrap();
    assert!(message.header_counts().ancount() > 900);
    for record in message.answer().unwrap() {
        record.unwrap();
    }
    // What fits a datagram is readable too.
    shown(&ask(&table, &packet, udp));
}
