//! The addresses that the binary listens on: they overlap, come and go, or belong to another
//! process.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use query::{ID, is_response, query_with_id};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const BACKENDS: [&str; 2] = ["uring", "mmsg"];

const OBJECTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ports: [{name: http, port: 80}]}
";

const NO_ERROR: u8 = 0;
const REFUSED: u8 = 5;

/// Zones, and the arguments of their `bind`.
type Blocks<'b> = &'b [(&'b str, &'b str)];

#[derive(Clone, Copy, Debug)]
enum Transport {
    Udp,
    Tcp,
}

struct Server {
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts with these blocks: zone, port, and the arguments of its `bind`.
    fn start(backend: &str, port: u16, blocks: Blocks<'_>) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("objects.yaml"), OBJECTS).unwrap();
        let child = Command::new("true").spawn().unwrap();
        let mut server = Self { folder, child };
        server.child.wait().unwrap();
        server.write(port, blocks);
        server.restart(backend);
        server
    }

    fn write(&self, port: u16, blocks: Blocks<'_>) {
        let mut text = String::new();
        for (zone, bind) in blocks {
            let bind = if bind.is_empty() { String::new() } else { format!("    bind {bind}\n") };
            text += &format!(
                "{zone}:{port} {{\n{bind}    errors\n    kubernetes {zone} {{\n        \
                 manifests objects.yaml\n    }}\n}}\n"
            );
        }
        let next = self.folder.path().join("Corefile.next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.folder.path().join("Corefile")).unwrap();
    }

    fn restart(&mut self, backend: &str) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        self.child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["--io", backend, "--shards", "2", "-conf"])
            .arg(self.folder.path().join("Corefile"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
    }

    /// Loads these blocks, and waits until they are running.
    fn reload(&self, port: u16, blocks: Blocks<'_>, is_done: impl Fn() -> bool) {
        self.write(port, blocks);
        let sent = Command::new("kill").args(["-s", "USR1", &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        self.until(&format!("reloaded: {blocks:?}"), is_done);
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let said = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the process to end; returns its output.
    fn ended(&mut self) -> String {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn query(zone: &str, id: u16) -> Vec<u8> {
    query_with_id(&format!("web.default.svc.{zone}"), 1, id)
}

/// A socket that accepts responses only from the address that it queries.
fn udp_to(server: SocketAddr) -> UdpSocket {
    let any = SocketAddr::new(
        match server {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        },
        0,
    );
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket
}

/// The response code; `None` without a response.
fn ask(transport: Transport, server: SocketAddr, zone: &str) -> Option<u8> {
    // A shard may get no CPU time for seconds on a busy machine.
    let patience = Some(Duration::from_secs(5));
    let packet = query(zone, ID);
    let mut answer = [0; 512];
    match transport {
        Transport::Udp => {
            let socket = udp_to(server);
            socket.set_read_timeout(patience).unwrap();
            socket.send(&packet).ok()?;
            let len = socket.recv(&mut answer).ok()?;
            is_response(&answer[..len], ID).then_some(answer[3] & 15)
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect(server).ok()?;
            stream.set_read_timeout(patience).unwrap();
            stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], &packet].concat()).ok()?;
            stream.read_exact(&mut answer[..14]).ok()?;
            is_response(&answer[2..14], ID).then_some(answer[5] & 15)
        }
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// The most specific socket receives a query, as with CoreDNS. `0.0.0.0` means every address, IPv6
/// included.
#[test]
fn overlapping_addresses_work() {
    let check = |blocks: Blocks<'_>, expected: &[(&str, &str, u8)]| {
        for backend in BACKENDS {
            let port = port::free();
            let server = Server::start(backend, port, blocks);
            let (ip, zone, rcode) = expected[0];
            server.until("it answers", || ask(Transport::Udp, at(ip, port), zone) == Some(rcode));
            for (ip, zone, rcode) in expected {
                for transport in [Transport::Udp, Transport::Tcp] {
                    let found = ask(transport, at(ip, port), zone);
                    assert_eq!(
                        found,
                        Some(*rcode),
                        "{blocks:?}: {backend} {transport:?} {ip} {zone}"
                    );
                }
            }
        }
    };
    check(
        &[("a", "127.0.0.1"), ("b", "")],
        &[
            ("127.0.0.1", "a", NO_ERROR),
            ("127.0.0.1", "b", REFUSED),
            ("127.0.0.2", "a", REFUSED),
            ("127.0.0.2", "b", NO_ERROR),
            ("::1", "a", REFUSED),
            ("::1", "b", NO_ERROR),
        ],
    );
    check(&[("a", "0.0.0.0 ::")], &[("127.0.0.1", "a", NO_ERROR), ("::1", "a", NO_ERROR)]);
    check(
        &[("a", ":: 127.0.0.1 0.0.0.0")],
        &[("127.0.0.1", "a", NO_ERROR), ("127.0.0.2", "a", NO_ERROR), ("::1", "a", NO_ERROR)],
    );
    check(
        &[("b", "::1"), ("a", "0.0.0.0")],
        &[("::1", "b", NO_ERROR), ("::1", "a", REFUSED), ("127.0.0.1", "a", NO_ERROR)],
    );
    // Three forms of the same address, so one socket. CoreDNS opens three, and the kernel picks one
    // at random.
    check(
        &[("a", "0.0.0.0"), ("b", "::"), ("c", "")],
        &[
            ("127.0.0.1", "a", NO_ERROR),
            ("127.0.0.1", "b", NO_ERROR),
            ("127.0.0.1", "c", NO_ERROR),
            ("::1", "a", NO_ERROR),
            ("::1", "b", NO_ERROR),
            ("::1", "c", NO_ERROR),
        ],
    );
}

/// Keeps many queries in flight until `is_over`; returns the count of lost queries, and of all.
fn count_lost(server: SocketAddr, is_over: &AtomicBool) -> (usize, usize) {
    const IN_FLIGHT: u16 = 32;
    let socket = udp_to(server);
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut lost, mut all) = (0, 0);
    let mut answer = [0; 512];
    while !is_over.load(Ordering::Relaxed) {
        for id in 0..IN_FLIGHT {
            socket.send(&query("a", id)).unwrap();
        }
        let mut answered = 0;
        for _ in 0..IN_FLIGHT {
            if socket.recv(&mut answer).is_err() {
                break;
            }
            answered += usize::from(answer[3] & 15 == NO_ERROR);
        }
        lost += usize::from(IN_FLIGHT) - answered;
        all += usize::from(IN_FLIGHT);
    }
    (lost, all)
}

#[test]
fn a_reload_between_overlapping_addresses_loses_no_query() {
    // The response of 127.0.0.1 for `a` never changes; 127.0.0.2 shows that the reload is done.
    let sets: [(Blocks<'_>, Option<u8>); 5] = [
        (&[("a", ""), ("b", "")], Some(NO_ERROR)),
        (&[("a", "127.0.0.1"), ("b", "")], Some(REFUSED)),
        (&[("a", "0.0.0.0 127.0.0.1")], Some(NO_ERROR)),
        (&[("a", "127.0.0.1"), ("b", "127.0.0.2")], Some(REFUSED)),
        (&[("a", "::")], Some(NO_ERROR)),
    ];
    for backend in BACKENDS {
        let port = port::free();
        let server = Server::start(backend, port, &[("a", "127.0.0.1")]);
        let asked = at("127.0.0.1", port);
        server.until("it answers", || ask(Transport::Udp, asked, "a") == Some(NO_ERROR));
        let is_over = AtomicBool::new(false);
        let (udp, tcp) = std::thread::scope(|scope| {
            let udp = scope.spawn(|| count_lost(asked, &is_over));
            let tcp = scope.spawn(|| {
                let (mut lost, mut all) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    lost += usize::from(ask(Transport::Tcp, asked, "a") != Some(NO_ERROR));
                    all += 1;
                }
                (lost, all)
            });
            for (blocks, elsewhere) in sets.iter().chain(&sets) {
                let other = at("127.0.0.2", port);
                server.reload(port, blocks, || ask(Transport::Udp, other, "a") == *elsewhere);
            }
            is_over.store(true, Ordering::Relaxed);
            (udp.join().unwrap(), tcp.join().unwrap())
        });
        assert!(udp.1 > 100 && tcp.1 > 10, "{backend}: {udp:?} {tcp:?}");
        assert_eq!((udp.0, tcp.0), (0, 0), "{backend}: lost, of {} and {}", udp.1, tcp.1);
    }
}

/// Otherwise a test's own socket may get the port of the server that it waits for.
#[test]
fn free_ports_are_not_those_of_the_kernel_and_differ() {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut kernel = range.split_whitespace().map(|word| word.parse::<u16>().unwrap());
    let kernel = kernel.next().unwrap()..=kernel.next().unwrap();
    let ports: Vec<u16> = (0..100).map(|_| port::free()).collect();
    let different: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
    assert_eq!(different.len(), ports.len());
    assert!(!ports.iter().any(|port| kernel.contains(port)), "{ports:?}");
    let [taken_udp, taken_tcp] = [(); 2].map(|()| port::free());
    let _udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, taken_udp)).unwrap();
    let _tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, taken_tcp)).unwrap();
    assert!(!port::is_free(taken_udp) && !port::is_free(taken_tcp));
}

/// The kernel releases the sockets of a killed process's ring some time after the process is
/// reaped.
#[test]
fn a_killed_process_can_be_restarted_at_once() {
    for backend in BACKENDS {
        let port = port::free();
        let mut server = Server::start(backend, port, &[("a", "127.0.0.1")]);
        let asked = at("127.0.0.1", port);
        for _ in 0..10 {
            server.until("it answers", || ask(Transport::Udp, asked, "a") == Some(NO_ERROR));
            let flood = udp_to(asked);
            (0..20).for_each(|id| drop(flood.send(&query("a", id))));
            server.child.kill().unwrap();
            server.child.wait().unwrap();
            server.restart(backend);
        }
        server.until("it answers", || ask(Transport::Udp, asked, "a") == Some(NO_ERROR));
    }
}

/// With SO_REUSEPORT they would share the port: each would get some of the queries.
#[test]
fn another_process_of_the_same_user_keeps_its_port() {
    let port = port::free();
    let first = Server::start("mmsg", port, &[("a", "127.0.0.1")]);
    let asked = at("127.0.0.1", port);
    first.until("it answers", || ask(Transport::Udp, asked, "a") == Some(NO_ERROR));
    let holder = format!("`ringdns`, process {}, has it", first.child.id());
    for (blocks, place) in [
        (&[("a", "127.0.0.1")][..], "Corefile:2: cannot listen on 127.0.0.1:"),
        (&[("a", "")], "Corefile:1: cannot listen on [::]:"),
        // Here its own socket is in the way too.
        (&[("a", "127.0.0.2"), ("b", "")], "Corefile:8: cannot listen on [::]:"),
        (&[("a", "127.0.0.2"), ("b", "0.0.0.0")], "Corefile:9: cannot listen on [::]:"),
    ] {
        let said = Server::start("mmsg", port, blocks).ended();
        for words in [place, "Address already in use", &holder, "write another port after the zone"]
        {
            assert!(said.contains(words), "{blocks:?}: no {words:?} in\n{said}");
        }
    }
}
