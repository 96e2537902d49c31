//! What one shard counts.
//!
//! The shard's thread is the only writer, so an increment is a load and a store, not a locked instruction; a scrape reads
//! beside it and may see a packet in one counter and not yet in another. Nothing here allocates, waits or panics once a plan
//! names a label set: `admit` has made its counters before. Invariant: every position in a label set comes from `position`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use wire::header::Rcode;

use super::answerer::Answerer;
use super::position::{self, CELL_COUNT};
use crate::client::{Family, Transport};
use crate::limits::LABEL_SETS_MAX;

/// One answer, as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The label set, from `Metrics::label_set`; `None` where no `prometheus` asked for it.
    pub block: Option<usize>,
    pub transport: Transport,
    pub family: Family,
    pub qtype: u16,
    pub dnssec_ok: bool,
    pub rcode: Rcode,
    pub plugin: Answerer,
    pub query_len: usize,
    pub reply_len: usize,
}

/// What else a shard counts, beside answers; `families` has a row for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardEvent {
    /// A datagram that is no query (shorter than a header, or itself an answer), or was cut past sense.
    Ignored,
    /// The kernel did not take an answer.
    SendFailed,
    /// The kernel dropped a datagram before the shard saw it: the socket's queue was full.
    SocketFull,
    /// A line of the error log that found its queue full.
    ErrorLineLost,
    TableTaken,
    Batch,
    /// A multishot receive that had ended and was started again.
    ReceiveRestarted,
    /// A receive that found no free buffer.
    BuffersEmpty,
    TcpAccepted,
    /// Closed to make room: as many connections as there may be were open.
    TcpEvicted,
    TcpClosed,
    TcpAcceptFailed,
    /// A question for upstreams that were all down.
    UpstreamsDown,
    /// A question for upstreams that had as many on their way as `max_concurrent` allows.
    ForwardRejected,
}

/// As many as `ShardEvent` has variants.
pub(super) const EVENT_COUNT: usize = ShardEvent::ForwardRejected as usize + 1;

/// A number that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one label set in one shard, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct LabelSetCounters {
    cells: [Counter; CELL_COUNT],
    /// Answers of the batch that is not over.
    untimed: Counter,
}

impl LabelSetCounters {
    #[inline]
    fn count(&self, observation: &Observation) {
        let Observation { transport, family, qtype, query_len, reply_len, .. } = *observation;
        let add = |at: usize, count: u64| self.cells[at].add(count);
        add(position::request(transport, family, qtype), 1);
        if observation.dnssec_ok {
            add(position::DNSSEC_OK, 1);
        }
        let sizes = position::query_sizes(transport);
        add(sizes + position::size_bucket(query_len), 1);
        add(sizes + position::SIZE_SUM, query_len as u64);
        let sizes = position::reply_sizes(transport);
        add(sizes + position::size_bucket(reply_len), 1);
        add(sizes + position::SIZE_SUM, reply_len as u64);
        add(position::response(observation.rcode, observation.plugin), 1);
    }

    /// So many answers took so long each.
    fn time(&self, answers: u64, duration: Duration) {
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let coarse = position::DURATION + position::duration_bucket(duration_ns);
        let fine = position::FINE_DURATION + position::fine_duration_bucket(duration_ns);
        let native = position::NATIVE_DURATION + position::native_duration_bucket(duration_ns);
        for bucket in [coarse, fine, native] {
            self.cells[bucket].add(answers);
        }
        self.cells[position::DURATION_SUM].add(duration_ns.wrapping_mul(answers));
    }
}

/// The counters of one shard.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardMetrics {
    events: [Counter; EVENT_COUNT],
    /// Of every kind; those of a batch are added at its end.
    answers: Counter,
    generation: Counter,
    /// How many of `touched` hold; at most `LABEL_SETS_MAX`, since each stands there once a batch.
    touched_count: Counter,
    /// The label sets that the batch has answers of.
    touched: Box<[AtomicU16]>,
    label_sets: Box<[OnceLock<Box<LabelSetCounters>>]>,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            events: std::array::from_fn(|_| Counter::default()),
            answers: Counter::default(),
            generation: Counter::default(),
            touched_count: Counter::default(),
            touched: (0..LABEL_SETS_MAX).map(|_| AtomicU16::new(0)).collect(),
            label_sets: (0..LABEL_SETS_MAX).map(|_| OnceLock::new()).collect(),
        }
    }
}

/// The shard's side.
impl ShardMetrics {
    /// Counts one answer; how long it took is said by `finish_batch`.
    #[inline]
    pub fn observe(&self, observation: &Observation) {
        let Some((index, set)) = self.label_set(observation) else {
            self.answers.add(1);
            return;
        };
        set.count(observation);
        if set.untimed.get() == 0 {
            let at = self.touched_count.get() as usize;
            if let Some(place) = self.touched.get(at) {
                place.store(index as u16, Ordering::Relaxed);
                self.touched_count.add(1);
            }
        }
        set.untimed.add(1);
    }

    /// Counts one answer that was no part of a batch.
    pub fn observe_one(&self, observation: &Observation, duration: Duration) {
        self.answers.add(1);
        if let Some((_, set)) = self.label_set(observation) {
            set.count(observation);
            set.time(1, duration);
        }
    }

    #[inline]
    fn label_set(&self, observation: &Observation) -> Option<(usize, &LabelSetCounters)> {
        let index = observation.block?;
        let set = self.label_sets.get(index).and_then(OnceLock::get);
        debug_assert!(set.is_some(), "label set {index} was never given out");
        Some((index, set?))
    }

    /// Ends a batch: everything observed since the last one took this long.
    pub fn finish_batch(&self, duration: Duration) {
        self.count(ShardEvent::Batch, 1);
        let touched_count = self.touched_count.get() as usize;
        for place in self.touched.iter().take(touched_count) {
            let index = usize::from(place.load(Ordering::Relaxed));
            let Some(set) = self.label_sets[index].get() else { continue };
            let answers = set.untimed.get();
            set.time(answers, duration);
            set.untimed.set(0);
            self.answers.add(answers);
        }
        self.touched_count.set(0);
    }

    /// Counts something that is not an answer.
    #[inline]
    pub fn count(&self, event: ShardEvent, times: u64) {
        self.events[event as usize].add(times);
    }

    /// A packet that is no query.
    #[inline]
    pub fn ignored(&self) {
        self.count(ShardEvent::Ignored, 1);
    }

    pub fn error_line_lost(&self) {
        self.count(ShardEvent::ErrorLineLost, 1);
    }

    /// From now on answers come from this generation of a table.
    pub fn table_taken(&self, generation: u64) {
        self.count(ShardEvent::TableTaken, 1);
        self.generation.set(generation);
    }
}

/// The control plane's side.
impl ShardMetrics {
    /// Makes the counters of a label set, before any plan that names it is sent to the shard.
    pub(super) fn admit(&self, label_set: usize) {
        self.label_sets[label_set].get_or_init(|| {
            Box::new(LabelSetCounters {
                cells: std::array::from_fn(|_| Counter::default()),
                untimed: Counter::default(),
            })
        });
    }

    /// Adds this shard's counts of a label set to `totals`.
    pub(super) fn add_to(&self, label_set: usize, totals: &mut [u64; CELL_COUNT]) {
        let Some(set) = self.label_sets[label_set].get() else { return };
        for (total, cell) in totals.iter_mut().zip(&set.cells) {
            *total = total.wrapping_add(cell.get());
        }
    }

    pub(super) fn event_count(&self, event: ShardEvent) -> u64 {
        self.events[event as usize].get()
    }

    pub(super) fn answer_count(&self) -> u64 {
        self.answers.get()
    }

    pub(super) fn newest_generation(&self) -> u64 {
        self.generation.get()
    }
}

const _: () = assert!(LABEL_SETS_MAX <= u16::MAX as usize + 1);
// Two cache lines at a time are fetched on x86-64: what one shard writes shares neither with another's.
const _: () = assert!(align_of::<ShardMetrics>() >= 128 && align_of::<LabelSetCounters>() >= 128);
