//! The counters of one shard.
//!
//! Only the shard's thread writes, so an increment is a load and a store, not a locked instruction.
//! A scrape reads at the same time and may see a packet in one counter and not yet in another. On
//! the packet path nothing here allocates, waits or panics: `admit` creates a label set's counters
//! before a plan names it. Invariant: every position in a label set comes from `position`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use wire::header::Rcode;

use super::answerer::Answerer;
use super::position::{self, CELL_COUNT, FINE_BUCKET_COUNT};
use crate::client::{Family, ListenerId, Transport};
use crate::limits::{LABEL_SETS_MAX, LISTENERS_MAX, PLUGIN_COUNTERS_MAX};

/// One response, for the counters.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The label set, from `Metrics::label_set`; `None` without `prometheus` in the block.
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

/// What a shard counts besides responses. `families` has a row for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardEvent {
    /// A datagram that is not a query (shorter than a header, or a response), or was cut too short.
    Ignored,
    /// The kernel did not accept a response.
    SendFailed,
    /// The kernel dropped a datagram before the shard received it, because the socket's queue was
    /// full.
    SocketFull,
    /// A line of the error log was lost, because its queue was full.
    ErrorLineLost,
    TableTaken,
    Batch,
    /// A multishot receive ended and was restarted.
    ReceiveRestarted,
    /// A receive found no free buffer.
    BuffersEmpty,
    TcpAccepted,
    /// The connection was closed because `TCP_CONNECTIONS_MAX` were open.
    TcpEvicted,
    TcpClosed,
    /// A response became a SERVFAIL, because its client does not take those before it.
    TcpResponseRefused,
    TcpAcceptFailed,
    /// A handshake failed, took too long, or was one too many.
    TlsHandshakeFailed,
    /// A query while all upstreams were down.
    UpstreamsDown,
    /// A query while as many were in flight as `max_concurrent` allows.
    ForwardRejected,
}

/// The number of variants of `ShardEvent`.
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
    /// Responses of the current batch, whose duration is not known yet.
    untimed: Counter,
}

impl LabelSetCounters {
    #[inline(always)] // As `ShardMetrics::observe`.
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

    /// Records the duration of each of `answers` responses.
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
    /// All responses; those of a batch are added at its end.
    answers: Counter,
    generation: Counter,
    /// The length of `touched` in use; at most `LABEL_SETS_MAX`, since each is there once per
    /// batch.
    touched_count: Counter,
    /// The label sets with responses in the current batch.
    touched: Box<[AtomicU16]>,
    label_sets: Box<[OnceLock<Box<LabelSetCounters>>]>,
    /// By index of `Metrics::plugin_counter`.
    plugin_counts: Box<[Counter]>,
    /// By listener.
    crowded: [Counter; LISTENERS_MAX],
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
            plugin_counts: (0..PLUGIN_COUNTERS_MAX).map(|_| Counter::default()).collect(),
            crowded: std::array::from_fn(|_| Counter::default()),
        }
    }
}

/// The shard's side.
impl ShardMetrics {
    /// Counts one response; `finish_batch` adds its duration.
    #[inline(always)] // Into the packet path, where the observation is in registers.
    pub fn observe(&self, observation: &Observation) {
        let Some((index, set)) = self.label_set(observation) else {
            self.answers.add(1);
            return;
        };
        set.count(observation);
        if set.untimed.get() == 0 {
            let at = self.touched_count.get() as usize;
            debug_assert!(at < self.touched.len());
            if let Some(place) = self.touched.get(at) {
                place.store(index as u16, Ordering::Relaxed);
                self.touched_count.add(1);
            }
        }
        set.untimed.add(1);
    }

    /// Counts one response that was not part of a batch.
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

    /// Counts an event.
    #[inline]
    pub fn count(&self, event: ShardEvent, times: u64) {
        self.events[event as usize].add(times);
    }

    /// Counts an event of a plugin. `counter`: from `Metrics::plugin_counter`.
    pub fn count_plugin(&self, counter: usize) {
        if let Some(count) = self.plugin_counts.get(counter) {
            count.add(1);
        }
    }

    /// Counts datagrams that had to wait because the shard was crowded.
    pub fn crowded(&self, listener: ListenerId, datagrams: u64) {
        if let Some(count) = self.crowded.get(listener.0) {
            count.add(datagrams);
        }
    }

    /// Counts a packet that is not a query.
    #[inline]
    pub fn ignored(&self) {
        self.count(ShardEvent::Ignored, 1);
    }

    pub fn error_line_lost(&self) {
        self.count(ShardEvent::ErrorLineLost, 1);
    }

    /// From now on responses come from this generation of a table.
    pub fn table_taken(&self, generation: u64) {
        self.count(ShardEvent::TableTaken, 1);
        self.generation.set(generation);
    }
}

/// The control plane's side.
impl ShardMetrics {
    /// Creates the counters of a label set, before any plan that names it is sent to the shard.
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

    /// Responses by bucket of `position::fine_duration_bucket`, of the first label sets together.
    pub(super) fn fine_durations(&self, label_sets: usize) -> [u64; FINE_BUCKET_COUNT] {
        let mut totals = [0_u64; FINE_BUCKET_COUNT];
        for set in self.label_sets.iter().take(label_sets).filter_map(OnceLock::get) {
            for (total, cell) in totals.iter_mut().zip(&set.cells[position::FINE_DURATION..]) {
                *total = total.wrapping_add(cell.get());
            }
        }
        totals
    }

    #[cfg(test)]
    pub(super) fn observe_without_block(&self, count: u64) {
        self.answers.add(count);
    }

    pub(super) fn plugin_count(&self, counter: usize) -> u64 {
        self.plugin_counts.get(counter).map_or(0, Counter::get)
    }

    pub(super) fn event_count(&self, event: ShardEvent) -> u64 {
        self.events[event as usize].get()
    }

    /// Responses so far, of all listeners.
    #[must_use]
    pub fn answer_count(&self) -> u64 {
        self.answers.get()
    }

    /// Datagrams so far that had to wait because the shard was crowded.
    #[must_use]
    pub fn crowded_count(&self, listener: ListenerId) -> u64 {
        self.crowded.get(listener.0).map_or(0, Counter::get)
    }

    pub(super) fn newest_generation(&self) -> u64 {
        self.generation.get()
    }
}

const _: () = assert!(LABEL_SETS_MAX <= u16::MAX as usize + 1);
// A label set costs 4.9 KB per shard once it is in use, and 18 bytes before.
const _: () = assert!(size_of::<LabelSetCounters>() <= 4900);
const _: () = assert!(size_of::<AtomicU16>() + size_of::<OnceLock<Box<LabelSetCounters>>>() == 18);
// x86-64 fetches two cache lines at a time: the counters of two shards must share neither.
const _: () = assert!(align_of::<ShardMetrics>() >= 128 && align_of::<LabelSetCounters>() >= 128);
