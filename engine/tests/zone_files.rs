//! `file` and `auto` in the binary: zone files that break, disappear, return, or hang, and folders
//! of them.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use query::{ID, is_response, query};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const ZONE: &str = "@ 60 SOA ns hostmaster 7 1h 1h 1h 1h\nwww 60 A 192.0.2.1\n";
const INCLUDED: &str = "inner 60 A 192.0.2.5\n";
const BROKEN: &str = "@ 60 SOA ns hostmaster 8 1h 1h 1h 1h\nwww 60 A 192.0.2\n";

struct Server {
    folder: TempDir,
    dns: SocketAddr,
    metrics: SocketAddr,
    ready: SocketAddr,
    child: Child,
}

fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port::free()).into()
}

fn command(folder: &Path, corefile: &str) -> Command {
    fs::write(folder.join("Corefile"), corefile).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringdns"));
    command.current_dir(folder).args(["-conf", "Corefile", "--shards", "1"]);
    command
}

impl Server {
    /// `file db test { … }`
    fn start(options: &str, zone: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("db"), zone).unwrap();
        fs::write(folder.path().join("included"), INCLUDED).unwrap();
        Self::serve(folder, &format!("file db test {{\n        {options}\n    }}"))
    }

    /// A server whose working directory is `folder`. `lines`: of its block.
    fn serve(folder: TempDir, lines: &str) -> Self {
        let [dns, metrics, ready] = [(); 3].map(|()| free_address());
        let corefile = format!(
            ".:{} {{\n    bind 127.0.0.1\n    prometheus {metrics}\n    ready {ready}\n    \
             {lines}\n}}\n",
            dns.port()
        );
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command(folder.path(), &corefile).stdout(log).spawn().unwrap();
        let server = Self { folder, dns, metrics, ready, child };
        server.until("it is ready", |server| get(server.ready, "/ready").contains("200 OK"));
        server
    }

    fn write(&self, zone: &str) {
        fs::write(self.folder.path().join("db"), zone).unwrap();
    }

    fn response(&self, name: &str) -> Option<[u8; 512]> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.dns).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(&query(name, 1)).ok()?;
        let mut response = [0; 512];
        let len = socket.recv(&mut response).ok()?;
        assert!(is_response(&response[..len], ID));
        Some(response)
    }

    fn rcode(&self, name: &str) -> Option<u8> {
        Some(self.response(name)?[3] & 15)
    }

    /// The last byte of the name's address.
    fn address(&self, name: &str) -> Option<u8> {
        let response = self.response(name)?;
        let question_len = query(name, 1).len();
        // A pointer, type, class, TTL, and the length.
        (response[7] > 0).then(|| response[question_len + 12 + 3])
    }

    fn reload(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "USR1", &id]).status().unwrap().success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_metric(&self, family: &str, value: f64) {
        let line = format!("ringdns_zone_{family}{{zone=\"test.\",file=\"db\"}} {value:.1}\n");
        self.until(&line, |server| get(server.metrics, "/metrics").contains(&line));
    }

    fn until_logged(&self, words: &str) {
        self.until(words, |server| server.log().matches(words).count() == 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole response, or nothing if there is no connection.
fn get(address: SocketAddr, path: &str) -> String {
    let mut response = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut response);
    }
    response
}

#[test]
fn a_broken_file_shows_and_keeps_its_zone() {
    let server = Server::start("reload 100ms", ZONE);
    server.until_metric("serial", 7.0);
    server.until_metric("current", 1.0);

    server.write(BROKEN);
    server.until_metric("current", 0.0);
    server.until_metric("serial", 7.0);
    let problem = "failed to parse file \"db\" for origin test. with error db:2: ";
    server.until_logged(&format!("[ERROR] plugin/file: Parsing zone \"test.\": {problem}"));
    server.until("/ready shows it", |server| {
        get(server.ready, "/ready").contains(&format!("file: zone test.: {problem}"))
    });
    assert!(get(server.ready, "/ready").contains("200 OK"), "it stays ready");

    fs::remove_file(server.folder.path().join("db")).unwrap();
    server.until_logged("[WARNING] plugin/file: Failed to open \"open db: ");
    server.until_metric("current", 0.0);

    server.write(&ZONE.replace(" 7 ", " 9 "));
    server.until_metric("serial", 9.0);
    server.until_metric("current", 1.0);
    server.until_logged(
        "[INFO] plugin/file: Successfully reloaded zone \"test.\" in \"db\" with 9 SOA serial",
    );
}

#[test]
fn a_file_that_cannot_be_used_at_start_up_is_an_error() {
    for (zone, options, expected) in [
        (
            Some(BROKEN),
            "",
            "plugin/file: failed to parse file \"db\" for origin test. with error db:2: ",
        ),
        (
            Some("www A 192.0.2.1\n"),
            "",
            "plugin/file: file \"db\" has no SOA record for origin test.",
        ),
        (None, "reload 0", "plugin/file: open db: "),
    ] {
        let folder = TempDir::new().unwrap();
        if let Some(zone) = zone {
            fs::write(folder.path().join("db"), zone).unwrap();
        }
        let corefile = format!(
            ".:0 {{\n    bind 127.0.0.1\n    file db test {{\n        {options}\n    }}\n}}\n"
        );
        let mut command = command(folder.path(), &corefile);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("Corefile:3"), "it names the line\n{text}");
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

/// As in CoreDNS, which starts anew. `reload` alone would wait for another serial number.
#[test]
fn a_signal_has_the_file_read_again() {
    let server = Server::start("reload 0", ZONE);
    assert_eq!(server.address("www.test"), Some(1));
    server.write(&ZONE.replace("192.0.2.1", "192.0.2.2"));
    server.reload();
    server.until("the change is served", |server| server.address("www.test") == Some(2));
    server.write(BROKEN);
    server.reload();
    server.until_metric("current", 0.0);
    assert_eq!(server.address("www.test"), Some(2));
}

#[test]
fn a_file_that_hangs_at_start_up_delays_no_other_name() {
    let folder = TempDir::new().unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("db")).status().unwrap().success());
    let server = Server::serve(folder, "file db test\n    whoami");
    server.until_logged("db was not read within 5s: the names of its zone are SERVFAIL");
    assert_eq!((server.rcode("www.test"), server.rcode("other")), (Some(2), Some(0)));
}

#[test]
fn a_file_that_hangs_is_reported_and_its_zone_is_served() {
    let server = Server::start("reload 100ms", &format!("{ZONE}$INCLUDE included\n"));
    assert_eq!((server.address("www.test"), server.address("inner.test")), (Some(1), Some(5)));
    let included = server.folder.path().join("included");
    fs::remove_file(&included).unwrap();
    assert!(Command::new("mkfifo").arg(&included).status().unwrap().success());
    let problem = "included was not read within 5s: ";
    server.until_logged(&format!("[WARNING] plugin/file: {problem}the last records of its zone"));
    server.until_metric("current", 0.0);
    server.until("/ready shows it", |server| {
        get(server.ready, "/ready").contains(&format!("file: zone test.: {problem}"))
    });
    assert_eq!((server.address("www.test"), server.address("inner.test")), (Some(1), Some(5)));
    // The zone that waits for it has another serial number.
    server.write(&format!("{}$INCLUDE included\n", ZONE.replace(" 7 ", " 8 ")));
    fs::write(&included, "").unwrap();
    fs::remove_file(&included).unwrap();
    fs::write(&included, "inner 60 A 192.0.2.6\n").unwrap();
    server.until_metric("serial", 8.0);
    server.until_metric("current", 1.0);
    server.until("the change is served", |server| server.address("inner.test") == Some(6));
}

/// A folder as a ConfigMap is mounted: its files are links into a folder of their version.
#[test]
fn a_folder_is_searched_and_may_be_lost() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join("zones").join(name);
    for (version, byte) in [("..1", 1), ("..2", 2)] {
        fs::create_dir_all(path(version)).unwrap();
        let zone = ZONE.replace("192.0.2.1", &format!("192.0.2.{byte}"));
        fs::write(path(version).join("db.test"), zone.replace(" 7 ", &format!(" {byte} ")))
            .unwrap();
    }
    let link = |to: &str, from: &str| {
        std::os::unix::fs::symlink(to, path("new")).unwrap();
        fs::rename(path("new"), path(from)).unwrap();
    };
    link("..1", "..data");
    link("..data/db.test", "db.test");
    fs::create_dir_all(path("sub/deep")).unwrap();
    fs::write(path("sub/deep/db.lan"), ZONE.replace("192.0.2.1", "192.0.2.3")).unwrap();
    fs::create_dir(path("db.folder")).unwrap();
    assert!(Command::new("mkfifo").arg(path("db.pipe")).status().unwrap().success());
    link("sub", "db.link");
    fs::write(path("sub/db.twice.test"), ZONE).unwrap();
    fs::write(path("db.twice.test"), ZONE.replace("192.0.2.1", "192.0.2.4")).unwrap();
    let server = Server::serve(
        folder,
        "auto {\n        directory zones\n        reload 100ms\n    }\n    whoami",
    );
    let path = |name: &str| server.folder.path().join("zones").join(name);
    let addresses = || ["www.test", "www.lan", "www.twice.test"].map(|name| server.address(name));
    assert_eq!(addresses(), [Some(1), Some(3), Some(4)]);
    server.until("three zones are logged", |server| {
        server.log().matches("Inserting zone").count() == 3
    });
    server.until_logged("zone twice.test. has two files");
    let log = server.log();
    assert!(
        !log.contains("db.folder") && !log.contains("db.link") && !log.contains("..1"),
        "{log}"
    );

    std::os::unix::fs::symlink("..2", path("new")).unwrap();
    fs::rename(path("new"), path("..data")).unwrap();
    server.until("the next version is served", |server| server.address("www.test") == Some(2));

    // A zone whose first file is gone has the other one. One without a file is gone.
    fs::remove_file(path("db.twice.test")).unwrap();
    server.until("the other file", |server| server.address("www.twice.test") == Some(1));
    fs::remove_file(path("sub/db.twice.test")).unwrap();
    server.until_logged("Deleting zone `twice.test.'");
    server.until("zone test. has its names", |server| server.rcode("www.twice.test") == Some(3));

    // A folder that is lost takes no zone away.
    let current = |file: &str, value: f64| {
        let row = format!("file=\"zones{file}\"}} {value:.1}\n");
        server.until(&row, |server| get(server.metrics, "/metrics").contains(&row));
    };
    current("", 1.0);
    fs::rename(path(""), server.folder.path().join("away")).unwrap();
    let problem = "auto: folder zones cannot be searched: No such file";
    server.until_logged(problem);
    server.until("/ready shows it", |server| get(server.ready, "/ready").contains(problem));
    current("", 0.0);
    assert!(!server.log().contains("Failed to open"), "one line is enough");
    assert_eq!(addresses(), [Some(2), Some(3), None]);
    fs::rename(server.folder.path().join("away"), path("")).unwrap();
    current("", 1.0);
    current("/db.test", 1.0);
    server.until_logged("folder zones can be read again");
    let log = server.log();
    assert_eq!(log.matches("Deleting zone").count(), 1, "{log}");
    assert_eq!(log.matches(problem).count(), 1, "it is logged once:\n{log}");
}

/// Whatever its serial number is, and whenever it can be read.
#[test]
fn another_file_replaces_the_records_of_its_zone() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("zones/sub")).unwrap();
    fs::write(folder.path().join("zones/sub/db.test"), ZONE).unwrap();
    let server =
        Server::serve(folder, "auto {\n        directory zones\n        reload 100ms\n    }");
    let path = |name: &str| server.folder.path().join("zones").join(name);
    assert_eq!(server.address("www.test"), Some(1));
    fs::remove_file(path("sub/db.test")).unwrap();
    fs::write(path("db.test"), BROKEN).unwrap();
    server.until_logged("Parsing zone \"test.\"");
    assert_eq!(server.address("www.test"), Some(1));
    fs::write(path("db.test"), ZONE.replace("192.0.2.1", "192.0.2.6")).unwrap();
    server.until("the other file is served", |server| server.address("www.test") == Some(6));
}
