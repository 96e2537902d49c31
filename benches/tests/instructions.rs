//! Counts the user-space instructions of one answer with callgrind: the same in every run, however
//! busy the machine.
//!
//! `Cluster::answer_received` goes from the packet in its buffer to the response in it, without the
//! counters. An exchange over TCP is all that a shard does for what it has read of a connection, up
//! to the write. It needs the release binary: `cargo test --release -p benches --test
//! instructions`.
#![forbid(unsafe_code)]

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
/// The functions that are counted, from entry to exit.
const COUNTED: &str = "benches::Cluster::answer_received";
const EXCHANGE: &str = "engine::tcp::connection::ClientConnection*exchange*";
/// The same bound for a query's share of an exchange over TCP that reads 64, with the stock
/// Corefile. Count when it was set: 618.
const EXCHANGE_BOUND: u64 = 650;
const QUERY_COUNT: u64 = 20_480;

#[test]
fn an_answer_costs_no_more_than_its_bound() {
    if !can_count() {
        return;
    }
    for (corefile, bound) in BOUNDS {
        let corefile = corefile.as_str();
        let each = count(env!("CARGO_BIN_EXE_answers"), &[corefile], COUNTED);
        println!(
            "instructions: {each} for an A answer with the {corefile} Corefile; bound {bound}"
        );
        if cfg!(target_arch = "x86_64") {
            assert!(each <= bound, "{corefile}: {each} instructions per answer, over {bound}");
        }
    }
}

#[test]
fn an_answer_over_tcp_costs_no_more_than_its_bound() {
    if !can_count() {
        return;
    }
    let each = count(env!("CARGO_BIN_EXE_pipelined"), &[], EXCHANGE);
    println!("instructions: {each} for an A answer over TCP, 64 at a time; bound {EXCHANGE_BOUND}");
    if cfg!(target_arch = "x86_64") {
        assert!(each <= EXCHANGE_BOUND, "{each} instructions per answer, over {EXCHANGE_BOUND}");
    }
}

/// Whether instructions can be counted here; says so if not.
fn can_count() -> bool {
    if cfg!(debug_assertions) {
        eprintln!(
            "instructions: !!! NOT A RELEASE BUILD: the instructions of an answer ARE NOT COUNTED. \
             Run 'cargo test --release -p benches --test instructions'."
        );
        return false;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!(
            "instructions: !!! VALGRIND IS MISSING: the instructions of an answer ARE NOT COUNTED. \
             Install valgrind and run 'cargo test --release -p benches --test instructions' again."
        );
        return false;
    }
    true
}

/// The instructions of one answer in this function, in a run of this program.
fn count(binary: &str, args: &[&str], function: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={function}"))
        .arg(binary)
        .arg(QUERY_COUNT.to_string())
        .args(args)
        .output()
        .expect("valgrind can be started");
    let report = String::from_utf8_lossy(&output.stderr);
    let collected: Option<u64> =
        report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(0) => panic!("{function} was never called"),
        Some(instructions) if output.status.success() => instructions.div_ceil(QUERY_COUNT),
        _ => panic!("valgrind {}: {report}", output.status),
    }
}
