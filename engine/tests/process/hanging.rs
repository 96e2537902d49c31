//! Files that hang or are pipes.

use std::fs;
use std::io::{BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::port;
use crate::server::{PATIENCE, Server};

/// A pipe without a writer or a reader.
fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
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

#[test]
fn errors_are_logged_while_a_reload_waits() {
    let server = Server::start(&[]);
    let corefile = server.corefile("cluster.local", 30).replace("ttl 30", "fallthrough");
    fs::write(server.path("Corefile"), &corefile).unwrap();
    server.signal("USR1");
    server.until("it has been reloaded", |server| server.log().contains("Reloading complete"));
    make_pipe(&server.path("hanging"));
    let hanging = format!("errors\n    import {}", server.path("hanging").display());
    fs::write(server.path("Corefile"), corefile.replacen("errors", &hanging, 1)).unwrap();
    server.signal("USR1");
    server.until("it begins", |server| server.log().matches("SIGUSR1").count() == 2);
    let answer = server.ask("gone", "cluster.local").unwrap();
    assert_eq!(answer[3] & 15, 2, "SERVFAIL");
    server.until("the error is in the log", |server| server.log().contains(" gone.default."));
    let log = server.log();
    assert!(!log.contains("not read within"), "it was logged after the wait:\n{log}");
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
