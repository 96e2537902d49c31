//! `hosts` in the binary: a file that changes, disappears, returns, is missing or hangs.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use query::{ID, is_response, query};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;

/// `hosts names { … }`, in a block for every name.
struct Server {
    folder: TempDir,
    dns: SocketAddr,
    http: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// `prepare` creates what the folder contains at start-up.
    fn start(options: &str, prepare: impl FnOnce(&TempDir)) -> Self {
        let folder = TempDir::new().unwrap();
        let http = (Ipv4Addr::LOCALHOST, port::free()).into();
        prepare(&folder);
        fs::write(folder.path().join("Corefile"), corefile(http, options)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .current_dir(folder.path())
            .args(["-conf", "Corefile", "--shards", "2"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (lines, written) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                written.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut server = Self { folder, dns: http, http, child, log };
        // The kernel chooses the port, because a server may wait for its file before it listens.
        server.until("it listens", |server| server.logged("listening on ") == 1);
        server.dns = server.listening_at();
        server
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn reload(&self, options: &str) {
        fs::write(self.path("Corefile"), corefile(self.http, options)).unwrap();
        let before = self.logged("Reloading complete");
        self.signal("USR1");
        self.until("it has reloaded", |server| server.logged("Reloading complete") > before);
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}\n{}",
                self.log.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn listening_at(&self) -> SocketAddr {
        let log = self.log.lock().unwrap();
        let rest = log.split("listening on ").nth(1).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }

    /// How often the log contains these words.
    fn logged(&self, words: &str) -> usize {
        self.log.lock().unwrap().matches(words).count()
    }

    fn ask(&self, name: &str, qtype: u16) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.dns).unwrap();
        // A shard may get no CPU time for seconds on a busy machine.
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(&query(name, qtype)).ok()?;
        let mut response = vec![0; 512];
        let len = socket.recv(&mut response).ok()?;
        response.truncate(len);
        is_response(&response, ID).then_some(response)
    }

    /// The last byte of the name's only address: in these tests it identifies the version.
    fn address(&self, name: &str) -> Option<u8> {
        let response = self.ask(name, A)?;
        (response[7] == 1).then(|| *response.last().unwrap())
    }

    fn rcode(&self, name: &str, qtype: u16) -> Option<u8> {
        Some(self.ask(name, qtype)?[3] & 0xF)
    }

    fn metrics(&self) -> String {
        self.get("/metrics")
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    fn until_metric(&self, line: &str) {
        self.until(line, |server| server.metrics().contains(line));
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn corefile(http: SocketAddr, options: &str) -> String {
    format!(
        ".:0 {{\n    bind 127.0.0.1\n    errors\n    prometheus {http}\n    \
         ready {http}\n    hosts names {{\n        10.0.0.9 inline.lan\n        \
         {options}\n    }}\n}}\n"
    )
}

fn write_names(folder: &TempDir, text: &str) {
    fs::write(folder.path().join("names"), text).unwrap();
}

#[test]
fn the_current_file_is_served_and_kept_while_it_is_missing() {
    let server = Server::start("reload 100ms", |folder| write_names(folder, "10.0.0.1 a.lan\n"));
    assert_eq!((server.address("a.lan"), server.address("inline.lan")), (Some(1), Some(9)));
    let pointer = server.ask("1.0.0.10.in-addr.arpa", PTR).unwrap();
    assert!(pointer.ends_with(b"\x01a\x03lan\0"), "{pointer:?}");
    // A name without a record of the type, and one that is not listed.
    assert_eq!((server.rcode("a.lan", TXT), server.rcode("b.lan", A)), (Some(0), Some(2)));
    server.until_metric("coredns_hosts_entries{hostsfile=\"names\"} 4");

    write_names(&server.folder, "10.0.0.2 a.lan\n10.0.0.3 b.lan *.b.lan\n");
    server.until("the change is seen", |server| {
        (server.address("a.lan"), server.address("b.lan")) == (Some(2), Some(3))
    });
    assert_eq!(server.address("any.b.lan"), Some(3));
    assert_eq!(server.rcode("1.0.0.10.in-addr.arpa", PTR), Some(2));
    server.until_metric("coredns_hosts_entries{hostsfile=\"names\"} 7");
    server.until("the log says so", |server| {
        server.logged("[INFO] plugin/hosts: names has been read again: 3 entries") == 1
    });

    fs::remove_file(server.path("names")).unwrap();
    let missing =
        "[WARNING] plugin/hosts: File does not exist: names: its last entries are still served\n";
    server.until("the log says so", |server| server.logged(missing) == 1);
    server.until_metric("ringdns_hosts_current{hostsfile=\"names\"} 0");
    server.until("/ready says so", |server| {
        server.get("/ready").contains("hosts: File does not exist: names")
    });
    assert_eq!((server.address("a.lan"), server.address("inline.lan")), (Some(2), Some(9)));
    // Reloads of anything else keep the table; another TTL makes another table.
    server.reload("reload 100ms\n    }\n    loadbalance {");
    assert_eq!(server.address("a.lan"), Some(2));
    server.reload("ttl 5\n        reload 100ms");
    assert_eq!((server.rcode("a.lan", A), server.address("inline.lan")), (Some(2), Some(9)));
    let missing = "names: only the entries of the Corefile are served until it can be read\n";
    assert_eq!(server.logged(missing), 1);

    write_names(&server.folder, "10.0.0.4 a.lan\n");
    server.until("the file is seen again", |server| server.address("a.lan") == Some(4));
    server.until("the log says so", |server| {
        server.logged("[INFO] plugin/hosts: names can be read again: 1 entries") == 1
    });
    server.until_metric("coredns_hosts_entries{hostsfile=\"names\"} 4");
    server.until_metric("ringdns_hosts_current{hostsfile=\"names\"} 1");
    server.until("/ready is silent again", |server| !server.get("/ready").contains("hosts: "));
    assert!(!server.metrics().contains("coredns_hosts_reload_timestamp_seconds 0.0\n"));
}

#[test]
fn a_missing_or_unusable_file_at_start_up_delays_nothing() {
    let server = Server::start("reload 100ms", |_| {});
    let logged = |words: &str| server.until(words, |server| server.logged(words) == 1);
    logged("[WARNING] plugin/hosts: File does not exist: names: only the entries of the Corefile");
    assert_eq!((server.address("inline.lan"), server.rcode("a.lan", A)), (Some(9), Some(2)));
    server.until_metric("coredns_hosts_entries{hostsfile=\"names\"} 2");
    fs::create_dir(server.path("names")).unwrap();
    logged("[WARNING] plugin/hosts: Hosts file \"names\" is a directory: only the entries");
    fs::remove_dir(server.path("names")).unwrap();
    // It is there as a whole: a file that is written for long is read before its end.
    fs::write(server.path("new"), "#".repeat((16 << 20) + 1)).unwrap();
    fs::rename(server.path("new"), server.path("names")).unwrap();
    logged("[WARNING] plugin/hosts: cannot use names: it is longer than 16777216 bytes: only the");
    write_names(&server.folder, "10.0.0.1 a.lan\n");
    server.until("the file is served", |server| server.address("a.lan") == Some(1));
    logged("[INFO] plugin/hosts: names can be read again: 1 entries");
}

#[test]
fn a_file_that_hangs_removes_no_answer() {
    let server = Server::start("reload 100ms", |folder| {
        let made = Command::new("mkfifo").arg(folder.path().join("names")).status();
        assert!(made.unwrap().success());
    });
    assert_eq!((server.address("inline.lan"), server.rcode("a.lan", A)), (Some(9), Some(2)));
    assert_eq!(server.logged("[WARNING] plugin/hosts: names was not read within 5s: "), 1);
    // What is written last is read. A pipe has no further guarantees.
    write_names(&server.folder, "10.0.0.1 a.lan\n");
    server.until("the file is served", |server| server.address("a.lan") == Some(1));
    server.reload("reload 100ms\n    }\n    loadbalance {");
    assert_eq!(server.address("a.lan"), Some(1));
    // A table that is rebuilt waits for the pipe again.
    server.reload("ttl 5");
    assert_eq!((server.address("inline.lan"), server.rcode("a.lan", A)), (Some(9), Some(2)));
}

#[test]
fn with_reload_0_the_file_is_read_at_start_up_and_reloads() {
    let server = Server::start("reload 0", |folder| write_names(folder, "10.0.0.1 a.lan\n"));
    assert_eq!(server.address("a.lan"), Some(1));
    write_names(&server.folder, "10.0.0.2 a.lan\n");
    // No line reports that nothing happens, so wait four times the shortest time between two
    // checks.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(server.address("a.lan"), Some(1));
    // The Corefile has not changed.
    server.signal("USR1");
    server.until("it is read", |server| server.address("a.lan") == Some(2));
    write_names(&server.folder, "10.0.0.3 a.lan\n");
    // Another block has changed.
    server.reload("reload 0\n    }\n    loadbalance {");
    server.until("it is read", |server| server.address("a.lan") == Some(3));
}

/// As in k3s's Corefile.
#[test]
fn a_cluster_is_asked_after_a_hosts_file() {
    let cluster = "kubernetes cluster.local {\n        manifests cluster.yaml\n    }";
    let options = format!("fallthrough\n    }}\n    {cluster}\n    loadbalance {{");
    let server = Server::start(&options, |folder| {
        write_names(folder, "10.0.0.1 web.default.svc.cluster.local a.lan\n");
        let cluster = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n\
                       apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\n\
                       spec: {clusterIP: 10.0.0.7, clusterIPs: [10.0.0.7], ports: [{port: 80}]}\n\
                       ---\n\
                       apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: default}\n\
                       spec: {clusterIP: 10.0.0.8, clusterIPs: [10.0.0.8], ports: [{port: 80}]}\n";
        fs::write(folder.path().join("cluster.yaml"), cluster).unwrap();
    });
    for (name, expected) in [
        ("inline.lan", 9),
        ("a.lan", 1),
        ("web.default.svc.cluster.local", 1),
        ("db.default.svc.cluster.local", 8),
    ] {
        assert_eq!(server.address(name), Some(expected), "{name}");
    }
    assert_eq!(server.rcode("gone.default.svc.cluster.local", A), Some(3));
    server.until_metric("plugin=\"hosts\"");
}
