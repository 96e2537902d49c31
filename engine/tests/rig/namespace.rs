//! A network namespace of a test's own, which only root may create.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of its copy.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::child::TestChild;

/// Runs in a new namespace whose loopback is up, with an empty folder. Prints a note if there
/// cannot be one.
pub fn in_namespace(run: impl FnOnce(&Path) + Send) {
    let probe = Command::new("unshare").args(["--net", "ip", "link"]).output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        eprintln!(
            "!!! SKIPPED: no network namespace can be made here ({probe:?}): run this test as \
             root, with `unshare` and `ip`"
        );
        return;
    }
    let up = "ip link set lo up && echo up && exec sleep 120";
    let holder = Command::new("unshare")
        .args(["--net", "sh", "-c", up])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut holder = TestChild(holder);
    let mut line = [0; 3];
    holder.stdout.take().unwrap().read_exact(&mut line).unwrap();
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(&namespace);
            run(folder.path());
        });
        inside.join().unwrap();
    });
}

/// Moves this thread, and the threads and processes that it starts, into a namespace.
pub fn enter(namespace: impl AsFd) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
