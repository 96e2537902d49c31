//! Starts CoreDNS and ringdns on the same cluster, each pinned to the same core in turn with what it runs, and ends them.
//!
//! Both get the same Corefile but for the lines that say where the objects are and that CoreDNS caches. Invariant: what was started here is ended
//! when its `Launched` goes out of scope, and nothing else is.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use tempfile::TempDir;

use super::{Contender, api_server};
use crate::answer;
use crate::workload::Workload;

/// CoreDNS waits up to five seconds for the API server.
const START_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Coredns,
    Ringdns,
}

#[derive(Debug)]
pub enum LaunchError {
    Missing { what: &'static str, looked: Vec<PathBuf>, next: &'static str },
    Start { what: PathBuf, error: io::Error },
    NotReady { what: &'static str, log: String },
    Manifests(String),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, looked, next } => {
                let looked: Vec<String> =
                    looked.iter().map(|path| path.display().to_string()).collect();
                write!(f, "there is no {what} at {}; {next}", looked.join(", "))
            }
            Self::Start { what, error } => write!(f, "cannot start {}: {error}", what.display()),
            Self::NotReady { what, log } => {
                write!(f, "{what} gave no answer within {START_MAX:?}; its last lines:\n{log}")
            }
            Self::Manifests(reason) => write!(f, "cannot serve the manifests to CoreDNS: {reason}"),
        }
    }
}

impl std::error::Error for LaunchError {}

/// A server that was started here.
pub struct Launched {
    pub contender: Contender,
    child: Child,
    /// Holds its Corefile and its log.
    folder: TempDir,
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// `None`: where builds put it.
    pub binary: Option<PathBuf>,
    /// Manifest files, absolute.
    pub manifests: Vec<PathBuf>,
    pub zone: String,
    /// The core that the server is pinned to.
    pub core: Option<usize>,
}

/// Starts a server and waits until it answers the workload's first question.
pub fn launch(
    kind: Kind,
    options: &LaunchOptions,
    workload: &Workload,
) -> Result<Launched, LaunchError> {
    let binary = find(kind, options.binary.as_deref())?;
    let port = free_port().map_err(|error| LaunchError::Start { what: binary.clone(), error })?;
    let objects = match kind {
        Kind::Coredns => {
            let address = api_server::serve(&options.manifests).map_err(LaunchError::Manifests)?;
            format!("endpoint http://{address}")
        }
        Kind::Ringdns => {
            let paths: Vec<String> =
                options.manifests.iter().map(|path| format!("\"{}\"", path.display())).collect();
            format!("manifests {}", paths.join(" "))
        }
    };
    let start = |error| LaunchError::Start { what: binary.clone(), error };
    let folder = tempfile::tempdir().map_err(start)?;
    let corefile = folder.path().join("Corefile");
    fs::write(&corefile, corefile_text(kind, &options.zone, port, &objects)).map_err(start)?;
    let log = File::create(folder.path().join("log")).map_err(start)?;
    let mut command = Command::new(&binary);
    command
        .arg("-conf")
        .arg(&corefile)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(start)?)
        .stderr(log);
    if options.core.is_some() {
        // One core, so one thread that runs: Go does not see the pinning of others' making.
        command.env("GOMAXPROCS", "1");
    }
    let child = spawn_pinned(command, options.core).map_err(start)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let contender = Contender { name: kind.name().to_owned(), address, pid: Some(child.id()) };
    let mut launched = Launched { contender, child, folder };
    launched.wait_for_answer(kind, workload)?;
    Ok(launched)
}

/// The stock plugins of a cluster's DNS that bear on an answer, the same for both but for two lines.
fn corefile_text(kind: Kind, zone: &str, port: u16, objects: &str) -> String {
    // As kubeadm ships it: CoreDNS is faster with it. ringdns answers for the cluster out of its table, cached or not.
    let cache = match kind {
        Kind::Coredns => "    cache 30\n",
        Kind::Ringdns => "",
    };
    format!(
        ".:{port} {{\n    bind 127.0.0.1\n    errors\n    kubernetes {zone} in-addr.arpa ip6.arpa {{\n        {objects}\n        \
         pods insecure\n        fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }}\n{cache}    loadbalance\n}}\n"
    )
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Coredns => "CoreDNS",
            Self::Ringdns => "ringdns",
        }
    }
}

/// A child takes over the pinning of the thread that makes it.
fn spawn_pinned(mut command: Command, core: Option<usize>) -> io::Result<Child> {
    let spawn = move || {
        if let Some(id) = core {
            core_affinity::set_for_current(CoreId { id });
        }
        command.spawn()
    };
    thread::spawn(spawn).join().expect("spawning does not panic")
}

fn free_port() -> io::Result<u16> {
    // Free for both transports a moment ago; a server that loses the race says so in its log.
    for _ in 0..16 {
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn find(kind: Kind, given: Option<&Path>) -> Result<PathBuf, LaunchError> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let looked: Vec<PathBuf> = match (given, kind) {
        (Some(path), _) => vec![path.to_owned()],
        (None, Kind::Coredns) => {
            vec![target.join("e2e/bin/coredns"), "target/e2e/bin/coredns".into()]
        }
        (None, Kind::Ringdns) => beside
            .into_iter()
            .map(|folder| folder.join("ringdns"))
            .chain(["target/release/ringdns".into()])
            .collect(),
    };
    if let Some(found) = looked.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    Err(match kind {
        Kind::Coredns => LaunchError::Missing {
            what: "CoreDNS",
            looked,
            next: "build it with deploy/e2e/build.sh, or say --coredns PATH",
        },
        Kind::Ringdns => LaunchError::Missing {
            what: "ringdns",
            looked,
            next: "build it with 'cargo build --release', or say --ringdns PATH",
        },
    })
}

impl Launched {
    fn wait_for_answer(&mut self, kind: Kind, workload: &Workload) -> Result<(), LaunchError> {
        let since = Instant::now();
        let question = workload.message(0);
        while since.elapsed() < START_MAX {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            if self.asks(question.bytes).is_ok_and(|rcode| rcode == 0 || rcode == 3) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        Err(LaunchError::NotReady {
            what: kind.name(),
            log: lines[lines.len().saturating_sub(10)..].join("\n"),
        })
    }

    fn asks(&self, question: &[u8]) -> io::Result<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.contender.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(question)?;
        let mut answer = [0; 4096];
        let len = socket.recv(&mut answer)?;
        answer::header(&answer[..len])
            .map(|header| header.rcode)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
