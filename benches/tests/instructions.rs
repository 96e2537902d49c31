//! The user-space instructions of one answer, counted by callgrind: the same on every run, however busy the machine.
//!
//! From the packet in its buffer to the answer in it: `Cluster::answer_received` is what a shard does, without the kernel and
//! the counters. The binary is the release's, for that is what runs: `cargo test --release -p benches --test instructions`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// What it was when it was last looked at, x86-64, the rustc of rust-toolchain.toml. Growth by a tenth fails: make it
/// cheaper, or say here what the new figure buys.
const RECORDED: u64 = 333;
/// What is counted: from the function's entry to its exit.
const COUNTED: &str = "benches::Cluster::answer_received";
const QUESTION_COUNT: u64 = 20_000;

#[test]
fn an_answer_costs_no_more_than_recorded() {
    if let Some(each) = instructions_of_an_answer()
        && cfg!(target_arch = "x86_64")
    {
        assert!(
            each * 10 <= RECORDED * 11,
            "{each} instructions an answer: {RECORDED} and a tenth"
        );
    }
}

/// `None` where they cannot be counted.
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
    let each = count(binary).div_ceil(QUESTION_COUNT);
    println!("instructions: {each} for the answer to an A question; {RECORDED} recorded");
    assert!(each > 0, "{COUNTED} was never entered");
    Some(each)
}

/// The instructions of all answers of a run of `answers`.
fn count(binary: &Path) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(binary)
        .arg(QUESTION_COUNT.to_string())
        .output()
        .expect("valgrind can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(instructions) if output.status.success() => instructions,
        _ => panic!("valgrind {}: {said}", output.status),
    }
}
