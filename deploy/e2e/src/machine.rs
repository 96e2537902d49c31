//! A machine for one server: a network of its own and a root folder of its own, so that a Corefile
//! runs unchanged, with its ports, addresses and paths.
//!
//! The machine has one link. Behind it is its internet, a second network namespace that holds the
//! addresses of all upstreams. Only root may make namespaces.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::deadline::poll;
use crate::process::Process;
use crate::say::say;

/// A machine's address on its link, where its clients ask.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

/// How long making a namespace may take.
const SET_UP_LIMIT: Duration = Duration::from_secs(20);

/// Longest life of a namespace: a test that hangs leaves none behind.
const LIFE_SECS: u32 = 900;

/// Where a pod finds its credentials.
const SERVICE_ACCOUNT: &str = "run/secrets/kubernetes.io/serviceaccount";

/// Folders of the real machine that programs need.
const SHARED: [&str; 6] = ["dev", "lib", "lib64", "proc", "sys", "usr"];

/// The namespaces and the folder. Everything stops when this value is dropped.
pub struct Machine {
    // The server stops before its namespaces.
    server: Option<Process>,
    inside: Namespace,
    outside: Namespace,
    root: TempDir,
}

/// What a machine has.
pub struct Equipment<'a> {
    /// Its own addresses besides 127.0.0.1 and ::1.
    pub own: &'a [IpAddr],
    /// The addresses of its internet.
    pub upstreams: &'a [IpAddr],
    /// Absolute paths and contents.
    pub files: &'a [(String, String)],
}

/// How a pod reaches the API server.
pub struct ServiceAccount<'a> {
    /// A port of 127.0.0.1.
    pub port: u16,
    pub token: &'a str,
    pub authority: &'a str,
}

impl Machine {
    /// Whether this process may make namespaces. If not, prints one loud line that says what was
    /// not tested.
    pub fn is_possible(test: &str) -> bool {
        let probe = Command::new("unshare").args(["--net", "--mount", "ip", "link"]).output();
        let is_possible = probe.as_ref().is_ok_and(|probe| probe.status.success());
        if !is_possible {
            say(&format!(
                "e2e: !!! {test} WAS SKIPPED: no network namespace can be made here ({probe:?}). \
                 Run this test as root, with the packages util-linux and iproute2"
            ));
        }
        is_possible
    }

    pub fn new(equipment: &Equipment<'_>) -> Self {
        let root = tempfile::Builder::new().prefix("ringdns-machine-").tempdir().expect("a folder");
        for (path, text) in equipment.files {
            write(root.path(), path, text);
        }
        for folder in SHARED.into_iter().chain(["server", "tmp"]) {
            fs::create_dir_all(root.path().join(folder)).expect("a folder of the machine");
        }
        let outside = Namespace::new("outside", &addresses(equipment.upstreams), root.path());
        let link = format!(
            "ip link add eth0 type veth peer name eth0 netns {pid}
            ip link set eth0 addrgenmode none
            {far} 'ip address add 100.64.0.1/30 dev eth0; ip link set eth0 up'
            {far} 'ip address add fd64::1/126 dev eth0 nodad'
            ip address add {ADDRESS}/30 dev eth0
            ip address add fd64::2/126 dev eth0 nodad
            ip link set eth0 up
            ip route add default via 100.64.0.1
            ip -6 route add default via fd64::1
            {own}",
            pid = outside.pid(),
            far = format_args!("nsenter --net=/proc/{}/ns/net sh -e -c", outside.pid()),
            own = addresses(equipment.own),
        );
        let inside = Namespace::new("inside", &link, root.path());
        Self { server: None, inside, outside, root }
    }

    /// Runs in the machine's network: sockets made there stay there.
    pub fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        self.inside.run(run)
    }

    /// Runs in its internet.
    pub fn outside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        self.outside.run(run)
    }

    /// Gives the machine the credentials of a pod.
    pub fn admit(&self, account: &ServiceAccount<'_>) {
        write(self.root.path(), &format!("{SERVICE_ACCOUNT}/token"), account.token);
        write(self.root.path(), &format!("{SERVICE_ACCOUNT}/ca.crt"), account.authority);
        write(self.root.path(), &format!("{SERVICE_ACCOUNT}/namespace"), "kube-system");
        // `/var/run` is where client libraries look.
        let var = self.root.path().join("var");
        fs::create_dir_all(&var).expect("a folder of the machine");
        let _ = std::os::unix::fs::symlink("../run", var.join("run"));
    }

    /// A socket for connections to the machine itself.
    pub fn listen(&self, port: u16) -> TcpListener {
        self.inside(|| TcpListener::bind(("127.0.0.1", port))).expect("a port of a new machine")
    }

    /// Starts a server in the machine, with `/` as its working directory.
    pub fn start(&mut self, program: &Path, arguments: &[&str], api_port: u16) {
        let folder = program.parent().expect("a program is in a folder").display().to_string();
        let name = program.file_name().expect("a program has a name").to_string_lossy();
        let mounts: String = SHARED
            .iter()
            .filter(|folder| Path::new("/").join(folder).is_dir())
            .map(|folder| format!("mount --rbind /{folder} {folder}\n"))
            .collect();
        let script = format!(
            "{mounts}mount --bind '{folder}' server\nexec chroot . /server/{name} \"$@\"\n"
        );
        let network = format!("--net=/proc/{}/ns/net", self.inside.pid());
        let words = [&network, "unshare", "--mount", "sh", "-e", "-c", &script, "sh"];
        let words: Vec<String> =
            words.iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        let port = api_port.to_string();
        let environment =
            [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", port.as_str())];
        let nsenter = Path::new("nsenter");
        let root = self.root.path();
        self.server = Some(Process::start_in(&environment, &name, nsenter, &words, root));
    }

    /// Whether the server has exited, and how.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.server.as_mut().expect("a server was started").exit_status()?;
        Some(status.code().unwrap_or(-1))
    }

    pub fn log(&self) -> String {
        self.server.as_ref().expect("a server was started").log()
    }

    pub fn log_tail(&self) -> String {
        self.server.as_ref().expect("a server was started").log_tail()
    }
}

/// A network namespace, kept by a process that sleeps in it.
struct Namespace {
    holder: Process,
    file: File,
}

impl Namespace {
    fn new(name: &str, set_up: &str, dir: &Path) -> Self {
        let ready = dir.join(format!("{name}.ready"));
        let script = format!(
            "ip link set lo up\n{set_up}\ntouch '{}'\nexec sleep {LIFE_SECS}",
            ready.display()
        );
        let words = ["--net", "sh", "-e", "-c", &script].map(str::to_owned);
        let mut holder = Process::start(name, Path::new("unshare"), &words, dir);
        poll(SET_UP_LIMIT, "a network namespace", || {
            let exited = holder.exit_status();
            assert!(exited.is_none(), "no network namespace:\n{}", holder.log());
            ready.exists().then_some(())
        });
        let file = File::open(format!("/proc/{}/ns/net", holder.id())).expect("a namespace");
        Self { holder, file }
    }

    fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), kind).expect("a namespace of ours");
                run()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Commands that give the loopback interface these addresses.
fn addresses(all: &[IpAddr]) -> String {
    let one = |address: &IpAddr| match address {
        IpAddr::V4(address) => format!("ip address add {address}/32 dev lo\n"),
        IpAddr::V6(address) => format!("ip address add {address}/128 dev lo nodad\n"),
    };
    all.iter().map(one).collect()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
