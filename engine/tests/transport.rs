//! How packets arrive and leave: addresses, framing, timeouts. Every test runs with both ways of
//! moving datagrams.

mod rig;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rig::query::{query, query_with_id};
use rig::{BACKENDS, PATIENCE, Rig, frame, read_frame};

const WEB: &str = "web.default.svc.cluster.local";

fn id_of(answer: &[u8]) -> u16 {
    u16::from_be_bytes([answer[0], answer[1]])
}

fn with_id(id: u16) -> Vec<u8> {
    query_with_id(WEB, 1, id)
}

/// A connected socket accepts datagrams only from the address that it is connected to.
fn answers_from(asked: SocketAddr) {
    let local: SocketAddr = match asked {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect(asked).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(&with_id(77)).unwrap();
    let mut answer = [0; 1232];
    let len = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{asked}: {error}"));
    assert_eq!(id_of(&answer[..len]), 77);
}

#[test]
fn a_response_leaves_from_the_address_of_its_query() {
    for backend in BACKENDS {
        let rig = Rig::start_at(backend, (Ipv6Addr::UNSPECIFIED, 0).into());
        let port = rig.address.port();
        answers_from((Ipv4Addr::LOCALHOST, port).into());
        answers_from((Ipv4Addr::new(127, 0, 0, 53), port).into());
        answers_from((Ipv6Addr::LOCALHOST, port).into());
        rig.fleet.stop(PATIENCE);
        let rig = Rig::start_at(backend, (Ipv4Addr::UNSPECIFIED, 0).into());
        answers_from((Ipv4Addr::new(127, 9, 9, 9), rig.address.port()).into());
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn empty_datagrams_and_bursts_stop_nothing() {
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        let socket = rig.udp();
        let mut answer = [0; 1232];
        for round in 0..200u16 {
            // An empty datagram ends a multishot receive. This socket's buffer limits the number of
            // responses.
            for id in 0..150 {
                if id % 3 == 0 {
                    socket.send(b"").unwrap();
                }
                socket.send(&with_id(id)).unwrap();
            }
            for _ in 0..150 {
                socket.recv(&mut answer).unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        }
        rig.fleet.stop(PATIENCE);
    }
}

/// A shard that has only datagrams sleeps in its ring. Before that, the tasks run that accept
/// connections: nothing else would wake it here, where nobody pings it.
#[test]
fn a_connection_amid_datagrams_is_accepted() {
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        let socket = rig.udp();
        let mut answer = [0; 1232];
        for round in 0..200 {
            let mut stream = TcpStream::connect(rig.address).unwrap();
            let burst = 1 + round % 12;
            for id in 0..burst {
                socket.send(&with_id(id)).unwrap();
            }
            for _ in 0..burst {
                socket.recv(&mut answer).unwrap();
            }
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&frame(&with_id(77))).unwrap();
            let response = read_frame(&mut stream);
            let response = response.unwrap_or_else(|| panic!("{backend:?} {round}: no response"));
            assert_eq!(id_of(&response), 77);
            drop(stream);
            // The shard notices the end of the connection, and is alone again.
            for _ in 0..3 {
                socket.send(&with_id(1)).unwrap();
                socket.recv(&mut answer).unwrap();
            }
        }
        rig.fleet.stop(PATIENCE);
    }
}

/// Queries of every sort, some of them no queries.
fn kinds() -> [Vec<u8>; 17] {
    let hidden_end =
        b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03a\0b\x03svc\x07cluster\x05local\0\0\x01\0\x01";
    [
        query(WEB, 1),
        query(&WEB.to_ascii_uppercase(), 1),
        query(WEB, 28),
        query(WEB, 33),
        query(WEB, 6),
        query(WEB, 43),
        query(WEB, 252),
        query("absent.default.svc.cluster.local", 1),
        query("example.com", 1),
        query("10-1-2-3.default.pod.cluster.local", 1),
        query("0.0.96.10.in-addr.arpa", 12),
        query("a", 1),
        hidden_end.to_vec(),
        query(WEB, 1)[..12].to_vec(),
        query(WEB, 1)[..20].to_vec(),
        [&query(WEB, 1)[..12], b"\x40bad\0\0\x01\0\x01"].concat(),
        [&query(WEB, 1)[..], b"behind"].concat(),
    ]
}

/// The datagrams of a batch are processed together, but share nothing.
#[test]
fn each_datagram_of_a_batch_gets_its_own_response() {
    let kinds = kinds();
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        let alone = kinds.each_ref().map(|packet| {
            rig.ask_udp(packet, PATIENCE).unwrap_or_else(|| panic!("no answer: {packet:x?}"))
        });
        let socket = rig.udp();
        let mut answer = [0; 1232];
        for round in 0..50 {
            const BURST: usize = 100;
            // A different order in each round.
            let kind_of = |id: usize| (id * (round % 16 + 1) + round) % kinds.len();
            for id in 0..BURST {
                let mut packet = kinds[kind_of(id)].clone();
                packet[..2].copy_from_slice(&(id as u16).to_be_bytes());
                socket.send(&packet).unwrap();
            }
            for _ in 0..BURST {
                let len = socket.recv(&mut answer).expect("an answer for each");
                let kind = kind_of(usize::from(id_of(&answer)));
                assert_eq!(answer[2..len], alone[kind][2..], "{:x?}", kinds[kind]);
            }
        }
        rig.fleet.stop(PATIENCE);
    }
}

/// So are the messages of a read, whose responses leave in the order of the queries.
#[test]
fn each_message_of_a_read_gets_its_own_response() {
    let kinds = kinds();
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        let alone = kinds.each_ref().map(|message| {
            rig.ask_tcp(message, PATIENCE).unwrap_or_else(|| panic!("no answer: {message:x?}"))
        });
        let mut stream = rig.tcp();
        for round in 0..50 {
            // Full groups of messages that are looked at together, and a part of one.
            let count = 90 + round % 16;
            let kind_of = |id: usize| (id * (round % 16 + 1) + round) % kinds.len();
            let message = |id: usize| {
                let mut message = kinds[kind_of(id)].clone();
                message[..2].copy_from_slice(&(id as u16).to_be_bytes());
                frame(&message)
            };
            stream.write_all(&(0..count).flat_map(message).collect::<Vec<u8>>()).unwrap();
            for id in 0..count {
                let answer = read_frame(&mut stream).expect("an answer for each");
                assert_eq!(usize::from(id_of(&answer)), id, "in order");
                let kind = kind_of(id);
                assert_eq!(answer[2..], alone[kind][2..], "{:x?}", kinds[kind]);
            }
        }
        rig.fleet.stop(PATIENCE);
    }
}

/// Together they have more responses than the buffer that they share has room for.
#[test]
fn connections_that_are_ready_together_get_all_their_responses() {
    const COUNT: u16 = 40;
    let big = |id| frame(&query_with_id("big2.default.svc.cluster.local", 1, id));
    let queries: Vec<u8> = (0..COUNT).flat_map(big).collect();
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        let mut streams: Vec<TcpStream> = (0..32).map(|_| rig.tcp()).collect();
        for _ in 0..5 {
            streams.iter_mut().for_each(|stream| stream.write_all(&queries).unwrap());
            for stream in &mut streams {
                for id in 0..COUNT {
                    let answer = read_frame(stream).expect("an answer for each");
                    assert_eq!((id_of(&answer), answer[7]), (id, 95), "in order, and whole");
                }
            }
        }
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn a_connection_ends_after_as_many_queries_as_it_may_send() {
    for backend in BACKENDS {
        let lines = "timeouts {\nmaxtcpqueries 21\n}";
        let rig = Rig::start_with(backend, (Ipv4Addr::LOCALHOST, 0).into(), lines);
        let mut stream = rig.tcp();
        // The bound lies within a group of messages that are looked at together.
        for ids in [0..3, 3..60] {
            stream.write_all(&ids.flat_map(|id| frame(&with_id(id))).collect::<Vec<u8>>()).unwrap();
        }
        for id in 0..21 {
            assert_eq!(id_of(&read_frame(&mut stream).unwrap()), id);
        }
        assert!(read_frame(&mut stream).is_none(), "no further response");
        // At once, not when the next query comes.
        let mut stream = rig.tcp();
        stream.write_all(&(0..21).flat_map(|id| frame(&with_id(id))).collect::<Vec<u8>>()).unwrap();
        (0..21).for_each(|id| assert_eq!(id_of(&read_frame(&mut stream).unwrap()), id));
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn tcp_messages_may_arrive_in_any_pieces() {
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        // One byte at a time, the length included.
        let mut stream = rig.tcp();
        for byte in frame(&with_id(1)) {
            stream.write_all(&[byte]).unwrap();
        }
        assert_eq!(id_of(&read_frame(&mut stream).unwrap()), 1);
        // Hundreds at once, then the writing half is closed.
        for count in [100, 5000] {
            let mut stream = rig.tcp();
            let mut writer = stream.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                let all: Vec<u8> = (0..count).flat_map(|id| frame(&with_id(id))).collect();
                writer.write_all(&all).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            for id in 0..count {
                assert_eq!(id_of(&read_frame(&mut stream).unwrap()), id);
            }
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed after the last answer");
            sender.join().unwrap();
        }
        rig.fleet.stop(PATIENCE);
    }
}

/// How long the server keeps a connection after this was sent, up to 5 s.
fn kept_for(rig: &Rig, mut send: impl FnMut(&mut TcpStream)) -> Duration {
    let mut stream = rig.tcp();
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while began.elapsed() < Duration::from_secs(5) {
        send(&mut stream);
        match stream.read(&mut [0; 64]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    began.elapsed()
}

#[test]
fn invalid_messages_close_a_connection_at_once_and_slow_ones_after_three_seconds() {
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        for not_dns in [vec![0, 0], frame(&[1; 11])] {
            let kept = kept_for(&rig, |stream| drop(stream.write_all(&not_dns)));
            assert!(kept < Duration::from_secs(2), "{not_dns:?}: {kept:?}");
        }
        std::thread::scope(|scope| {
            // Nothing at all; a length without a message; a byte every 50 ms.
            let rig = &rig;
            let nothing = scope.spawn(|| kept_for(rig, |_| {}));
            let mut unsent = vec![frame(&with_id(1))[..20].to_vec()];
            let part = scope.spawn(move || {
                kept_for(rig, |stream| {
                    unsent.pop().into_iter().for_each(|bytes| drop(stream.write_all(&bytes)));
                })
            });
            let mut rest = frame(&[1; 600]).into_iter();
            let drip = scope.spawn(move || {
                kept_for(rig, |stream| drop(stream.write_all(&[rest.next().unwrap()])))
            });
            for (what, kept) in [("nothing", nothing), ("part", part), ("drip", drip)] {
                let kept = kept.join().unwrap();
                let expected = Duration::from_millis(2900)..Duration::from_millis(4900);
                assert!(expected.contains(&kept), "{what}: {kept:?}");
            }
        });
        rig.fleet.stop(PATIENCE);
    }
}

#[test]
fn a_peer_that_does_not_read_delays_no_other() {
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        let mut stream = rig.tcp();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let flood: Vec<u8> = (0..2000).flat_map(|id| frame(&with_id(id))).collect();
        // Until neither side's socket buffer accepts more.
        for _ in 0..1000 {
            if stream.write_all(&flood).is_err() {
                break;
            }
        }
        assert!(rig.ask_udp(&with_id(9), PATIENCE).is_some());
        assert!(rig.ask_tcp(&with_id(9), PATIENCE).is_some());
        rig.fleet.stop(PATIENCE);
    }
}
