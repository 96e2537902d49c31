//! Outputs that are not read, are closed or are full: they cost log lines and nothing else.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use query::{is_response, query_with_id};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Responses of /health that a flood waits for, if it ends earlier.
const HEALTH_ANSWERS_MIN: usize = 20;
/// The promise, which the machine's other work may break: it is printed, not asserted. How soon
/// /health responds, and how soon after lameduck the process ends.
const HEALTH_WITHIN: Duration = Duration::from_millis(50);
const END_WITHIN: Duration = Duration::from_secs(1);
const LAMEDUCK: Duration = Duration::from_secs(1);

/// The time-out of a request for /health. Behind a log that blocked it, it would wait for ever.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

const QUESTIONS_AT_ONCE: usize = 32;

struct Server {
    _folder: TempDir,
    dns: SocketAddr,
    http: SocketAddr,
    child: Child,
}

/// One Service, `web`. Every other name of the zone is a logged error, because no other plugin can
/// answer.
fn write_corefile(folder: &TempDir, dns: SocketAddr, http: SocketAddr) {
    let cluster = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n\
                   apiVersion: v1\nkind: Service\n\
        metadata: {name: web, namespace: default}\nspec: {clusterIP: 10.0.0.1, clusterIPs: \
        [10.0.0.1], \
        ports: [{name: http, port: 80, protocol: TCP}]}\n";
    fs::write(folder.path().join("cluster.yaml"), cluster).unwrap();
    let corefile = format!(
        "cluster.local:{} {{\n    bind 127.0.0.1\n    errors\n    health {http} {{\n        \
         lameduck {LAMEDUCK:?}\n    }}\n    \
         ready {http}\n    prometheus {http}\n    kubernetes cluster.local {{\n        \
         manifests cluster.yaml\n        \
         fallthrough\n    }}\n}}\n",
        dns.port()
    );
    fs::write(folder.path().join("Corefile"), corefile).unwrap();
}

/// Tests with a server take turns: they measure latencies, and one flood would delay another.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    fn start(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let folder = TempDir::new().unwrap();
        let [dns, http] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, port::free())));
        write_corefile(&folder, dns, http);
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .arg("-conf")
            .arg(folder.path().join("Corefile"))
            .args(arguments)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let server = Self { _folder: folder, dns, http, child };
        server.until("it answers", |server| server.ask(&["web"]) == [Some(0)]);
        server
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The RCODE of each response; all queries are sent at once.
    fn ask(&self, names: &[&str]) -> Vec<Option<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.dns).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        ask_over(&socket, names)
    }

    /// A body; `None` without a response within a kubelet's timeout.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.http, HEALTH_PATIENCE).ok()?;
        stream.set_read_timeout(Some(HEALTH_PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
    }

    fn lost_count(&self) -> u64 {
        let metrics = self.get("/metrics").expect("/metrics answers");
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("ringdns_log_lines_lost_total "));
        line.expect("the counter is always there").parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask_over(socket: &UdpSocket, names: &[&str]) -> Vec<Option<u8>> {
    for (id, name) in (0u16..).zip(names) {
        let name = format!("{name}.default.svc.cluster.local");
        socket.send(&query_with_id(&name, 1, id)).unwrap();
    }
    let mut rcodes = vec![None; names.len()];
    let mut answer = [0; 512];
    for _ in names {
        match socket.recv(&mut answer) {
            Ok(len) => {
                let id = u16::from_be_bytes([answer[0], answer[1]]);
                assert!(is_response(&answer[..len], id), "{:?}", &answer[..len]);
                rcodes[usize::from(id)] = Some(answer[3] & 0xF);
            }
            Err(_) => break,
        }
    }
    rcodes
}

/// A pipe without room for a single byte, so that its writers wait.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    loop {
        match writer.write(&[b'\n'; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// Sends `count` queries that fail, and among them a few that do not; all must be answered as
/// usual. Meanwhile it requests /health repeatedly; returns the durations, sorted.
fn flood(server: &Server, count: usize) -> Vec<Duration> {
    let mut names = vec!["gone"; QUESTIONS_AT_ONCE];
    names[0] = "web";
    let mut expected = vec![Some(2); QUESTIONS_AT_ONCE];
    expected[0] = Some(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut took = Vec::new();
            while took.len() < HEALTH_ANSWERS_MIN || !is_over.load(Relaxed) {
                let began = Instant::now();
                assert_eq!(server.get("/health").as_deref(), Some("OK"));
                took.push(began.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            took.sort();
            took
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server.dns).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..count.div_ceil(QUESTIONS_AT_ONCE - 1) {
            let rcodes = ask_over(&socket, &names);
            if rcodes != expected {
                is_over.store(true, Relaxed);
                panic!("{rcodes:?}");
            }
        }
        is_over.store(true, Relaxed);
        asking.join().unwrap()
    })
}

fn check_health(took: &[Duration]) {
    let longest = took.last().copied().unwrap();
    let late_count = took.iter().filter(|took| **took > HEALTH_WITHIN).count();
    println!(
        "/health: {} answers, the longest after {longest:?}, {late_count} after more than \
         {HEALTH_WITHIN:?} (promised: none)",
        took.len()
    );
}

fn check_end(server: &mut Server) {
    let began = Instant::now();
    server.signal("TERM");
    let status = server.ended();
    let took = began.elapsed();
    println!("SIGTERM: ended after {took:?} (promised: within {:?})", LAMEDUCK + END_WITHIN);
    assert_eq!(status.code(), Some(0));
    assert!(took >= LAMEDUCK, "{took:?}");
}

/// The log is not read, then is read, then is not.
#[test]
fn a_stalled_log_costs_log_lines_only() {
    let _turn = turn();
    let (reader, writer) = full_pipe();
    let mut server = Server::start(&[], writer.try_clone().unwrap(), writer);
    check_health(&flood(&server, 100_000));
    server.until("lines are lost", |server| {
        flood(server, 1_000);
        server.lost_count() > 0
    });
    assert_eq!(server.get("/ready").as_deref(), Some("OK"));

    // The reader is back: it gets the waiting lines, then the number of lost ones, then what
    // follows.
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let reading = std::thread::spawn(move || {
        let missing = lines.find_map(|line| {
            let report = line.strip_prefix("[WARNING] log: ")?;
            Some(report.split(' ').next()?.parse::<u64>().unwrap())
        });
        (missing, lines.any(|line| line == "[INFO] SIGUSR1: Reloading"), lines)
    });
    server.until("the log goes on", |server| {
        server.signal("USR1");
        reading.is_finished()
    });
    let (missing, goes_on, _lines) = reading.join().unwrap();
    let missing = missing.expect("the log says how much is missing");
    assert!(missing > 0 && goes_on);
    server.until("as many are counted", |server| server.lost_count() >= missing);

    let lost_count = server.lost_count();
    server.until("lines are lost again", |server| {
        flood(server, 5_000);
        server.lost_count() > lost_count
    });
    check_end(&mut server);
}

/// Every line is an object with CoreDNS's keys. Lines that are too frequent are counted in another
/// line.
#[test]
fn a_log_of_json() {
    let _turn = turn();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::start(&["-log-format=json"], writer.try_clone().unwrap(), writer);
    let lines = BufReader::new(reader).lines().map(Result::unwrap);
    let reading = std::thread::spawn(|| lines.collect::<Vec<_>>());
    flood(&server, 20_000);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    // The number of suppressed errors may be logged before the end or at it.
    let lines = reading.join().unwrap();
    for (level, plugin, words) in [
        ("INFO", None, "ringdns-"),
        ("INFO", Some("reload"), "Running configuration SHA512 = "),
        (
            "ERROR",
            Some("errors"),
            "2 gone.default.svc.cluster.local. A: plugin/kubernetes: no next plugin found",
        ),
        ("WARN", Some("errors"), " more errors came too fast to be logged"),
        ("INFO", None, "SIGTERM: "),
    ] {
        let is_there = lines.iter().any(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let text = |key| value.get(key).and_then(serde_json::Value::as_str);
            assert!(text("time").is_some_and(|time| time.ends_with('Z')), "{line}");
            let message = text("msg").expect("a message");
            text("level") == Some(level) && text("plugin") == plugin && message.contains(words)
        });
        assert!(is_there, "{level} {plugin:?} {words}");
    }

    let output = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-conf", "nowhere", "-log-format", "json"])
        .output()
        .unwrap();
    let last: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(last["level"], "FATAL");
    assert!(last["msg"].as_str().is_some_and(|text| text.contains("open nowhere: ")), "{last}");
    assert_eq!(output.status.code(), Some(1));
}

/// The reader of both outputs is gone.
#[test]
fn a_closed_log_ends_logging_only() {
    let _turn = turn();
    for arguments in [["-log-format", "text"], ["-log-format", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut server = Server::start(&arguments, writer.try_clone().unwrap(), writer);
        check_health(&flood(&server, 2_000));
        server.until("lost lines are counted", |server| server.lost_count() > 10);
        server.signal("USR1");
        flood(&server, 1_000);
        check_end(&mut server);
    }
}

/// The disk is full, or the file has its maximum length: RLIMIT_FSIZE sends a signal that ends
/// processes.
#[test]
fn a_log_without_room_ends_logging_only() {
    let _turn = turn();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut server = Server::start(&[], full(), full());
    check_health(&flood(&server, 2_000));
    server.until("lost lines are counted", |server| server.lost_count() > 10);
    check_end(&mut server);

    let folder = TempDir::new().unwrap();
    let file = File::create(folder.path().join("log")).unwrap();
    let mut server = Server::start(&[], file.try_clone().unwrap(), file);
    let limited = Command::new("prlimit")
        .args(["--pid", &server.child.id().to_string(), "--fsize=4096"])
        .status();
    if limited.is_ok_and(|status| status.success()) {
        check_health(&flood(&server, 2_000));
        server.until("lost lines are counted", |server| server.lost_count() > 10);
    } else {
        println!("SKIPPED: no prlimit (util-linux)");
    }
    check_end(&mut server);
}

/// Commands whose readers leave before the output ends.
#[test]
fn commands_do_not_panic_on_output() {
    let folder = TempDir::new().unwrap();
    let address = (Ipv4Addr::LOCALHOST, port::free()).into();
    write_corefile(&folder, address, address);
    fs::write(folder.path().join("old"), ".:0 {\n    proxy . 10.0.0.1\n    etcd\n}\n").unwrap();
    fs::write(folder.path().join("bad"), ".:0 {\n    cahce\n}\n").unwrap();
    // With the codes for a closed output, and for a full one.
    for (arguments, closed, full) in [
        (["-plugins"].as_slice(), 0, 1),
        (&["-version"], 0, 1),
        (&["--help"], 0, 0),
        (&["convert", "--help"], 0, 0),
        (&["convert", "old"], 1, 1),
        (&["convert", "nowhere"], 1, 1),
        (&["convert"], 2, 2),
        (&["-no-such-flag"], 2, 2),
        (&["-conf", "nowhere"], 1, 1),
        (&["-conf", "bad"], 1, 1),
        (&["-conf", "bad", "-log-format", "json"], 1, 1),
        (&["-conf", "Corefile", "--cores", "1000000"], 1, 1),
    ] {
        let run = |stdout: Stdio, stderr: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ringdns"));
            command.current_dir(folder.path()).args(arguments).stdout(stdout).stderr(stderr);
            command.output().unwrap()
        };
        let closed_pipe = || Stdio::from(std::io::pipe().unwrap().1);
        let full_file = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        for (output, code) in [
            (run(closed_pipe(), closed_pipe()), closed),
            (run(closed_pipe(), Stdio::piped()), closed),
            (run(full_file(), full_file()), full),
        ] {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
            assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        }
    }
}

/// The last message does not wait for a reader either.
#[test]
fn a_failed_start_up_ends_without_a_reader() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("bad"), ".:0 {\n    cahce\n}\n").unwrap();
    let (_reader, writer) = full_pipe();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .arg("-conf")
        .arg(folder.path().join("bad"))
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
