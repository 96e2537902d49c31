//! What a shard has done since the last look at it.
//!
//! The shard counts, the kernel knows the thread's CPU time, and this reads both. Invariant:
//! nothing here makes a shard wait or work.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::client::ListenerId;
use crate::metrics::ShardMetrics;

/// Over how long the kernel's figure of a running thread is right: it advances by ticks, which may
/// be 10 ms apart.
const BUSY_OVER: Duration = Duration::from_millis(100);

/// Reads the load of one shard.
#[derive(Debug)]
pub struct LoadMeter {
    metrics: Arc<ShardMetrics>,
    /// The thread's CPU time. `None` on a kernel that does not report it.
    cpu_time: Option<File>,
    /// At the last look.
    answers: u64,
    busy: f64,
    /// When `busy` was last known, and the thread's CPU time then.
    busy_known: (Instant, Duration),
}

/// What a shard has done since the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Activity {
    pub(super) answers: u64,
    /// The part of the time that its thread was running, lately; 0 if unknown.
    pub(super) busy: f64,
}

impl LoadMeter {
    /// `thread`: the shard's.
    #[must_use]
    pub fn new(metrics: Arc<ShardMetrics>, thread: Pid) -> Self {
        let answers = metrics.answer_count();
        let busy_known = (Instant::now(), Duration::ZERO);
        let mut meter = Self { metrics, cpu_time: None, answers, busy: 0.0, busy_known };
        meter.measure(thread);
        meter
    }

    /// The shard has this thread from now on.
    pub(super) fn measure(&mut self, thread: Pid) {
        let path = format!("/proc/self/task/{}/schedstat", thread.as_raw_pid());
        self.cpu_time = File::open(path).ok();
        self.busy_known.1 = self.cpu_time.as_ref().and_then(nanoseconds).unwrap_or_default();
    }

    pub(super) fn look(&mut self, now: Instant) -> Activity {
        let answers = self.metrics.answer_count();
        let (known_at, cpu_time) = self.busy_known;
        let elapsed = now.duration_since(known_at);
        if elapsed >= BUSY_OVER {
            let ran = self.cpu_time.as_ref().and_then(nanoseconds).unwrap_or_default();
            self.busy = ran.saturating_sub(cpu_time).as_secs_f64() / elapsed.as_secs_f64();
            self.busy_known = (now, ran);
        }
        Activity {
            // A shard's new thread and its old one may count at once, and lose some.
            answers: answers.saturating_sub(std::mem::replace(&mut self.answers, answers)),
            busy: self.busy,
        }
    }

    /// Datagrams of this listener, so far, that had to wait because the shard was crowded.
    pub(super) fn crowded_count(&self, listener: ListenerId) -> u64 {
        self.metrics.crowded_count(listener)
    }
}

/// The first number of the file: the nanoseconds that the thread has run.
fn nanoseconds(file: &File) -> Option<Duration> {
    let mut text = [0; 64];
    let len = file.read_at(&mut text, 0).ok()?;
    let first = str::from_utf8(&text[..len]).ok()?.split_ascii_whitespace().next()?;
    first.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use rustix::thread::gettid;

    use super::*;
    use crate::metrics::{Build, Metrics};

    #[test]
    fn a_thread_that_works_is_busy() {
        let metrics = Metrics::new(Build::default(), 1).shard(0);
        let mut meter = LoadMeter::new(Arc::clone(&metrics), gettid());
        if meter.cpu_time.is_none() {
            eprintln!("steering: !!! NO schedstat: how busy a thread is IS NOT TESTED");
            return;
        }
        let began = Instant::now();
        let _ = meter.look(began);
        while began.elapsed() < BUSY_OVER {
            std::hint::spin_loop();
        }
        metrics.crowded(ListenerId(3), 40);
        let activity = meter.look(Instant::now());
        assert!(activity.busy > 0.0 && activity.busy < 1.5, "{activity:?}");
        assert_eq!((meter.crowded_count(ListenerId(3)), activity.answers), (40, 0));
    }
}
