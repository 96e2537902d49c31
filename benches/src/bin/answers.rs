//! Answers N queries for Services' addresses and does nothing else: the program that
//! `tests/instructions.rs` runs under callgrind.
//!
//! `answers N [k3s|gardener]`: with the stock Corefile, with k3s's, which has `hosts` in front, or
//! with Gardener's, which has `rewrite`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use benches::{Cluster, GARDENER_LINES, K3S_LINES, Kind};

/// Number of different queries, so that no single one dominates the count.
const QUERY_COUNT: usize = 1000;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (count, lines) = match args.as_slice() {
        [count] => (count.parse::<usize>(), ""),
        [count, "k3s"] => (count.parse(), K3S_LINES),
        [count, "gardener"] => (count.parse(), GARDENER_LINES),
        _ => ("".parse(), ""),
    };
    let Ok(count) = count else {
        eprintln!("usage: answers N [k3s|gardener]");
        return ExitCode::from(2);
    };
    let mut cluster = Cluster::new(lines);
    let queries: Vec<Vec<u8>> = (0..QUERY_COUNT).map(|index| Kind::AHit.query(index)).collect();
    for query in queries.iter().cycle().take(count) {
        Kind::AHit.check(cluster.answer(query));
    }
    ExitCode::SUCCESS
}
