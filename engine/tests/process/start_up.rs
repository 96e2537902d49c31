//! The start-up: flags, the pidfile, what it says when it fails.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::port;
use crate::query::{ID, is_response, query};
use crate::server::{PATIENCE, Server};

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

/// As with CoreDNS: `whoami` answers everything.
#[test]
fn without_a_corefile_the_client_learns_its_address() {
    for (corefile, warning) in [
        (None, "[WARNING] no Corefile: there is none in "),
        (Some("# nothing\n"), "[WARNING] Corefile:1 - no server block: every query"),
    ] {
        let folder = TempDir::new().unwrap();
        if let Some(text) = corefile {
            fs::write(folder.path().join("Corefile"), text).unwrap();
        }
        let port = port::free();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["-dns.port", &port.to_string()])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with(warning)), "{warning}");
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
