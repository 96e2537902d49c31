//! DNS servers with known faults, each in a thread on loopback.

use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Nothing listens here, and the kernel gives it to no socket that asks for any port.
pub(crate) const CLOSED_PORT: u16 = 1;

/// What is wrong with each response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Twist {
    #[default]
    None,
    WrongId,
    WrongQuestion,
    Garbage,
    Empty,
    /// The QR bit is not set.
    Query,
    /// The response to the previous query is sent again first.
    RepeatLast,
    Truncated,
    OtherCase,
    /// Both: in another case, and the previous one again first.
    RepeatLastOtherCase,
    Servfail,
    FormerrWithoutQuestion,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) delay: Duration,
    /// (every, length): no response leaves in the middle of each period; responses due wait for its
    /// end.
    pub(crate) stall: Option<(Duration, Duration)>,
    pub(crate) drop_every: Option<u64>,
    pub(crate) twist: Twist,
}

#[derive(Default)]
struct Seen {
    responses: AtomicU64,
    dropped: AtomicU64,
    /// Those that have sent a query.
    clients: Mutex<HashSet<SocketAddr>>,
}

pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Server {
    pub(crate) fn udp(local: &str, behaviour: Behaviour) -> Self {
        Self::over_udp(UdpSocket::bind(local).unwrap(), behaviour)
    }

    pub(crate) fn tcp(local: &str) -> Self {
        Self::over_tcp(TcpListener::bind(local).unwrap())
    }

    /// UDP and TCP on the same port; `behaviour` applies to UDP only.
    pub(crate) fn both(behaviour: Behaviour) -> (Self, Self) {
        let pair = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let listener = TcpListener::bind(socket.local_addr().unwrap()).ok()?;
            Some((socket, listener))
        };
        let (socket, listener) =
            (0..16).find_map(|_| pair()).expect("a port that is free for both");
        (Self::over_udp(socket, behaviour), Self::over_tcp(listener))
    }

    fn over_udp(socket: UdpSocket, behaviour: Behaviour) -> Self {
        socket.set_nonblocking(true).unwrap();
        // A busy test machine must not lose queries that the test counts.
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        let address = socket.local_addr().unwrap();
        Self::start(address, move |stop, seen| serve_udp(&socket, behaviour, stop, seen))
    }

    fn over_tcp(listener: TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self::start(address, move |stop, seen| serve_tcp(&listener, stop, seen))
    }

    /// An address where nothing listens.
    pub(crate) fn nobody() -> Self {
        let address = ([127, 0, 0, 1], CLOSED_PORT).into();
        Self { address, stop: Arc::default(), seen: Arc::default(), thread: None }
    }

    fn start(address: SocketAddr, serve: impl FnOnce(&AtomicBool, &Seen) + Send + 'static) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (stop_inside, seen_inside) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = Some(thread::spawn(move || serve(&stop_inside, &seen_inside)));
        Self { address, stop, seen, thread }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn response_count(&self) -> u64 {
        self.seen.responses.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.seen.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn has_seen(&self, client: SocketAddr) -> bool {
        self.seen.clients.lock().unwrap().contains(&client)
    }

    pub(crate) fn clients(&self) -> usize {
        self.seen.clients.lock().unwrap().len()
    }
}

fn serve_udp(socket: &UdpSocket, behaviour: Behaviour, stop: &AtomicBool, seen: &Seen) {
    let mut waiting: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
    let (mut first, mut count, mut last) = (None, 0u64, None);
    let mut bytes = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let mut is_idle = true;
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            is_idle = false;
            let now = Instant::now();
            let since = *first.get_or_insert(now);
            seen.clients.lock().unwrap().insert(from);
            count += 1;
            if behaviour.drop_every.is_some_and(|every| count % every == 0) {
                seen.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let response = respond(&bytes[..len], behaviour.twist);
            if matches!(behaviour.twist, Twist::RepeatLast | Twist::RepeatLastOtherCase) {
                waiting.extend(last.replace(response.clone()).map(|last| (now, from, last)));
            }
            waiting.push_back((due(now, since, behaviour), from, response));
        }
        while waiting.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let (_, to, response) = waiting.pop_front().unwrap();
            let _ = socket.send_to(&response, to);
            seen.responses.fetch_add(1, Ordering::Relaxed);
            is_idle = false;
        }
        if is_idle {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

fn due(now: Instant, since: Instant, behaviour: Behaviour) -> Instant {
    let due = now + behaviour.delay;
    let Some((every, length)) = behaviour.stall else { return due };
    let passed = due - since;
    let into = Duration::from_nanos((passed.as_nanos() % every.as_nanos()) as u64);
    let start = every / 2;
    if into >= start && into < start + length { due + (start + length - into) } else { due }
}

fn respond(query: &[u8], twist: Twist) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2] |= 0x80;
    match twist {
        Twist::None | Twist::RepeatLast => {}
        Twist::WrongId => response[0] ^= 0x80,
        Twist::WrongQuestion => response[13] = b'X',
        Twist::Garbage => response = vec![0xff; 7],
        Twist::Empty => response.clear(),
        Twist::Query => response[2] &= 0x7f,
        Twist::Truncated => response[2] |= 0x02,
        Twist::OtherCase | Twist::RepeatLastOtherCase => response[13..17].make_ascii_uppercase(),
        Twist::Servfail => response[3] |= 2,
        Twist::FormerrWithoutQuestion => {
            response.truncate(12);
            response[3] |= 1;
            response[5] = 0;
        }
    }
    response
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool, seen: &Seen) {
    let mut connections: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    let mut bytes = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            connections.push((stream, Vec::new()));
        }
        let mut is_idle = true;
        connections.retain_mut(|(stream, unread)| match stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(len) => {
                is_idle = false;
                seen.clients.lock().unwrap().extend(stream.peer_addr());
                unread.extend_from_slice(&bytes[..len]);
                answer_frames(stream, unread)
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        if is_idle {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Answers the complete frames; `false` if the connection is over.
fn answer_frames(stream: &mut TcpStream, unread: &mut Vec<u8>) -> bool {
    let mut end = 0;
    while let Some(len) = unread[end..].first_chunk::<2>() {
        let next = end + 2 + usize::from(u16::from_be_bytes(*len));
        if next > unread.len() {
            break;
        }
        unread[end + 4] |= 0x80;
        end = next;
    }
    let responses: Vec<u8> = unread.drain(..end).collect();
    let mut rest = responses.as_slice();
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(len) => rest = &rest[len..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(_) => return false,
        }
    }
    true
}
