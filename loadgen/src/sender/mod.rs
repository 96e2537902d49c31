//! One sending thread: what is due goes out, what came back is matched and counted, once round and round.
//!
//! `run` is the only loop. The carriers (`udp`, `tcp`, `mixed`) move bytes; the `Driver` decides what may leave and what an answer
//! means. Invariant: from the start of the run on nothing here allocates (tests/no_alloc.rs).

pub(crate) mod mixed;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod simulation;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::Timespec;

use crate::answer::{self, Question};
use crate::flight::{Asked, Flight};
use crate::plan::{Mode, Transport};
use crate::process::thread_cpu_ns;
use crate::schedule::{NANOS_PER_SEC, Schedule};
use crate::tally::{Counts, Recorded, Recorder, rcode_class};

use crate::workload::Workload;
use mixed::Deal;

/// Messages a system call moves at most.
pub const BATCH: usize = 64;
/// Slots of all flights of a thread together: what one sweep for timeouts looks through.
pub const SLOT_COUNT: usize = 1 << 17;
/// A sleep may end this much late; a send time nearer than this is waited for with open eyes.
const WAKE_UP_NS: u64 = 100_000;

/// After the end of an open loop, what was due before it may still leave for so long; then it counts as never sent.
const GRACE_NS: u64 = NANOS_PER_SEC;

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
            Self::Simulated(now_ns) => now_ns.fetch_add(simulation::LOOK_NS, Ordering::Relaxed),
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

/// A query that may leave now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) query: u32,
    pub(crate) intended_ns: u64,
}

/// The part that all carriers share: pacing, matching, counting.
pub struct Driver<'w> {
    share: Share<'w>,
    pub(crate) recorder: Recorder,
    /// Sum over the carrier's flights.
    pub(crate) outstanding: u32,
    /// Of all threads' sends, the index of the next one of this thread.
    next_send: u64,
    /// The same round the tape. Valid: below the tape's length.
    next_message: u64,
    /// How far the next one is. Valid: below the tape's length.
    message_step: u64,
    next_sweep_ns: u64,
    sweep_every_ns: u64,
    /// Only where there are both transports.
    deal: Option<Deal>,
    /// There is no way to the server: nothing more is sent.
    gave_up: bool,
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
        if driver.is_finished(now_ns) {
            break;
        }
        if moved == 0 {
            let timeout_ns = driver.idle_ns(now_ns);
            if timeout_ns > 0 {
                carrier.wait(timeout_ns);
            }
            now_ns = driver.share.clock.now_ns();
        } else {
            let after_ns = driver.share.clock.now_ns();
            driver.recorder.current.busy_ns += after_ns - now_ns;
            driver.recorder.current.last_ns = after_ns;
            now_ns = after_ns;
        }
    }
    driver.count_unsent();
    driver.counts(Transport::Udp).own_drops += carrier.own_drops();
    driver.recorder.finish(now_ns, thread_cpu_ns());
}

impl<'w> Driver<'w> {
    pub fn new(share: Share<'w>, recorder: Recorder) -> Self {
        assert!(!share.workload.is_empty() && share.index < share.count);
        let len = share.workload.len() as u64;
        let (next_message, message_step) = (share.index % len, share.count % len);
        let sweep_every_ns = (share.timeout_ns / 20).clamp(1_000_000, 250_000_000);
        let deal = match share.mode {
            Mode::One(_) => None,
            Mode::Both { tcp_share } => Some(Deal::new(tcp_share, share.seed, share.index)),
        };
        Self {
            next_send: share.index,
            next_message,
            message_step,
            next_sweep_ns: share.timeout_ns,
            sweep_every_ns,
            share,
            recorder,
            outstanding: 0,
            deal,
            gave_up: false,
        }
    }

    pub(crate) fn counts(&mut self, transport: Transport) -> &mut Counts {
        &mut self.recorder.current.by_transport[transport.index()].counts
    }

    /// Ends the run, as one without a bound would go on for nothing.
    pub(crate) fn give_up(&mut self) {
        self.gave_up = true;
    }

    pub(crate) fn timeout_ns(&self) -> u64 {
        self.share.timeout_ns
    }

    pub(crate) fn workload(&self) -> &'w Workload {
        self.share.workload
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.share.clock.now_ns()
    }

    /// An open loop has a time for each query; spread over the sockets, they leave one by one.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.share.pace, Pace::Open(_))
    }

    /// The next query that may leave over this transport at `now_ns`, if there is one.
    pub(crate) fn take_due(&mut self, transport: Transport, now_ns: u64) -> Option<Due> {
        if self.deal.is_some() { self.take_dealt(transport, now_ns) } else { self.take_any(now_ns) }
    }

    fn take_dealt(&mut self, transport: Transport, now_ns: u64) -> Option<Due> {
        if self.is_abandoned(now_ns) {
            return None;
        }
        loop {
            let deal = self.deal.as_mut()?;
            if let Some(due) = deal.take(transport) {
                let intended_ns = match self.share.pace {
                    Pace::Closed => now_ns,
                    Pace::Open(_) => due.intended_ns,
                };
                return Some(Due { intended_ns, ..due });
            }
            if deal.is_full() {
                return None;
            }
            let due = self.take_any(now_ns)?;
            self.deal.as_mut()?.deal(due);
        }
    }

    /// Queries that were taken and have not left, for want of their transport.
    fn waiting(&self) -> u32 {
        self.deal.as_ref().map_or(0, |deal| deal.count() as u32)
    }

    fn take_any(&mut self, now_ns: u64) -> Option<Due> {
        let is_full = self.outstanding + self.waiting() >= self.share.outstanding_max;
        if is_full || self.is_sending_over(now_ns) {
            return None;
        }
        let intended_ns = match &mut self.share.pace {
            Pace::Closed => now_ns,
            Pace::Open(schedule) => schedule.take_due(now_ns.min(self.share.end_ns - 1))?,
        };
        let due = Due { query: self.next_message as u32, intended_ns };
        self.next_send += self.share.count;
        self.next_message += self.message_step;
        if self.next_message >= self.share.workload.len() as u64 {
            self.next_message -= self.share.workload.len() as u64;
        }
        Some(due)
    }

    /// A message has left.
    pub(crate) fn count_sent(&mut self, transport: Transport, due: Due, sent_ns: u64, len: usize) {
        let interval = &mut *self.recorder.current;
        let counts = &mut interval.by_transport[transport.index()].counts;
        counts.sent += 1;
        counts.sent_bytes += len as u64;
        if matches!(self.share.pace, Pace::Open(_)) {
            let lag_ns = sent_ns.saturating_sub(due.intended_ns);
            interval.lag.saturating_record(lag_ns);
            counts.sent_late += u64::from(lag_ns > self.share.late_after_ns);
        }
    }

    /// Something came back on the socket or connection that `flight` belongs to.
    pub(crate) fn take_answer(
        &mut self,
        transport: Transport,
        flight: &mut Flight,
        packet: &[u8],
        now_ns: u64,
    ) {
        let interval = &mut *self.recorder.current;
        let Recorded { counts, latency } = &mut interval.by_transport[transport.index()];
        let Some(header) = answer::header(packet) else {
            counts.garbage += 1;
            return;
        };
        let asked = flight.asked(header.id);
        let (Asked::InFlight { query, .. } | Asked::Answered { query } | Asked::TimedOut { query }) =
            asked
        else {
            counts.wrong_id += 1;
            return;
        };
        let message = self.share.workload.message(query);
        match answer::question(packet, message.bytes, message.question_len) {
            Question::Same => {}
            Question::OtherCase => counts.other_case += 1,
            Question::LeftOut => counts.question_left_out += 1,
            Question::Wrong => {
                counts.wrong_question += 1;
                return;
            }
        }
        match asked {
            Asked::InFlight { intended_ns, .. } => {
                flight.settle(header.id);
                self.outstanding -= 1;
                let latency_ns = now_ns.saturating_sub(intended_ns);
                if latency_ns > self.share.timeout_ns {
                    counts.timed_out += 1;
                    counts.late_answers += 1;
                    return;
                }
                counts.answered[usize::from(header.rcode)] += 1;
                counts.answered_bytes += packet.len() as u64;
                counts.truncated += u64::from(header.truncated);
                if let Some(expectation) = self.share.workload.expectation(query) {
                    if expectation.is_met_by(packet) {
                        counts.verified += 1;
                    } else {
                        counts.verify_failed += 1;
                        interval.verify_failure.get_or_insert((query, header.rcode));
                    }
                }
                latency[rcode_class(header.rcode)].saturating_record(latency_ns);
            }
            Asked::Answered { .. } => counts.duplicates += 1,
            Asked::TimedOut { .. } => counts.late_answers += 1,
            Asked::Unknown => unreachable!("counted as a wrong id above"),
        }
    }

    /// Gives up what is overdue in one flight.
    pub(crate) fn expire(&mut self, transport: Transport, flight: &mut Flight, deadline_ns: u64) {
        let counts = &mut self.recorder.current.by_transport[transport.index()].counts;
        let outstanding = &mut self.outstanding;
        flight.expire(deadline_ns, |_query, _intended_ns| {
            counts.timed_out += 1;
            *outstanding -= 1;
        });
    }

    fn is_sending_over(&self, now_ns: u64) -> bool {
        let end_ns = self.share.end_ns;
        let is_time_over = match &self.share.pace {
            Pace::Closed => now_ns >= end_ns,
            Pace::Open(schedule) => {
                schedule.next_ns().is_none_or(|next_ns| next_ns >= end_ns)
                    || now_ns >= end_ns + GRACE_NS
            }
        };
        is_time_over
            || self.gave_up
            || self.next_send >= self.share.sends_max
            || self.share.stop.load(Ordering::Relaxed)
    }

    /// Not even what was taken is sent any more.
    fn is_abandoned(&self, now_ns: u64) -> bool {
        let is_time_over = match &self.share.pace {
            Pace::Closed => now_ns >= self.share.end_ns,
            Pace::Open(_) => now_ns >= self.share.end_ns + GRACE_NS,
        };
        is_time_over || self.gave_up || self.share.stop.load(Ordering::Relaxed)
    }

    /// Nothing more is sent and nothing awaited.
    fn is_finished(&self, now_ns: u64) -> bool {
        self.outstanding == 0
            && self.is_sending_over(now_ns)
            && (self.waiting() == 0 || self.is_abandoned(now_ns))
    }

    fn is_sweep_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns >= self.next_sweep_ns;
        if is_due {
            self.next_sweep_ns = now_ns + self.sweep_every_ns;
        }
        is_due
    }

    /// How long nothing can happen but an answer; 0 when a send time is near.
    fn idle_ns(&self, now_ns: u64) -> u64 {
        let has_room = self.outstanding < self.share.outstanding_max;
        if self.share.spin
            || self.deal.as_ref().is_some_and(|deal| deal.has_datagrams() && has_room)
        {
            return 0;
        }
        // A stop by Ctrl-C, the end of the run and the end of the interval are noticed this soon.
        let mut until_ns =
            (now_ns + NANOS_PER_SEC / 20).min(self.next_sweep_ns.max(now_ns + 1_000_000));
        if let Pace::Open(schedule) = &self.share.pace
            && has_room
            && !self.is_sending_over(now_ns)
        {
            let next_ns = schedule.next_ns().unwrap_or(u64::MAX);
            // What is due and could not leave waits for its connection.
            let is_blocked = next_ns <= now_ns;
            let wake_ns =
                if is_blocked { now_ns + WAKE_UP_NS } else { next_ns.saturating_sub(WAKE_UP_NS) };
            until_ns = until_ns.min(wake_ns);
        }
        until_ns.saturating_sub(now_ns)
    }

    /// What was meant to leave before the end and did not.
    fn count_unsent(&mut self) {
        if self.share.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut unsent = u64::from(self.waiting());
        let Pace::Open(schedule) = &mut self.share.pace else { return };
        if self.next_send < self.share.sends_max {
            while schedule.take_due(self.share.end_ns - 1).is_some() {
                unsent += 1;
            }
        }
        let transport = match self.share.mode {
            Mode::One(transport) => transport,
            // Which it would have been was never tossed.
            Mode::Both { .. } => Transport::Udp,
        };
        self.counts(transport).unsent += unsent;
    }
}
