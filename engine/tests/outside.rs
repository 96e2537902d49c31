//! Queries for upstreams through a running shard, and how the answers reach the clients. Every test
//! runs with both ways of moving datagrams.

mod rig;
mod upstream;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, UdpSocket};
use std::time::{Duration, Instant};

use engine::fleet::Backend;
use rig::query::{query, query_with_id};
use rig::{BACKENDS, PATIENCE, Rig, SILENCE, frame, read_frame};
use upstream::{Manner, Upstream};

const OUTSIDE: &str = "www.example.org";
const INSIDE: &str = "web.default.svc.cluster.local";
/// Longer than anything takes inside the process, shorter than a timeout.
const SLOW: Duration = Duration::from_millis(200);

fn start(backend: Backend, upstream: &Upstream, lines: &str) -> Rig {
    let lines = format!("{lines}\nforward . {} {{\nhedge off\n}}", upstream.address);
    Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines)
}

fn with_id(name: &str, id: u16) -> Vec<u8> {
    query_with_id(name, 1, id)
}

fn id_of(answer: &[u8]) -> u16 {
    u16::from_be_bytes([answer[0], answer[1]])
}

fn rcode_of(answer: &[u8]) -> u8 {
    answer[3] & 15
}

/// The ids of the next `count` datagrams, in order.
fn ids(socket: &UdpSocket, count: usize) -> Vec<u16> {
    let mut answer = [0; 1232];
    let mut ids: Vec<u16> = (0..count)
        .map(|_| {
            let len = socket.recv(&mut answer).expect("one answer per question");
            assert_eq!(rcode_of(&answer[..len]), 0);
            id_of(&answer)
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// Without `cancel` it would take five seconds.
#[test]
fn cancel_ends_the_wait_for_upstreams() {
    const CANCELLED: Duration = Duration::from_millis(300);
    for backend in BACKENDS {
        let upstream = Upstream::start(3600, Manner::Silent);
        let rig = start(backend, &upstream, "cancel 300ms");
        let began = Instant::now();
        let answer = rig.ask_udp(&query(OUTSIDE, 1), PATIENCE).expect("an answer over UDP");
        assert_eq!(rcode_of(&answer), 2, "{backend:?}");
        let waited = began.elapsed();
        assert!((CANCELLED..10 * CANCELLED).contains(&waited), "{backend:?}: {waited:?}");
    }
}

#[test]
fn a_question_is_sent_once_and_then_cached() {
    for backend in BACKENDS {
        let upstream = Upstream::start(3600, Manner::Answers);
        let rig = start(backend, &upstream, "cache");
        for _ in 0..3 {
            let answer = rig.ask_udp(&query(OUTSIDE, 1), PATIENCE).expect("an answer over UDP");
            assert_eq!(answer[6..8], [0, 1], "{backend:?}: one record");
            let answer = rig.ask_tcp(&query(OUTSIDE, 1), PATIENCE).expect("an answer over TCP");
            assert_eq!(answer[6..8], [0, 1], "{backend:?}: one record");
        }
        assert_eq!(upstream.seen_count(), 1, "{backend:?}");
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn clients_with_the_same_question_share_a_query() {
    const CLIENTS: u16 = 100; // A socket of default size holds this many responses.
    for backend in BACKENDS {
        let upstream = Upstream::start(60, Manner::Slow(SLOW));
        let rig = start(backend, &upstream, "");
        let socket = rig.udp();
        for id in 0..CLIENTS {
            socket.send(&with_id(OUTSIDE, id)).unwrap();
        }
        assert_eq!(ids(&socket, usize::from(CLIENTS)), (0..CLIENTS).collect::<Vec<_>>());
        assert_eq!(upstream.seen_count(), 1, "{backend:?}");
        // Without a cache, later queries go to the upstream again.
        assert!(rig.ask_udp(&query(OUTSIDE, 1), PATIENCE).is_some());
        assert_eq!(upstream.seen_count(), 2, "{backend:?}");
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn a_slow_upstream_delays_no_other_query() {
    for backend in BACKENDS {
        let upstream = Upstream::start(60, Manner::Slow(SLOW));
        let rig = start(backend, &upstream, "");
        let mut stream = rig.tcp();
        let began = Instant::now();
        stream
            .write_all(&[frame(&with_id(OUTSIDE, 1)), frame(&with_id(INSIDE, 2))].concat())
            .unwrap();
        // The peer sends no more queries, but still reads.
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(id_of(&read_frame(&mut stream).expect("the cluster's answer")), 2);
        assert!(began.elapsed() < SLOW, "{backend:?}: {:?}", began.elapsed());
        assert_eq!(id_of(&read_frame(&mut stream).expect("the late answer")), 1);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{backend:?}: closed when all is said");
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn a_connection_over_its_limit_of_queries_answers_all() {
    let count = engine::limits::TCP_PENDING_MAX as u16 * 2;
    for backend in BACKENDS {
        let upstream = Upstream::start(60, Manner::Slow(SLOW));
        let rig = start(backend, &upstream, "");
        let mut stream = rig.tcp();
        let questions = (0..count).map(|id| frame(&with_id(&format!("n{id}.example.org"), id)));
        stream.write_all(&questions.collect::<Vec<_>>().concat()).unwrap();
        let mut ids: Vec<_> = (0..count)
            .map(|_| id_of(&read_frame(&mut stream).expect("one answer per question")))
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..count).collect::<Vec<_>>(), "{backend:?}");
        rig.fleet.stop(PATIENCE);
    }
}

/// Only the first client waits for the upstream. Clients that join while that query is in flight
/// get the stale answer at once.
#[test]
fn a_stale_answer_is_sent_at_once_while_a_refresh_is_in_flight() {
    const AT_MOST: Duration = Duration::from_secs(1);
    let ttl =
        |answer: &[u8]| u32::from_be_bytes(*answer[answer.len() - 10..].first_chunk().unwrap());
    for backend in BACKENDS {
        let upstream = Upstream::start(1, Manner::Answers);
        let lines = "cache {\nsuccess 9984 1 0\nserve_stale 1h verify 100ms 7s\n}";
        let rig = start(backend, &upstream, lines);
        let answer = rig.ask_udp(&query(OUTSIDE, 1), PATIENCE).expect("an answer");
        assert_eq!(ttl(&answer), 1, "{backend:?}");
        upstream.behave(Manner::Silent);
        let deadline = Instant::now() + PATIENCE;
        while ttl(&rig.ask_udp(&query(OUTSIDE, 1), PATIENCE).expect("an answer")) != 7 {
            assert!(Instant::now() < deadline, "{backend:?}: it expires");
        }
        for _ in 0..3 {
            let answer = rig.ask_udp(&query(OUTSIDE, 1), AT_MOST).expect("no second waiting");
            assert_eq!(ttl(&answer), 7, "{backend:?}");
            let answer = rig.ask_tcp(&query(OUTSIDE, 1), AT_MOST);
            assert!(answer.is_some(), "{backend:?}: over TCP it is a flight of its own");
        }
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn a_failure_is_servfail_with_its_reason() {
    for backend in BACKENDS {
        let upstream = Upstream::start(60, Manner::Malformed);
        let rig = start(backend, &upstream, "");
        let answer = rig.ask_udp(&query(OUTSIDE, 1), PATIENCE).expect("an answer");
        assert_eq!(rcode_of(&answer), 2, "{backend:?}");
        let report = rig.errors.recv_timeout(PATIENCE).expect("a line for the log");
        let message = report.message.expect("why");
        assert!(message.contains(&upstream.address.to_string()), "{message}");
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn queries_over_max_concurrent_are_refused() {
    for backend in BACKENDS {
        let upstream = Upstream::start(60, Manner::Slow(SLOW));
        let lines = format!("forward . {} {{\nmax_concurrent 1\n}}", upstream.address);
        let rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), &lines);
        let socket = rig.udp();
        socket.send(&with_id("one.example.org", 1)).unwrap();
        socket.send(&with_id("two.example.org", 2)).unwrap();
        let mut answer = [0; 1232];
        socket.recv(&mut answer).unwrap();
        assert_eq!((id_of(&answer), rcode_of(&answer)), (2, 5), "{backend:?}: REFUSED at once");
        socket.recv(&mut answer).unwrap();
        assert_eq!((id_of(&answer), rcode_of(&answer)), (1, 0), "{backend:?}");
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let error = socket.recv(&mut answer).expect_err("no answer more");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn a_shard_that_stops_answers_waiting_clients() {
    for backend in BACKENDS {
        let upstream = Upstream::start(60, Manner::Slow(SLOW));
        let rig = start(backend, &upstream, "");
        let socket = rig.udp();
        socket.send(&with_id(OUTSIDE, 3)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while upstream.seen_count() == 0 {
            assert!(Instant::now() < deadline, "{backend:?}: the query is in flight");
            std::thread::sleep(Duration::from_millis(1));
        }
        rig.fleet.stop(PATIENCE);
        assert_eq!(ids(&socket, 1), [3], "{backend:?}");
    }
}
