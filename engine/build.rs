//! Records the commit of the build, for `-version` and the metric `coredns_build_info`.
//!
//! It is RINGDNS_REVISION if set, as in the build of a container image without a clone. Otherwise
//! git reports it; without git, or outside a clone of this project, it is unknown. Runs again after
//! a check-out or commit.
//! Invariant: never fails the build.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RINGDNS_REVISION");
    let given = std::env::var("RINGDNS_REVISION").ok().filter(|revision| !revision.is_empty());
    if let Some(revision) = given {
        println!("cargo:rustc-env=RINGDNS_BUILT_FROM={revision}");
        return;
    }
    // Only a clone of this project: sources unpacked inside another clone would get its commit.
    // Cargo runs this in the crate's folder.
    if !Path::new("../.git").exists() {
        return;
    }
    // A missing file would make this script run before every build.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).is_file()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(revision) = git(&["rev-parse", "--short", "HEAD"]) {
        println!("cargo:rustc-env=RINGDNS_BUILT_FROM={revision}");
    }
}

/// git's output in this directory; `None` if it fails, prints nothing or is not installed.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
