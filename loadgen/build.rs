//! Puts the commit into the version, so that a figure can be traced to the code that measured it.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RINGDNS_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let package = env!("CARGO_PKG_VERSION");
    let version = match revision() {
        Some(revision) => format!("{package} ({revision})"),
        None => package.to_owned(),
    };
    println!("cargo::rustc-env=LOADGEN_VERSION={version}");
}

/// `RINGDNS_REVISION` if set, else the clone's commit; `None` outside a clone, or without git.
fn revision() -> Option<String> {
    let given = std::env::var("RINGDNS_REVISION").ok().filter(|given| !given.is_empty());
    if given.is_some() {
        return given;
    }
    // Only a clone of this repository: sources unpacked inside another clone would get its commit.
    if !Path::new("../.git").exists() {
        return None;
    }
    // Every commit and checkout appends a line to this log.
    let log = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--", "."])?;
    Some(if changed.is_empty() { commit } else { commit + " with changes" })
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
