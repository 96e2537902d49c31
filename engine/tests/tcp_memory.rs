//! What TCP clients can make the server hold: bytes of the whole process, counted by its allocator.
//!
//! Invariant: one test, so that nothing else of the process allocates meanwhile.

mod rig;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use engine::limits::{
    TCP_KEPT_LEN, TCP_OWED_LEN_MAX, TCP_PENDING_MAX, TCP_REFUSAL_LEN_MAX, TCP_RESPONSE_LEN_MAX,
};
use rig::query::query;
use rig::{BACKENDS, PATIENCE, Rig, frame, read_frame};
use socket2::{Domain, Socket, Type};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTION_COUNT: usize = 24;
/// Strings of 250 bytes in a long response, of 60 KB.
const STRING_COUNT: u16 = 230;
/// What the rest of the process needs meanwhile, as for the connections to the upstream.
const MARGIN: usize = 1 << 20;

fn held_len() -> usize {
    let Stats { bytes_allocated, bytes_deallocated, .. } = ALLOCATOR.stats();
    bytes_allocated - bytes_deallocated
}

/// An upstream over TCP that answers each query, some milliseconds later, with strings of the name.
fn start_upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                while let Some(query) = read_frame(&mut stream) {
                    std::thread::sleep(Duration::from_millis(20));
                    if stream.write_all(&frame(&long_response(&query))).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn long_response(query: &[u8]) -> Vec<u8> {
    let question_len = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1 + 4;
    let mut response = query[..12 + question_len].to_vec();
    response[2..4].copy_from_slice(&[0x81, 0x80]);
    response[6..8].copy_from_slice(&STRING_COUNT.to_be_bytes());
    response[8..12].fill(0);
    for _ in 0..STRING_COUNT {
        response.extend([0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 251, 250]);
        response.extend([b'x'; 250]);
    }
    response
}

/// A client whose socket accepts little more than it reads.
fn connect(rig: &Rig) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&rig.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Has the server finish everything that came before.
fn ask_shortly(stream: &mut TcpStream) {
    stream.write_all(&frame(&query("web.default.svc.cluster.local", 1))).unwrap();
    assert!(read_frame(stream).is_some_and(|response| response.len() < 100));
}

fn read_long(stream: &mut TcpStream, count: usize) {
    for number in 0..count {
        let response = read_frame(stream).unwrap_or_else(|| panic!("no response {number}"));
        assert!(response.len() > 55_000);
    }
}

/// Clients that take nothing cost no more than the bound, and another client gets its responses.
fn responses_that_nobody_takes_are_bounded(rig: &Rig, long_queries: &[u8]) {
    let before = held_len();
    let mut peak = 0;
    let idlers: Vec<_> = (0..CONNECTION_COUNT).map(|_| connect(rig)).collect();
    for mut idler in &idlers {
        idler.write_all(long_queries).unwrap();
    }
    let mut reader = connect(rig);
    let one_query = &long_queries[..long_queries.len() / TCP_PENDING_MAX];
    for _ in 0..20 {
        reader.write_all(one_query).unwrap();
        read_long(&mut reader, 1);
        peak = peak.max(held_len() - before);
    }
    let each_len = 2 * TCP_RESPONSE_LEN_MAX + TCP_PENDING_MAX * TCP_REFUSAL_LEN_MAX;
    let owed_len = TCP_OWED_LEN_MAX + (CONNECTION_COUNT + 1) * each_len;
    let range = TCP_OWED_LEN_MAX / 4..2 * owed_len + MARGIN;
    assert!(range.contains(&peak), "{peak} of {range:?} bytes");
    // They are served once they read.
    let mut idler = &idlers[0];
    idler.read_exact(&mut [0; 60_000]).unwrap();
    drop(idlers);
    until_held(before + MARGIN, "all but one are closed");
}

/// An idle connection keeps no more than small buffers, whatever it has asked.
fn idle_connections_keep_little(rig: &Rig, long_queries: &[u8]) {
    let kept_len = CONNECTION_COUNT * 2 * TCP_KEPT_LEN;
    let mut clients: Vec<_> = (0..CONNECTION_COUNT).map(|_| connect(rig)).collect();
    clients.iter_mut().for_each(ask_shortly);
    let before = held_len();
    // A long query in two pieces.
    let mut long = query("web.default.svc.cluster.local", 1);
    long.resize(65_000, 0);
    let long = frame(&long);
    for client in &mut clients {
        client.write_all(&long[..60_000]).unwrap();
    }
    until(|| held_len() > before + CONNECTION_COUNT * 50_000, "the server holds the pieces");
    for client in &mut clients {
        client.write_all(&long[60_000..]).unwrap();
        assert!(read_frame(client).is_some());
        ask_shortly(client);
    }
    until_held(before + kept_len + MARGIN / 8, "long queries are answered");
    for client in &mut clients[..4] {
        client.write_all(long_queries).unwrap();
        read_long(client, TCP_PENDING_MAX);
        ask_shortly(client);
    }
    until_held(before + kept_len + MARGIN, "long responses are taken");
}

fn until(condition: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: {} bytes", held_len());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn until_held(len: usize, what: &str) {
    until(|| held_len() <= len, &format!("{what}, {len} at most"));
}

#[test]
fn tcp_clients_cannot_make_the_server_hold_much() {
    let lines = format!("forward . {} {{\nforce_tcp\n}}", start_upstream());
    let rig = Rig::start_with(BACKENDS[1], (Ipv4Addr::LOCALHOST, 0).into(), &lines);
    let long_queries = frame(&query("long.example", 16)).repeat(TCP_PENDING_MAX);
    idle_connections_keep_little(&rig, &long_queries);
    responses_that_nobody_takes_are_bounded(&rig, &long_queries);
    rig.fleet.stop(PATIENCE);
}
