//! Steady queries about the cluster, to see whether something else slows them down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::ask::over_udp;
use crate::delays::Delays;
use crate::question::Question;

/// How long a response may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Queries that repeat until [`Pulse::end`].
pub struct Pulse {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Pulse {
    /// Sends one query every `period`. The response must be NOERROR with records.
    pub fn start(server: SocketAddr, question: Question, period: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut delays = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                // Counted from the intended send time: a slow response also delays the next query.
                let due = began + period * u32::try_from(delays.len()).expect("a short test");
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let answer = over_udp(server, &question, LIMIT)
                    .unwrap_or_else(|error| panic!("{question}: {error}"));
                assert!(answer.rcode == "NOERROR" && !answer.answer.is_empty(), "{answer:?}");
                delays.push(due.elapsed());
            }
            delays
        });
        Self { stop, thread }
    }

    /// How long the responses took.
    pub fn end(self) -> Delays {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(delays) => Delays::new(delays),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
