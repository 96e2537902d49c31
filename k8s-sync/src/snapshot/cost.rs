//! The cost of a snapshot: how long a piece holds up the loop that publishes, how long the file
//! takes, and how long it takes to read.
//!
//! `RINGDNS_SCALE=10000 cargo test --release -p k8s-sync --lib snapshot::cost -- --nocapture`
//! measures 10,000 Services with three endpoints each. By default a few are written, to keep this
//! working.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::file::{Piece, WriteOutcome, temporary, write};
use super::line;
use super::read::read;
use super::tests::{expected, header, key, options, service, slice};
use super::walk::{Progress, Walk};
use crate::cluster::Cluster;
use crate::object::{Change, Event, Namespace, ServiceKind};

/// CPU time of this thread, which other load does not affect.
fn on_core() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn cluster(services: usize) -> Cluster {
    let address = |index: usize| {
        let (a, b, c) = (index >> 16 & 255, index >> 8 & 255, index & 255);
        format!("10.{a}.{b}.{c}")
    };
    let ip = |index| ServiceKind::ClusterIp([address(index).parse().expect("an address")].into());
    let all = (0..services).map(|index| service(&format!("service-{index}"), ip(index)));
    let slices = (0..services).map(|index| {
        let addresses = [0, 1, 2].map(|endpoint| address(index * 3 + endpoint));
        let addresses = addresses.each_ref().map(String::as_str);
        slice(&format!("service-{index}-x7k2p"), &format!("service-{index}"), &addresses)
    });
    let mut cluster = Cluster::new(Arc::new(options()));
    let namespace = Namespace { name: key("").namespace };
    cluster.apply(Event::Namespace(Change::Remembered(vec![namespace])));
    cluster.apply(Event::Service(Change::Remembered(all.collect())));
    cluster.apply(Event::EndpointSlice(Change::Remembered(slices.collect())));
    cluster.apply(Event::Pod(Change::Remembered(vec![])));
    cluster
}

#[test]
fn a_snapshot_holds_up_the_loop_for_one_piece_at_a_time() {
    let scale = std::env::var("RINGDNS_SCALE").ok().and_then(|text| text.parse().ok());
    let services = scale.unwrap_or(200);
    let cluster = cluster(services);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.jsonl");
    let (sender, pieces) = channel();
    let writing = std::thread::spawn({
        let file = file.clone();
        move || write(&file, &temporary(&file), &pieces)
    });
    let began = Instant::now();
    let mut first = Vec::new();
    line::line(&header(), &mut first);
    sender.send(Piece::Bytes(first)).expect("the thread takes it");
    let (mut walk, mut took, mut progress) = (Walk::new(), Vec::new(), Progress::Underway);
    while progress == Progress::Underway {
        let (mut bytes, piece_began) = (Vec::new(), on_core());
        progress = walk.write(&cluster, &mut bytes);
        took.push(on_core().saturating_sub(piece_began));
        sender.send(Piece::Bytes(bytes)).expect("the thread takes it");
    }
    let walked = began.elapsed();
    sender.send(Piece::End).expect("the thread takes it");
    assert_eq!(writing.join().expect("no panic"), WriteOutcome::Written);
    let written = began.elapsed();
    let reading = Instant::now();
    let state = read(&file, &expected()).expect("a good file").expect("a file");
    let read = reading.elapsed();
    assert_eq!((state.services.len(), state.slices.len()), (services, services));
    took.sort();
    let len = file.metadata().expect("a file").len();
    let total: Duration = took.iter().sum();
    println!(
        "{services} Services: {len} bytes; {} pieces: p50 {:?}, p99 {:?}, max {:?}, all {total:?}; \
         walked in {walked:?}, written in {written:?}, read in {read:?}",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
    );
}
