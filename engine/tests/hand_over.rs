//! One process replaces another on the same ports: no query is lost, `/health`, `/ready` and
//! `/metrics` respond all the time, and afterwards each CPU's shard answers again. And a rolling
//! restart of two servers: with one retry no look-up fails.
//!
//! The rate is printed, not asserted.

#[path = "rig/child.rs"]
mod child;
#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use child::TestChild;
use query::{is_response, query_with_id};

const BACKENDS: [&str; 2] = ["uring", "mmsg"];
const UDP_CLIENTS: usize = 3;
/// Queries in flight per client over UDP.
const WINDOW: u16 = 32;
/// After so many windows a client goes on from another port, which another shard may serve.
const WINDOWS_PER_SOCKET: usize = 16;
const HAND_OVERS: usize = 4;
const ROLLING_RESTARTS: usize = 3;
const LAMEDUCK: Duration = Duration::from_millis(200);
/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client waits for a connection. The kernel sends a SYN again after a second, and none
/// is to need that.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a client of two servers waits before it asks the other one, as the resolver of libc
/// does after seconds.
const RETRY_AFTER: Duration = Duration::from_secs(5);

struct Server {
    child: TestChild,
    pidfile: PathBuf,
}

impl Server {
    /// Returns when it serves.
    fn start(site: &Site, backend: &str, arguments: &[&str]) -> Self {
        let number = site.started.fetch_add(1, Ordering::SeqCst);
        let pidfile = site.folder.path().join(format!("pid-{number}"));
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["--io", backend, "-quiet", "-pidfile"])
            .arg(&pidfile)
            .arg("-conf")
            .arg(site.folder.path().join("Corefile"))
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child: TestChild(child), pidfile };
        // It is written when the sockets are open.
        until("it has started", || {
            assert!(server.child.try_wait().unwrap().is_none(), "it has ended");
            server.pidfile.exists()
        });
        server
    }

    fn terminate(&self) {
        self.child.signal(Signal::TERM);
    }

    /// After `terminate`.
    fn await_end(&mut self) {
        until("it has ended", || self.child.try_wait().unwrap().is_some());
        assert!(self.child.try_wait().unwrap().is_some_and(|status| status.success()));
    }
}

/// A Corefile, and the addresses that it serves.
struct Site {
    folder: TempDir,
    dns: SocketAddr,
    http: SocketAddr,
    started: AtomicU64,
}

impl Site {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let [dns, http] = [port::free(), port::free()].map(local);
        let text = format!(
            ".:{} {{\n    bind 127.0.0.1\n    prometheus {http}\n    ready {http}\n    \
             health {http} {{\n        lameduck {}ms\n    }}\n    \
             hosts {{\n        10.0.0.1 web.test\n    }}\n}}\n",
            dns.port(),
            LAMEDUCK.as_millis()
        );
        fs::write(folder.path().join("Corefile"), text).unwrap();
        Self { folder, dns, http, started: AtomicU64::new(0) }
    }

    /// The value of a series of `/metrics`.
    fn value(&self, series: &str) -> Option<f64> {
        let (_, metrics) = self.get("/metrics").unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        value.and_then(|value| value.trim().parse().ok())
    }

    /// The status and the body.
    fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, text.split_once("\r\n\r\n").unwrap_or_default().1.to_owned()))
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Tells the clients when to stop, also if the test fails.
#[derive(Default)]
struct Run {
    is_over: AtomicBool,
    responses: AtomicU64,
}

struct Ending<'r>(&'r Run);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

impl Run {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

fn connect(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Keeps `WINDOW` queries in flight. Each must get its response.
fn ask_over_udp(server: SocketAddr, run: &Run) {
    let _ending = Ending(run);
    let mut query = query_with_id("web.test", 1, 0);
    let mut buffer = [0; 512];
    while !run.is_over() {
        let socket = connect(server);
        for _ in 0..WINDOWS_PER_SOCKET {
            for id in 0..WINDOW {
                query[..2].copy_from_slice(&id.to_be_bytes());
                socket.send(&query).expect("somebody listens");
            }
            for _ in 0..WINDOW {
                let len = socket.recv(&mut buffer).expect("no query is lost");
                check_response(&buffer[..len]);
            }
            run.responses.fetch_add(WINDOW.into(), Ordering::SeqCst);
        }
    }
}

/// A connection for each query, which must be answered.
fn ask_over_tcp(server: SocketAddr, run: &Run) {
    let _ending = Ending(run);
    while !run.is_over() {
        ask_once_over_tcp(server);
        run.responses.fetch_add(1, Ordering::SeqCst);
    }
}

fn ask_once_over_tcp(server: SocketAddr) {
    let query = query_with_id("web.test", 1, 7);
    let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
    let mut stream =
        TcpStream::connect_timeout(&server, CONNECT_TIMEOUT).expect("somebody accepts at once");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&framed).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("no query is lost over TCP");
    let mut response = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut response).expect("a whole response");
    check_response(&response);
}

/// A connection that stays open. It may be closed between two queries, and never in the middle.
fn ask_on_one_connection(server: SocketAddr, run: &Run) {
    let _ending = Ending(run);
    let query = query_with_id("web.test", 1, 8);
    let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
    let mut closed_count = 0;
    let mut stream = TcpStream::connect(server).expect("somebody listens");
    while !run.is_over() {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut length = [0; 2];
        let is_answered =
            stream.write_all(&framed).is_ok() && stream.read_exact(&mut length).is_ok();
        if is_answered {
            let mut response = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut response).expect("a whole response");
            check_response(&response);
            // The server finds it idle.
            sleep(Duration::from_millis(5));
        } else {
            closed_count += 1;
            stream = TcpStream::connect(server).expect("somebody listens");
        }
    }
    assert!(closed_count <= HAND_OVERS, "closed {closed_count} times");
}

fn check_response(response: &[u8]) {
    let id = u16::from_be_bytes([response[0], response[1]]);
    assert!(is_response(response, id) && response[3] & 0xF == 0, "{response:02x?}");
    assert_eq!(response.last_chunk(), Some(&[10, 0, 0, 1]));
}

/// The endpoints respond at every moment.
fn watch_endpoints(site: &Site, run: &Run) {
    let _ending = Ending(run);
    while !run.is_over() {
        for path in ["/health", "/ready", "/metrics"] {
            let (status, _) = site.get(path).expect("an endpoint that responds");
            // A process that has just started, or is about to end, is not ready.
            let is_expected = status == 200 || path == "/ready" && status == 503;
            assert!(is_expected, "{path}: {status}");
        }
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_hands_its_ports_over_and_no_query_is_lost() {
    for backend in BACKENDS {
        let site = Site::new();
        let mut server = Server::start(&site, backend, &["--take-over"]);
        let run = Run::default();
        let began = Instant::now();
        thread::scope(|scope| {
            let _ending = Ending(&run);
            for _ in 0..UDP_CLIENTS {
                scope.spawn(|| ask_over_udp(site.dns, &run));
            }
            scope.spawn(|| ask_over_tcp(site.dns, &run));
            scope.spawn(|| ask_on_one_connection(site.dns, &run));
            scope.spawn(|| watch_endpoints(&site, &run));
            for _ in 0..HAND_OVERS {
                let mut next = Server::start(&site, backend, &["--take-over"]);
                // Both serve.
                sleep(Duration::from_millis(100));
                server.terminate();
                server.await_end();
                assert!(!run.is_over(), "a client has failed");
                std::mem::swap(&mut server, &mut next);
                sleep(Duration::from_millis(100));
            }
        });
        let (responses, took) = (run.responses.load(Ordering::SeqCst), began.elapsed());
        println!(
            "{backend}: {HAND_OVERS} hand-overs in {took:.1?}, {responses} responses, {:.0} per \
             second, 0 lost",
            responses as f64 / took.as_secs_f64()
        );
        check_steering(&site);
        // One that is killed leaves its program in the kernel, and its queries unanswered.
        let next = Server::start(&site, backend, &["--take-over"]);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        check_steering(&site);
        drop(next);
    }
}

/// Whether the kernel can choose the socket of a CPU: since Linux 6.2, as in
/// `engine/src/steering`.
fn prefers_cpus() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 2)
}

/// The process is alone, and the shard of each CPU answers.
fn check_steering(site: &Site) {
    if !prefers_cpus() {
        return println!("hand_over: !!! A KERNEL BEFORE LINUX 6.2: steering IS NOT TESTED");
    }
    let affinity = sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| affinity.is_set(*cpu)).collect();
    if cpus.len() < 2 {
        return println!("hand_over: !!! ONE CPU: steering IS NOT TESTED");
    }
    until("it steers by CPU", || {
        let dns = site.dns;
        let is_by_cpu = |proto| {
            let series = format!("ringdns_steering_by_cpu{{address=\"{dns}\",proto=\"{proto}\"}}");
            site.value(&series) == Some(1.0)
        };
        is_by_cpu("udp") && is_by_cpu("tcp")
    });
    for (shard, cpu) in cpus.iter().enumerate() {
        let mut only = CpuSet::new();
        only.set(*cpu);
        sched_setaffinity(None, &only).unwrap();
        let series = format!("ringdns_answers_total{{shard=\"{shard}\"}}");
        until("the shard of the CPU answers", || {
            let before = site.value(&series).unwrap();
            for id in 0..8 {
                let socket = connect(site.dns);
                socket.send(&query_with_id("web.test", 1, id)).unwrap();
                let mut buffer = [0; 512];
                let len = socket.recv(&mut buffer).unwrap();
                check_response(&buffer[..len]);
                ask_once_over_tcp(site.dns);
            }
            site.value(&series).unwrap() - before == 16.0
        });
    }
    sched_setaffinity(None, &affinity).unwrap();
}

/// Without the flag, another process's port stays its own.
#[test]
fn a_port_in_use_is_an_error_that_names_the_flag() {
    let site = Site::new();
    let _first = Server::start(&site, "auto", &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .arg("-conf")
        .arg(site.folder.path().join("Corefile"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    let log = [second.stdout, second.stderr].concat();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("already in use") && log.contains("--take-over"), "{log}");
}

/// Asks one server, and those queries that it does not answer of the other one, once. False if one
/// is not answered then either.
fn look_up_a_window(servers: [SocketAddr; 2], first: usize) -> bool {
    let mut missing: Vec<u16> = (0..WINDOW).collect();
    let mut buffer = [0; 512];
    for retry in 0..2 {
        let socket = connect(servers[(first + retry) % 2]);
        socket.set_read_timeout(Some(RETRY_AFTER)).unwrap();
        // If nobody listens, the kernel says so at the next call.
        let send = |id: &u16| socket.send(&query_with_id("web.test", 1, *id)).is_ok();
        let are_sent = missing.iter().all(send);
        while are_sent && !missing.is_empty() {
            let Ok(len) = socket.recv(&mut buffer) else { break };
            check_response(&buffer[..len]);
            missing.retain(|id| !is_response(&buffer[..len], *id));
        }
    }
    missing.is_empty()
}

#[test]
fn a_rolling_restart_fails_no_look_up_that_is_tried_twice() {
    for backend in BACKENDS {
        let sites = [Site::new(), Site::new()];
        let addresses = [sites[0].dns, sites[1].dns];
        let mut servers = sites.each_ref().map(|site| Server::start(site, backend, &[]));
        let run = Run::default();
        let began = Instant::now();
        thread::scope(|scope| {
            let _ending = Ending(&run);
            for client in 0..UDP_CLIENTS {
                let run = &run;
                scope.spawn(move || {
                    let _ending = Ending(run);
                    let mut turn = client;
                    while !run.is_over() {
                        turn += 1;
                        assert!(look_up_a_window(addresses, turn % 2), "a look-up failed");
                        run.responses.fetch_add(WINDOW.into(), Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..ROLLING_RESTARTS {
                for (site, server) in sites.iter().zip(&mut servers) {
                    server.terminate();
                    server.await_end();
                    *server = Server::start(site, backend, &[]);
                    assert!(!run.is_over(), "a client has failed");
                }
            }
        });
        let (look_ups, took) = (run.responses.load(Ordering::SeqCst), began.elapsed());
        println!(
            "{backend}: {ROLLING_RESTARTS} rolling restarts in {took:.1?}, {look_ups} look-ups, \
             {:.0} per second, 0 failed",
            look_ups as f64 / took.as_secs_f64()
        );
    }
}
