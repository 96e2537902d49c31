//! Counts the user-space instructions of one answer with callgrind: the same in every run, however
//! busy the machine.
//!
//! The count covers `Cluster::answer_received`, from the packet in its buffer to the response in
//! it: the shard's work, without the kernel and the counters. It needs the release binary: `cargo
//! test --release -p benches --test instructions`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

use benches::Corefile;

/// A Corefile, and the most instructions that an A answer may cost with it, on x86-64 with the
/// rustc of rust-toolchain.toml. Counts when they were set: 320, 389, 1972, 2046.
const BOUNDS: [(Corefile, u64); 4] = [
    (Corefile::Stock, 333),
    (Corefile::K3s, 400),
    (Corefile::Gardener, 2000),
    (Corefile::NodeLocal, 2150),
];
/// The function that is counted, from entry to exit.
const COUNTED: &str = "benches::Cluster::answer_received";
const QUERY_COUNT: u64 = 20_000;

#[test]
fn an_answer_costs_no_more_than_its_bound() {
    if cfg!(debug_assertions) {
        eprintln!(
            "instructions: !!! NOT A RELEASE BUILD: the instructions of an answer ARE NOT COUNTED. \
             Run 'cargo test --release -p benches --test instructions'."
        );
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!(
            "instructions: !!! VALGRIND IS MISSING: the instructions of an answer ARE NOT COUNTED. \
             Install valgrind and run 'cargo test --release -p benches --test instructions' again."
        );
        return;
    }
    for (corefile, bound) in BOUNDS {
        let corefile = corefile.as_str();
        let each = count(Path::new(env!("CARGO_BIN_EXE_answers")), corefile).div_ceil(QUERY_COUNT);
        println!(
            "instructions: {each} for an A answer with the {corefile} Corefile; bound {bound}"
        );
        assert!(each > 0, "{COUNTED} was never called");
        if cfg!(target_arch = "x86_64") {
            assert!(each <= bound, "{corefile}: {each} instructions per answer, over {bound}");
        }
    }
}

/// The instructions of all answers in a run of `answers`.
fn count(binary: &Path, corefile: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(binary)
        .arg(QUERY_COUNT.to_string())
        .arg(corefile)
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
