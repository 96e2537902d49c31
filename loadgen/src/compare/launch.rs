//! Starts CoreDNS and ringdns on the same cluster, pinned to the same core if one is given and on
//! all of them otherwise, and stops them.
//!
//! Both get the same Corefile, except for where the objects come from and CoreDNS's cache.
//! Invariant: a server started here is stopped when its `Launched` goes out of scope, and no other
//! process is.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use tempfile::TempDir;

use super::binary::{ServerKind, version};
use super::{Contender, ServerExit, api_server};
use crate::answer;
use crate::rcode::RCODE_NAMES;
use crate::workload::Workload;

/// CoreDNS waits up to five seconds for the API server.
const START_MAX: Duration = Duration::from_secs(20);
/// Below Linux's default range for the kernel's own choice.
const PORTS: Range<u16> = 10_000..32_768;
/// How much of a server's log is shown when it exits: this many lines out of its last bytes.
const LOG_LINES_MAX: usize = 10;
const LOG_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug)]
pub enum LaunchError {
    Start {
        what: PathBuf,
        error: io::Error,
    },
    Exited {
        what: String,
        path: PathBuf,
        status: ExitStatus,
        log: String,
    },
    /// With the last rcode, if there was any response.
    NotReady {
        what: String,
        rcode: Option<u8>,
        log: String,
    },
    Stopped {
        what: String,
    },
    Manifests(String),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { what, error } => write!(f, "cannot start {}: {error}", what.display()),
            Self::Exited { what, path, status, log } => {
                write!(
                    f,
                    "{what} ({}) exited before it answered a query, {status}; {log}",
                    path.display()
                )
            }
            Self::NotReady { what, rcode: None, log } => {
                write!(f, "{what} did not answer a query within {START_MAX:?}; {log}")
            }
            Self::NotReady { what, rcode: Some(rcode), log } => write!(
                f,
                "{what} answered only {} for {START_MAX:?}; check that it serves the cluster of \
                 --from; {log}",
                RCODE_NAMES[usize::from(*rcode)]
            ),
            Self::Stopped { what } => write!(f, "stopped by a signal while {what} was starting"),
            Self::Manifests(reason) => write!(f, "cannot serve the manifests to CoreDNS: {reason}"),
        }
    }
}

impl std::error::Error for LaunchError {}

/// A server that was started here.
pub struct Launched {
    pub contender: Contender,
    /// What its binary prints for `-version`, and what else CoreDNS was started with.
    pub version: String,
    child: Child,
    /// Holds its Corefile and its log.
    folder: TempDir,
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Fails only if the server has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Debug)]
pub struct LaunchOptions {
    pub kind: ServerKind,
    pub name: String,
    /// A path that `find` returned.
    pub binary: PathBuf,
    /// Beyond those that every server gets.
    pub flags: Vec<String>,
    /// Manifest files, absolute paths.
    pub manifests: Vec<PathBuf>,
    pub zone: String,
    /// The core to pin the server to; `None`: it may use all of them.
    pub core: Option<usize>,
}

/// Starts a server and waits until it answers one of the workload's queries.
pub fn launch(
    options: &LaunchOptions,
    workload: &Workload,
    stop: &AtomicBool,
) -> Result<Launched, LaunchError> {
    let (kind, binary) = (options.kind, options.binary.clone());
    let port = free_port().map_err(|error| LaunchError::Start { what: binary.clone(), error })?;
    let objects = match kind {
        ServerKind::Coredns => {
            let address = api_server::serve(&options.manifests).map_err(LaunchError::Manifests)?;
            format!("endpoint http://{address}")
        }
        ServerKind::Ringdns => {
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
        .args(&options.flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(start)?)
        .stderr(log)
        // Ctrl-C reaches loadgen only, which then writes the report and stops its servers.
        .process_group(0);
    let go_thread_count = match options.core {
        // Go does not notice that it was pinned from outside.
        Some(_) => 1,
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    command.env("GOMAXPROCS", go_thread_count.to_string());
    let child = spawn_pinned(command, options.core).map_err(start)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let contender = Contender { name: options.name.clone(), address, pid: Some(child.id()) };
    let mut version =
        version(&binary).unwrap_or_else(|| format!("{}; version unknown", binary.display()));
    if kind == ServerKind::Coredns {
        version = format!("{version}; GOMAXPROCS={go_thread_count}");
    }
    let mut launched = Launched { contender, version, child, folder };
    launched.wait_for_answer(&binary, workload, stop)?;
    Ok(launched)
}

/// The plugins of a cluster's DNS that affect answers; the same for both servers except two lines.
fn corefile_text(kind: ServerKind, zone: &str, port: u16, objects: &str) -> String {
    // kubeadm's default; CoreDNS is faster with it. ringdns answers cluster names from its table,
    // with or without a cache.
    let cache = match kind {
        ServerKind::Coredns => "    cache 30\n",
        ServerKind::Ringdns => "",
    };
    format!(
        "\
.:{port} {{
    bind 127.0.0.1
    errors
    kubernetes {zone} in-addr.arpa ip6.arpa {{
        {objects}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
{cache}    loadbalance
}}
"
    )
}

/// A child inherits the pinning of the thread that spawns it.
fn spawn_pinned(mut command: Command, core: Option<usize>) -> io::Result<Child> {
    let spawn = move || {
        if let Some(id) = core {
            core_affinity::set_for_current(CoreId { id });
        }
        command.spawn()
    };
    thread::spawn(spawn).join().expect("spawning does not panic")
}

/// A port that is free for both transports. The kernel does not choose from these ports on its own,
/// so no socket of this process gets the port before the server binds it. A server that loses it
/// anyway says so in its log.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..PORTS.len() {
        // Comparisons that run at the same time begin at different places.
        let begin = std::process::id().wrapping_mul(97) as usize;
        let index = begin + usize::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (index % PORTS.len()) as u16;
        let here = ("127.0.0.1", port);
        if UdpSocket::bind(here).is_ok() && TcpListener::bind(here).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

impl Launched {
    fn wait_for_answer(
        &mut self,
        binary: &Path,
        workload: &Workload,
        stop: &AtomicBool,
    ) -> Result<(), LaunchError> {
        let (since, what) = (Instant::now(), self.contender.name.clone());
        let mut last_rcode = None;
        // Try each query in turn: these servers do not answer external names.
        for index in (0..workload.len() as u32).cycle() {
            if stop.load(Ordering::Relaxed) {
                return Err(LaunchError::Stopped { what });
            }
            if let Some(status) = self.status() {
                let path = binary.to_owned();
                return Err(LaunchError::Exited { what, path, status, log: self.log_end() });
            }
            match self.ask(workload.message(index).bytes) {
                Ok(0 | 3) => return Ok(()),
                Ok(rcode) => last_rcode = Some(rcode),
                // Not ready yet; the deadline decides.
                Err(_) => {}
            }
            if since.elapsed() > START_MAX {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(LaunchError::NotReady { what, rcode: last_rcode, log: self.log_end() })
    }

    /// `None`: it is still running.
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// `Some` if the server has exited, with its status and its last lines.
    pub fn exit(&mut self) -> Option<ServerExit> {
        let status = self.status()?.to_string();
        let server = self.contender.name.clone();
        Some(ServerExit { server, status: Some(status), log: self.log_end() })
    }

    fn log_end(&self) -> String {
        let lines = last_lines(&self.folder.path().join("log")).unwrap_or_default();
        match lines.is_empty() {
            true => "it printed nothing".to_owned(),
            false => format!("its last lines:\n{lines}"),
        }
    }

    /// Sends one query and returns the rcode of the response.
    fn ask(&self, query: &[u8]) -> io::Result<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.contender.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(query)?;
        let mut response = [0; 4096];
        let len = socket.recv(&mut response)?;
        answer::header(&response[..len])
            .filter(|header| query.starts_with(&header.id.to_be_bytes()))
            .map(|header| header.rcode)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The end of a log, which may be long.
fn last_lines(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOG_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_are_not_those_that_the_kernel_chooses() {
        let ports = [(); 100].map(|()| free_port().unwrap());
        let different: std::collections::BTreeSet<u16> = ports.into_iter().collect();
        assert_eq!(different.len(), ports.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn a_server_that_is_not_ready_is_reported() {
        let rows: [(LaunchError, &str); 2] = [
            (
                LaunchError::NotReady {
                    what: "CoreDNS".into(),
                    rcode: None,
                    log: "it printed nothing".into(),
                },
                "CoreDNS did not answer a query within 20s; it printed nothing",
            ),
            (
                LaunchError::NotReady {
                    what: "CoreDNS".into(),
                    rcode: Some(2),
                    log: "its last lines:\nx".into(),
                },
                "CoreDNS answered only SERVFAIL for 20s; check that it serves the cluster of \
                 --from; its last lines:\nx",
            ),
        ];
        for (error, text) in rows {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let last_of = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            last_lines(&path).unwrap()
        };
        assert_eq!(last_of(b""), "");
        assert_eq!(last_of(b"one\ntwo \xff\n"), "one\ntwo \u{fffd}");
        let long: String = (0..100_000).map(|line| format!("{line}\n")).collect();
        assert_eq!(last_of(long.as_bytes()).lines().count(), LOG_LINES_MAX);
        assert!(last_of(long.as_bytes()).ends_with("99998\n99999"));
    }
}
