//! Answers that no message holds: each response has a part of one, with TC, and soon every record
//! has been in a response.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, Name as DomainName, Rtype};
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions, ZoneRecord, ZoneRecords};
use wire::hash::HashSeed;
use wire::header::{TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_NS, TYPE_SOA, TYPE_SRV, TYPE_TXT};
use wire::name::Name;
use wire::pod::PodMode;
use wire::query::{self, ClientPacket};
use wire::reply::{self, Envelope, MESSAGE_LEN_MAX};
use wire::table::Table;

const CROWD: &str = "crowd.default.svc.cluster.local";

fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().unwrap().as_slice().to_vec()
}

/// The data of a record of this type, a different one for each number.
fn rdata(rtype: u16, number: u32) -> Vec<u8> {
    let v4 = Ipv4Addr::from_bits(0x0A00_0000 + number);
    match rtype {
        TYPE_A => v4.octets().into(),
        TYPE_AAAA => v4.to_ipv6_mapped().octets().into(),
        TYPE_SRV => {
            let target = wire_name(&format!("{}.{CROWD}", v4.to_string().replace('.', "-")));
            [&[0, 0, 0, 1, 0, 80], &*target].concat()
        }
        TYPE_TXT => [&[200][..], &[b'x'; 196], &number.to_be_bytes()].concat(),
        _ => panic!("type {rtype}"),
    }
}

/// Begins the entry of a name, with an answer of so many records.
fn write(writer: &mut EntryWriter, owner: &[u8], rtype: u16, count: u32) {
    writer.begin(owner);
    writer.answer(rtype);
    for number in 0..count {
        writer.record(Section::Answer, owner, rtype, 30, &rdata(rtype, number));
    }
}

fn publish(options: TableOptions, write: impl Fn(&mut EntryWriter)) -> Arc<Table> {
    let mut builder = TableBuilder::new(options, HashSeed::new(42));
    let mut writer = EntryWriter::new();
    write(&mut writer);
    builder.insert(writer.finish());
    builder.set_synced();
    builder.publish(7)
}

fn cluster() -> TableOptions {
    TableOptions::kubernetes(vec![wire_name("cluster.local")], PodMode::Disabled, 30)
}

/// A table with the crowd alone, which has so many records of this type.
fn crowd(rtype: u16, count: u32) -> Arc<Table> {
    publish(cluster(), |writer| write(writer, &wire_name(CROWD), rtype, count))
}

/// A response, as an independent parser reads it.
struct Response {
    has_tc: bool,
    len: usize,
    /// The data of the records in the answer, in their order.
    data: Vec<Vec<u8>>,
}

fn ask(table: &Table, name: &str, rtype: u16, len_max: usize, rotation: usize) -> Response {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(wire_name(name));
    packet.extend([rtype.to_be_bytes(), [0, 1]].concat());
    let mut name = Name::default();
    let ClientPacket::Query(query) = query::read(&packet, &mut name) else { panic!("a query") };
    let stored = table.stored(table.hash(&name), &name);
    let found = table.look_up_from(stored, &name, query.wanted(rotation));
    packet.resize(len_max, 0);
    let envelope = Envelope { len_max, rotation };
    let len = reply::stamp(&query, table, &found, envelope, &mut packet).len;
    assert!(len <= len_max, "{len} of {len_max} bytes");
    let message = Message::from_octets(&packet[..len]).unwrap();
    let records = message.answer().unwrap().limit_to::<UnknownRecordData<_>>();
    let data = records.map(|record| record.unwrap().data().data().to_vec()).collect();
    Response { has_tc: message.header().tc(), len, data }
}

/// Over TCP, twice as many responses as there are parts have all records. Each record is in one
/// part, and the parts are about equally long.
#[test]
fn every_record_is_in_a_part() {
    for (rtype, count, expected_parts) in [
        (TYPE_A, 4_079, 2),
        (TYPE_A, 10_000, 3),
        (TYPE_A, 100_000, 28),
        (TYPE_AAAA, 2_331, 2),
        (TYPE_AAAA, 10_000, 5),
        (TYPE_SRV, 10_000, 11),
    ] {
        let what = format!("{count} of {}", Rtype::from_int(rtype));
        let table = crowd(rtype, count);
        let mut parts = BTreeSet::new();
        for rotation in 0..2 * expected_parts {
            let mut response = ask(&table, CROWD, rtype, MESSAGE_LEN_MAX, rotation);
            assert!(response.has_tc, "{what}: TC");
            response.data.sort();
            parts.insert(response.data);
        }
        let seen: BTreeSet<&Vec<u8>> = parts.iter().flatten().collect();
        let counts: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!((counts.len(), seen.len()), (expected_parts, count as usize), "{what}");
        assert_eq!(counts.iter().sum::<usize>(), seen.len(), "{what}: each once, {counts:?}");
        let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        // The targets of SRV records differ in length.
        let spread_max = if rtype == TYPE_SRV { 50 } else { 1 };
        assert!(spread <= spread_max, "{what}: {counts:?}");
    }
}

/// A part begins with another address each time, and its SRV records stay where they are.
#[test]
fn parts_rotate() {
    let data =
        |table: &Table, rtype, rotation| ask(table, CROWD, rtype, MESSAGE_LEN_MAX, rotation).data;
    let addresses = crowd(TYPE_A, 10_000);
    let mut firsts = BTreeSet::new();
    for rotation in 0..50 {
        let found = data(&addresses, TYPE_A, rotation);
        let mut expected = found.clone();
        expected.sort();
        let first = expected.binary_search(&found[0]).expect("it is one of them");
        expected.rotate_left(first);
        assert!(found == expected, "rotation {rotation}");
        firsts.insert(found[0].clone());
    }
    assert_eq!(firsts.len(), 50);
    let services = crowd(TYPE_SRV, 10_000);
    let parts: BTreeSet<_> = (0..50).map(|rotation| data(&services, TYPE_SRV, rotation)).collect();
    assert_eq!(parts.len(), 11);
}

/// After eight times as many responses as would hold them, also for a client that asks for A and
/// AAAA.
#[test]
fn responses_over_udp_get_to_every_address() {
    for (rtype, count) in [(TYPE_A, 9_000_u32), (TYPE_A, 10_000), (TYPE_AAAA, 2_400)] {
        let table = crowd(rtype, count);
        let in_response = ask(&table, CROWD, rtype, 512, 0).data.len();
        let query_count = 8 * (count as usize).div_ceil(in_response);
        for step in [1, 2, 4] {
            let mut seen = BTreeSet::new();
            for rotation in (0..).step_by(step).take(query_count) {
                let response = ask(&table, CROWD, rtype, 512, rotation);
                assert!(response.has_tc && response.data.len() == in_response);
                seen.extend(response.data);
            }
            println!("{rtype}: {in_response} of {count} in a response, {query_count} queries");
            let seen_count = seen.len();
            assert_eq!(seen_count, count as usize, "{rtype}: step {step}, {query_count} queries");
        }
    }
}

#[test]
fn what_a_message_holds_has_no_parts() {
    for (rtype, count) in [(TYPE_A, 4_078), (TYPE_AAAA, 2_330), (TYPE_TXT, 305)] {
        let table = crowd(rtype, count);
        let response = ask(&table, CROWD, rtype, MESSAGE_LEN_MAX, 1);
        assert!(!response.has_tc && response.data.len() == count as usize, "{rtype}");
        assert!(MESSAGE_LEN_MAX - response.len < 600, "{rtype}: {} bytes", response.len);
    }
}

/// Only Services have so many records, and they have no such types.
#[test]
fn other_types_have_their_first_records_only() {
    let table = crowd(TYPE_TXT, 400);
    let [first, second] =
        [0, 1].map(|rotation| ask(&table, CROWD, TYPE_TXT, MESSAGE_LEN_MAX, rotation));
    assert!(first.has_tc && first.data == second.data && first.data.len() > 300);
}

/// An ExternalName that points at such a Service: its CNAME comes first in every part.
#[test]
fn cnames_come_before_each_part() {
    let alias = "alias.default.svc.cluster.local";
    let table = publish(cluster(), |writer| {
        let (owner, target) = (wire_name(alias), wire_name(CROWD));
        writer.begin(&owner);
        writer.answer(TYPE_A);
        writer.record(Section::Answer, &owner, TYPE_CNAME, 30, &target);
        for number in 0..10_000 {
            writer.record(Section::Answer, &target, TYPE_A, 30, &rdata(TYPE_A, number));
        }
        // Another answer and other hidden rows are not in the way.
        writer.answer(TYPE_AAAA);
        writer.record(Section::Answer, &owner, TYPE_CNAME, 30, &target);
        let address = Ipv6Addr::LOCALHOST.octets();
        writer.record(Section::Answer, &target, TYPE_AAAA, 30, &address);
        writer.list_endpoints(1, &[80], &[[10, 1, 0, 1].into()]);
    });
    let mut seen = BTreeSet::new();
    for rotation in 0..6 {
        let response = ask(&table, alias, TYPE_A, MESSAGE_LEN_MAX, rotation);
        assert!(response.has_tc);
        assert_eq!(response.data[0], wire_name(CROWD), "the CNAME");
        seen.extend(response.data.into_iter().skip(1));
    }
    assert_eq!(seen.len(), 10_000);
    let response = ask(&table, alias, TYPE_AAAA, MESSAGE_LEN_MAX, 1);
    assert!(!response.has_tc && response.data.len() == 2);
}

/// A wildcard of an external zone, a host and a name in a zone file.
#[test]
fn tables_of_all_kinds_have_parts() {
    let external = TableOptions::k8s_external(
        vec![wire_name("out.example")],
        wire::apex::ApexLabel::new(b"dns").unwrap(),
        30,
    );
    let wildcard = publish(external, |writer| {
        write(writer, &wire_name("*.crowd.default.out.example"), TYPE_A, 5_000);
    });
    let hosts = publish(TableOptions::hosts(vec![vec![0]], false), |writer| {
        write(writer, &wire_name("crowd.test"), TYPE_A, 5_000);
    });
    let origin = wire_name("zone.test");
    let record = |owner: &str, rtype, rdata| ZoneRecord {
        owner: wire_name(owner).into(),
        rtype,
        ttl_secs: 30,
        rdata,
    };
    let ns = wire_name("ns.zone.test");
    let soa = [&*ns, &ns, &[0; 20]].concat();
    let mut records =
        vec![record("zone.test", TYPE_SOA, soa.into()), record("zone.test", TYPE_NS, ns.into())];
    for number in 0..5_000 {
        records.push(record("crowd.zone.test", TYPE_A, rdata(TYPE_A, number).into()));
    }
    let mut builder =
        TableBuilder::new(TableOptions::zones(vec![origin.clone()]), HashSeed::new(42));
    builder.insert_zone(&ZoneRecords::new(&origin, records).expect("a zone"));
    let zone = builder.publish(7);
    for (table, name) in [
        (&wildcard, "any.crowd.default.out.example"),
        (&hosts, "crowd.test"),
        (&zone, "crowd.zone.test"),
    ] {
        let mut seen = BTreeSet::new();
        for rotation in 0..3 {
            let response = ask(table, name, TYPE_A, MESSAGE_LEN_MAX, rotation);
            assert!(response.has_tc, "{name}");
            seen.extend(response.data);
        }
        assert_eq!(seen.len(), 5_000, "{name}");
    }
}

/// More records than parts have room for.
#[test]
fn the_number_of_parts_is_bounded() {
    let owner = wire_name(CROWD);
    let mut writer = EntryWriter::new();
    writer.begin(&owner);
    for (rtype, count) in [(TYPE_A, 250_000), (TYPE_AAAA, 150_000), (TYPE_SRV, 65_000)] {
        writer.answer(rtype);
        for number in 0..count {
            writer.record(Section::Answer, &owner, rtype, 30, &rdata(rtype, number));
        }
    }
    let mut builder = TableBuilder::new(cluster(), HashSeed::new(42));
    let entry = writer.finish();
    assert!((10 << 20..12 << 20).contains(&entry.len()), "{} bytes", entry.len());
    builder.insert(entry);
    let table = builder.publish(7);
    let ask = |rotation| ask(&table, CROWD, TYPE_A, MESSAGE_LEN_MAX, rotation);
    let kept: BTreeSet<Vec<u8>> = (0..128).flat_map(|rotation| ask(rotation).data).collect();
    assert!((230_000..250_000).contains(&kept.len()), "{} addresses", kept.len());
}
