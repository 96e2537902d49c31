//! Answers N questions of a Service's address, and nothing else: what `tests/instructions.rs` counts the instructions of.
//!
//! `answers N`
#![forbid(unsafe_code)]

use std::process::ExitCode;

use benches::{Cluster, Kind};

/// Different questions, so that no one of them is all that is counted.
const QUESTION_COUNT: usize = 1000;

fn main() -> ExitCode {
    let Some(count) = std::env::args().nth(1).and_then(|count| count.parse::<usize>().ok()) else {
        eprintln!("usage: answers N");
        return ExitCode::from(2);
    };
    let mut cluster = Cluster::default();
    let questions: Vec<Vec<u8>> =
        (0..QUESTION_COUNT).map(|index| Kind::AHit.question(index)).collect();
    for question in questions.iter().cycle().take(count) {
        Kind::AHit.check(cluster.answer(question));
    }
    ExitCode::SUCCESS
}
