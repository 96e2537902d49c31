//! How soon an effect follows a change: one measurement, and the distribution of many.

use std::fmt;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::ask::{Transport, over_udp};
use crate::question::Question;
use crate::server::Server;

/// When waiting ends: a change that has not shown by then is lost, not late.
const LOST: Duration = Duration::from_secs(5);

/// Queries without a pause until `is_right`, and returns how long that took. The clock starts here,
/// so call it when the API server has responded.
pub fn until(server: &Server, question: &Question, is_right: impl Fn(&Answer) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let answer = server.ask(question, Transport::Udp);
        let answer = answer.unwrap_or_else(|error| panic!("{question}: {error}"));
        let delay = began.elapsed();
        if is_right(&answer) {
            return delay;
        }
        assert!(delay < LOST, "no change after {LOST:?}: {question} is {answer:?}");
    }
}

/// When the first right answer came, from the start of the clock.
pub struct Answered {
    /// The query for it was sent. From then on it is the latency of any query.
    pub asked_after: Duration,
    pub after: Duration,
}

/// The same for a server under load: a query without a response after `limit` is repeated.
pub fn until_despite_losses(
    server: &Server,
    question: &Question,
    limit: Duration,
    is_right: impl Fn(&Answer) -> bool,
) -> Answered {
    let began = Instant::now();
    loop {
        let asked_after = began.elapsed();
        let answer = over_udp(server.address(), question, limit);
        let after = began.elapsed();
        if answer.as_ref().is_ok_and(&is_right) {
            return Answered { asked_after, after };
        }
        assert!(after < LOST, "no change after {LOST:?}: {question} is {answer:?}");
    }
}

/// Delays in ascending order; at least one.
pub struct Delays(Vec<Duration>);

impl Delays {
    pub fn new(mut delays: Vec<Duration>) -> Self {
        assert!(!delays.is_empty(), "a distribution needs a value");
        delays.sort();
        Self(delays)
    }

    pub fn at(&self, percent: usize) -> Duration {
        self.at_per_mille(percent * 10)
    }

    pub fn at_per_mille(&self, per_mille: usize) -> Duration {
        self.0[(self.0.len() - 1) * per_mille / 1_000]
    }

    pub fn count_above(&self, limit: Duration) -> usize {
        self.0.iter().filter(|delay| **delay > limit).count()
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, p50, p99, max] =
            [0, 50, 99, 100].map(|percent| self.at(percent).as_secs_f64() * 1_000.0);
        write!(f, "min {min:.2} p50 {p50:.2} p99 {p99:.2} max {max:.2} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let delays = Delays::new((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(
            [0, 50, 99, 100].map(|percent| delays.at(percent).as_millis()),
            [1, 51, 100, 101]
        );
        assert_eq!(delays.count_above(Duration::from_millis(100)), 1);
        assert_eq!(delays.to_string(), "min 1.00 p50 51.00 p99 100.00 max 101.00 ms");
    }
}
