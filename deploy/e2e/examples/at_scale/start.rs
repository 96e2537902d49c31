//! Starts, each server in turn: time to the first right answers, what they cost, and the memory.

use std::time::{Duration, Instant};

use e2e::server::Kind;

use crate::scene::{KINDS, SETTLED, Scene};
use crate::table::Row;

/// One start of a server.
#[derive(Clone, Copy, Debug)]
struct Start {
    answered: Duration,
    /// Queries that were neither refused nor answered.
    lost_count: usize,
    cpu_time: Duration,
    api_server_cpu_time: Duration,
    resident_kib: u64,
    resident_settled_kib: u64,
}

/// One more start before the `rounds` warms the API server's caches.
pub(crate) fn measure(scene: &Scene, rounds: usize) -> Vec<Row> {
    let mut starts: [Vec<Start>; 2] = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for (kind, of_kind) in KINDS.into_iter().zip(&mut starts) {
            let start = start(scene, kind);
            let word = if round == 0 { "not counted" } else { "" };
            println!("start {round}: {kind:?} {start:.3?} {word}");
            if round > 0 {
                of_kind.push(start);
            }
        }
    }
    let lost = [&starts[0], &starts[1]]
        .map(|starts| starts.iter().map(|start| start.lost_count).sum::<usize>().to_string());
    let durations = |of: fn(&Start) -> Duration| {
        [&starts[0], &starts[1]].map(|starts| starts.iter().map(of).collect())
    };
    let kib = |of: fn(&Start) -> u64| {
        [&starts[0], &starts[1]].map(|starts| starts.iter().map(of).collect())
    };
    vec![
        Row::millis("start, first right answers", durations(|start| start.answered)),
        Row::new("queries lost in all starts", lost),
        Row::millis("CPU of the server until then", durations(|start| start.cpu_time)),
        Row::millis(
            "CPU of the API server until then",
            durations(|start| start.api_server_cpu_time),
        ),
        Row::mebibytes("resident then", kib(|start| start.resident_kib)),
        Row::mebibytes("resident, settled", kib(|start| start.resident_settled_kib)),
    ]
}

fn start(scene: &Scene, kind: Kind) -> Start {
    let api_server_before = scene.cluster.api_server_cpu_time();
    let began = Instant::now();
    let (server, lost_count) = scene.launch(kind, &scene.corefile);
    let answered = began.elapsed();
    let (cpu_time, resident_kib) = (server.cpu_time(), server.resident_kib());
    let api_server_cpu_time = scene.cluster.api_server_cpu_time() - api_server_before;
    scene.check(&server);
    std::thread::sleep(SETTLED);
    let resident_settled_kib = server.resident_kib();
    Start {
        answered,
        lost_count,
        cpu_time,
        api_server_cpu_time,
        resident_kib,
        resident_settled_kib,
    }
}
