//! SIGTERM: `/ready` goes down first, answers go on during lameduck, then TCP connections end
//! between two messages, and no query is lost: each is answered, or refused by the kernel at once.
//! Only queries that wait for an upstream that never responds may be lost.
//!
//! Times are printed, and checked only from below: the machine may be busy. A lameduck that checks
//! have to fit into lasts an hour, and a second SIGTERM ends it. The one time-out that remains is
//! the server's `DRAIN_TIMEOUT`.

#[path = "rig/child.rs"]
mod child;
#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use engine::limits::DRAIN_TIMEOUT;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use child::TestChild;
use query::{is_response, query_with_id, wire_name};

const BACKENDS: [&str; 2] = ["uring", "mmsg"];
const CLIENTS: usize = 3;
const WINDOW: u16 = 32;
/// It ends by itself.
const LAMEDUCK: Duration = Duration::from_millis(600);
/// A second signal ends it.
const LONG_LAMEDUCK: Duration = Duration::from_secs(3600);
/// The upstream never answers this name.
const SILENT: &str = "silent.test";
/// How often a client asks for `SILENT`.
const SILENT_EVERY: Duration = Duration::from_millis(1);
/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: TestChild,
    dns: SocketAddr,
    http: SocketAddr,
    /// The query for slow.test gets its response when a test sends it from here.
    upstream: UdpSocket,
    _folder: TempDir,
}

impl Server {
    fn start(backend: &str, lameduck: Duration) -> Self {
        let folder = TempDir::new().unwrap();
        let [dns, http] =
            [port::free(), port::free()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        upstream.set_read_timeout(Some(PATIENCE)).unwrap();
        let corefile = format!(
            ".:{} {{\n    bind 127.0.0.1\n    ready {http}\n    health {http} {{\n        \
             lameduck {lameduck:?}\n    }}\n    hosts {{\n        10.0.0.1 web.test\n        \
             fallthrough\n    }}\n    forward . {}\n}}\n",
            dns.port(),
            upstream.local_addr().unwrap()
        );
        fs::write(folder.path().join("Corefile"), corefile).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["--io", backend, "-quiet", "-conf"])
            .arg(folder.path().join("Corefile"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child: TestChild(child), dns, http, upstream, _folder: folder };
        server.until("it is ready", |server| server.get("/ready").is_some_and(|is| is == 200));
        server
    }

    /// Sends SIGTERM. Returns a moment before the server gets it.
    fn signal(&self) -> Instant {
        let began = Instant::now();
        self.child.signal(Signal::TERM);
        began
    }

    /// The status. `None` if nobody listens.
    fn get(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.split(' ').nth(1)?.parse().ok()
    }

    fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().unwrap();
        assert!(status.is_none_or(|status| status.success()), "{status:?}");
        status.is_some()
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            sleep(Duration::from_millis(2));
        }
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.dns).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits until the upstream has a query for this name. Returns it, and where it came from.
    fn upstream_query(&self, name: &str) -> (Vec<u8>, SocketAddr) {
        let name = wire_name(name);
        let began = Instant::now();
        let mut packet = [0; 512];
        while began.elapsed() < PATIENCE {
            let (len, from) = self.upstream.recv_from(&mut packet).expect("a query");
            let question = packet[..len].get(12..);
            if question.is_some_and(|question| question.starts_with(&name)) {
                return (packet[..len].to_vec(), from);
            }
        }
        panic!("the upstream gets other queries only");
    }
}

fn send(stream: &mut TcpStream, name: &str, id: u16) {
    let query = query_with_id(name, 1, id);
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).unwrap();
}

fn read(stream: &mut TcpStream, id: u16) {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a response");
    let mut response = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut response).expect("a whole response");
    assert!(is_response(&response, id), "{response:02x?}");
}

/// The end of the stream, by the rules: no reset.
fn read_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 2]).expect("the end of the stream"), 0);
}

fn connect(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends windows of queries until the kernel refuses one, and counts the responses. Each query must
/// have one, unless it is refused.
fn ask_until_refused(server: SocketAddr, answered: &AtomicU64) {
    let socket = connect(server);
    let began = Instant::now();
    let mut buffer = [0; 512];
    while began.elapsed() < PATIENCE {
        let mut in_flight = 0;
        for id in 0..WINDOW {
            match socket.send(&query_with_id("web.test", 1, id)) {
                Ok(_) => in_flight += 1,
                // It reports that an earlier query was refused, and sends nothing.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                Err(error) => panic!("{error}"),
            }
        }
        for _ in 0..in_flight {
            match socket.recv(&mut buffer) {
                Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                Err(error) => panic!("a query was lost: {error}"),
            };
        }
    }
    panic!("the server does not end");
}

/// Keeps asking for `SILENT` until it is over, so that forwarding never ends. Each CPU and many
/// ports are used, so that each shard has such a query. It may be lost, or refused.
fn ask_silent_upstream(server: SocketAddr, is_over: &AtomicBool) {
    let affinity = sched_getaffinity(None).unwrap();
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| affinity.is_set(*cpu));
    let began = Instant::now();
    for cpu in cpus.cycle() {
        if is_over.load(Ordering::SeqCst) || began.elapsed() > PATIENCE {
            return;
        }
        let mut only = CpuSet::new();
        only.set(cpu);
        // This thread's alone.
        sched_setaffinity(None, &only).unwrap();
        let _ = connect(server).send(&query_with_id(SILENT, 1, 5));
        sleep(SILENT_EVERY);
    }
}

/// Sends SIGTERM: everything goes on, but `/ready` says no. Returns a connection that begins in
/// lameduck, and when `/ready` was down.
fn check_lameduck(server: &mut Server, idle: &mut TcpStream) -> (TcpStream, Duration) {
    let began = server.signal();
    server.until("it is not ready", |server| server.get("/ready") == Some(503));
    let unready_after = began.elapsed();
    assert_eq!(server.get("/health"), Some(200));
    send(idle, "web.test", 3);
    read(idle, 3);
    let mut late = server.tcp();
    send(&mut late, "web.test", 4);
    read(&mut late, 4);
    assert!(!server.has_ended());
    (late, unready_after)
}

/// Ends lameduck while shards wait for the upstream. Connections that wait for nothing end, and the
/// one that waits for slow.test gets its response first. Returns when the first one was closed.
fn check_drain(server: &Server, [mut idle, mut late]: [TcpStream; 2]) -> Duration {
    server.upstream_query(SILENT);
    // The last thing before the signal, so that its try does not time out.
    let mut waiting = server.tcp();
    send(&mut waiting, "slow.test", 2);
    let (mut response, shard) = server.upstream_query("slow.test");
    let began = server.signal();
    read_end(&mut idle);
    let closed_after = began.elapsed();
    response[2] |= 0x80;
    server.upstream.send_to(&response, shard).unwrap();
    let responded_after = began.elapsed();
    read_end(&mut late);
    if responded_after < DRAIN_TIMEOUT / 2 {
        read(&mut waiting, 2);
        read_end(&mut waiting);
    } else {
        println!(
            "shutdown: !!! THE MACHINE IS TOO BUSY: the upstream responded after \
             {responded_after:.0?}: a response in the drain IS NOT TESTED"
        );
    }
    closed_after
}

#[test]
fn lameduck_then_drained_then_gone() {
    for backend in BACKENDS {
        let mut server = Server::start(backend, LONG_LAMEDUCK);
        let answered = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        let dns = server.dns;
        let mut idle = server.tcp();
        send(&mut idle, "web.test", 1);
        read(&mut idle, 1);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| ask_until_refused(dns, &answered));
            }
            server.until("clients get responses", |_| answered.load(Ordering::SeqCst) > 0);
            let (late, unready_after) = check_lameduck(&mut server, &mut idle);
            scope.spawn(|| ask_silent_upstream(dns, &is_over));
            let began = Instant::now();
            let closed_after = check_drain(&server, [idle, late]);
            server.until("it has ended", Server::has_ended);
            is_over.store(true, Ordering::SeqCst);
            println!(
                "{backend}: not ready after {unready_after:.1?}; after the second signal, \
                 connections closed after {closed_after:.1?}, ended after {:.1?}",
                began.elapsed()
            );
        });
        println!("{backend}: {} answered, 0 lost", answered.load(Ordering::SeqCst));
    }
}

#[test]
fn lameduck_ends_by_itself_and_no_sooner() {
    for backend in BACKENDS {
        let mut server = Server::start(backend, LAMEDUCK);
        let mut idle = server.tcp();
        send(&mut idle, "web.test", 1);
        read(&mut idle, 1);
        let began = server.signal();
        read_end(&mut idle);
        let closed_after = began.elapsed();
        assert!(closed_after >= LAMEDUCK, "{closed_after:?}");
        server.until("it has ended", Server::has_ended);
        println!(
            "{backend}: connection closed after {closed_after:.1?}, ended after {:.1?} (lameduck \
             {LAMEDUCK:?})",
            began.elapsed()
        );
    }
}

#[test]
fn a_second_signal_ends_lameduck() {
    let mut server = Server::start("auto", LONG_LAMEDUCK);
    let began = server.signal();
    server.until("it is not ready", |server| server.get("/ready") == Some(503));
    assert!(!server.has_ended());
    server.signal();
    server.until("it has ended", Server::has_ended);
    println!("ended after {:.1?}", began.elapsed());
}
