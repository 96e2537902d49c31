//! Answers N queries for Services' addresses and does nothing else: the program that
//! `tests/instructions.rs` runs under callgrind.
//!
//! `answers N`
#![forbid(unsafe_code)]

use std::process::ExitCode;

use benches::{Cluster, Kind};

/// Number of different queries, so that no single one dominates the count.
const QUERY_COUNT: usize = 1000;

fn main() -> ExitCode {
    let Some(count) = std::env::args().nth(1).and_then(|count| count.parse::<usize>().ok()) else {
        eprintln!("usage: answers N");
        return ExitCode::from(2);
    };
    let mut cluster = Cluster::default();
    let queries: Vec<Vec<u8>> = (0..QUERY_COUNT).map(|index| Kind::AHit.query(index)).collect();
    for query in queries.iter().cycle().take(count) {
        Kind::AHit.check(cluster.answer(query));
    }
    ExitCode::SUCCESS
}
