//! One sending thread: what is due goes out, what came back is matched and counted, once round and round.
//!
//! `run` is the only loop. The carriers (`udp`, `tcp`, `mixed`) move bytes; the `Driver` decides what may leave and what an answer
//! means. Invariant: from the start of the run on nothing here allocates (tests/no_alloc.rs).

mod driver;
pub(crate) mod mixed;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod simulation;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::event::Timespec;

use crate::plan::{Mode, Transport};
use crate::process::thread_cpu_ns;
use crate::schedule::{NANOS_PER_SEC, Schedule};
use crate::workload::Workload;
pub use driver::Driver;
pub(crate) use driver::Due;

/// Messages a system call moves at most.
pub const BATCH: usize = 64;
/// Slots of all flights of a thread together: what one sweep for timeouts looks through.
pub const SLOT_COUNT: usize = 1 << 17;

/// Nanoseconds since the start of the run, which may lie a little ahead.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    Monotonic(Instant),
    /// A test's own time, which goes on when it is looked at.
    #[cfg(test)]
    Simulated(&'static std::sync::atomic::AtomicU64),
}

impl Clock {
    pub fn now_ns(self) -> u64 {
        match self {
            Self::Monotonic(origin) => {
                Instant::now().saturating_duration_since(origin).as_nanos() as u64
            }
            #[cfg(test)]
            Self::Simulated(now_ns) => {
                now_ns.fetch_add(simulation::LOOK_NS, std::sync::atomic::Ordering::Relaxed)
            }
        }
    }

    fn sleep_until_start(self) {
        match self {
            Self::Monotonic(origin) => {
                std::thread::sleep(origin.saturating_duration_since(Instant::now()))
            }
            #[cfg(test)]
            Self::Simulated(_) => {}
        }
    }
}

/// When queries may leave.
pub enum Pace {
    /// As soon as the window has room: for the highest throughput. Hides a stall, because it waits while the server does.
    Closed,
    /// At its time, whatever the server does.
    Open(Schedule),
}

/// One thread's part of a run.
pub struct Share<'w> {
    pub clock: Clock,
    pub workload: &'w Workload,
    pub pace: Pace,
    /// Queries in flight at once; in an open loop a bound that makes sends late when it is reached.
    pub outstanding_max: u32,
    /// This thread sends messages `index`, `index + count`, … of the tape.
    pub index: u64,
    pub count: u64,
    /// Sends of all threads together.
    pub sends_max: u64,
    pub end_ns: u64,
    pub timeout_ns: u64,
    /// A send this much after its time counts as late.
    pub late_after_ns: u64,
    pub mode: Mode,
    pub seed: u64,
    /// Never sleep.
    pub spin: bool,
    pub stop: &'w AtomicBool,
}

/// What moves the bytes. Flights belong to the carrier, one for each socket or connection.
pub(crate) trait Carrier {
    /// Sends what is due, at most about a batch for each socket; returns how many messages left.
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize;
    /// Takes what has come; returns how many messages that were.
    fn receive(&mut self, driver: &mut Driver<'_>) -> usize;
    /// Gives up what was meant to leave at `deadline_ns` or before.
    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64);
    /// Answers that the kernel threw away for want of room; asked once, when the run is over.
    fn own_drops(&self) -> u64;
    /// Sleeps until something may have come, `timeout_ns` at most.
    fn wait(&mut self, timeout_ns: u64);
}

/// How many queries in a row an open loop sends from one socket of several.
///
/// One, so that neighbours in time come from different sockets, as those of different pods do; more only while single
/// sends cannot keep up with the rate.
pub(crate) struct Burst {
    /// Valid: 1..=BATCH.
    len: usize,
}

impl Burst {
    pub(crate) fn new() -> Self {
        Self { len: 1 }
    }

    pub(crate) fn len(&self, socket_count: usize) -> usize {
        if socket_count == 1 { BATCH } else { self.len }
    }

    /// `sent`: in a pass over all sockets. A full pass left more to send, a half-full one did not need its length.
    pub(crate) fn adapt(&mut self, sent: usize, socket_count: usize) {
        if sent >= self.len * socket_count {
            self.len = (self.len * 2).min(BATCH);
        } else if sent < self.len * socket_count / 2 {
            self.len = (self.len / 2).max(1);
        }
    }
}

/// What socket `index` is bound to, when the first is bound to `first`: the same, or the next ports where it names one.
pub(crate) fn nth_local(first: SocketAddr, index: usize) -> SocketAddr {
    let mut local = first;
    if first.port() != 0 {
        local.set_port(first.port() + index as u16);
    }
    local
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NANOS_PER_SEC) as i64, tv_nsec: (ns % NANOS_PER_SEC) as i64 }
}

/// The life of a sending thread.
pub(crate) fn run(mut carrier: impl Carrier, mut driver: Driver<'_>) {
    driver.share.clock.sleep_until_start();
    driver.recorder.start(thread_cpu_ns());
    let mut now_ns = driver.share.clock.now_ns();
    loop {
        if driver.recorder.is_over(now_ns) {
            driver.recorder.hand_over(now_ns, thread_cpu_ns());
        }
        if driver.is_sweep_due(now_ns) {
            let deadline_ns = now_ns.saturating_sub(driver.share.timeout_ns);
            carrier.expire(&mut driver, deadline_ns);
        }
        let moved = carrier.send(&mut driver, now_ns) + carrier.receive(&mut driver);
        let is_finished = driver.is_finished(now_ns);
        if moved > 0 {
            // The last answer's round too, which may be the only one.
            let after_ns = driver.share.clock.now_ns();
            driver.recorder.current.busy_ns += after_ns - now_ns;
            driver.recorder.current.last_ns = after_ns;
            now_ns = after_ns;
        }
        if is_finished {
            break;
        }
        if moved == 0 {
            let timeout_ns = driver.idle_ns(now_ns);
            if timeout_ns > 0 {
                carrier.wait(timeout_ns);
            }
            now_ns = driver.share.clock.now_ns();
        }
    }
    // What follows is no work of the run: the kernel's table of sockets may be long.
    let cpu_ns = thread_cpu_ns();
    driver.count_unsent();
    driver.counts(Transport::Udp).own_drops += carrier.own_drops();
    driver.recorder.finish(now_ns, cpu_ns);
}
