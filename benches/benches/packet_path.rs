//! Micro-benchmarks of the packet path and of building tables: `cargo bench -p benches`.
//!
//! `cargo test` runs each once. They compare two designs on one machine; what the server does is `side-by-side.sh`'s.

use std::sync::Arc;

use benches::{Cluster, Kind, SERVICE_COUNT, builder, entries, service_entry};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use wire::compile::EntryWriter;
use wire::name::Name;
use wire::query::{self, Query, Reading};
use wire::reply::{Envelope, UDP_LEN_MAX, stamp};

/// Questions in one go: a timer read costs as much as an answer. Spread over the table, as a batch of clients' is.
const BATCH: usize = 256;
/// Names of the first table, and half of them Services.
const FIRST_TABLE_NAMES: usize = 10_000;

fn main() {
    divan::main();
}

fn questions(kind: Kind) -> Vec<Vec<u8>> {
    // A step that shares no factor with the number of Services visits them all, out of order.
    (0..BATCH).map(|index| kind.question(index * 389 % SERVICE_COUNT)).collect()
}

fn read(packet: &[u8], name: &mut Name) -> Query {
    match query::read(packet, name) {
        Reading::Query(query) => query,
        Reading::Reject(_) | Reading::Ignore => panic!("a question is read"),
    }
}

#[divan::bench(args = Kind::ALL)]
fn parse(bencher: Bencher<'_, '_>, kind: Kind) {
    let questions = questions(kind);
    let mut name = Name::default();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for packet in &questions {
            black_box(query::read(black_box(packet), &mut name));
        }
    });
}

#[divan::bench(args = Kind::ALL)]
fn look_up(bencher: Bencher<'_, '_>, kind: Kind) {
    let cluster = Cluster::default();
    let names: Vec<(Name, u16)> = questions(kind)
        .iter()
        .map(|packet| {
            let mut name = Name::default();
            let qtype = read(packet, &mut name).qtype;
            (name, qtype)
        })
        .collect();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for (name, qtype) in &names {
            black_box(cluster.table().look_up(black_box(name), *qtype));
        }
    });
}

#[divan::bench(args = Kind::ALL)]
fn stamp_answer(bencher: Bencher<'_, '_>, kind: Kind) {
    let cluster = Cluster::default();
    let table = cluster.table();
    let questions = questions(kind);
    let mut name = Name::default();
    let found: Vec<_> = questions
        .iter()
        .map(|packet| {
            let query = read(packet, &mut name);
            (packet, query, table.look_up(&name, query.qtype))
        })
        .collect();
    let mut message = [0; UDP_LEN_MAX as usize];
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for (rotation, (packet, query, found)) in found.iter().enumerate() {
            let len_max = Envelope::udp_len_max(query.edns, UDP_LEN_MAX);
            let envelope = Envelope { len_max, rotation };
            message[..packet.len()].copy_from_slice(packet);
            black_box(stamp(query, table, found, envelope, black_box(&mut message)));
        }
    });
}

#[divan::bench(args = Kind::ALL)]
fn whole_answer(bencher: Bencher<'_, '_>, kind: Kind) {
    let mut cluster = Cluster::default();
    let questions = questions(kind);
    for packet in &questions {
        kind.check(cluster.answer(packet));
    }
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for packet in &questions {
            black_box(cluster.answer(black_box(packet)));
        }
    });
}

/// Entries to segments, as at the first sync.
#[divan::bench(sample_count = 20)]
fn compile_first_table(bencher: Bencher<'_, '_>) {
    let entries = entries(FIRST_TABLE_NAMES / 2);
    bencher.with_inputs(builder).counter(ItemsCount::new(entries.len())).bench_local_values(
        |mut builder| {
            for entry in &entries {
                builder.insert(entry);
            }
            (builder.publish(1), builder)
        },
    );
}

/// One Service among them changes: its entry written, its segment rebuilt, the next generation published.
#[divan::bench]
fn compile_one_change(bencher: Bencher<'_, '_>) {
    let mut builder = builder();
    for entry in entries(FIRST_TABLE_NAMES / 2) {
        builder.insert(&entry);
    }
    let mut writer = EntryWriter::new();
    let mut serial = 1;
    let mut running = builder.publish(serial);
    bencher.bench_local(|| {
        serial += 1;
        builder.insert(&service_entry(&mut writer, serial as usize % SERVICE_COUNT));
        let next = builder.publish(serial);
        // The generation before is let go, as by the shards.
        drop(std::mem::replace(&mut running, Arc::clone(&next)));
    });
}
