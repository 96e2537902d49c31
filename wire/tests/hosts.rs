//! A list of hosts, and how it answers beside CoreDNS's `hosts`.

use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::{HashSeed, NameHash};
use wire::header::{TYPE_A, TYPE_AAAA, TYPE_PTR};
use wire::name::Name;
use wire::pod::PodMode;
use wire::query::{self, ClientPacket, Query};
use wire::reply::{self, Envelope, MESSAGE_LEN_MAX};
use wire::table::{Found, Table};

fn wire_name(text: &str) -> Vec<u8> {
    let mut name = vec![];
    for label in text.split('.').filter(|label| !label.is_empty()) {
        name.push(label.len() as u8);
        name.extend(label.bytes());
    }
    name.push(0);
    name
}

/// `hosts HOSTS lan test { … }`: two hosts in a zone, and the reverse names of one.
fn builder() -> TableBuilder {
    let mut builder = TableBuilder::new(
        TableOptions::hosts(["lan", "test"].map(wire_name).to_vec(), true),
        HashSeed::new(3),
    );
    for (name, qtype, rdata) in [
        ("db.lan", TYPE_A, vec![10, 0, 0, 1]),
        ("six.lan", TYPE_AAAA, [0xFD, 0].repeat(8)),
        ("1.0.0.10.in-addr.arpa", TYPE_PTR, wire_name("db.lan")),
        ("4.3.2.1.test", TYPE_PTR, wire_name("db.lan")),
    ] {
        insert(&mut builder, name, &[(qtype, &rdata)]);
    }
    builder
}

fn insert(builder: &mut TableBuilder, name: &str, records: &[(u16, &[u8])]) -> NameHash {
    let owner = wire_name(name);
    let mut writer = EntryWriter::new();
    writer.begin(&owner);
    for (rtype, rdata) in records {
        writer.answer(*rtype);
        writer.record(Section::Answer, &owner, *rtype, 60, rdata);
    }
    builder.insert(writer.finish())
}

fn question(name: &str, qtype: u16, has_opt: bool) -> Vec<u8> {
    let mut packet = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(has_opt)];
    packet.extend(wire_name(name));
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1]);
    if has_opt {
        packet.extend([0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0]);
    }
    packet
}

fn read(packet: &[u8]) -> (Name, Query) {
    let mut name = Name::default();
    let ClientPacket::Query(query) = query::read(packet, &mut name) else { panic!("{packet:?}") };
    (name, query)
}

/// The packet answered: rcode, flags and counts, then the length after the question.
fn shown(packet: &[u8], message: &[u8], len: usize) -> String {
    let [_, _, flags0, flags1, _, 1, _, answers, _, authorities, _, additionals, ..] = *message
    else {
        panic!("{message:?}")
    };
    let aa = if flags0 & 4 != 0 { " aa" } else { "" };
    let sections = format!("{answers} {authorities} {additionals}");
    format!("{}{aa} {sections}, {}", flags1 & 0xF, len - packet.len())
}

/// What the table finds, and the answer.
fn check(table: &Table, asked: &str, expected: &str) {
    let (text, qtype) = asked.split_once(' ').unwrap();
    let packet = question(text, qtype.parse().unwrap(), false);
    let (name, query) = read(&packet);
    let found = table.look_up(&name, query.qtype);
    let kind = match found {
        Found::Answer(_) => "answer",
        Found::NoData(_) => "no data",
        Found::Unlisted => "unlisted",
        Found::Outside => "outside",
        Found::Alias(_)
        | Found::Pod(_)
        | Found::Endpoint(_)
        | Found::Pointer(_)
        | Found::Soa(_)
        | Found::NxDomain(_)
        | Found::Unsynced(_) => "of a cluster",
        Found::Expanded(..) | Found::Denied(_) | Found::Referral(_) | Found::Unloaded => {
            "of a zone"
        }
    };
    let mut message = packet.clone();
    message.resize(MESSAGE_LEN_MAX, 0);
    let envelope = Envelope { len_max: 512, rotation: 0 };
    let stamped = reply::stamp(&query, table, &found, envelope, &mut message);
    let shown = shown(&packet, &message, stamped.len);
    assert_eq!(format!("{kind}: {shown}"), expected, "{asked}");
}

#[test]
fn a_list_answers_as_coredns_hosts_does() {
    let table = builder().publish(1);
    for (asked, expected) in [
        ("db.lan 1", "answer: 0 aa 1 0 0, 16"),
        ("DB.Lan 1", "answer: 0 aa 1 0 0, 16"),
        ("six.lan 28", "answer: 0 aa 1 0 0, 28"),
        ("1.0.0.10.in-addr.arpa 12", "answer: 0 aa 1 0 0, 20"),
        // A host without records of the type: no SOA.
        ("db.lan 28", "no data: 0 aa 0 0 0, 0"),
        ("six.lan 1", "no data: 0 aa 0 0 0, 0"),
        ("db.lan 6", "no data: 0 aa 0 0 0, 0"),
        ("db.lan 255", "no data: 0 aa 0 0 0, 0"),
        ("db.lan 33", "no data: 0 aa 0 0 0, 0"),
        // Names that the list lacks, the zone's own among them, and those above and below a host.
        ("nope.lan 1", "unlisted: 2 0 0 0, 0"),
        ("lan 6", "unlisted: 2 0 0 0, 0"),
        ("a.db.lan 1", "unlisted: 2 0 0 0, 0"),
        // A name that has PTR records only is not a host.
        ("4.3.2.1.test 12", "answer: 0 aa 1 0 0, 20"),
        ("4.3.2.1.test 1", "unlisted: 2 0 0 0, 0"),
        ("4.3.2.1.test 16", "unlisted: 2 0 0 0, 0"),
        // Outside the zones, reverse names that have an entry too.
        ("1.0.0.10.in-addr.arpa 1", "outside: 5 0 0 0, 0"),
        ("1.0.0.10.in-addr.arpa 16", "outside: 5 0 0 0, 0"),
        ("db.example 1", "outside: 5 0 0 0, 0"),
        // PTR records are passed on, in the zones too.
        ("2.0.0.10.in-addr.arpa 12", "outside: 5 0 0 0, 0"),
        ("db.lan 12", "outside: 5 0 0 0, 0"),
        ("nope.lan 12", "outside: 5 0 0 0, 0"),
    ] {
        check(&table, asked, expected);
    }
}

#[test]
fn wildcards_answer_for_one_label() {
    let mut builder = builder();
    insert(&mut builder, "*.lan", &[(TYPE_A, &[10, 0, 0, 9])]);
    insert(&mut builder, "*.apps.lan", &[(TYPE_A, &[10, 0, 0, 8])]);
    insert(&mut builder, "*.4.3.2.1.test", &[(TYPE_A, &[10, 0, 0, 7])]);
    insert(&mut builder, "5.4.3.2.1.test", &[(TYPE_PTR, &wire_name("db.lan"))]);
    let table = builder.publish(1);
    for (asked, expected) in [
        ("any.lan 1", "answer: 0 aa 1 0 0, 16"),
        ("aNy.lAn 1", "answer: 0 aa 1 0 0, 16"),
        ("*.lan 1", "answer: 0 aa 1 0 0, 16"),
        ("any.lan 28", "no data: 0 aa 0 0 0, 0"),
        ("any.lan 15", "no data: 0 aa 0 0 0, 0"),
        ("any.lan 12", "outside: 5 0 0 0, 0"),
        ("a.apps.lan 1", "answer: 0 aa 1 0 0, 16"),
        // A host that is listed itself.
        ("db.lan 1", "answer: 0 aa 1 0 0, 16"),
        ("six.lan 1", "no data: 0 aa 0 0 0, 0"),
        // No label more, or two.
        ("lan 1", "unlisted: 2 0 0 0, 0"),
        ("a.any.lan 1", "unlisted: 2 0 0 0, 0"),
        ("a.b.apps.lan 1", "unlisted: 2 0 0 0, 0"),
        (". 1", "outside: 5 0 0 0, 0"),
        // A name that has PTR records only is not a host: the wildcard answers for its addresses.
        ("5.4.3.2.1.test 12", "answer: 0 aa 1 0 0, 20"),
        ("5.4.3.2.1.test 1", "answer: 0 aa 1 0 0, 16"),
    ] {
        check(&table, asked, expected);
    }
    let name = Name::from_wire(&wire_name("any.lan")).unwrap();
    let Found::Answer(answer) = table.look_up(&name, TYPE_A) else { panic!("no answer") };
    assert_eq!(answer.body, b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x09");
}

#[test]
fn wildcards_come_and_go() {
    let mut builder = builder();
    let found = |table: &Table| {
        let name = Name::from_wire(&wire_name("any.lan")).unwrap();
        matches!(table.look_up(&name, TYPE_A), Found::Answer(_))
    };
    let before = builder.publish(1);
    assert!(!found(&before) && before.passes_unstored());
    let wildcard = insert(&mut builder, "*.lan", &[(TYPE_A, &[10, 0, 0, 9])]);
    let with = builder.publish(2);
    assert!(found(&with) && !with.passes_unstored());
    builder.remove(wildcard);
    // So many names that every segment is written anew.
    for host in 0..5000 {
        insert(&mut builder, &format!("h{host}.lan"), &[(TYPE_A, &[10, 0, 0, 1])]);
    }
    let without = builder.publish(3);
    assert!(!found(&without) && without.passes_unstored());
    insert(&mut builder, "*.lan", &[(TYPE_A, &[10, 0, 0, 9])]);
    assert!(found(&builder.publish(4)));
}

#[test]
fn tables_with_one_seed_share_hashes() {
    let names = ["db.lan", "x", "cluster.local", &"a.".repeat(100)];
    let cluster = TableOptions::kubernetes(vec![vec![0]], PodMode::Insecure, 5);
    let cluster = TableBuilder::new(cluster, HashSeed::new(3)).publish(1);
    let list = builder().publish(1);
    let other = TableBuilder::new(TableOptions::hosts(vec![], false), HashSeed::new(4)).publish(1);
    assert!(list.hashes_like(&cluster) && !list.hashes_like(&other));
    for name in names.map(|text| Name::from_wire(&wire_name(text)).unwrap()) {
        assert_eq!(list.hash(&name), cluster.hash(&name));
        assert_ne!(list.hash(&name), other.hash(&name));
    }
}

#[test]
fn only_a_list_that_falls_through_everywhere_passes_unstored_names() {
    let cluster = TableOptions::kubernetes(vec![vec![0]], PodMode::Disabled, 5);
    for (options, expected) in [
        (TableOptions::hosts(vec![vec![0]], true), true),
        (TableOptions::hosts(vec![vec![0]], false), false),
        (TableOptions { falls_through_everywhere: true, ..cluster.clone() }, false),
        (cluster, false),
    ] {
        let table = TableBuilder::new(options, HashSeed::new(3)).publish(1);
        assert_eq!(table.passes_unstored(), expected);
    }
}

#[test]
fn an_unlisted_name_is_rejected() {
    let table = builder().publish(1);
    for has_opt in [false, true] {
        let packet = question("nope.lan", TYPE_A, has_opt);
        let (name, query) = read(&packet);
        let found = table.look_up(&name, query.qtype);
        let envelope = Envelope { len_max: 512, rotation: 0 };
        let (mut stamped, mut rejected) = (packet.clone(), packet.clone());
        let stamped_len = reply::stamp(&query, &table, &found, envelope, &mut stamped).len;
        let reject = query.reject(wire::header::Rcode::ServFail);
        let rejected_len = reply::stamp_reject(&reject, &mut rejected).len;
        assert_eq!(stamped[..stamped_len], rejected[..rejected_len]);
    }
}

#[test]
fn the_fast_path_leaves_missing_types_to_the_look_up_in_full() {
    let table = builder().publish(1);
    let name = Name::from_wire(&wire_name("db.lan")).unwrap();
    let stored = table.stored(table.hash(&name), &name).unwrap();
    assert!(stored.answer(TYPE_A).is_some());
    assert_eq!(stored.no_data(), None);
}
