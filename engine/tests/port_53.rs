//! Port 53 as an unprivileged user: with CAP_NET_BIND_SERVICE it is served, without it the error
//! says what to do. Needs root, to make a network namespace and to give up everything else.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

#[path = "rig/query.rs"]
mod query;

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The user of the image.
const USER: &str = "65532";

const COREFILE: &str = ".:53 {\n    whoami\n}\n";

struct Unprivileged {
    folder: TempDir,
    child: Child,
}

impl Unprivileged {
    /// Starts ringdns as `USER` in a network namespace of its own. `capabilities`: more arguments
    /// of setpriv. `None`, with a note, if that is not allowed here.
    fn start(capabilities: &[&str]) -> Option<Self> {
        let probe = Command::new("unshare")
            .args(["--net", "setpriv", "--reuid", USER, "--clear-groups", "--bounding-set=-all"])
            .arg("true")
            .output();
        if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
            eprintln!(
                "!!! SKIPPED: no network namespace or no other user here ({probe:?}): run this \
                 test as root, with `unshare` and `setpriv`"
            );
            return None;
        }
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("ringdns");
        fs::copy(env!("CARGO_BIN_EXE_ringdns"), &program).unwrap();
        let corefile = folder.path().join("Corefile");
        fs::write(&corefile, COREFILE).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--net", "sh", "-e", "-c", "ip link set lo up; exec setpriv \"$@\"", "sh"])
            .args(["--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs"])
            .args(capabilities)
            .arg(program)
            .args(["--shards", "1", "-conf"])
            .arg(corefile)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { folder, child })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether a query from its namespace is answered.
    fn answers(&self) -> bool {
        let namespace = format!("/proc/{}/ns/net", self.child.id());
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(Path::new(&namespace)).unwrap();
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                socket.send_to(&query::query("a.example", 1), "127.0.0.1:53").is_ok()
                    && socket.recv(&mut [0; 512]).is_ok()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_a_capability_the_error_says_what_to_do() {
    let Some(mut server) = Unprivileged::start(&["--bounding-set=-all"]) else { return };
    let began = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    };
    let log = server.log();
    assert_eq!(status.code(), Some(1), "{log}");
    for part in [
        "Corefile:1: cannot listen on [::]:53: Permission denied (os error 13)\n",
        "ports below 1024 need CAP_NET_BIND_SERVICE",
        "`capabilities: {add: [NET_BIND_SERVICE]}` in the container's securityContext",
        "`setcap cap_net_bind_service=+p ringdns`",
        "`sysctl net.ipv4.ip_unprivileged_port_start=53`",
    ] {
        assert!(log.contains(part), "{part} is missing:\n{log}");
    }
}

#[test]
fn the_one_capability_is_enough() {
    let one = ["--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service"];
    let bounding = ["--bounding-set=-all,+net_bind_service"];
    let Some(server) = Unprivileged::start(&[&one[..], &bounding].concat()) else { return };
    let began = Instant::now();
    while !server.answers() {
        assert!(began.elapsed() < PATIENCE, "it does not answer:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
