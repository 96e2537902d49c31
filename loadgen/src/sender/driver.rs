//! Decides which query may be sent and when, matches responses to queries, and counts both.
//!
//! Sockets belong to the carriers. Invariant: `outstanding` is the sum over the carrier's flights.

use std::sync::atomic::Ordering;

use super::mixed::Deal;
use super::{Pace, Share};
use crate::answer::{self, QuestionMatch};
use crate::flight::{Flight, IdStatus};
use crate::plan::DURATION_MAX;
use crate::rcode::rcode_class;
use crate::schedule::NANOS_PER_SEC;
use crate::tally::{Counts, Recorded, Recorder};
use crate::transport::{Mode, Transport};
use crate::workload::Workload;

/// A sleep may end this much late, so a send time closer than this is awaited by spinning.
const WAKE_UP_NS: u64 = 100_000;
/// How long after the end of an open loop a query that was due may still be sent; afterwards it
/// counts as never sent.
const GRACE_NS: u64 = NANOS_PER_SEC;
/// How long responses are awaited after a signal: people notice hardly more.
const STOPPED_WAIT_NS: u64 = NANOS_PER_SEC / 4;

/// A query that may be sent now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) query: u32,
    pub(crate) intended_ns: u64,
}

/// What all carriers share: pacing, matching, counting.
pub struct Driver<'w> {
    pub(super) share: Share<'w>,
    pub(crate) recorder: Recorder,
    /// Sum over the carrier's flights.
    pub(crate) outstanding: u32,
    /// Index of this thread's next send among the sends of all threads.
    next_send: u64,
    /// The same modulo the workload's length. Valid: below that length.
    next_message: u64,
    /// Step to the next message. Valid: at most the workload's length minus one.
    message_step: u64,
    next_sweep_ns: u64,
    sweep_every_ns: u64,
    /// Only with both transports.
    deal: Option<Deal>,
    /// The server cannot be reached: nothing more is sent.
    gave_up: bool,
    /// When this thread noticed a signal.
    stopped_ns: Option<u64>,
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
            stopped_ns: None,
        }
    }

    pub(crate) fn counts(&mut self, transport: Transport) -> &mut Counts {
        &mut self.recorder.current.by_transport[transport.index()].counts
    }

    /// Ends the run now; without other bounds it would never end.
    pub(crate) fn give_up(&mut self, now_ns: u64) {
        self.recorder.current.gave_up = true;
        self.gave_up = true;
        self.share.end_ns = self.share.end_ns.min(now_ns);
    }

    /// Time ends the run, if nothing else does.
    pub(crate) fn has_end(&self) -> bool {
        self.share.end_ns < DURATION_MAX.as_nanos() as u64
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

    /// In an open loop each query has its own time, so queries are spread over the sockets one by
    /// one.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.share.pace, Pace::Open(_))
    }

    /// The next query that may be sent over this transport at `now_ns`, if any.
    #[inline]
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

    /// Queries that were dealt to a transport and not sent yet.
    fn waiting(&self) -> u32 {
        self.deal.as_ref().map_or(0, |deal| deal.count() as u32)
    }

    /// No query may be sent before a response has come.
    fn is_full(&self) -> bool {
        self.outstanding + self.waiting() >= self.share.outstanding_max
    }

    #[inline]
    fn take_any(&mut self, now_ns: u64) -> Option<Due> {
        if self.is_full() || self.is_sending_over(now_ns) {
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

    /// Counts a message that was sent.
    #[inline]
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

    /// Handles a packet received on the socket or connection that `flight` belongs to.
    pub(crate) fn take_response(
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
        let status = flight.status(header.id);
        let (IdStatus::InFlight { query, .. }
        | IdStatus::Answered { query }
        | IdStatus::TimedOut { query }) = status
        else {
            counts.wrong_id += 1;
            return;
        };
        let message = self.share.workload.message(query);
        let question = answer::match_question(packet, message.bytes, message.question_len);
        if question == QuestionMatch::Wrong {
            counts.wrong_question += 1;
            return;
        }
        match status {
            IdStatus::InFlight { intended_ns, .. } => {
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
                match question {
                    QuestionMatch::Same => {}
                    QuestionMatch::OtherCase => counts.other_case += 1,
                    QuestionMatch::LeftOut => counts.question_left_out += 1,
                    QuestionMatch::Wrong => unreachable!("counted as a wrong question above"),
                }
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
            IdStatus::Answered { .. } => counts.duplicates += 1,
            IdStatus::TimedOut { .. } => counts.late_answers += 1,
            IdStatus::Unknown => unreachable!("counted as a wrong id above"),
        }
    }

    /// Times out overdue queries of one flight.
    pub(crate) fn expire(&mut self, transport: Transport, flight: &mut Flight, deadline_ns: u64) {
        let counts = &mut self.recorder.current.by_transport[transport.index()].counts;
        let outstanding = &mut self.outstanding;
        flight.expire(deadline_ns, |_query, _intended_ns| {
            counts.timed_out += 1;
            *outstanding -= 1;
        });
    }

    fn is_sending_over(&self, now_ns: u64) -> bool {
        let is_schedule_over = match &self.share.pace {
            Pace::Closed => false,
            Pace::Open(schedule) => {
                schedule.next_ns().is_none_or(|next_ns| next_ns >= self.share.end_ns)
            }
        };
        is_schedule_over || self.next_send >= self.share.sends_max || self.is_abandoned(now_ns)
    }

    /// Not even queries that were already dealt are sent any more.
    fn is_abandoned(&self, now_ns: u64) -> bool {
        let is_time_over = match &self.share.pace {
            Pace::Closed => now_ns >= self.share.end_ns,
            Pace::Open(_) => now_ns >= self.share.end_ns + GRACE_NS,
        };
        is_time_over || self.gave_up || self.share.stop.load(Ordering::Relaxed)
    }

    /// Some query is still to be sent, now or later.
    pub(super) fn may_send(&self, now_ns: u64) -> bool {
        !self.is_sending_over(now_ns) || (self.waiting() > 0 && !self.is_abandoned(now_ns))
    }

    /// Nothing more is sent and no response awaited.
    pub(super) fn is_finished(&mut self, now_ns: u64) -> bool {
        if self.stopped_ns.is_none() && self.share.stop.load(Ordering::Relaxed) {
            self.stopped_ns = Some(now_ns);
            self.share.end_ns = self.share.end_ns.min(now_ns);
        }
        let is_waiting = self.outstanding > 0
            && self.stopped_ns.is_none_or(|stopped_ns| now_ns < stopped_ns + STOPPED_WAIT_NS);
        !is_waiting && !self.may_send(now_ns)
    }

    pub(super) fn is_sweep_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns >= self.next_sweep_ns;
        if is_due {
            self.next_sweep_ns = now_ns + self.sweep_every_ns;
        }
        is_due
    }

    /// How long nothing but a response can happen; 0 if a send time is near.
    pub(super) fn idle_ns(&self, now_ns: u64) -> u64 {
        let has_room = self.outstanding < self.share.outstanding_max;
        if self.share.spin
            || self.deal.as_ref().is_some_and(|deal| deal.has_datagrams() && has_room)
        {
            return 0;
        }
        // Ctrl-C, the end of the run and the end of the interval are noticed at least this soon.
        let mut until_ns =
            (now_ns + NANOS_PER_SEC / 20).min(self.next_sweep_ns.max(now_ns + 1_000_000));
        if let Pace::Open(schedule) = &self.share.pace
            && has_room
            && !self.is_sending_over(now_ns)
        {
            let next_ns = schedule.next_ns().unwrap_or(u64::MAX);
            // A query that is due but could not be sent waits for its connection.
            let is_blocked = next_ns <= now_ns;
            let wake_ns =
                if is_blocked { now_ns + WAKE_UP_NS } else { next_ns.saturating_sub(WAKE_UP_NS) };
            until_ns = until_ns.min(wake_ns);
        }
        until_ns.saturating_sub(now_ns)
    }

    /// When time ended the sending; 0 if the number of queries did.
    pub(super) fn sending_end_ns(&self) -> u64 {
        if self.next_send < self.share.sends_max { self.share.end_ns } else { 0 }
    }

    /// Counts the queries that were due before the end but not sent.
    pub(super) fn count_unsent(&mut self) {
        if self.share.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut unsent = u64::from(self.waiting());
        let Pace::Open(schedule) = &mut self.share.pace else { return };
        let last_ns = self.share.end_ns - 1;
        while self.next_send < self.share.sends_max && schedule.take_due(last_ns).is_some() {
            self.next_send += self.share.count;
            unsent += 1;
        }
        let transport = match self.share.mode {
            Mode::One(transport) => transport,
            // Those queries were not dealt to a transport yet.
            Mode::Both { .. } => Transport::Udp,
        };
        self.counts(transport).unsent += unsent;
    }
}
