//! The servers' binaries: where they are, and which version each is.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time for a binary to print its version.
const VERSION_MAX: Duration = Duration::from_secs(2);
/// How much of that is read.
const VERSION_LEN_MAX: u64 = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    Coredns,
    Ringdns,
}

#[derive(Debug)]
pub enum BinaryError {
    Missing { what: &'static str, looked: Vec<PathBuf>, next: &'static str },
    NotExecutable { path: PathBuf, flag: &'static str },
    Unreadable { path: PathBuf, error: io::Error },
}

impl fmt::Display for BinaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, looked, next } => {
                let looked: Vec<String> =
                    looked.iter().map(|path| path.display().to_string()).collect();
                write!(f, "no {what} binary at {}; {next}", looked.join(", "))
            }
            Self::NotExecutable { path, flag } => {
                let path = path.display();
                write!(
                    f,
                    "{path} is not executable; run 'chmod +x {path}', or name another file \
                     with {flag}"
                )
            }
            Self::Unreadable { path, error } => {
                write!(f, "cannot start {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for BinaryError {}

impl ServerKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Coredns => "CoreDNS",
            Self::Ringdns => "ringdns",
        }
    }

    /// The flag that names its binary.
    fn flag(self) -> &'static str {
        match self {
            Self::Coredns => "--coredns",
            Self::Ringdns => "--ringdns",
        }
    }
}

/// The server's binary: the given one, or where builds put it. Absolute, since a bare name would be
/// looked up in PATH.
pub fn find(kind: ServerKind, given: Option<&Path>) -> Result<PathBuf, BinaryError> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let looked: Vec<PathBuf> = match (given, kind) {
        (Some(path), _) => vec![path.to_owned()],
        (None, ServerKind::Coredns) => {
            vec![target.join("e2e/bin/coredns"), "target/e2e/bin/coredns".into()]
        }
        (None, ServerKind::Ringdns) => beside
            .into_iter()
            .map(|folder| folder.join("ringdns"))
            .chain(["target/release/ringdns".into()])
            .collect(),
    };
    let Some(found) = looked.iter().find(|path| path.is_file()) else {
        let next = match (given, kind) {
            (Some(_), _) => "name the server's binary itself",
            (None, ServerKind::Coredns) => {
                "build it with deploy/e2e/build.sh, or name one with --coredns PATH"
            }
            (None, ServerKind::Ringdns) => {
                "build it with 'cargo build --release', or name one with --ringdns PATH"
            }
        };
        return Err(BinaryError::Missing { what: kind.name(), looked, next });
    };
    let start = |error| BinaryError::Unreadable { path: found.clone(), error };
    if fs::metadata(found).map_err(start)?.permissions().mode() & 0o111 == 0 {
        return Err(BinaryError::NotExecutable { path: found.clone(), flag: kind.flag() });
    }
    fs::canonicalize(found).map_err(start)
}

/// What `-version` prints, in one line; `None` if that fails or takes too long.
pub fn version(binary: &Path) -> Option<String> {
    let mut command = Command::new(binary);
    // Not a pipe: it could fill up, and any grandchild would hold it open.
    let mut output = tempfile::tempfile().ok()?;
    let stdout = Stdio::from(output.try_clone().ok()?);
    command.arg("-version").stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    let mut child = command.process_group(0).spawn().ok()?;
    let since = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if since.elapsed() < VERSION_MAX => thread::sleep(Duration::from_millis(10)),
            None => {
                // Fails only if the process has already exited.
                let _ = child.kill();
                break child.wait().ok()?;
            }
        }
    };
    let mut text = String::new();
    output.rewind().ok()?;
    output.take(VERSION_LEN_MAX).read_to_string(&mut text).ok()?;
    // CoreDNS's last line ends in a comma if no commit follows.
    let tidy = |line| str::trim_end_matches(str::trim(line), [',', ' ']);
    let lines: Vec<&str> = text.lines().map(tidy).filter(|line| !line.is_empty()).collect();
    (status.success() && !lines.is_empty()).then(|| lines.join(", "))
}
