//! The send and receive loops do not allocate per query: what a run allocates does not grow with
//! its length.
//!
//! All allocations of this process are counted, so the test's servers do not allocate either.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::AtomicBool;

use clap::Parser;
use loadgen::cli::Cli;
use loadgen::run::run;
use loadgen::workload::{Options, query_file};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The collector allocates per second, not per query: a histogram, a line of the log.
const ALLOCATIONS_PER_SECOND: usize = 50;

/// UDP and TCP on the same port, for mixed runs.
fn both() -> (UdpSocket, TcpListener) {
    let pair = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind(socket.local_addr().unwrap()).ok()?;
        Some((socket, listener))
    };
    (0..16).find_map(|_| pair()).expect("a port that is free for both")
}

fn udp_echo(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            bytes[2] |= 0x80;
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
}

/// Serves one connection at a time; all messages of the test have this one length.
fn tcp_echo(listener: TcpListener, frame_len: usize) {
    std::thread::spawn(move || {
        let mut bytes = vec![0; frame_len];
        while let Ok((mut stream, _)) = listener.accept() {
            while stream.read_exact(&mut bytes).is_ok() {
                bytes[4] |= 0x80;
                let _ = stream.write_all(&bytes);
            }
        }
    });
}

/// Allocations of a whole run, its number of answered queries, and its length in seconds.
fn allocations(address: SocketAddr, flags: &str) -> (usize, u64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries");
    std::fs::write(&path, "aaaa.example A\nbbbb.example A\n").unwrap();
    let workload = query_file::read(&path, Options::default()).unwrap();
    let port = address.port().to_string();
    let words = ["loadgen", "-p", &port].into_iter().chain(flags.split_ascii_whitespace());
    let plan = Cli::parse_from(words).run.plan(workload.len()).unwrap();
    let stop = AtomicBool::new(false);
    let region = Region::new(ALLOCATOR);
    let outcome = run(&plan, &workload, &stop, |_| {}).unwrap();
    let change = region.change();
    let count = change.allocations + change.reallocations;
    (count, outcome.totals.counts().answered_total(), outcome.run_ns as f64 / 1e9)
}

#[test]
fn no_query_allocates() {
    let (socket, listener) = both();
    let address = socket.local_addr().unwrap();
    udp_echo(socket);
    tcp_echo(listener, 2 + 12 + 14 + 4);
    let rows = [
        ("-q 32", "closed UDP"),
        ("-q 32 --no-gso", "closed UDP, not cut by the kernel"),
        ("-q 32 -c 4", "closed UDP, several sockets"),
        ("-Q 20000 -c 2", "open UDP"),
        ("-m tcp -q 32", "closed TCP"),
        ("-m tcp -Q 20000", "open TCP"),
        ("--tcp-share 0.5 -q 32", "closed, both"),
        ("--tcp-share 0.5 -Q 20000", "open, both"),
    ];
    for (flags, name) in rows {
        let (short, ..) = allocations(address, &format!("{flags} --count 100 -t 1"));
        let (long, answered, secs) = allocations(address, &format!("{flags} --count 40000 -t 1"));
        assert!(answered > 30_000, "{name}: {answered}");
        let more = long.saturating_sub(short);
        let allowed = ALLOCATIONS_PER_SECOND * (secs.ceil() as usize + 1);
        assert!(
            more <= allowed,
            "{name}: {more} allocations more for {answered} answers in {secs:.1} s"
        );
    }
}
