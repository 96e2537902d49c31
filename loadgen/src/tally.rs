//! What is counted, and how a second's counts get from a sending thread to the collector.
//!
//! A thread fills one `Interval` while the collector holds another; at the end of a second they
//! swap them over bounded channels. Nothing is allocated, and a slow collector makes intervals
//! longer, never wrong.

use crossbeam_channel::{Receiver, Sender, bounded};
use hdrhistogram::{Counter, Histogram};

use crate::rcode::RCODE_CLASSES;
use crate::schedule::NANOS_PER_SEC;
use crate::transport::Transport;

/// Longest latency recorded: greater values count as this. `plan` keeps timeouts below it.
pub const LATENCY_NS_MAX: u64 = 60 * NANOS_PER_SEC;
/// Three significant figures: a reported value is within 0.1 % of the measured one.
const SIGNIFICANT_FIGURES: u8 = 3;
/// Intervals per thread: one being filled, one with the collector, one in transit.
const INTERVAL_COUNT: usize = 3;

/// A histogram with the one fixed range, so that recording never allocates. One second's counts fit
/// 32 bits, sums do not.
pub fn histogram<C: Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_FIGURES)
        .expect("constant bounds are valid")
}

/// Forgets what was recorded. A histogram has 200 KiB, and most are empty.
fn clear<C: Counter>(histogram: &mut Histogram<C>) {
    if !histogram.is_empty() {
        histogram.reset();
    }
}

/// Event counters, each incremented where the event happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub sent: u64,
    pub sent_bytes: u64,
    /// Part of `sent`: left later than intended by more than the limit.
    pub sent_late: u64,
    /// Never sent: still waiting at the end of the run (open loop only), or left out after errors
    /// while sending.
    pub unsent: u64,
    /// Expected responses, by rcode.
    pub answered: [u64; 16],
    pub answered_bytes: u64,
    /// Part of `answered`: with the TC bit.
    pub truncated: u64,
    /// Part of `answered`: the question came back in different case.
    pub other_case: u64,
    /// Part of `answered`: without a question.
    pub question_left_out: u64,
    pub timed_out: u64,
    /// Responses to queries that were already answered.
    pub duplicates: u64,
    /// Responses after the timeout.
    pub late_answers: u64,
    pub wrong_id: u64,
    pub wrong_question: u64,
    /// Shorter than a header, not a response, or a frame with a wrong length.
    pub garbage: u64,
    /// Responses dropped because our own socket buffers were full.
    pub own_drops: u64,
    /// Part of `answered`, with `--verify`: as expected, and not as expected.
    pub verified: u64,
    pub verify_failed: u64,
    /// ICMP port unreachable, or a TCP connection refused.
    pub refused: u64,
    /// Other errors while sending.
    pub send_errors: u64,
    /// TCP connections made, and connections lost while responses were expected.
    pub connects: u64,
    pub connections_lost: u64,
}

impl Counts {
    pub fn answered_total(&self) -> u64 {
        self.answered.iter().sum()
    }

    /// Queries of a whole run that were neither answered nor lost: a signal has ended it.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered_total() + self.timed_out)
    }

    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.sent_late += other.sent_late;
        self.unsent += other.unsent;
        for (sum, count) in self.answered.iter_mut().zip(other.answered) {
            *sum += count;
        }
        self.answered_bytes += other.answered_bytes;
        self.truncated += other.truncated;
        self.other_case += other.other_case;
        self.question_left_out += other.question_left_out;
        self.timed_out += other.timed_out;
        self.duplicates += other.duplicates;
        self.late_answers += other.late_answers;
        self.wrong_id += other.wrong_id;
        self.wrong_question += other.wrong_question;
        self.garbage += other.garbage;
        self.own_drops += other.own_drops;
        self.verified += other.verified;
        self.verify_failed += other.verify_failed;
        self.refused += other.refused;
        self.send_errors += other.send_errors;
        self.connects += other.connects;
        self.connections_lost += other.connections_lost;
    }
}

/// What was counted over one transport.
#[derive(Clone, Debug)]
pub struct Recorded<C: Counter> {
    pub counts: Counts,
    /// Indexed by `RCODE_CLASSES`; from the intended send time to the response.
    pub latency: [Histogram<C>; RCODE_CLASSES.len()],
}

impl<C: Counter> Recorded<C> {
    pub fn new() -> Self {
        Self { counts: Counts::default(), latency: std::array::from_fn(|_| histogram()) }
    }

    fn clear(&mut self) {
        self.counts = Counts::default();
        self.latency.iter_mut().for_each(clear);
    }
}

impl<C: Counter> Default for Recorded<C> {
    fn default() -> Self {
        Self::new()
    }
}

/// One thread's counts over about a second.
pub struct Interval {
    pub thread: usize,
    pub start_ns: u64,
    pub end_ns: u64,
    /// Time of the last send or receive, or the end of the sending if time ended it; waiting for
    /// timeouts is not part of a rate.
    pub last_ns: u64,
    /// The thread has ended.
    pub is_last: bool,
    /// It has ended early, since the server could not be reached.
    pub gave_up: bool,
    /// Indexed by `Transport::index`.
    pub by_transport: [Recorded<u32>; Transport::COUNT],
    /// From the intended to the actual send time (open loop only).
    pub lag: Histogram<u32>,
    /// The first answer that failed `--verify`: its message and rcode.
    pub verify_failure: Option<(u32, u8)>,
    /// Time in loop rounds that sent or received something.
    pub busy_ns: u64,
    /// The thread's CPU time.
    pub cpu_ns: u64,
}

impl Interval {
    fn new(thread: usize) -> Self {
        Self {
            thread,
            start_ns: 0,
            end_ns: 0,
            last_ns: 0,
            is_last: false,
            gave_up: false,
            by_transport: std::array::from_fn(|_| Recorded::new()),
            lag: histogram(),
            verify_failure: None,
            busy_ns: 0,
            cpu_ns: 0,
        }
    }

    fn clear(&mut self) {
        self.last_ns = 0;
        self.is_last = false;
        self.gave_up = false;
        self.by_transport.iter_mut().for_each(Recorded::clear);
        clear(&mut self.lag);
        self.verify_failure = None;
        self.busy_ns = 0;
        self.cpu_ns = 0;
    }
}

/// The collector's end of all threads' channels.
pub struct Intervals {
    /// Closes when the last thread has ended.
    pub filled: Receiver<Box<Interval>>,
    emptied: Vec<Sender<Box<Interval>>>,
}

impl Intervals {
    /// Returns an interval to its thread.
    pub fn give_back(&self, mut interval: Box<Interval>) {
        interval.clear();
        // Fails only if the thread has ended and no longer needs it.
        let _ = self.emptied[interval.thread].try_send(interval);
    }
}

/// The thread's end, with the interval that it is filling.
pub struct Recorder {
    pub current: Box<Interval>,
    filled: Sender<Box<Interval>>,
    emptied: Receiver<Box<Interval>>,
    next_end_ns: u64,
    cpu_start_ns: u64,
}

/// A recorder per thread and the collector's end, with all intervals allocated up front.
pub fn recorders(thread_count: usize) -> (Vec<Recorder>, Intervals) {
    let (filled, filled_end) = bounded(INTERVAL_COUNT * thread_count);
    let mut recorders = Vec::with_capacity(thread_count);
    let mut emptied_ends = Vec::with_capacity(thread_count);
    for thread in 0..thread_count {
        let (emptied_end, emptied) = bounded(INTERVAL_COUNT);
        for _ in 1..INTERVAL_COUNT {
            emptied_end
                .try_send(Box::new(Interval::new(thread)))
                .expect("the channel holds all intervals");
        }
        recorders.push(Recorder {
            current: Box::new(Interval::new(thread)),
            filled: filled.clone(),
            emptied,
            next_end_ns: NANOS_PER_SEC,
            cpu_start_ns: 0,
        });
        emptied_ends.push(emptied_end);
    }
    (recorders, Intervals { filled: filled_end, emptied: emptied_ends })
}

impl Recorder {
    /// Starts counting; `cpu_ns` is the thread's CPU time so far.
    pub fn start(&mut self, cpu_ns: u64) {
        self.cpu_start_ns = cpu_ns;
    }

    pub fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.next_end_ns
    }

    /// Hands over the interval, or keeps filling it if the collector has not returned one yet.
    pub fn hand_over(&mut self, now_ns: u64, cpu_ns: u64) {
        self.next_end_ns = (now_ns / NANOS_PER_SEC + 1) * NANOS_PER_SEC;
        let Ok(mut next) = self.emptied.try_recv() else { return };
        next.start_ns = now_ns;
        std::mem::swap(&mut self.current, &mut next);
        next.end_ns = now_ns;
        next.cpu_ns = cpu_ns - self.cpu_start_ns;
        self.cpu_start_ns = cpu_ns;
        let sent = self.filled.try_send(next);
        debug_assert!(sent.is_ok(), "the channel holds all intervals");
    }

    /// The final hand-over, when the thread ends.
    pub fn finish(mut self, now_ns: u64, cpu_ns: u64) {
        self.current.end_ns = now_ns;
        self.current.is_last = true;
        self.current.cpu_ns = cpu_ns - self.cpu_start_ns;
        // Fails only if the collector is gone.
        let _ = self.filled.try_send(self.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_collector_makes_intervals_longer_and_loses_nothing() {
        let (mut recorders, intervals) = recorders(1);
        let mut recorder = recorders.remove(0);
        recorder.start(0);
        for second in 1..=10u64 {
            recorder.current.by_transport[0].counts.sent += second;
            recorder.hand_over(second * NANOS_PER_SEC, second);
        }
        recorder.finish(11 * NANOS_PER_SEC, 11);
        let got: Vec<_> = intervals.filled.try_iter().collect();
        assert_eq!(got.iter().map(|i| i.by_transport[0].counts.sent).sum::<u64>(), 55);
        assert_eq!(got.iter().map(|i| i.cpu_ns).sum::<u64>(), 11);
        assert!(got.windows(2).all(|pair| pair[0].end_ns == pair[1].start_ns));
        assert_eq!(got.len(), INTERVAL_COUNT);
    }

    #[test]
    fn add_sums_every_field() {
        let one = Counts {
            sent: 1,
            sent_bytes: 2,
            sent_late: 3,
            unsent: 33,
            answered: [4; 16],
            answered_bytes: 5,
            truncated: 6,
            other_case: 7,
            question_left_out: 8,
            timed_out: 9,
            duplicates: 10,
            late_answers: 11,
            wrong_id: 12,
            wrong_question: 13,
            garbage: 14,
            own_drops: 34,
            verified: 15,
            verify_failed: 16,
            refused: 17,
            send_errors: 18,
            connects: 19,
            connections_lost: 20,
        };
        let mut sum = Counts::default();
        sum.add(&one);
        assert_eq!(sum, one);
    }

    #[test]
    fn latencies_above_the_range_count_as_its_maximum() {
        let mut histogram = histogram::<u32>();
        histogram.saturating_record(10 * LATENCY_NS_MAX);
        assert_eq!(histogram.len(), 1);
        assert!(histogram.max() >= LATENCY_NS_MAX);
    }
}
