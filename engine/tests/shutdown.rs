//! SIGTERM: `/ready` goes down first, answers go on during lameduck, then TCP connections end
//! between two messages, and no query is lost: each is answered, or refused by the kernel at once.
//!
//! The times are printed and checked only from below: the machine may be busy.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use query::{is_response, query_with_id};

const BACKENDS: [&str; 2] = ["uring", "mmsg"];
const CLIENTS: usize = 3;
const WINDOW: u16 = 32;
const LAMEDUCK: Duration = Duration::from_millis(600);
/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    dns: SocketAddr,
    http: SocketAddr,
    /// Queries for slow.test get their responses when a test sends them from here.
    upstream: UdpSocket,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let mut server = Self { child, dns, http, upstream, _folder: folder };
        server.until("it is ready", |server| server.get("/ready").is_some_and(|is| is == 200));
        server
    }

    fn signal(&self) -> Instant {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        Instant::now()
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

/// Sends windows of queries until the kernel refuses one. Returns how many were answered. Each must
/// be, unless it is refused.
fn ask_until_refused(server: SocketAddr) -> u64 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    let mut buffer = [0; 512];
    let mut answered = 0;
    while began.elapsed() < PATIENCE {
        let mut in_flight = 0;
        for id in 0..WINDOW {
            match socket.send(&query_with_id("web.test", 1, id)) {
                Ok(_) => in_flight += 1,
                // It reports that an earlier query was refused, and sends nothing.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return answered,
                Err(error) => panic!("{error}"),
            }
        }
        for _ in 0..in_flight {
            match socket.recv(&mut buffer) {
                Ok(_) => answered += 1,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return answered,
                Err(error) => panic!("a query was lost: {error}"),
            }
        }
    }
    panic!("the server does not end");
}

#[test]
fn lameduck_then_drained_then_gone() {
    for backend in BACKENDS {
        let mut server = Server::start(backend, LAMEDUCK);
        let answered = AtomicU64::new(0);
        let dns = server.dns;
        let mut idle = server.tcp();
        send(&mut idle, "web.test", 1);
        read(&mut idle, 1);
        let mut waiting = server.tcp();
        send(&mut waiting, "slow.test", 2);
        let mut question = [0; 512];
        let (len, shard) = server.upstream.recv_from(&mut question).unwrap();
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| answered.fetch_add(ask_until_refused(dns), Ordering::SeqCst));
            }
            sleep(Duration::from_millis(50));
            let began = server.signal();
            server.until("it is not ready", |server| server.get("/ready") == Some(503));
            let unready_after = began.elapsed();
            assert_eq!(server.get("/health"), Some(200));
            send(&mut idle, "web.test", 3);
            read(&mut idle, 3);
            // A connection that begins in lameduck.
            let mut late = server.tcp();
            send(&mut late, "web.test", 4);
            read(&mut late, 4);
            // Both connections that wait for nothing end, and by the rules: no reset.
            for stream in [&mut idle, &mut late] {
                assert_eq!(stream.read(&mut [0; 2]).expect("the end of the stream"), 0);
            }
            let drained_after = began.elapsed();
            assert!(drained_after >= LAMEDUCK, "{drained_after:?}");
            // The other one gets its response first.
            question[2] |= 0x80;
            server.upstream.send_to(&question[..len], shard).unwrap();
            read(&mut waiting, 2);
            assert_eq!(waiting.read(&mut [0; 2]).expect("the end of the stream"), 0);
            server.until("it has ended", Server::has_ended);
            println!(
                "{backend}: not ready after {unready_after:.1?}, connections closed after \
                 {drained_after:.1?}, ended after {:.1?} (lameduck {LAMEDUCK:?})",
                began.elapsed()
            );
        });
        println!("{backend}: {} answered, 0 lost", answered.load(Ordering::SeqCst));
    }
}

/// The first signal starts a lameduck of an hour.
#[test]
fn a_second_signal_ends_lameduck() {
    let mut server = Server::start("auto", Duration::from_secs(3600));
    let began = server.signal();
    server.until("it is not ready", |server| server.get("/ready") == Some(503));
    assert!(!server.has_ended());
    server.signal();
    server.until("it has ended", Server::has_ended);
    println!("ended after {:.1?}", began.elapsed());
}
