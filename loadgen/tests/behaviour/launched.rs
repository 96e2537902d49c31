//! Servers that `loadgen compare --against` starts: shell scripts, and this test binary, with files
//! that say which process each is and how many clients it had.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::server::{Behaviour, Server};

const MANIFEST: &str = "\
kind: Namespace
metadata: {name: a}
---
kind: Service
metadata: {name: web, namespace: a}
spec: {clusterIP: 10.0.0.1}
";

/// A folder with a query file and a cluster.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("queries"), "one.example A\ntwo.example AAAA\n").unwrap();
    fs::write(folder.path().join("cluster.yaml"), MANIFEST).unwrap();
    folder
}

pub(crate) fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

/// A shell script in the folder.
pub(crate) fn program(folder: &TempDir, name: &str, body: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// When a test server exits.
#[derive(Clone, Copy)]
pub(crate) enum Life {
    /// Only when it is killed.
    Long,
    /// By itself, after this many clients: loadgen's first query is one, and each round is another.
    Clients(usize),
}

/// A server for `--against` to start: this test binary, whose `a_server_of_this_binary` listens on
/// the Corefile's port. Files next to it hold its process id and the number of its clients.
pub(crate) fn server(folder: &TempDir, name: &str, life: Life) -> String {
    let clients_max = match life {
        Life::Long => usize::MAX,
        Life::Clients(max) => max,
    };
    let (own, program_path) = (std::env::current_exe().unwrap(), path(folder, name));
    let body = format!(
        "[ \"$1\" = -version ] && {{ echo {name}-1.2.3; exit; }}\n\
         echo $$ > '{program_path}.pid'\n\
         export SERVER_CLIENTS_MAX={clients_max} SERVER_CLIENTS_FILE='{program_path}.clients'\n\
         export SERVER_PORT=$(sed -n 's/^\\.:\\([0-9]*\\).*/\\1/p' \"$2\")\n\
         exec '{}' --exact launched::a_server_of_this_binary --ignored --nocapture",
        own.display(),
    );
    program(folder, name, &body)
}

/// Not a test: `server` starts it.
#[test]
#[ignore = "a server that other tests start"]
fn a_server_of_this_binary() {
    let Ok(port) = std::env::var("SERVER_PORT") else { return };
    let var = |name: &str| std::env::var(name).unwrap();
    let clients_max = var("SERVER_CLIENTS_MAX").parse().unwrap();
    let server = Server::udp(&format!("127.0.0.1:{port}"), Behaviour::default());
    // Its parent may have been killed.
    let deadline = Instant::now() + Duration::from_secs(120);
    while server.clients() < clients_max && Instant::now() < deadline {
        fs::write(var("SERVER_CLIENTS_FILE"), server.clients().to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("panic: the disk is on fire");
    std::process::exit(7);
}

/// Polls until a test server has seen this many clients.
pub(crate) fn wait_for_clients(folder: &TempDir, name: &str, count: usize) {
    let file = path(folder, &format!("{name}.clients"));
    let seen = || fs::read_to_string(&file).ok()?.parse::<usize>().ok();
    wait_until(|| seen().is_some_and(|seen| seen >= count));
}

pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn is_running(folder: &TempDir, name: &str) -> bool {
    let pid = fs::read_to_string(folder.path().join(format!("{name}.pid"))).unwrap();
    Path::new(&format!("/proc/{}", pid.trim())).exists()
}
