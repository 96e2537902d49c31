//! Micro-benchmarks of the packet path and of building tables: `cargo bench -p benches`.
//!
//! `cargo test` runs each once. They compare two designs on one machine; `side-by-side.sh` measures
//! the server.

use std::sync::Arc;

use benches::{Cluster, Kind, SERVICE_COUNT, builder, entries, service_entry};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use wire::compile::EntryWriter;
use wire::name::Name;
use wire::query::{self, ClientPacket, Query};
use wire::reply::{Envelope, UDP_LEN_MAX, stamp};

/// Queries per iteration, since reading the timer costs as much as an answer. They are spread over
/// the table, like a batch from clients.
const BATCH: usize = 256;
/// Names of the first table; half of them are Services.
const FIRST_TABLE_NAMES: usize = 10_000;

fn main() {
    divan::main();
}

fn queries(kind: Kind) -> Vec<Vec<u8>> {
    // A step coprime to the number of Services visits all of them, out of order.
    (0..BATCH).map(|index| kind.query(index * 389 % SERVICE_COUNT)).collect()
}

fn read(packet: &[u8], name: &mut Name) -> Query {
    match query::read(packet, name) {
        ClientPacket::Query(query) => query,
        ClientPacket::Reject(_) | ClientPacket::Ignore => panic!("a valid query was rejected"),
    }
}

#[divan::bench(args = Kind::ALL)]
fn parse(bencher: Bencher<'_, '_>, kind: Kind) {
    let queries = queries(kind);
    let mut name = Name::default();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for packet in &queries {
            black_box(query::read(black_box(packet), &mut name));
        }
    });
}

#[divan::bench(args = Kind::ALL)]
fn look_up(bencher: Bencher<'_, '_>, kind: Kind) {
    let cluster = Cluster::default();
    let names: Vec<(Name, u16)> = queries(kind)
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
    let queries = queries(kind);
    let mut name = Name::default();
    let found: Vec<_> = queries
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
    let queries = queries(kind);
    for packet in &queries {
        kind.check(cluster.answer(packet));
    }
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for packet in &queries {
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

/// One Service changes: writes its entry, rebuilds its segment, and publishes the next generation.
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
        // Drops the previous generation, as the shards do.
        drop(std::mem::replace(&mut running, Arc::clone(&next)));
    });
}
