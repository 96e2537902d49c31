//! Metrics of the upstreams: the counters, and the families that a scrape writes from them.
//!
//! A new event is a row of `COUNTERS`. Invariant: each shard has its counters on cache lines of its
//! own, and only its thread writes them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::families::{Families, HistogramSample, Labels};
use super::position::{DURATION_BOUND_COUNT, duration_bounds, duration_bucket};
use super::shard::Counter;

/// Response codes with a series of their own, in CoreDNS's spelling. All others count as
/// `OTHER_RCODE`.
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

/// What is counted besides responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamEvent {
    /// A packet that matches no query of ours: late or forged.
    Foreign,
    /// A response that could not be parsed.
    Malformed,
    /// An exchange without a valid response in time.
    Failed,
    /// The upstream was late, so a hedge was due.
    Late,
    /// A query sent because another upstream, or this one, was late.
    Hedge,
    /// A truncated response over UDP; the query was sent again over TCP.
    RetriedOverTcp,
    CheckFailed,
    /// A shard marked the upstream as down.
    WentDown,
    /// A shard no longer marks it as down, or dropped it.
    CameBack,
    /// A socket for one exchange; UDP sockets are never kept.
    UdpOpened,
    TcpKept,
    TcpOpened,
    TlsKept,
    TlsOpened,
}

/// The number of variants of `UpstreamEvent`.
const EVENT_COUNT: usize = UpstreamEvent::TlsOpened as usize + 1;

/// The counters of one upstream, by shard.
#[derive(Debug)]
pub struct UpstreamMetrics {
    pub(super) to: SocketAddr,
    /// `forward` lines in which it loops. Written once per line, by the shard that finds the loop.
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
// An upstream costs 2 KB per shard.
const _: () = assert!(size_of::<UpstreamCounters>() <= 2048);

/// The responses with one response code.
#[derive(Debug, Default)]
struct ResponseCounts {
    buckets: [Counter; BUCKET_COUNT],
    sum_ns: Counter,
}

/// The shard's side.
impl UpstreamCounters {
    /// Counts a response and its duration, including the time to connect.
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

    /// The upstream loops in one more `forward` line.
    pub fn loop_found(&self) {
        self.loop_count.fetch_add(1, Ordering::Relaxed);
    }

    /// A `forward` line in which it looped was dropped.
    pub fn loop_forgotten(&self) {
        self.loop_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// `forward` lines in which it loops.
    #[must_use]
    pub fn loop_count(&self) -> u32 {
        self.loop_count.load(Ordering::Relaxed)
    }

    /// The sum over all shards.
    #[must_use]
    pub fn total(&self, event: UpstreamEvent) -> u64 {
        self.shards.iter().map(|shard| shard.events[event as usize].get()).sum()
    }

    /// Shards that mark it as down, summed over `forward` lines.
    #[must_use]
    pub fn down_count(&self) -> u64 {
        // Read `back` first: an upstream comes back after it went down, so the difference is never
        // negative.
        let back = self.total(UpstreamEvent::CameBack);
        self.total(UpstreamEvent::WentDown).saturating_sub(back)
    }

    /// Responses of every code by bucket.
    pub(super) fn durations(&self) -> [u64; BUCKET_COUNT] {
        let mut totals = [0; BUCKET_COUNT];
        for (_, buckets, _) in self.answers() {
            for (total, count) in totals.iter_mut().zip(buckets) {
                *total += count;
            }
        }
        totals
    }

    /// Each response code that was seen, its responses by bucket, and the sum of their durations.
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

/// Counters by upstream: family, help, event.
const COUNTERS: [(&str, &str, UpstreamEvent); 7] = [
    ("ringdns_forward_failures", "Exchanges without a valid response", UpstreamEvent::Failed),
    (
        "ringdns_forward_foreign_answers",
        "Packets that matched no query of ours: late or forged",
        UpstreamEvent::Foreign,
    ),
    ("ringdns_forward_malformed_answers", "Malformed responses", UpstreamEvent::Malformed),
    ("ringdns_forward_late", "Responses that took longer than the p95", UpstreamEvent::Late),
    ("ringdns_forward_hedges", "Queries sent because another was late", UpstreamEvent::Hedge),
    (
        "ringdns_forward_tcp_retries",
        "Queries sent again over TCP after a truncated response",
        UpstreamEvent::RetriedOverTcp,
    ),
    ("coredns_proxy_healthcheck_failures", "Failed health checks", UpstreamEvent::CheckFailed),
];

/// Queries on a kept connection, and queries that opened a socket: the label `proto` and the event.
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
            "Response time of upstreams",
            &duration_bounds(),
            samples,
        )?;
        self.forward_aliases(upstreams)?;
        for (name, help, event) in COUNTERS {
            let count = |upstream: &Arc<UpstreamMetrics>| {
                (upstream_labels(upstream), upstream.total(event))
            };
            let samples: Vec<_> = upstreams.iter().map(count).collect();
            self.counters(name, help, &samples)?;
        }
        let sockets: [(_, _, &[(&'static str, UpstreamEvent)]); 2] = [
            ("coredns_proxy_conn_cache_hits", "Queries on a kept connection", &KEPT),
            ("coredns_proxy_conn_cache_misses", "Queries that opened a socket", &OPENED),
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
            (upstream_labels(upstream), upstream.down_count() as f64)
        };
        let samples: Vec<_> = upstreams.iter().map(down).collect();
        let help = "Shards that mark the upstream as down, summed over `forward` lines";
        self.gauges("ringdns_forward_upstream_down", help, &samples)?;
        let loops = |upstream: &Arc<UpstreamMetrics>| {
            (upstream_labels(upstream), f64::from(upstream.loop_count()))
        };
        let samples: Vec<_> = upstreams.iter().map(loops).collect();
        let help = "`forward` lines in which the upstream loops";
        self.gauges("ringdns_forward_upstream_loops", help, &samples)
    }
}

/// The names that CoreDNS had until 1.10, which the dashboards and alerts of the Kubernetes mixin
/// still ask for. They have no label `proxy_name`.
impl Families<'_, '_> {
    fn forward_aliases(&mut self, upstreams: &[Arc<UpstreamMetrics>]) -> fmt::Result {
        let mut requests = Vec::new();
        let mut responses = Vec::new();
        let mut durations = Vec::new();
        let mut failures = Vec::new();
        for upstream in upstreams {
            let to: Labels<'_> = vec![("to", upstream.to.to_string().into())];
            let mut total = 0;
            for (rcode, buckets, sum) in upstream.answers() {
                let count: u64 = buckets.iter().sum();
                let labels = vec![("rcode", rcode.into()), to[0].clone()];
                responses.push((labels.clone(), count));
                durations.push((labels, buckets, sum));
                total += count;
            }
            // As there, a request counts once its response is there.
            if total > 0 {
                requests.push((to.clone(), total));
            }
            failures.push((to, upstream.total(UpstreamEvent::CheckFailed)));
        }
        self.counters("coredns_forward_requests", "Queries that upstreams answered", &requests)?;
        self.counters("coredns_forward_responses", "Responses of upstreams", &responses)?;
        let samples = durations.iter().map(|(labels, buckets, sum)| HistogramSample {
            labels: labels.clone(),
            sum: sum.as_secs_f64(),
            counts: buckets,
            native_counts: None,
        });
        let name = "coredns_forward_request_duration_seconds";
        self.histograms(name, "Response time of upstreams", &duration_bounds(), samples)?;
        let name = "coredns_forward_healthcheck_failures";
        self.counters(name, "Failed health checks", &failures)
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
        // Two events have no row: they make up the gauge of upstreams that are down.
        assert_eq!(COUNTERS.len() + KEPT.len() + OPENED.len() + 2, EVENT_COUNT);
    }
}
