//! A sending thread: sends what is due, and matches and counts what arrives, in a loop.
//!
//! `run` is the only loop. The carriers (`udp`, `tcp`, `mixed`) move bytes; the `Driver` decides
//! what may be sent and matches responses. Invariant: nothing here allocates once the run has
//! started (tests/no_alloc.rs).

mod driver;
mod local_ports;
pub(crate) mod mixed;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod simulation;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::event::Timespec;

use crate::process::thread_cpu_ns;
use crate::schedule::{NANOS_PER_SEC, Schedule};
use crate::transport::{Mode, Transport};
use crate::workload::Workload;
pub use driver::Driver;
pub(crate) use driver::Due;

/// Most messages that one system call moves.
pub const BATCH: usize = 64;
/// Slots of all flights of a thread, which bounds the work of a sweep for timeouts.
pub const SLOT_COUNT: usize = 1 << 17;

/// Nanoseconds since the start of the run, which may lie slightly in the future.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    Monotonic(Instant),
    /// A test's own time, which advances each time it is read.
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
                now_ns.fetch_add(simulation::READ_NS, std::sync::atomic::Ordering::Relaxed)
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

/// When queries may be sent.
pub enum Pace {
    /// As soon as the window has room, for the highest throughput. This hides stalls, because it
    /// waits while the server does.
    Closed,
    /// At the intended time, whatever the server does.
    Open(Schedule),
}

/// One thread's part of a run.
pub struct Share<'w> {
    pub clock: Clock,
    pub workload: &'w Workload,
    pub pace: Pace,
    /// Bound on queries in flight; in an open loop, reaching it makes sends late.
    pub outstanding_max: u32,
    /// This thread sends messages `index`, `index + count`, … of the workload.
    pub index: u64,
    pub count: u64,
    /// Sends of all threads together.
    pub sends_max: u64,
    pub end_ns: u64,
    pub timeout_ns: u64,
    /// A send counts as late if it leaves this much after its intended time.
    pub late_after_ns: u64,
    pub mode: Mode,
    pub seed: u64,
    /// Never sleep.
    pub spin: bool,
    pub stop: &'w AtomicBool,
}

/// Moves the bytes. A carrier owns the flights, one per socket or connection.
pub(crate) trait Carrier {
    /// Sends what is due, at most about a batch per socket; returns the number of messages sent.
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize;
    /// Receives what has arrived; returns the number of messages.
    fn receive(&mut self, driver: &mut Driver<'_>) -> usize;
    /// Times out queries with an intended send time of `deadline_ns` or earlier.
    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64);
    /// Responses that the kernel dropped because a buffer was full; called once, after the run.
    fn own_drops(&self) -> u64;
    /// Sleeps until something may have arrived, at most `timeout_ns`.
    fn wait(&mut self, timeout_ns: u64);
}

/// How many queries in a row an open loop sends from one socket out of several.
///
/// One, so that consecutive queries come from different sockets, like those of different pods; more
/// only while single sends cannot keep up with the rate.
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

    /// `sent`: messages in one pass over all sockets. After a full pass the length grows, after a
    /// pass that used less than half of it the length shrinks.
    pub(crate) fn adapt(&mut self, sent: usize, socket_count: usize) {
        if sent >= self.len * socket_count {
            self.len = (self.len * 2).min(BATCH);
        } else if sent < self.len * socket_count / 2 {
            self.len = (self.len / 2).max(1);
        }
    }
}

/// Local address of socket `index` if the first one has `first`: the same address, with the ports
/// after its own if it has one.
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

/// The main function of a sending thread.
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
        let sent = carrier.send(&mut driver, now_ns);
        let received = carrier.receive(&mut driver);
        let is_finished = driver.is_finished(now_ns);
        if sent + received > 0 {
            // Includes the round of the last response, which may be the only one.
            let after_ns = driver.share.clock.now_ns();
            driver.recorder.current.busy_ns += after_ns - now_ns;
            driver.recorder.current.last_ns = after_ns;
            now_ns = after_ns;
        }
        if is_finished {
            break;
        }
        if sent + received == 0 {
            let timeout_ns = driver.idle_ns(now_ns);
            if timeout_ns > 0 {
                carrier.wait(timeout_ns);
            }
            now_ns = driver.share.clock.now_ns();
        }
    }
    // The rest is not part of the run: the kernel's socket table may be long.
    let cpu_ns = thread_cpu_ns();
    let sending_end_ns = driver.sending_end_ns();
    let last_ns = &mut driver.recorder.current.last_ns;
    *last_ns = sending_end_ns.max(*last_ns);
    driver.count_unsent();
    driver.counts(Transport::Udp).own_drops += carrier.own_drops();
    driver.recorder.finish(now_ns, cpu_ns);
}
