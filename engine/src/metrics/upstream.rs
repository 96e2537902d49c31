//! What shards count of one upstream.
//!
//! One block of counters a shard, on cache lines of its own; only the shard's thread writes it. Below stands what a scrape
//! makes of them: a new event is a row of `COUNTERS`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::families::{Families, HistogramSample, Labels};
use super::position::{DURATION_BOUND_COUNT, duration_bounds, duration_bucket};
use super::shard::Counter;

/// Response codes with a series of their own, in CoreDNS's spelling; all others are counted as `OTHER_RCODE`.
const RCODES: [(u16, &str); 11] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
];
const OTHER_RCODE: &str = "other";
const RCODE_COUNT: usize = RCODES.len() + 1;

/// Buckets of one duration histogram.
const BUCKET_COUNT: usize = DURATION_BOUND_COUNT + 1;

/// What is counted beside answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamEvent {
    /// A packet that answers no question of ours: late or forged.
    Foreign,
    /// An answer that could not be read.
    Malformed,
    /// Asked and gave no answer: in time, at all, or none that could be read.
    Failed,
    /// Was late, so that another was asked as well.
    Late,
    /// Asked because another was late.
    Hedge,
    /// Answered over UDP with TC, and was asked again over TCP.
    RetriedOverTcp,
    CheckFailed,
    /// Became down in the eyes of a shard.
    WentDown,
    /// Down no longer, or forgotten while it was.
    CameBack,
    /// A socket for one exchange: none is kept.
    UdpOpened,
    TcpKept,
    TcpOpened,
    TlsKept,
    TlsOpened,
}

/// As many as `UpstreamEvent` has variants.
const EVENT_COUNT: usize = UpstreamEvent::TlsOpened as usize + 1;

/// The counters of one upstream, of all shards.
#[derive(Debug)]
pub struct UpstreamMetrics {
    pub(super) to: SocketAddr,
    /// `forward` lines in which it loops. Written once in a line's life, by whichever shard finds out.
    loop_count: AtomicU32,
    shards: Box<[UpstreamCounters]>,
}

/// The counters of one upstream in one shard.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamCounters {
    answers: [ResponseCounts; RCODE_COUNT],
    events: [Counter; EVENT_COUNT],
}

const _: () = assert!(align_of::<UpstreamCounters>() >= 128);

/// The answers with one response code.
#[derive(Debug, Default)]
struct ResponseCounts {
    buckets: [Counter; BUCKET_COUNT],
    sum_ns: Counter,
}

/// The shard's side.
impl UpstreamCounters {
    /// An answer, and how long it took, connecting included.
    pub fn answered(&self, rcode: u16, duration: Duration) {
        let row = RCODES.iter().position(|known| known.0 == rcode).unwrap_or(RCODES.len());
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.answers[row].buckets[duration_bucket(duration_ns)].add(1);
        self.answers[row].sum_ns.add(duration_ns);
    }

    pub fn count(&self, event: UpstreamEvent) {
        self.events[event as usize].add(1);
    }
}

impl UpstreamMetrics {
    pub(super) fn new(to: SocketAddr, shard_count: usize) -> Self {
        let shards = (0..shard_count).map(|_| UpstreamCounters::default()).collect();
        Self { to, loop_count: AtomicU32::new(0), shards }
    }

    /// The counters that this shard writes.
    #[must_use]
    pub fn shard(&self, index: usize) -> &UpstreamCounters {
        &self.shards[index]
    }

    /// It sends our questions back to us.
    pub fn loop_found(&self) {
        self.loop_count.fetch_add(1, Ordering::Relaxed);
    }

    /// A `forward` line in which it looped is gone.
    pub fn loop_forgotten(&self) {
        self.loop_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// `forward` lines in which it loops.
    #[must_use]
    pub fn loop_count(&self) -> u32 {
        self.loop_count.load(Ordering::Relaxed)
    }

    /// How often it happened, in all shards together.
    #[must_use]
    pub fn total(&self, event: UpstreamEvent) -> u64 {
        self.shards.iter().map(|shard| shard.events[event as usize].get()).sum()
    }

    /// Each response code that has been seen, its answers by bucket, and how long they took together.
    fn answers(&self) -> impl Iterator<Item = (&'static str, [u64; BUCKET_COUNT], Duration)> {
        (0..RCODE_COUNT).filter_map(|row| {
            let of = |value: &dyn Fn(&ResponseCounts) -> u64| -> u64 {
                self.shards.iter().map(|shard| value(&shard.answers[row])).sum()
            };
            let buckets = std::array::from_fn(|at| of(&|answers| answers.buckets[at].get()));
            let sum = Duration::from_nanos(of(&|answers| answers.sum_ns.get()));
            let rcode = RCODES.get(row).map_or(OTHER_RCODE, |known| known.1);
            buckets.iter().any(|count| *count > 0).then_some((rcode, buckets, sum))
        })
    }
}

/// Counters of each upstream: family, help, event.
const COUNTERS: [(&str, &str, UpstreamEvent); 7] = [
    ("ringdns_forward_failures", "Exchanges that gave no answer", UpstreamEvent::Failed),
    (
        "ringdns_forward_foreign_answers",
        "Packets that answered no question of ours: late or forged",
        UpstreamEvent::Foreign,
    ),
    ("ringdns_forward_malformed_answers", "Answers not to be read", UpstreamEvent::Malformed),
    ("ringdns_forward_late", "Answers that took longer than the p95", UpstreamEvent::Late),
    ("ringdns_forward_hedges", "Asked because another was late", UpstreamEvent::Hedge),
    (
        "ringdns_forward_tcp_retries",
        "Cut answers asked for over TCP",
        UpstreamEvent::RetriedOverTcp,
    ),
    ("coredns_proxy_healthcheck_failures", "Health checks that failed", UpstreamEvent::CheckFailed),
];

/// Sockets that a question found, and that it had to open: the label `proto` and the event.
const KEPT: [(&str, UpstreamEvent); 2] =
    [("tcp", UpstreamEvent::TcpKept), ("tcp-tls", UpstreamEvent::TlsKept)];
const OPENED: [(&str, UpstreamEvent); 3] = [
    ("tcp", UpstreamEvent::TcpOpened),
    ("tcp-tls", UpstreamEvent::TlsOpened),
    ("udp", UpstreamEvent::UdpOpened),
];

impl Families<'_, '_> {
    pub(super) fn upstreams(&mut self, upstreams: &[Arc<UpstreamMetrics>]) -> fmt::Result {
        let answers: Vec<_> = upstreams
            .iter()
            .flat_map(|upstream| {
                upstream.answers().map(|(rcode, buckets, sum)| {
                    let mut labels = upstream_labels(upstream);
                    labels.insert(1, ("rcode", rcode.into()));
                    (labels, buckets, sum)
                })
            })
            .collect();
        let samples = answers.iter().map(|(labels, buckets, sum): &(_, [u64; BUCKET_COUNT], _)| {
            HistogramSample {
                labels: labels.clone(),
                sum: sum.as_secs_f64(),
                counts: buckets,
                native_counts: None,
            }
        });
        self.histograms(
            "coredns_proxy_request_duration_seconds",
            "Time that upstreams took to answer",
            &duration_bounds(),
            samples,
        )?;
        for (name, help, event) in COUNTERS {
            let count = |upstream: &Arc<UpstreamMetrics>| {
                (upstream_labels(upstream), upstream.total(event))
            };
            let samples: Vec<_> = upstreams.iter().map(count).collect();
            self.counters(name, help, &samples)?;
        }
        let sockets: [(_, _, &[(&'static str, UpstreamEvent)]); 2] = [
            ("coredns_proxy_conn_cache_hits", "Questions that found a socket", &KEPT),
            ("coredns_proxy_conn_cache_misses", "Questions that opened a socket", &OPENED),
        ];
        for (name, help, events) in sockets {
            let by_proto = |upstream: &Arc<UpstreamMetrics>| {
                events
                    .iter()
                    .map(|(proto, event)| {
                        let mut labels = upstream_labels(upstream);
                        labels.insert(0, ("proto", (*proto).into()));
                        (labels, upstream.total(*event))
                    })
                    .collect::<Vec<_>>()
            };
            let mut samples: Vec<_> = upstreams.iter().flat_map(by_proto).collect();
            samples.retain(|(_, count)| *count > 0);
            self.counters(name, help, &samples)?;
        }
        let down = |upstream: &Arc<UpstreamMetrics>| {
            // Read first: it cannot have come back before it went.
            let back = upstream.total(UpstreamEvent::CameBack);
            let down = upstream.total(UpstreamEvent::WentDown).saturating_sub(back);
            (upstream_labels(upstream), down as f64)
        };
        let samples: Vec<_> = upstreams.iter().map(down).collect();
        let help = "Shards that hold the upstream to be down, each `forward` apart";
        self.gauges("ringdns_forward_upstream_down", help, &samples)?;
        let loops = |upstream: &Arc<UpstreamMetrics>| {
            (upstream_labels(upstream), f64::from(upstream.loop_count()))
        };
        let samples: Vec<_> = upstreams.iter().map(loops).collect();
        let help = "Times that `loop` took the upstream out, each `forward` apart";
        self.gauges("ringdns_forward_upstream_loops", help, &samples)
    }
}

fn upstream_labels(upstream: &UpstreamMetrics) -> Labels<'static> {
    vec![("proxy_name", "forward".into()), ("to", upstream.to.to_string().into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_exported() {
        // Beside the tables: the two that make the gauge of those that are down.
        assert_eq!(COUNTERS.len() + KEPT.len() + OPENED.len() + 2, EVENT_COUNT);
    }
}
