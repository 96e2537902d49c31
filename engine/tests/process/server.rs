//! The binary from an operator's view: start-up, changes under load, broken files, shutdown.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use query::{ID, is_response, query};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    folder: TempDir,
    dns: SocketAddr,
    http: SocketAddr,
    child: Child,
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{name: http, port: 80, protocol: \
         TCP}}]}}\n"
    )
}

fn cluster(services: &[(&str, &str)]) -> String {
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n".to_owned();
    for (name, ip) in services {
        text.push_str("---\n");
        text.push_str(&service(name, ip));
    }
    text
}

impl Server {
    fn corefile(&self, zone: &str, ttl_secs: u32) -> String {
        let (port, http) = (self.dns.port(), self.http);
        format!(
            "{zone}:{port} {{\n    bind 127.0.0.1\n    errors\n    health {http} {{\n        \
             lameduck 1s\n    }}\n    \
             ready {http}\n    prometheus {http}\n    kubernetes {zone} {{\n        \
             manifests cluster.yaml\n        \
             ttl {ttl_secs}\n    }}\n    reload 2s 1s\n}}\n"
        )
    }

    fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (dns, http) = (local(port::free()), local(port::free()));
        let child = Command::new("true").spawn().unwrap();
        let mut server = Self { folder, dns, http, child };
        server.child.wait().unwrap();
        fs::write(server.path("cluster.yaml"), cluster(&[("web", "10.0.0.1")])).unwrap();
        fs::write(server.path("Corefile"), server.corefile("cluster.local", 30)).unwrap();
        server.child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .arg("-conf")
            .arg(server.path("Corefile"))
            .args(arguments)
            .stdout(fs::File::create(server.path("log")).unwrap())
            .spawn()
            .unwrap();
        server.until("it answers", |server| server.address("web").is_some());
        server
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, name: &str, zone: &str) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.dns).unwrap();
        // A shard may get no CPU time for seconds on a busy machine.
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(&query(&format!("{name}.default.svc.{zone}"), 1)).ok()?;
        let mut answer = vec![0; 512];
        let len = socket.recv(&mut answer).ok()?;
        answer.truncate(len);
        is_response(&answer, ID).then_some(answer)
    }

    /// The last byte of the name's only address.
    fn address(&self, name: &str) -> Option<u8> {
        let answer = self.ask(name, "cluster.local")?;
        (answer[7] == 1).then(|| *answer.last().unwrap())
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits for the process to end; returns its exit code and its log.
    fn ended(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        (self.child.wait().unwrap().code(), self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn changed_manifests_are_served_and_broken_ones_change_nothing() {
    let server = Server::start(&[]);
    let manifests = server.path("cluster.yaml");
    fs::write(&manifests, cluster(&[("web", "10.0.0.2"), ("new", "10.0.0.3")])).unwrap();
    server.until("the change is seen", |server| {
        (server.address("web"), server.address("new")) == (Some(2), Some(3))
    });
    fs::write(&manifests, "kind: [oh no").unwrap();
    server.until("the log names the place", |server| server.log().contains("cluster.yaml:1:"));
    assert_eq!((server.address("web"), server.address("new")), (Some(2), Some(3)));
    fs::write(&manifests, cluster(&[("web", "10.0.0.4")])).unwrap();
    server.until("the correction is seen", |server| {
        server.address("web") == Some(4) && server.address("new").is_none()
    });
    server.signal("TERM");
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn a_changed_corefile_is_loaded_and_a_broken_one_is_not() {
    let server = Server::start(&[]);
    let corefile = server.path("Corefile");
    assert!(server.get("/ready").ends_with("OK"));
    fs::write(&corefile, server.corefile("cluster.local", 77)).unwrap();
    let ttl =
        |server: &Server| server.ask("web", "cluster.local").map(|answer| answer[answer.len() - 7]);
    server.until("the TTL is 77", |server| ttl(server) == Some(77));
    fs::write(&corefile, server.corefile("cluster.local", 77).replace("ttl", "ttll")).unwrap();
    server.until("the failure is counted", |server| {
        server.get("/metrics").contains("coredns_reload_failed_total 1")
    });
    assert_eq!(ttl(&server), Some(77));
    // Another zone: names of the old one are refused, and health and readiness stay.
    fs::write(&corefile, server.corefile("other.zone", 78)).unwrap();
    server.signal("USR1");
    server.until("the other zone is served", |server| {
        server.ask("web", "other.zone").is_some_and(|answer| answer[3] & 0xF == 0)
    });
    let refused = server.ask("web", "cluster.local").unwrap();
    assert_eq!(refused[3] & 0xF, 5);
    assert!(server.get("/health").ends_with("OK") && server.get("/ready").ends_with("OK"));
    server.signal("TERM");
    let (code, log) = server.ended();
    assert_eq!(code, Some(0));
    assert!(log.contains("ttll") && log.contains("ttl"), "the log underlines the word:\n{log}");
    // CoreDNS's own test of reloads searches for this line.
    assert!(log.contains("[INFO] Reloading complete") && !log.contains("[PANIC]"), "{log}");
}

/// External zones come and go while the cluster is served from what has been read.
#[test]
fn a_change_of_external_zones_does_not_read_the_cluster_again() {
    let server = Server::start(&[]);
    let manifests = cluster(&[("web", "10.0.0.2")]);
    let manifests = manifests.replace("ports:", "externalIPs: [192.0.2.7], ports:");
    fs::write(server.path("cluster.yaml"), manifests).unwrap();
    server.until("the change is seen", |server| server.address("web") == Some(2));
    let answer = |server: &Server| server.ask("web", "out.cluster.local");
    let ttl = |server: &Server| {
        let answer = answer(server)?;
        (answer[7] == 1 && answer.ends_with(&[192, 0, 2, 7])).then(|| answer[answer.len() - 7])
    };
    for ttl_secs in [40, 41] {
        let lines = format!("k8s_external svc.out.cluster.local {{\n ttl {ttl_secs}\n}}\n reload");
        let corefile = server.corefile("cluster.local", 30).replace("reload", &lines);
        fs::write(server.path("Corefile"), corefile).unwrap();
        server.signal("USR1");
        server.until("the external zone is served", |server| ttl(server) == Some(ttl_secs));
        let metric = "zone=\"svc.out.cluster.local.\"} 1";
        server.until(metric, |server| server.get("/metrics").contains(metric));
    }
    fs::write(server.path("Corefile"), server.corefile("cluster.local", 30)).unwrap();
    server.signal("USR1");
    server.until("the external zone is gone", |server| {
        answer(server).is_some_and(|answer| answer[3] & 0xF == 3)
    });
    assert_eq!(server.address("web"), Some(2));
    server.signal("TERM");
    let (_, log) = server.ended();
    assert_eq!(log.matches("manifests read").count(), 2, "{log}");
}

/// However often a file is read again: one log line, and a number in the metrics each time.
#[test]
fn unusual_objects_are_logged_once_and_counted() {
    let odd = "---
apiVersion: v1
kind: List
items:
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0]}]
- {apiVersion: v1, kind: Service, metadata: {namespace: default, name: bad},
   spec: {clusterIP: 10.0.0.300}}
- {apiVersion: v1, kind: Service, metadata: {namespace: lost, name: web},
   spec: {clusterIP: 10.0.0.9}}
- {apiVersion: v2, kind: Service, metadata: {namespace: default, name: new}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,
   metadata: {namespace: default, name: stray}, addressType: IPv4}
- {apiVersion: v1, kind: Service, metadata: {namespace: lost, name: web},
   spec: {clusterIP: 10.0.0.9}}
";
    let server = Server::start(&[]);
    let manifests = server.path("cluster.yaml");
    for last in [2, 3] {
        let cluster = cluster(&[("web", &format!("10.0.0.{last}"))]);
        fs::write(&manifests, cluster + odd).unwrap();
        server.until("the change is seen", |server| server.address("web") == Some(last));
    }
    let counted = |what: &str, kind: &str, count: u32| {
        let labels = format!(r#"kind="{kind}",table="0",zone="cluster.local.""#);
        let line = format!("ringdns_kubernetes_{what}_total{{{labels}}} {count}");
        server.until(&line, |server| server.get("/metrics").contains(&line));
    };
    counted("odd_parts", "EndpointSlice", 2);
    counted("objects_refused", "Service", 2);
    server.signal("TERM");
    let (_, log) = server.ended();
    for line in [
        "endpoints[1].addresses[0] is \"10.1.0\", which is not an IP address",
        "spec.clusterIP is \"10.0.0.300\", which is not an IP address",
        "objects are in namespaces that no manifest defines: lost (2)",
        "more than once, and the last valid definition counts (1): Service lost/web at ",
        "no label kubernetes.io/service-name (1): default/stray at ",
        "objects of an unsupported version are left out: 1 (Service v2 (1))",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
}

#[test]
fn similar_errors_are_counted() {
    let server = Server::start(&[]);
    let consolidate = "errors {\n        consolidate 1h \"^no next\" warning show_first\n    }\n";
    let corefile = server.corefile("cluster.local", 30);
    let corefile = corefile.replace("errors\n", consolidate).replace("ttl 30", "fallthrough");
    fs::write(server.path("Corefile"), corefile).unwrap();
    server.signal("USR1");
    let mut failed_count = 0;
    server.until("three questions have failed", |server| {
        let answer = server.ask("gone", "cluster.local");
        failed_count += u32::from(answer.is_some_and(|answer| answer[3] & 0xF == 2));
        failed_count == 3
    });
    server.signal("TERM");
    let (_, log) = server.ended();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("plugin/errors")).collect();
    let expected = [
        "[WARNING] plugin/errors: 2 gone.default.svc.cluster.local. A: no next plugin found",
        "[WARNING] plugin/errors: 3 errors like '^no next' occurred in last 1h0m0s",
    ];
    assert_eq!(lines, expected, "{log}");
}

/// Every query is answered until the server ends, during lameduck too.
#[test]
fn a_shutdown_loses_no_query() {
    for arguments in [
        ["--io", "uring"].as_slice(),
        &["--io", "mmsg"],
        &["--io", "uring", "--busy-poll", "200us"],
        &["--io", "mmsg", "--busy-poll", "200us"],
    ] {
        let server = Server::start(arguments);
        let (stopping, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !stopping.load(Ordering::Relaxed) {
                    assert_eq!(server.address("web"), Some(1));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            let until_a_hundred_more = |what: &str| {
                let before = answered.load(Ordering::Relaxed);
                server.until(what, |_| answered.load(Ordering::Relaxed) > before + 100);
            };
            until_a_hundred_more("answers before the signal");
            server.signal("TERM");
            // lameduck 1s: not ready, but alive and answering.
            server.until("it is not ready", |server| server.get("/ready").contains("503"));
            assert!(server.get("/health").contains("200"));
            until_a_hundred_more("answers after it");
            stopping.store(true, Ordering::Relaxed);
            asking.join().unwrap();
        });
        assert_eq!(server.ended().0, Some(0));
    }
}

/// A pipe without a writer or a reader.
fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// CoreDNS's messages for the signals that it handles, and advice for the others.
#[test]
fn signals_log_their_effect() {
    for (end, last_line) in [
        ("TERM", "[INFO] SIGTERM: Shutting down servers then terminating"),
        ("INT", "[INFO] SIGINT: Shutting down"),
        ("QUIT", "[INFO] SIGQUIT: Quitting process immediately"),
    ] {
        let mut server = Server::start(&[]);
        let corefile = server.path("Corefile");
        // A different comment does not make a different Corefile.
        let commented = format!("# unchanged\n{}", fs::read_to_string(&corefile).unwrap());
        fs::write(&corefile, commented).unwrap();
        let reloads =
            ["[INFO] SIGUSR1: Reloading", "[INFO] plugin/reload: the Corefile has not changed"];
        for (signal, expected) in [
            ("HUP", ["[INFO] SIGHUP: ignored, as CoreDNS does; SIGUSR1 reloads"].as_slice()),
            ("USR2", &["[WARNING] SIGUSR2: ignored, "]),
            ("USR1", &reloads),
            (end, &[last_line]),
        ] {
            server.signal(signal);
            for line in expected {
                server.until(&format!("SIG{signal}: {line}"), |server| {
                    server.log().lines().any(|logged| logged.starts_with(line))
                });
            }
        }
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "SIG{end}");
    }
}

/// The shutdown does not wait for a reload, nor a reload forever. The endpoints respond all the
/// time.
#[test]
fn a_file_that_hangs_delays_nothing() {
    for (replaced, by) in [
        ("errors", "errors\n    import hanging"),
        ("kubernetes", "forward . hanging\n    kubernetes"),
    ] {
        let server = Server::start(&[]);
        make_pipe(&server.path("hanging"));
        let corefile = fs::read_to_string(server.path("Corefile")).unwrap();
        let by = by.replace("hanging", server.path("hanging").to_str().unwrap());
        fs::write(server.path("Corefile"), corefile.replacen(replaced, &by, 1)).unwrap();
        server.signal("USR1");
        server.until("the failure is counted", |server| {
            assert!(server.get("/health").ends_with("OK"));
            assert_eq!(server.address("web"), Some(1));
            !server.get("/metrics").contains("coredns_reload_failed_total 0")
        });
        // Another one begins, and nothing waits for it.
        server.signal("USR1");
        let began = Instant::now();
        server.signal("TERM");
        let (code, log) = server.ended();
        assert_eq!(code, Some(0));
        // Lameduck is 1 s, and a reload may wait for 5 s.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(log.contains("not read within"), "{log}");
    }
}

/// A start-up that waits for a pipe is ended like any other.
#[test]
fn a_waiting_start_up_can_be_ended() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let corefile = folder.path().join("Corefile");
    fs::write(&corefile, ".:0 {\n    bind 127.0.0.1\n    errors\n}\n").unwrap();
    for arguments in [
        ["-conf", pipe.to_str().unwrap(), "-log-format", "text"],
        ["-conf", corefile.to_str().unwrap(), "-pidfile", pipe.to_str().unwrap()],
    ] {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_ringdns")).args(arguments).spawn().unwrap();
        // Signals that arrive before the process handles them end it too, but with another code.
        let listens = || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() >> 14 & 1 == 1
        };
        let began = Instant::now();
        while !listens() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Command::new("kill").arg(child.id().to_string()).status();
        assert!(sent.unwrap().success());
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}

/// As with CoreDNS, it exists while the process does. If it cannot be written, that costs a log
/// line.
#[test]
fn the_pid_file_exists_while_the_process_runs() {
    let folder = TempDir::new().unwrap();
    let pidfile = folder.path().join("pid");
    let server = Server::start(&["-pidfile", pidfile.to_str().unwrap()]);
    let pid = format!("{}\n", server.child.id());
    server.until("it is written", |_| fs::read_to_string(&pidfile).is_ok_and(|text| text == pid));
    server.signal("TERM");
    assert_eq!(server.ended().0, Some(0));
    assert!(!pidfile.exists());

    let nowhere = folder.path().join("nowhere/pid");
    let server = Server::start(&["-pidfile", nowhere.to_str().unwrap()]);
    server.until("it is reported", |server| server.log().contains("[ERROR] cannot write -pidfile"));
    assert_eq!(server.address("web"), Some(1));
}

/// `-conf <(sed …)` and `-conf stdin`: a Corefile that can be read only once is served, and does
/// not change.
#[test]
fn a_corefile_that_is_a_pipe_is_served() {
    let server = Server::start(&[]);
    // Relative paths start from the working directory.
    let corefile = format!(
        "cluster.local:{} {{\n    bind 127.0.0.1\n    kubernetes {{\n        \
         manifests cluster.yaml\n    }}\n    reload 2s 1s\n}}\n",
        port::free()
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-conf", "stdin"])
        .current_dir(server.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(corefile.as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Running configuration")), "it starts:\n{corefile}");
    let signal = |name: &str| {
        let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    signal("USR1");
    assert!(lines.any(|line| line.contains("cannot be read again")));
    signal("TERM");
    assert!(lines.all(|line| !line.contains("ERROR")));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// As with CoreDNS: `whoami` answers everything.
#[test]
fn without_a_corefile_the_client_learns_its_address() {
    let folder = TempDir::new().unwrap();
    let port = port::free();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-dns.port", &port.to_string()])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("[WARNING] no Corefile: there is none in ")));
    assert!(lines.any(|line| line.contains("Running configuration")), "it starts");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query("a.example", 1), (Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut answer = [0; 512];
    let len = socket.recv(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_response(&answer[..len], ID));
    assert!(answer[..len].windows(4).any(|octets| octets == [127, 0, 0, 1]));
}

/// The third line of `-version` names the commit, if the build had a clone of this project with
/// one.
#[test]
fn the_version_names_the_commit() {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let is_clone =
        git(&["rev-parse", "--show-toplevel"]).is_some_and(|top| Path::new(&top) == root);
    let commit = git(&["rev-parse", "--short", "HEAD"]).filter(|_| is_clone);
    let revision = option_env!("RINGDNS_REVISION").filter(|revision| !revision.is_empty());
    let expected = revision.map(str::to_owned).or(commit);
    for flag in ["-version", "--version", "-V", "-version=true"] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringdns")).arg(flag).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let revision = text.trim().rsplit(", ").next().unwrap();
        assert_eq!(revision, expected.as_deref().unwrap_or("unknown"), "{flag}: {text}");
    }
}

/// As with CoreDNS 1.15: REFUSED if no plugin of the block sees queries, otherwise SERVFAIL at the
/// end of the chain.
#[test]
fn a_block_without_an_answer() {
    const SERVFAIL: u8 = 2;
    const REFUSED: u8 = 5;
    let server = Server::start(&[]);
    let http = server.http;
    let rows = [
        ("".to_owned(), REFUSED),
        ("reload".into(), REFUSED),
        ("bind 127.0.0.1".into(), REFUSED),
        (format!("health {http}"), REFUSED),
        (format!("ready {http}"), REFUSED),
        ("timeouts {\nread 1s\n}".into(), REFUSED),
        ("errors".into(), SERVFAIL),
        ("cache".into(), SERVFAIL),
        ("loop".into(), SERVFAIL),
        ("loadbalance".into(), SERVFAIL),
        (format!("prometheus {http}"), SERVFAIL),
        ("errors\ncache 30\nloop".into(), SERVFAIL),
        ("forward a.example 127.0.0.1:1".into(), SERVFAIL),
    ];
    let mut corefile = String::new();
    for (index, (lines, _)) in rows.iter().enumerate() {
        let bind = if lines.starts_with("bind") { "" } else { "bind 127.0.0.1\n" };
        corefile += &format!("zone{index}:{} {{\n{bind}{lines}\n}}\n", server.dns.port());
    }
    fs::write(server.path("Corefile"), corefile).unwrap();
    server.signal("USR1");
    let rcode = |zone: &str| server.ask("web", zone).map(|answer| answer[3] & 15);
    server.until("it has reloaded", |_| rcode("zone6") == Some(SERVFAIL));
    for (index, (lines, expected)) in rows.iter().enumerate() {
        assert_eq!(rcode(&format!("zone{index}")), Some(*expected), "{lines}");
    }
}

fn run(arguments: &[&str], corefile: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("Corefile");
    fs::write(&path, corefile).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .arg("-conf")
        .arg(&path)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_failed_start_up_reports_its_reason() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let in_use = format!(".:{port} {{\n    bind 127.0.0.1\n}}\n");
    let holder = format!("process {}, has it", std::process::id());
    let endpoint = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint_in_use = format!(
        ".:0 {{\n    errors\n    health 127.0.0.1:{}\n}}\n",
        endpoint.local_addr().unwrap().port()
    );
    for (corefile, words) in [
        (
            in_use.as_str(),
            ["Corefile:2: cannot listen on 127.0.0.1", "Address already in use", holder.as_str()],
        ),
        (
            endpoint_in_use.as_str(),
            [
                "Corefile:3: plugin/health: listen tcp 127.0.0.1",
                "address already in use",
                "ss -ltnp",
            ],
        ),
        (".:0 {\n    cahce 30\n}\n", ["Corefile:2", "Unknown directive 'cahce'", "cache"]),
        (".:0 {\n    etcd\n}\n", ["Corefile:2", "etcd", "not built yet"]),
        (
            ".:0 {\n    kubernetes x. {\n        manifests nowhere.yaml\n    }\n}\n",
            ["Corefile:3", "nowhere.yaml", "No such file"],
        ),
        (
            ".:0 {\n    forward . tls://127.0.0.1 {\n        max_fails 3\n        \
             tls nowhere.pem\n    }\n}\n",
            ["Corefile:4: ", "nowhere.pem", "No such file"],
        ),
        (
            ".:0 {\n    bind 192.0.2.1\n}\n",
            ["Corefile:2: cannot listen on 192.0.2.1", "no interface of this machine", "bind"],
        ),
    ] {
        let output = run(&[], corefile);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{corefile}\n{said}");
        for word in words {
            assert!(said.contains(word), "{corefile}: no {word:?} in\n{said}");
        }
    }
    drop(taken);
}
