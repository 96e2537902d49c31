//! Which shard answers: clients that are pinned to a CPU are answered by its shard, over UDP and
//! TCP, at every address, and right after each reload.
//!
//! On loopback the CPU that sends a packet also receives it. On a machine with one CPU there is
//! nothing to see, and the tests say so.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use query::query_with_id;

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const BACKENDS: [&str; 2] = ["uring", "mmsg"];

#[derive(Clone, Copy, Debug)]
enum Transport {
    Udp,
    Tcp,
}

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

struct Server {
    folder: TempDir,
    child: Child,
    dns_port: u16,
    http_port: u16,
}

impl Server {
    /// A shard on each of these CPUs. `bind`: the addresses to serve.
    fn start(arguments: &[&str], cpus: &[usize], bind: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let child = Command::new("true").spawn().unwrap();
        let (dns_port, http_port) = (port::free(), port::free());
        let mut server = Self { folder, child, dns_port, http_port };
        server.child.wait().unwrap();
        server.write_corefile(bind);
        let cores: Vec<_> = cpus.iter().map(ToString::to_string).collect();
        server.child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(arguments)
            .args(["--cores", &cores.join(","), "-quiet", "-conf"])
            .arg(server.folder.path().join("Corefile"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        server.until("it answers", |server| ask(Transport::Udp, server.at(1)).is_some());
        server
    }

    fn write_corefile(&self, bind: &str) {
        let Self { dns_port, http_port, .. } = self;
        let text = format!(
            ".:{dns_port} {{\n    bind {bind}\n    prometheus 127.0.0.1:{http_port}\n    \
             hosts {{\n        10.0.0.1 web.test\n    }}\n}}\n"
        );
        let next = self.folder.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.folder.path().join("Corefile")).unwrap();
    }

    /// Serves these addresses from now on.
    fn reload(&self, bind: &str) {
        let before = self.version();
        self.write_corefile(bind);
        kill_process(Pid::from_child(&self.child), Signal::USR1).unwrap();
        self.until(bind, |server| server.version() != before);
    }

    /// 127.0.0.`host`, where it may listen.
    fn at(&self, host: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), self.dns_port))
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Shows which Corefile is in force.
    fn version(&self) -> Option<String> {
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| line.starts_with("coredns_reload_version_info"));
        line.map(str::to_owned)
    }

    /// The value of a series of `/metrics`.
    fn value(&self, series: &str) -> Option<f64> {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        value.and_then(|value| value.trim().parse().ok())
    }

    /// The cores that the control loop's thread may run on.
    fn cores_of_control(&self) -> Vec<usize> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let usable = sched_getaffinity(pid).unwrap();
        (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).collect()
    }

    /// The count of responses so far, by shard.
    fn answers(&self, shard_count: usize) -> Vec<u64> {
        let metrics = self.metrics();
        let answers = |shard| {
            let series = format!("ringdns_answers_total{{shard=\"{shard}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap().parse().unwrap()
        };
        (0..shard_count).map(answers).collect()
    }

    /// Asks each of these from each CPU; returns how many queries each shard answered, by CPU.
    fn answered_from(&self, cpus: &[usize], asked: &[(Transport, SocketAddr)]) -> Vec<Vec<u64>> {
        let mut before = self.answers(cpus.len());
        let mut answered = |cpu: &usize| {
            on_cpu(*cpu, || {
                for (how, to) in asked {
                    ask(*how, *to).unwrap_or_else(|| panic!("no response from {to} by {how:?}"));
                }
            });
            let after = self.answers(cpus.len());
            let before = std::mem::replace(&mut before, after.clone());
            after.iter().zip(before).map(|(after, before)| after - before).collect()
        };
        cpus.iter().map(&mut answered).collect()
    }

    /// Checks that each of the CPUs, in the order of the shards, is answered by its own shard at
    /// each of these hosts, over both transports.
    fn check_steered(&self, cpus: &[usize], hosts: &[u8], times: usize) {
        let asked = hosts.iter().flat_map(|host| TRANSPORTS.map(|how| (how, self.at(*host))));
        let asked = asked.collect::<Vec<_>>().repeat(times);
        let mut expected = vec![vec![0; cpus.len()]; cpus.len()];
        for (shard, of_cpu) in expected.iter_mut().enumerate() {
            of_cpu[shard] = asked.len() as u64;
        }
        assert_eq!(self.answered_from(cpus, &asked), expected, "{cpus:?} at {asked:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first two CPUs that this process may use; `None` if it may use one only.
fn two_cpus() -> Option<[usize; 2]> {
    let usable = sched_getaffinity(None).unwrap();
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu));
    let two = cpus.next().zip(cpus.next());
    if two.is_none() {
        eprintln!("steering: !!! ONE CPU ONLY: which CPU's shard answers IS NOT TESTED");
    }
    two.map(<[usize; 2]>::from)
}

/// Does this in a thread that runs on this CPU only.
fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let mut only = CpuSet::new();
            only.set(cpu);
            sched_setaffinity(None, &only).unwrap();
            work()
        });
        pinned.join().unwrap()
    })
}

/// Asks from a new socket. `None` without the response that is expected.
fn ask(how: Transport, server: SocketAddr) -> Option<()> {
    let packet = query_with_id("web.test", 1, 7);
    let mut answer = [0; 512];
    let len = match how {
        Transport::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send(&packet).ok()?;
            socket.recv(&mut answer).ok()?
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect(server).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], &packet].concat()).ok()?;
            let mut len = [0; 2];
            stream.read_exact(&mut len).ok()?;
            let len = usize::from(u16::from_be_bytes(len));
            stream.read_exact(&mut answer[..len]).ok()?;
            len
        }
    };
    answer[..len].ends_with(&[10, 0, 0, 1]).then_some(())
}

#[test]
fn the_shard_of_the_cpu_answers() {
    let Some(cpus) = two_cpus() else { return };
    for backend in BACKENDS {
        for cpus in [cpus, [cpus[1], cpus[0]]] {
            for steer in ["auto", "cpu"] {
                let arguments = ["--io", backend, "--steer", steer];
                let server = Server::start(&arguments, &cpus, "127.0.0.1 127.0.0.2");
                server.check_steered(&cpus, &[1, 2], 20);
            }
        }
    }
}

#[test]
fn the_hash_spreads_clients_over_all_shards() {
    let Some(cpus) = two_cpus() else { return };
    for backend in BACKENDS {
        let server = Server::start(&["--io", backend, "--steer", "hash"], &cpus, "127.0.0.1");
        for how in TRANSPORTS {
            for of_cpu in server.answered_from(&cpus, &[(how, server.at(1)); 60]) {
                assert!(of_cpu.iter().all(|count| *count > 0), "{backend} {how:?}: {of_cpu:?}");
                assert_eq!(of_cpu.iter().sum::<u64>(), 60, "{backend} {how:?}: {of_cpu:?}");
            }
        }
    }
}

/// Keeps asking over both transports; returns the counts of lost queries and of all.
fn count_lost(server: SocketAddr, is_over: &AtomicBool) -> (usize, usize) {
    const IN_FLIGHT: u16 = 32;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut lost, mut all) = (0, 0);
    let mut answer = [0; 512];
    while !is_over.load(Ordering::Relaxed) {
        for id in 0..IN_FLIGHT {
            socket.send(&query_with_id("web.test", 1, id)).unwrap();
        }
        let answered = (0..IN_FLIGHT).take_while(|_| socket.recv(&mut answer).is_ok()).count();
        lost +=
            usize::from(IN_FLIGHT) - answered + usize::from(ask(Transport::Tcp, server).is_none());
        all += usize::from(IN_FLIGHT) + 1;
    }
    (lost, all)
}

/// 127.0.0.2 comes and goes beside an address that has its queries meanwhile, 127.0.0.3 comes and
/// goes alone, and 127.0.0.1 stays. Sockets that have closed linger beside those that come.
#[test]
fn reloads_lose_no_query_and_steering_is_right_after_each() {
    const RELOADS: usize = 200;
    let Some(cpus) = two_cpus() else { return };
    let sets = ["0.0.0.0 127.0.0.1", "0.0.0.0 127.0.0.1 127.0.0.2 127.0.0.3"];
    for (backend, reloads) in BACKENDS.into_iter().zip([RELOADS, RELOADS / 10]) {
        let server = Server::start(&["--io", backend, "--steer", "cpu"], &cpus, sets[0]);
        let (mut lost, mut all) = (0, 0);
        for number in 1..=reloads {
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let clients = cpus.map(|cpu| {
                    let (is_over, to) = (&is_over, [server.at(1), server.at(2)]);
                    to.map(|to| scope.spawn(move || on_cpu(cpu, || count_lost(to, is_over))))
                });
                server.reload(sets[number % 2]);
                is_over.store(true, Ordering::Relaxed);
                for client in clients.into_iter().flatten() {
                    let (lost_here, all_here) = client.join().unwrap();
                    (lost, all) = (lost + lost_here, all + all_here);
                }
            });
            assert_eq!(lost, 0, "{backend}: after {number} reloads, of {all}");
            server.check_steered(&cpus, &[1, 2, 3], 3);
        }
        assert!(all > 100 * reloads, "{all} queries during {reloads} reloads");
    }
}

/// Keeps so many queries in flight from this CPU, over as many sockets as the hash needs to spread
/// them.
fn load(cpu: usize, server: SocketAddr, in_flight: usize, is_over: &AtomicBool) {
    const SOCKETS: usize = 16;
    on_cpu(cpu, || {
        let sockets: Vec<_> = (0..SOCKETS)
            .map(|_| {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                socket.connect(server).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                socket
            })
            .collect();
        let packet = query_with_id("web.test", 1, 7);
        let mut answer = [0; 512];
        while !is_over.load(Ordering::Relaxed) {
            let in_turn = || sockets.iter().cycle().take(in_flight);
            in_turn().for_each(|socket| drop(socket.send(&packet)));
            in_turn().for_each(|socket| drop(socket.recv(&mut answer)));
        }
    });
}

/// One CPU sends everything: its shard is overloaded, and the others idle.
#[test]
fn an_overloaded_shard_gets_help_until_the_load_is_gone() {
    let Some(cpus) = two_cpus() else { return };
    for backend in BACKENDS {
        for (steer, falls_back) in [("auto", true), ("cpu", false)] {
            let server = Server::start(&["--io", backend, "--steer", steer], &cpus, "127.0.0.1");
            let labels = format!("{{address=\"{}\",proto=\"udp\"}}", server.at(1));
            let by_cpu = format!("ringdns_steering_by_cpu{labels}");
            let fallbacks = format!("ringdns_steering_fallbacks_total{labels}");
            server.until("it is steered", |server| server.value(&by_cpu) == Some(1.0));
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| load(cpus[0], server.at(1), 512, &is_over));
                server.until("it helps, or makes way", |server| {
                    if falls_back {
                        server.value(&fallbacks) > Some(0.0)
                    } else {
                        !server.cores_of_control().contains(&cpus[0])
                    }
                });
                is_over.store(true, Ordering::Relaxed);
            });
            server.until("it is steered again", |server| server.value(&by_cpu) == Some(1.0));
            assert_eq!(server.value(&fallbacks) > Some(0.0), falls_back, "{backend} {steer}");
            server.check_steered(&cpus, &[1], 5);
        }
    }
}
