//! The sending loop against a simulated server in simulated time: no socket, no sleep, the same
//! figures each time.
//!
//! These tests check percentiles, losses and late sends within 2 %; `tests/behaviour/truth.rs`
//! checks lower bounds over real sockets, where a busy machine adds to the server's delay.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use domain::base::Rtype;

use super::{BATCH, Carrier, Clock, Driver, Pace, Share, run};
use crate::collect::{Totals, collect};
use crate::flight::Flight;
use crate::schedule::{NANOS_PER_SEC, Rate, Schedule, Spacing};
use crate::tally::recorders;
use crate::transport::{Mode, Transport};
use crate::workload::{Options, Question, Workload};

/// How much each read of the clock advances it.
pub(super) const READ_NS: u64 = 2_000;
const MILLI: u64 = 1_000_000;

/// A server with a fixed delay, a stall in the middle of each second, and a loss rate.
struct Server {
    now_ns: &'static AtomicU64,
    flight: Flight,
    delay_ns: u64,
    stall_ns: u64,
    drop_every: u64,
    count: u64,
    /// (departure time, response), in order.
    responses: VecDeque<(u64, Vec<u8>)>,
}

impl Server {
    fn leaves_ns(&self, came_ns: u64) -> u64 {
        let due_ns = came_ns + self.delay_ns;
        let stall = NANOS_PER_SEC / 2..NANOS_PER_SEC / 2 + self.stall_ns;
        let into_ns = due_ns % NANOS_PER_SEC;
        if stall.contains(&into_ns) { due_ns + stall.end - into_ns } else { due_ns }
    }
}

impl Carrier for Server {
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize {
        let mut sent = 0;
        while sent < BATCH {
            let Some(due) = driver.take_due(Transport::Udp, now_ns) else { break };
            let message = driver.workload().message(due.query);
            let id =
                self.flight.reserve(due.query, due.intended_ns).expect("the window is smaller");
            driver.outstanding += 1;
            driver.count_sent(Transport::Udp, due, now_ns, message.bytes.len());
            sent += 1;
            self.count += 1;
            if self.drop_every != 0 && self.count.is_multiple_of(self.drop_every) {
                continue;
            }
            let mut response = message.bytes.to_vec();
            response[..2].copy_from_slice(&id.to_be_bytes());
            response[2] |= 0x80;
            self.responses.push_back((self.leaves_ns(now_ns), response));
        }
        sent
    }

    fn receive(&mut self, driver: &mut Driver<'_>) -> usize {
        let now_ns = self.now_ns.load(Ordering::Relaxed);
        let mut received = 0;
        while received < BATCH
            && self.responses.front().is_some_and(|(leaves_ns, _)| *leaves_ns <= now_ns)
        {
            let (_, response) = self.responses.pop_front().expect("seen above");
            driver.take_response(Transport::Udp, &mut self.flight, &response, now_ns);
            received += 1;
        }
        received
    }

    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64) {
        driver.expire(Transport::Udp, &mut self.flight, deadline_ns);
    }

    fn own_drops(&self) -> u64 {
        0
    }

    fn wait(&mut self, timeout_ns: u64) {
        let now_ns = self.now_ns.load(Ordering::Relaxed);
        let response_ns = self.responses.front().map_or(u64::MAX, |(leaves_ns, _)| *leaves_ns);
        self.now_ns.store(response_ns.clamp(now_ns, now_ns + timeout_ns), Ordering::Relaxed);
    }
}

struct Case {
    rate: Option<&'static str>,
    outstanding_max: u32,
    delay_ns: u64,
    stall_ns: u64,
    drop_every: u64,
    secs: u64,
}

fn simulate(case: &Case) -> Totals {
    let now_ns: &'static AtomicU64 = Box::leak(Box::default());
    let mut workload = Workload::default();
    workload
        .push(&Question { name: "a.example".parse().unwrap(), rtype: Rtype::A }, Options::default())
        .unwrap();
    let stop = AtomicBool::new(false);
    let pace = match case.rate {
        Some(rate) => {
            Pace::Open(Schedule::new(&rate.parse::<Rate>().unwrap(), Spacing::Constant, 0, 1, 1))
        }
        None => Pace::Closed,
    };
    let share = Share {
        clock: Clock::Simulated(now_ns),
        workload: &workload,
        pace,
        outstanding_max: case.outstanding_max,
        index: 0,
        count: 1,
        sends_max: u64::MAX,
        end_ns: case.secs * NANOS_PER_SEC,
        timeout_ns: NANOS_PER_SEC,
        late_after_ns: MILLI,
        mode: Mode::One(Transport::Udp),
        seed: 1,
        spin: false,
        stop: &stop,
    };
    let server = Server {
        now_ns,
        flight: Flight::new(case.outstanding_max as usize, 1 << 16),
        delay_ns: case.delay_ns,
        stall_ns: case.stall_ns,
        drop_every: case.drop_every,
        count: 0,
        responses: VecDeque::new(),
    };
    let (mut recorders, intervals) = recorders(1);
    let driver = Driver::new(share, recorders.remove(0));
    std::thread::scope(|scope| {
        scope.spawn(move || run(server, driver));
        collect(&intervals, 1, |_| {})
    })
}

fn assert_within_two_percent(name: &str, got: u64, expected: u64) {
    let ratio = got as f64 / expected as f64;
    assert!((ratio - 1.0).abs() <= 0.02, "{name}: {got} for {expected}");
}

const OPEN: Case = Case {
    rate: Some("10k"),
    outstanding_max: 30_000,
    delay_ns: 0,
    stall_ns: 0,
    drop_every: 0,
    secs: 10,
};

#[test]
fn a_fixed_delay_shows_in_every_percentile() {
    let totals = simulate(&Case { delay_ns: 5 * MILLI, ..OPEN });
    let latency = totals.latency();
    assert_eq!((totals.counts().sent, latency.len()), (100_000, 100_000));
    for quantile in [0.0, 0.5, 0.99, 0.9999, 1.0] {
        assert_within_two_percent("latency", latency.value_at_quantile(quantile), 5 * MILLI);
    }
    assert_eq!((totals.counts().sent_late, totals.counts().unsent), (0, 0));
}

#[test]
fn an_open_loop_shows_a_stall_and_a_closed_one_hides_it() {
    // A tenth of the send times fall into the stall and wait for the rest of its 100 ms.
    let stalled = Case { delay_ns: MILLI, stall_ns: 100 * MILLI, ..OPEN };
    let open = simulate(&stalled).latency();
    assert_eq!(open.len(), 100_000);
    assert_within_two_percent("p50", open.value_at_quantile(0.5), MILLI);
    assert_within_two_percent("p95", open.value_at_quantile(0.95), 51 * MILLI);
    assert_within_two_percent("p99", open.value_at_quantile(0.99), 91 * MILLI);
    assert_within_two_percent("p99.9", open.value_at_quantile(0.999), 100 * MILLI);
    let closed = simulate(&Case { rate: None, outstanding_max: 10, ..stalled }).latency();
    assert_within_two_percent("closed p99", closed.value_at_quantile(0.99), MILLI);
}

#[test]
fn losing_one_in_a_hundred_is_one_percent() {
    let totals = simulate(&Case { delay_ns: MILLI, drop_every: 100, ..OPEN });
    assert_eq!((totals.counts().sent, totals.counts().timed_out), (100_000, 1_000));
    assert_eq!(totals.counts().answered_total(), 99_000);
}

#[test]
fn a_full_window_makes_sends_late() {
    // Of the 1000 sends of each stall, the first 100 fill the window. The others leave when it
    // ends; those of its last millisecond are less than a millisecond late.
    let totals = simulate(&Case { outstanding_max: 100, stall_ns: 100 * MILLI, ..OPEN });
    assert_within_two_percent("late sends", totals.counts().sent_late, 10 * 890);
    assert_eq!((totals.counts().sent, totals.counts().unsent), (100_000, 0));
    assert_within_two_percent("longest lag", totals.lag.max(), 90 * MILLI);
}

#[test]
fn a_server_that_never_answers_ends_the_run() {
    let totals = simulate(&Case { drop_every: 1, outstanding_max: 100, secs: 2, ..OPEN });
    let counts = totals.counts();
    assert_eq!((counts.answered_total(), counts.timed_out), (0, counts.sent));
    assert_eq!(counts.sent + counts.unsent, 20_000, "{counts:?}");
}
