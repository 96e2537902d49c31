//! The thread of one shard of a running server is stopped, as a debugger stops it: the server
//! notices by itself, gives the shard another thread, and says so. No hook in the server is needed
//! for that.
//!
//! Where tracing is denied there is nothing to see, and the test says so.

#[path = "rig/child.rs"]
mod child;
#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use child::TestChild;
use query::{is_response, query_with_id};

const BACKENDS: [&str; 2] = ["uring", "mmsg"];
const SHARD: &str = "shard-1";
/// In `/metrics`.
const RESTARTED_ONCE: &str = "ringdns_shard_restarts_total{cause=\"hang\",shard=\"1\"} 1";
/// So many clients reach both shards.
const CLIENTS: u16 = 32;
/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: TestChild,
    dns: SocketAddr,
    http: SocketAddr,
    _folder: TempDir,
}

impl Server {
    fn start(backend: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let [dns, http] =
            [port::free(), port::free()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let corefile = format!(
            ".:{} {{\n    bind 127.0.0.1\n    health {http}\n    prometheus {http}\n    \
             ready {http}\n    hosts {{\n        10.0.0.1 web.test\n    }}\n}}\n",
            dns.port()
        );
        fs::write(folder.path().join("Corefile"), corefile).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["--io", backend, "--shards", "2", "--steer", "hash", "-quiet", "-conf"])
            .arg(folder.path().join("Corefile"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child: TestChild(child), dns, http, _folder: folder };
        server.until("it is ready", |server| server.get("/ready").is_some_and(|it| it.0 == 200));
        server
    }

    /// The status and the body. `None` if nobody listens.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// The shard has a new thread.
    fn is_restarted(&self) -> bool {
        self.get("/metrics").is_some_and(|(_, metrics)| metrics.contains(RESTARTED_ONCE))
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            sleep(Duration::from_millis(2));
        }
    }

    /// The ids of the threads of `SHARD`.
    fn threads(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let is_of_shard = |id: &i32| {
            let name = fs::read_to_string(format!("/proc/{}/task/{id}/comm", self.child.id()));
            name.is_ok_and(|name| name.trim() == SHARD)
        };
        let ids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
        ids.filter(is_of_shard).collect()
    }

    fn ask(&self, id: u16) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.dns).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(&query_with_id("web.test", 1, id)).unwrap();
        let mut buffer = [0; 512];
        let len = socket.recv(&mut buffer).expect("a response");
        assert!(is_response(&buffer[..len], id));
    }
}

/// A thread of a child that is stopped until this is dropped, by the thread that made it.
struct Stopped(Pid);

impl Stopped {
    fn new(thread: i32) -> Option<Self> {
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, ptrace::Options::empty()).ok()?;
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Some(Self(thread))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn a_stopped_thread_is_replaced_and_ends_when_it_goes_on() {
    for backend in BACKENDS {
        let server = Server::start(backend);
        let threads = server.threads();
        assert_eq!(threads.len(), 1, "{threads:?}");
        let Some(stopped) = Stopped::new(threads[0]) else {
            println!("stopped_thread: !!! TRACING IS DENIED: NOT TESTED");
            return;
        };
        let began = Instant::now();
        let mut told = None;
        // The 503 lasts some 300 ms, in which a busy machine may not run this process at all.
        server.until("/health names the shard, or it has a new thread", |server| {
            let health = server.get("/health");
            let is_named = health.is_some_and(|(status, body)| {
                status == 503 && body.starts_with("shard 1: it hangs")
            });
            told = is_named.then(|| began.elapsed());
            is_named || server.is_restarted()
        });
        server.until("/health is well again", |server| {
            server.is_restarted() && server.get("/health").is_some_and(|(status, _)| status == 200)
        });
        let told =
            told.map_or_else(|| "503 not seen".into(), |told| format!("503 after {told:.0?}"));
        println!("{backend}: {told}, well again after {:.0?}", began.elapsed());
        (0..CLIENTS).for_each(|id| server.ask(id));
        let (_, metrics) = server.get("/metrics").unwrap();
        assert!(metrics.contains(RESTARTED_ONCE), "{metrics}");
        assert_eq!(server.threads().len(), 2);
        drop(stopped);
        server.until("the old thread ends", |server| server.threads().len() == 1);
        (0..CLIENTS).for_each(|id| server.ask(id));
    }
}
