//! Merges the threads' intervals into the totals of the run and the figures of each second.

use hdrhistogram::Histogram;

use crate::schedule::NANOS_PER_SEC;
use crate::tally::{Counts, Interval, Intervals, Recorded, histogram};
use crate::transport::Transport;

/// Failures of `--verify` that are shown; all are counted.
const VERIFY_FAILURE_COUNT_MAX: usize = 10;

/// What one thread spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThreadUse {
    /// From the start of the run to the last send or receive, or to the end of the sending if time
    /// ended it: one query in a second that is answered at once is a rate of one per second.
    pub run_ns: u64,
    /// Time in loop rounds that sent or received something.
    pub busy_ns: u64,
    pub cpu_ns: u64,
    /// From the start of the run to the end of the thread, including the wait for lost queries: the
    /// time over which `cpu_ns` was spent.
    pub whole_ns: u64,
}

/// One second of the run, all threads together.
pub struct Second {
    /// Counted from the start of the run.
    pub index: u64,
    pub start_ns: u64,
    pub end_ns: u64,
    pub counts: Counts,
    pub latency: Histogram<u64>,
}

/// What has been measured so far.
pub struct Totals {
    /// Indexed by `Transport::index`.
    pub by_transport: [Recorded<u64>; Transport::COUNT],
    pub lag: Histogram<u64>,
    pub threads: Vec<ThreadUse>,
    /// Some thread has ended early, since the server could not be reached.
    pub gave_up: bool,
    /// Some of the answers that failed `--verify`: message and rcode.
    pub verify_failures: Vec<(u32, u8)>,
}

impl Totals {
    pub fn new(thread_count: usize) -> Self {
        Self {
            by_transport: std::array::from_fn(|_| Recorded::new()),
            lag: histogram(),
            threads: vec![ThreadUse::default(); thread_count],
            gave_up: false,
            verify_failures: Vec::new(),
        }
    }

    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.by_transport.iter().for_each(|one| all.add(&one.counts));
        all
    }

    /// How long the run was; 0 if nothing was sent, since there is nothing to divide by it.
    pub fn run_ns(&self) -> u64 {
        match self.counts().sent {
            0 => 0,
            _ => self.threads.iter().map(|thread| thread.run_ns).max().unwrap_or(0),
        }
    }

    /// Latencies of all responses.
    pub fn latency(&self) -> Histogram<u64> {
        sum(self.by_transport.iter().flat_map(|one| &one.latency))
    }

    /// Latencies of one of `RCODE_CLASSES`.
    pub fn latency_of_rcode(&self, class: usize) -> Histogram<u64> {
        sum(self.by_transport.iter().map(|one| &one.latency[class]))
    }

    /// Latencies over one transport.
    pub fn latency_over(&self, transport: Transport) -> Histogram<u64> {
        sum(&self.by_transport[transport.index()].latency)
    }

    fn add(&mut self, interval: &Interval) {
        for (sum, one) in self.by_transport.iter_mut().zip(&interval.by_transport) {
            sum.counts.add(&one.counts);
            for (sum, one) in sum.latency.iter_mut().zip(&one.latency) {
                add(sum, one);
            }
        }
        add(&mut self.lag, &interval.lag);
        self.gave_up |= interval.gave_up;
        if self.verify_failures.len() < VERIFY_FAILURE_COUNT_MAX {
            self.verify_failures.extend(interval.verify_failure);
        }
        let thread = &mut self.threads[interval.thread];
        thread.run_ns = thread.run_ns.max(interval.last_ns);
        thread.busy_ns += interval.busy_ns;
        thread.cpu_ns += interval.cpu_ns;
        thread.whole_ns = thread.whole_ns.max(interval.end_ns);
    }
}

fn sum<'h>(histograms: impl IntoIterator<Item = &'h Histogram<u64>>) -> Histogram<u64> {
    let mut all = histogram();
    for one in histograms {
        all.add(one).expect("one range");
    }
    all
}

/// Adds one second's 32-bit histogram to a 64-bit sum; `Histogram::add` does not mix the two.
fn add(sum: &mut Histogram<u64>, one: &Histogram<u32>) {
    if one.is_empty() {
        // Most are, and the iterator would look at all of their counts.
        return;
    }
    for value in one.iter_recorded() {
        sum.saturating_record_n(value.value_iterated_to(), u64::from(value.count_at_value()));
    }
}

/// Receives intervals until the last thread has ended. Calls `each_second` once for each second, in
/// order, as soon as all threads have left it.
pub fn collect(
    intervals: &Intervals,
    thread_count: usize,
    mut each_second: impl FnMut(&Second),
) -> Totals {
    let mut totals = Totals::new(thread_count);
    // Seconds that some thread may still add to.
    let mut open: Vec<Second> = Vec::new();
    // Up to when each thread has handed over its counts; `u64::MAX`: it has ended.
    let mut handed_over_ns = vec![0; thread_count];
    while let Ok(interval) = intervals.filled.recv() {
        totals.add(&interval);
        let index = interval.start_ns / NANOS_PER_SEC;
        let second = match open.iter_mut().position(|second| second.index == index) {
            Some(at) => &mut open[at],
            None => {
                open.push(Second::new(index, &interval));
                open.last_mut().expect("just pushed")
            }
        };
        second.add(&interval);
        handed_over_ns[interval.thread] = if interval.is_last { u64::MAX } else { interval.end_ns };
        intervals.give_back(interval);
        let complete_ns = handed_over_ns.iter().copied().min().unwrap_or(0);
        report_until(complete_ns, &mut open, &mut each_second);
    }
    report_until(u64::MAX, &mut open, &mut each_second);
    totals
}

/// Reports the seconds that end by `end_ns`.
fn report_until(end_ns: u64, open: &mut Vec<Second>, each_second: &mut impl FnMut(&Second)) {
    open.sort_unstable_by_key(|second| second.index);
    let count = open.partition_point(|second| (second.index + 1) * NANOS_PER_SEC <= end_ns);
    open.drain(..count).for_each(|second| each_second(&second));
}

impl Second {
    fn new(index: u64, interval: &Interval) -> Self {
        Self {
            index,
            start_ns: interval.start_ns,
            end_ns: interval.end_ns,
            counts: Counts::default(),
            latency: histogram(),
        }
    }

    fn add(&mut self, interval: &Interval) {
        self.end_ns = self.end_ns.max(interval.end_ns);
        for over in &interval.by_transport {
            self.counts.add(&over.counts);
            for one in &over.latency {
                add(&mut self.latency, one);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tally::recorders;

    #[test]
    fn seconds_come_in_order_and_sum_to_the_whole() {
        let (recorders, intervals) = recorders(2);
        std::thread::scope(|scope| {
            for (thread, mut recorder) in recorders.into_iter().enumerate() {
                scope.spawn(move || {
                    recorder.start(0);
                    for second in 1..=5u64 {
                        recorder.current.by_transport[thread].counts.sent += 10 + thread as u64;
                        recorder.current.by_transport[thread].latency[0]
                            .saturating_record(second * 1_000);
                        recorder.hand_over(second * NANOS_PER_SEC + 50, second * 100);
                    }
                    recorder.finish(6 * NANOS_PER_SEC, 600);
                });
            }
            let mut seen = Vec::new();
            let totals =
                collect(&intervals, 2, |second| seen.push((second.index, second.counts.sent)));
            assert_eq!(totals.counts().sent, 5 * 21);
            assert_eq!(totals.latency().len(), 10);
            assert_eq!(totals.latency_over(Transport::Tcp).len(), 5);
            assert_eq!(totals.threads.iter().map(|thread| thread.cpu_ns).sum::<u64>(), 1_200);
            assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{seen:?}");
            assert_eq!(seen.iter().map(|(_, sent)| sent).sum::<u64>(), 5 * 21);
        });
    }

    #[test]
    fn a_second_is_reported_once_all_threads_have_left_it() {
        let (mut recorders, intervals) = recorders(2);
        let (mut one, mut other) = (recorders.remove(0), recorders.remove(0));
        let (reported, reports) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            scope.spawn(|| collect(&intervals, 2, |second| reported.send(second.index).unwrap()));
            let next = || reports.recv_timeout(Duration::from_secs(20));
            one.hand_over(NANOS_PER_SEC, 0);
            other.hand_over(NANOS_PER_SEC + 7, 0);
            assert_eq!(next(), Ok(0));
            // The thread that has ended leaves no gap and is not awaited.
            one.finish(NANOS_PER_SEC + 9, 0);
            other.hand_over(2 * NANOS_PER_SEC, 0);
            assert_eq!(next(), Ok(1));
            other.finish(2 * NANOS_PER_SEC + 1, 0);
            assert_eq!(next(), Ok(2));
        });
    }
}
