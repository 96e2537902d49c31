//! Counts the user-space instructions of one answer with callgrind: the same in every run, however
//! busy the machine.
//!
//! The count covers `Cluster::answer_received`, from the packet in its buffer to the response in
//! it: the shard's work, without the kernel and the counters. It needs the release binary: `cargo
//! test --release -p benches --test instructions`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// The last recorded count, on x86-64 with the rustc of rust-toolchain.toml. Growth by more than a
/// tenth fails: make it cheaper, or record the new figure here with what it buys.
const RECORDED: u64 = 333;
/// The function that is counted, from entry to exit.
const COUNTED: &str = "benches::Cluster::answer_received";
const QUERY_COUNT: u64 = 20_000;

#[test]
fn an_answer_costs_no_more_than_recorded() {
    if let Some(each) = instructions_of_an_answer()
        && cfg!(target_arch = "x86_64")
    {
        assert!(
            each * 10 <= RECORDED * 11,
            "{each} instructions per answer, over {RECORDED} plus a tenth"
        );
    }
}

/// `None` if instructions cannot be counted here.
fn instructions_of_an_answer() -> Option<u64> {
    if cfg!(debug_assertions) {
        eprintln!(
            "instructions: !!! NOT A RELEASE BUILD: the instructions of an answer ARE NOT COUNTED. \
             Run 'cargo test --release -p benches --test instructions'."
        );
        return None;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!(
            "instructions: !!! VALGRIND IS MISSING: the instructions of an answer ARE NOT COUNTED. \
             Install valgrind and run 'cargo test -p benches --test instructions' again."
        );
        return None;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_answers"));
    let each = count(binary).div_ceil(QUERY_COUNT);
    println!("instructions: {each} for the answer to an A query; {RECORDED} recorded");
    assert!(each > 0, "{COUNTED} was never called");
    Some(each)
}

/// The instructions of all answers in a run of `answers`.
fn count(binary: &Path) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(binary)
        .arg(QUERY_COUNT.to_string())
        .output()
        .expect("valgrind can be started");
    let report = String::from_utf8_lossy(&output.stderr);
    let collected =
        report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(instructions) if output.status.success() => instructions,
        _ => panic!("valgrind {}: {report}", output.status),
    }
}
