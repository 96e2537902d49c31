//! The query log of the binary: JSON, a log that is not read, a reload that adds `log`, the end.
//! The text of its lines is compared with CoreDNS's in `plugins/log.scn`.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use query::{is_response, query_with_id};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Queries that are sent before the first response is read.
const WINDOW: u16 = 32;

struct Server {
    folder: TempDir,
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// A server that knows `www.test`, with these lines in its block.
    fn start(lines: &str, flags: &[&str], stdout: impl Into<Stdio>) -> Self {
        let folder = TempDir::new().unwrap();
        let address = (Ipv4Addr::LOCALHOST, port::free()).into();
        fs::write(folder.path().join("hosts"), "192.0.2.1 www.test\n").unwrap();
        write_corefile(folder.path(), address, lines);
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["-conf", "Corefile"])
            .args(flags)
            .current_dir(folder.path())
            .stdout(stdout)
            .spawn()
            .unwrap();
        let server = Self { folder, address, child };
        until("it answers", || server.ask("www.test", 0));
        server
    }

    fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    /// Whether there is a response.
    fn ask(&self, name: &str, id: u16) -> bool {
        let socket = self.socket();
        socket.send(&query_with_id(name, 1, id)).unwrap();
        let mut response = [0; 512];
        socket.recv(&mut response).is_ok_and(|len| is_response(&response[..len], id))
    }

    /// Sends so many queries; each must be answered.
    fn flood(&self, count: usize) {
        let socket = self.socket();
        for _ in 0..count / usize::from(WINDOW) {
            for id in 0..WINDOW {
                socket.send(&query_with_id("www.test", 1, id)).unwrap();
            }
            for _ in 0..WINDOW {
                socket.recv(&mut [0; 512]).expect("a response");
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn end(&mut self) {
        self.signal("TERM");
        until("it ends", || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn write_corefile(folder: &Path, address: SocketAddr, lines: &str) {
    let text = format!(
        "test:{} {{\n    bind 127.0.0.1\n    reload 2s\n    {lines}\n    hosts hosts\n}}\n",
        address.port()
    );
    fs::write(folder.join("Corefile"), text).unwrap();
}

fn log_file() -> (TempDir, File) {
    let folder = TempDir::new().unwrap();
    let file = File::create(folder.path().join("log")).unwrap();
    (folder, file)
}

/// CoreDNS's keys, in its order.
#[test]
fn json_lines_have_the_keys_of_coredns() {
    let (log, file) = log_file();
    let mut server = Server::start("log . \"{name} {rcode}\"", &["-log-format=json"], file);
    let socket = server.socket();
    let mut query = query_with_id("WWW.test", 1, 42);
    query[11] = 1;
    query.extend([0, 0, 41, 4, 0xD0, 0, 0, 0x80, 0, 0, 0]);
    socket.send(&query).unwrap();
    socket.recv(&mut [0; 512]).unwrap();
    server.end();
    let text = fs::read_to_string(log.path().join("log")).unwrap();
    let port = socket.local_addr().unwrap().port();
    let expected = format!(
        "\"level\":\"INFO\",\"msg\":\"www.test. NOERROR\",\"plugin\":\"log\",\
         \"client_ip\":\"127.0.0.1\",\"client_port\":{port},\"qname\":\"www.test.\",\
         \"qtype\":\"A\",\"qclass\":\"IN\",\"protocol\":\"udp\",\"id\":42,\"opcode\":0,\
         \"request_size\":37,\"dnssec_ok\":true,\"bufsize\":1232,\"rcode\":\"NOERROR\",\
         \"response_size\":50,\"duration_seconds\":"
    );
    let line = text.lines().find(|line| line.contains(&expected));
    let line = line.unwrap_or_else(|| panic!("no such line: {expected}\n{text}"));
    let fields: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert!(fields["duration_seconds"].as_f64().is_some_and(|secs| secs > 0.0), "{line}");
}

/// Every query before the end is in the log, or in its count of those that are missing.
#[test]
fn the_log_lacks_nothing_that_it_does_not_report() {
    for count in [320, 64_000] {
        let (log, file) = log_file();
        let mut server = Server::start("log . \"query {name}\"", &[], file);
        server.flood(count);
        server.end();
        let text = fs::read_to_string(log.path().join("log")).unwrap();
        let logged = text.lines().filter(|line| *line == "[INFO] query www.test.").count();
        let lost: usize = text.lines().filter_map(lost_count).sum();
        // One more asked whether the server answers.
        assert_eq!(logged + lost, count + 1, "{logged} lines, {lost} lost");
        assert!(count > 1000 || lost == 0, "{lost} lost of {count}");
    }
}

/// The number of queries that a line reports as lost.
fn lost_count(line: &str) -> Option<usize> {
    let report = line.strip_prefix("[WARNING] plugin/log: ")?;
    report.split(' ').next()?.parse().ok()
}

/// Nobody reads the log: every query is answered, and the server's own lines have room.
#[test]
fn a_log_that_is_not_read_delays_no_response() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::start("log", &[], writer);
    server.flood(96_000);
    server.signal("USR1");
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let read = Arc::clone(&lines);
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map(Result::unwrap) {
            read.lock().unwrap().push(line);
        }
    });
    server.flood(32);
    // A query is logged again once the rings have room.
    until("queries are logged again", || {
        let is_logged = |line: &String| line.contains(" last.test. ");
        server.ask("last.test", 1) && lines.lock().unwrap().iter().any(is_logged)
    });
    server.end();
    reading.join().unwrap();
    let lines = lines.lock().unwrap();
    assert!(lines.iter().any(|line| lost_count(line).is_some()), "{} lines", lines.len());
    assert!(lines.iter().any(|line| line == "[INFO] SIGUSR1: Reloading"));
    assert!(!lines.iter().any(|line| line.starts_with("[WARNING] log: ")), "{lines:?}");
}

#[test]
fn a_reload_may_add_the_log() {
    let (log, file) = log_file();
    let mut server = Server::start("", &[], file);
    let text = || fs::read_to_string(log.path().join("log")).unwrap();
    write_corefile(server.folder.path(), server.address, "log . \"query {name} {local}\"");
    server.signal("USR1");
    until("it has reloaded", || text().contains("Reloading complete"));
    assert!(server.ask("www.test", 1));
    until("the query is logged", || text().contains("[INFO] query www.test. 127.0.0.1\n"));
    server.end();
}
