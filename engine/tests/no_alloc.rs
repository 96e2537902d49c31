//! The packet path neither allocates nor frees. Allocations of the whole process are counted while
//! it answers 100,000 queries of every kind and tables are replaced.
//!
//! Invariant: the client is part of the process, so it does not allocate either.

mod rig;
mod upstream;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use domain::base::iana::Rcode;
use engine::plan::TableSlot;
use engine::plugin::draft::TableSource;
use engine::plugin::file::table::ZoneTable;
use engine::plugin::file::{FileZone, zone_file};
use rig::query::query;
use rig::{BACKENDS, HASH_SEED, PATIENCE, Rig, frame};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use upstream::{Manner, Upstream};
use wire::apex::ApexLabel;
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::table::Table;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const QUERY_COUNT: usize = 100_000;
/// Queries in flight: fewer than any socket buffer holds.
const WINDOW: usize = 32;
const GENERATION_COUNT: usize = 50;

/// Every kind of question that is answered on the packet path.
fn kinds() -> Vec<Vec<u8>> {
    let with_opt = |name: &str, qtype: u16| {
        let mut packet = query(name, qtype);
        packet[11] = 1;
        packet.extend([0, 0, 41, 4, 0xD0, 0, 0, 0, 0, 0, 0]);
        packet
    };
    let with_do = |name: &str, qtype: u16| {
        let mut packet = with_opt(name, qtype);
        let flags_at = packet.len() - 4;
        packet[flags_at] = 0x80;
        packet
    };
    vec![
        query("web.default.svc.cluster.local", 1),
        query("WEB.default.SVC.cluster.local", 1),
        query("web.default.svc.cluster.local", 28),
        query("web.default.svc.cluster.local", 33),
        query("alias.default.svc.cluster.local", 1),
        query("alias.default.svc.cluster.local", 28),
        query("x.example.com.default.svc.cluster.local", 1),
        query("1-2-3-4.default.pod.cluster.local", 1),
        query("fd00--1.default.pod.cluster.local", 28),
        query("0.0.96.10.in-addr.arpa", 12),
        // Of an endpoint that is listed.
        query("10-1-0-1.web.default.svc.cluster.local", 1),
        query("10-1-0-1.web.default.svc.cluster.local", 33),
        query("1.0.1.10.in-addr.arpa", 12),
        // Falls through to the end of the chain: SERVFAIL, and a log line.
        query("9.9.96.10.in-addr.arpa", 12),
        query("big.default.svc.cluster.local", 1),
        with_opt("web.default.svc.cluster.local", 1),
        with_opt("big2.default.svc.cluster.local", 1),
        // A part of the addresses.
        query("crowd.default.svc.cluster.local", 1),
        query("cluster.local", 6),
        query("web.default.svc.cluster.local", 255),
        // From the cache, after the first query for it.
        query("www.example.org", 1),
        with_opt("www.example.org", 1),
        // From a template, where there is one; otherwise from the cache.
        query("x.named.test", 1),
        with_opt("a.b.denied.test", 1),
        query("web.default.svc.cluster.local", 1)[..20].to_vec(),
        // A zone file: answers, CNAMEs, wildcards, a DNAME, delegations, denials.
        query("www.zone.test", 1),
        query("mail.zone.test", 15),
        query("zone.test", 6),
        query("alias.zone.test", 1),
        query("cluster.zone.test", 1),
        query("any.wild.zone.test", 1),
        query("www.dname.zone.test", 1),
        query("www.sub.zone.test", 1),
        query("www.zone.test", 28),
        query("a.b.c.d.e.f.g.h.i.j.zone.test", 1),
        with_do("www.signed.test", 1),
        with_do("any.wild.signed.test", 1),
        with_do("none.signed.test", 1),
        with_do("www.signed.test", 28),
    ]
}

/// Questions that gates of `SMALL` answer, and one whose response a finish changes.
fn kinds_of_gates() -> Vec<Vec<u8>> {
    let mut with_opt = query("web.default.svc.cluster.local", 1);
    with_opt[11] = 1;
    with_opt.extend([0, 0, 41, 4, 0xD0, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0]);
    vec![
        in_class(3, &query("version.bind", 16)),
        in_class(3, &query("id.server", 16)),
        query("www.localhost", 28),
        query("2.0.0.127.in-addr.arpa", 12),
        with_opt,
        query("nobody.has.this.in-addr.arpa", 1),
        query("web.default.svc.cluster.local", 10),
    ]
}

/// It answers what the upstream is not asked for.
const ERRATIC: &str = "erratic {\ntruncate\n}";

const SMALL: &str = "local\nchaos\nnsid\nwhoami\nminimal\nheader {\nresponse set ra\n}\n\
    acl {\nallow net 10.0.0.0/8 192.0.2.0/24\nblock type NULL\ndrop net 127.0.0.2\n}";

/// The query in another class.
fn in_class(class: u8, query: &[u8]) -> Vec<u8> {
    let mut packet = query.to_vec();
    *packet.last_mut().unwrap() = class;
    packet
}

/// A Service with more addresses than a message holds. Its two parts are equally long.
fn insert_crowd(builder: &mut TableBuilder) {
    let name = b"\x05crowd\x07default\x03svc\x07cluster\x05local\0";
    let mut writer = EntryWriter::new();
    writer.begin(name);
    writer.answer(1);
    for number in 0..5_000_u16 {
        let [high, low] = number.to_be_bytes();
        writer.record(Section::Answer, name, 1, 30, &[10, 2, high, low]);
    }
    builder.insert(writer.finish());
}

/// The external zone `out.example`.
fn external_table() -> Arc<Table> {
    let zones = vec![b"\x03out\x07example\0".to_vec()];
    let apex = ApexLabel::new(b"dns").unwrap();
    let mut builder =
        TableBuilder::new(TableOptions::k8s_external(zones, apex, 5), HashSeed::new(7));
    let mut writer = EntryWriter::new();
    for name in [
        &b"\x03web\x07default\x03out\x07example\0"[..],
        b"\x01*\x03web\x07default\x03out\x07example\0",
    ] {
        writer.begin(name);
        writer.answer(1);
        writer.record(Section::Answer, name, 1, 5, &[192, 0, 2, 1]);
        writer.answer(33);
        let web = &name[name.len() - 25..];
        writer.record(Section::Answer, name, 33, 5, &[&[0, 0, 0, 100, 0, 80], web].concat());
        builder.insert(writer.finish());
    }
    builder.set_synced();
    builder.publish(1)
}

/// The kinds of questions for the external zone.
fn external_kinds() -> Vec<Vec<u8>> {
    vec![
        query("web.default.out.example", 1),
        query("web.default.out.example", 28),
        query("any.web.default.out.example", 33),
        query("gone.default.out.example", 1),
        query("out.example", 6),
    ]
}

const ZONE: &str = "\
@ 60 SOA ns hostmaster 1 2 3 4 5
@ 60 NS ns
ns 60 A 192.0.2.1
www 60 A 192.0.2.2
mail 60 MX 10 www
alias 60 CNAME www
cluster 60 CNAME web.default.svc.cluster.local.
*.wild 60 A 192.0.2.3
dname 60 DNAME @
sub 60 NS ns.sub
ns.sub 60 A 192.0.2.4
";

const SIGNED_ZONE: &str = "\
@ 60 SOA ns hostmaster 1 2 3 4 5
@ 60 RRSIG SOA 13 2 60 20300101000000 20200101000000 1 @ AAAA
@ 60 NS ns.zone.test.
@ 60 NSEC *.wild SOA NS RRSIG NSEC
*.wild 60 A 192.0.2.3
*.wild 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 @ AAAA
*.wild 60 NSEC www A RRSIG NSEC
www 60 A 192.0.2.2
www 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 @ AAAA
www 60 NSEC @ A RRSIG NSEC
";

/// The line of `file`, whose table comes after that of `kubernetes`.
const FILE: &str = "file none zone.test signed.test";

/// The zones of `FILE`.
fn zones(rig: &Rig) -> Arc<Table> {
    let block = rig.plan.blocks.first().expect("a block");
    let own = block.tables().last().expect("kubernetes comes before");
    let source = rig.plan.tables[own.table.0].as_ref().map(|table| &*table.source);
    let Some(TableSource::Zones(zones)) = source else { panic!("{source:?}") };
    let records = zones.iter().map(|FileZone { zone, path, .. }| {
        let text = if zone.text == "zone.test." { ZONE } else { SIGNED_ZONE };
        let mut read_file = |path: &Path| panic!("{} is included", path.display());
        zone_file::read(zone, path, text.as_bytes(), &mut read_file).expect("a zone").records
    });
    let records: Vec<_> = records.collect();
    let zones = zones.iter().map(|file| &file.zone);
    let table = ZoneTable::new(HASH_SEED).update(zones.zip(records.iter().map(Some)));
    for deliver in rig.fleet.deliveries(own.table) {
        assert!(deliver(Arc::clone(&table)));
    }
    table
}

/// Generations are built in advance, because building them allocates. They are held here, so that
/// no shard owns one alone.
fn generations(rig: &mut Rig) -> Vec<Arc<Table>> {
    (0..GENERATION_COUNT as u32).map(|serial| rig.builder.publish(serial + 2)).collect()
}

fn check_udp(rig: &mut Rig, kinds: &[Vec<u8>], row: &str) {
    let tables = generations(rig);
    let deliveries = rig.fleet.deliveries(TableSlot(0));
    let (socket, queries) = (rig.udp(), &rig.queries);
    let mut answer = vec![0; 65535];
    let mut ask = |index: usize| {
        socket.send(&kinds[index % kinds.len()]).unwrap();
        if index % WINDOW == WINDOW - 1 {
            for _ in 0..WINDOW {
                socket.recv(&mut answer).unwrap();
            }
            // The log's thread takes them too.
            queries.try_iter().for_each(drop);
        }
    };
    (0..WINDOW * kinds.len()).for_each(&mut ask);
    // Every table is already held a second time: the shard never drops the last reference.
    let swap_every = QUERY_COUNT / GENERATION_COUNT;
    let region = Region::new(ALLOCATOR);
    for index in 0..QUERY_COUNT {
        if index % swap_every == 0 {
            for deliver in &deliveries {
                assert!(deliver(Arc::clone(&tables[index / swap_every])));
            }
        }
        ask(index);
    }
    let counted = region.change();
    assert_eq!(
        (counted.allocations, counted.deallocations, counted.reallocations),
        (0, 0, 0),
        "over {QUERY_COUNT} queries: {counted:?}; {row}"
    );
}

fn check_tcp(rig: &Rig, kinds: &[Vec<u8>], row: &str) {
    let framed: Vec<u8> =
        kinds.iter().filter(|kind| kind.len() > 20).flat_map(|kind| frame(kind)).collect();
    let mut stream = rig.tcp();
    let mut expected_len = None;
    let mut answers = vec![0; 1 << 20];
    let mut exchange = || {
        stream.write_all(&framed).unwrap();
        match expected_len {
            Some(len) => stream.read_exact(&mut answers[..len]).unwrap(),
            None => {
                // The first round measures the total length of the responses, which are as many as
                // the questions.
                let mut len = 0;
                for _ in kinds.iter().filter(|kind| kind.len() > 20) {
                    stream.read_exact(&mut answers[len..len + 2]).unwrap();
                    let message_len =
                        usize::from(u16::from_be_bytes([answers[len], answers[len + 1]]));
                    stream.read_exact(&mut answers[len + 2..len + 2 + message_len]).unwrap();
                    len += 2 + message_len;
                }
                expected_len = Some(len);
            }
        }
    };
    exchange();
    let region = Region::new(ALLOCATOR);
    (0..1000).for_each(|_| exchange());
    let counted = region.change();
    assert_eq!(
        (counted.allocations, counted.deallocations, counted.reallocations),
        (0, 0, 0),
        "over TCP: {counted:?}; {row}"
    );
}

/// A main of its own: libtest allocates when it reports a test that runs for a minute.
fn main() {
    // The cached names have addresses, or lead to the table, or lead elsewhere.
    let led = Manner::Leads("big.default.svc.cluster.local", Rcode::NOERROR);
    let away = Manner::LeadsOn("www.example.net");
    // With a gate and a finish, every query takes the full path. A template whose records no query
    // changes is a gate as well.
    let steps = "any\nbufsize 600\nno_aaaa\n\
                 template IN A named.test {\nanswer \"{{ .Name }} 60 IN A 192.0.2.1\"\n}\n\
                 template ANY ANY denied.test {\nmatch ^(?:[^.]+\\.){2,}denied\\.test\\.$\n\
                 rcode NXDOMAIN\nederror 15 blocked\nfallthrough\n\
                 authority \"{{ .Zone }} 60 IN SOA a. b. 1 2 3 4 5\"\n}";
    // With `log` too. Over TCP its ring is full, because nobody takes the queries.
    let log = "log web.default.svc.cluster.local {\nclass success\n}\nlog . \"{name}\"";
    let logs = (Manner::Answers, log);
    // Names and responses are rewritten, with each kind of rule.
    let rules = "rewrite continue ttl suffix .local. 5-7
        rewrite name x.example.com.default.svc.cluster.local web.default.svc.cluster.local
        rewrite continue {
            name regex (.*)\\.default\\.pod\\.cluster\\.local {1}.default.svc.cluster.local
            answer name (.*)\\.svc\\.cluster\\.local {1}.pod.cluster.local
            answer value svc nothing
        }
        rewrite continue name prefix alias web answer auto
        rewrite continue name substring big.default web.default answer auto
        rewrite continue rcode regex .* SERVFAIL NXDOMAIN
        rewrite name suffix .example.org .example.net answer auto";
    let rewritten = (Manner::Answers, rules);
    // The view takes every query; all parts of expressions are evaluated.
    let view = "metadata\nview v {\nexpr \"incidr(client_ip(), '127.0.0.0/8') and name() matches \
                '^.' and metadata('kubernetes/kind') in ['svc', 'pod', ''] \
                and lower(upper(name())) + type() contains '.' and int(port()) > 0 and \
                bufsize() >= 512 and server_ip() + server_port() + proto() + class() != 'x'\"\n}";
    // A client without a pod has no search path.
    let external = "k8s_external out.example\nautopath @kubernetes";
    let rows = [
        (Manner::Answers, ""),
        (led, ""),
        (away, external),
        (Manner::Answers, steps),
        (Manner::Answers, SMALL),
        (Manner::Answers, ERRATIC),
        logs,
        rewritten,
        (Manner::Answers, view),
    ];
    for (backend, (manner, steps)) in
        BACKENDS.into_iter().flat_map(|one| rows.map(|row| (one, row)))
    {
        let upstream = Upstream::start(3600, manner);
        let lines = format!(
            "{steps}\n{FILE}\ncache\nforward . {} {{\nexcept in-addr.arpa\n}}",
            upstream.address
        );
        let mut rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines);
        insert_crowd(&mut rig.builder);
        let outside = external_table();
        let mut kinds = kinds();
        if steps == SMALL {
            kinds.extend(kinds_of_gates());
        } else if steps == ERRATIC {
            kinds.push(query("nobody.has.this.in-addr.arpa", 1));
            kinds.push(query("nobody.has.this.in-addr.arpa", 16));
        } else if steps == external {
            for deliver in rig.fleet.deliveries(TableSlot(1)) {
                assert!(deliver(Arc::clone(&outside)));
            }
            kinds.extend(external_kinds());
        }
        let _held = zones(&rig);
        let row = format!("{backend:?}, {manner:?}, with these lines:\n{steps}");
        check_udp(&mut rig, &kinds, &row);
        check_tcp(&rig, &kinds, &row);
        rig.fleet.stop(PATIENCE);
    }
}
