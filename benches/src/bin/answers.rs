//! Answers N queries for Services' addresses and does nothing else: the program that
//! `tests/instructions.rs` runs under callgrind.
//!
//! `answers N COREFILE`: the Corefile is stock, k3s (`hosts` comes first), gardener (`rewrite`
//! does), or nodelocal (the answers are cached).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use benches::{Cluster, Corefile, Kind};

/// Number of different queries, so that no single one dominates the count.
const QUERY_COUNT: usize = 1000;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let known = |name: &String| Corefile::ALL.into_iter().find(|known| known.as_str() == *name);
    let (Some(Ok(count)), Some(corefile)) =
        (args.first().map(|count| count.parse()), args.get(1).and_then(known))
    else {
        let known = Corefile::ALL.map(Corefile::as_str).join("|");
        eprintln!("usage: answers N {known}");
        return ExitCode::from(2);
    };
    let mut cluster = Cluster::new(corefile);
    let queries: Vec<Vec<u8>> = (0..QUERY_COUNT).map(|index| Kind::AHit.query(index)).collect();
    for query in queries.iter().cycle().take(count) {
        Kind::AHit.check(cluster.answer(query));
    }
    ExitCode::SUCCESS
}
