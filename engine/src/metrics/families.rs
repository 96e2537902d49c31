//! The metric families of a scrape: summed from the shards' counters, the control plane's facts and
//! the process.
//!
//! Names, types and labels of `coredns_…` and `process_…` are those of CoreDNS 1.15.0;
//! `tests/metrics.rs` checks them. As in CoreDNS, a series with labels appears with its first
//! response.
//! Invariant: nothing here waits for a shard.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::position::{self, CELL_COUNT};
use super::process::{self, ProcessFamilyKind};
use super::shard::ShardEvent;
use super::{Facts, LabelSet, MetricsSources, NodeErrors, ShardRestarts, lock};

/// Counters by shard: family, help, event.
const SHARD_COUNTERS: [(&str, &str, ShardEvent); 10] = [
    ("ringdns_batches", "Batches of packets", ShardEvent::Batch),
    ("ringdns_tables_taken", "Table generations received", ShardEvent::TableTaken),
    (
        "ringdns_receive_restarts",
        "Multishot receives that ended and were restarted",
        ShardEvent::ReceiveRestarted,
    ),
    ("ringdns_receive_buffers_empty", "Receives without a free buffer", ShardEvent::BuffersEmpty),
    ("ringdns_error_lines_lost", "Lines of the error log lost", ShardEvent::ErrorLineLost),
    ("ringdns_tcp_connections_accepted", "TCP connections accepted", ShardEvent::TcpAccepted),
    (
        "ringdns_tcp_connections_evicted",
        "TCP connections closed to accept others",
        ShardEvent::TcpEvicted,
    ),
    ("ringdns_tcp_accept_errors", "Failed accepts", ShardEvent::TcpAcceptFailed),
    (
        "ringdns_tcp_responses_refused",
        "Responses that became SERVFAIL because the client had not taken those before",
        ShardEvent::TcpResponseRefused,
    ),
    (
        "ringdns_tls_handshake_errors",
        "TLS handshakes that failed or were too many",
        ShardEvent::TlsHandshakeFailed,
    ),
];

/// The label `reason` of datagrams without a response.
const DROPS: [(&str, ShardEvent); 3] = [
    ("ignored", ShardEvent::Ignored),
    ("send_failed", ShardEvent::SendFailed),
    ("socket_full", ShardEvent::SocketFull),
];

/// CoreDNS's counters for `forward`, all shards together.
const FORWARD_COUNTERS: [(&str, &str, ShardEvent); 2] = [
    (
        "coredns_forward_healthcheck_broken",
        "Queries while all upstreams were down",
        ShardEvent::UpstreamsDown,
    ),
    (
        "coredns_forward_max_concurrent_rejects",
        "Queries refused because max_concurrent were in flight",
        ShardEvent::ForwardRejected,
    ),
];

/// In alphabetical order of names, like CoreDNS's client library.
pub(super) type Labels<'l> = Vec<(&'static str, Cow<'l, str>)>;

/// One label set and its numbers, all shards together.
pub(super) struct Totals {
    labels: LabelSet,
    pub(super) cells: [u64; CELL_COUNT],
}

pub(super) struct HistogramSample<'s> {
    pub(super) labels: Labels<'s>,
    pub(super) sum: f64,
    /// By bucket: one more than there are bounds.
    pub(super) counts: &'s [u64],
    /// By bucket of the native histogram (`position::native_duration_bucket`), for the protobuf
    /// format.
    pub(super) native_counts: Option<&'s [u64]>,
}

impl Collector for MetricsSources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder: &mut encoder };
        let totals = self.totals();
        families.requests(&totals)?;
        families.durations(&totals)?;
        families.sizes(&totals)?;
        families.shards(self)?;
        families.upstreams(&lock(&self.upstreams).clone())?;
        families.caches(&lock(&self.caches).clone())?;
        let facts = lock(&self.facts).clone();
        families.server(self, &facts)?;
        families.tables(&facts, SystemTime::now())?;
        families.hosts(&facts.hosts)?;
        families.plugins(self)?;
        families.zones(&facts.zones)?;
        families.steering(&facts.steering)?;
        families.process()
    }
}

impl MetricsSources {
    pub(super) fn totals(&self) -> Vec<Totals> {
        let label_sets = lock(&self.label_sets).clone();
        let mut totals = Vec::with_capacity(label_sets.len());
        for (index, labels) in label_sets.into_iter().enumerate() {
            let mut cells = [0; CELL_COUNT];
            for shard in &self.shards {
                shard.add_to(index, &mut cells);
            }
            totals.push(Totals { labels, cells });
        }
        totals
    }

    /// Datagrams without a response.
    pub(super) fn drop_count(&self) -> u64 {
        DROPS.iter().map(|(_, event)| self.event_total(*event)).sum()
    }

    pub(super) fn event_total(&self, event: ShardEvent) -> u64 {
        self.shards.iter().map(|shard| shard.event_count(event)).sum()
    }
}

/// Writes families. Omits a family with labels that has no sample.
pub(super) struct Families<'e, 'w> {
    encoder: &'e mut DescriptorEncoder<'w>,
}

impl Families<'_, '_> {
    fn requests(&mut self, totals: &[Totals]) -> fmt::Result {
        let mut requests = Vec::new();
        let mut dnssec_ok = Vec::new();
        let mut responses = Vec::new();
        for Totals { labels, cells } in totals {
            let LabelSet { server, zone, view } = labels;
            for (at, [proto, family, qtype]) in position::requests().filter(|row| cells[row.0] > 0)
            {
                let labels: Labels<'_> = vec![
                    ("family", family.into()),
                    ("proto", proto.into()),
                    ("server", server.into()),
                    ("type", qtype.into()),
                    ("view", view.into()),
                    ("zone", zone.into()),
                ];
                requests.push((labels, cells[at]));
            }
            if cells[position::DNSSEC_OK] > 0 {
                dnssec_ok.push((block_labels(labels), cells[position::DNSSEC_OK]));
            }
            for (at, [rcode, plugin]) in position::responses().filter(|row| cells[row.0] > 0) {
                let labels: Labels<'_> = vec![
                    ("plugin", plugin.into()),
                    ("rcode", rcode.into()),
                    ("server", server.into()),
                    ("view", view.into()),
                    ("zone", zone.into()),
                ];
                responses.push((labels, cells[at]));
            }
        }
        self.counters("coredns_dns_requests", "DNS requests", &requests)?;
        self.counters("coredns_dns_do_requests", "DNS requests with the DO bit", &dnssec_ok)?;
        self.counters("coredns_dns_responses", "DNS responses", &responses)
    }

    fn durations(&mut self, totals: &[Totals]) -> fmt::Result {
        // CoreDNS's first bucket would hold every response from a table. The native buckets are
        // finer, and for scrapes in text there is a family of our own.
        let rows: [(_, _, _, &[f64], _); 2] = [
            (
                "coredns_dns_request_duration_seconds",
                "Time from a batch of requests to its responses",
                position::DURATION,
                &position::duration_bounds(),
                true,
            ),
            (
                "ringdns_dns_request_duration_seconds",
                "The same time in finer buckets",
                position::FINE_DURATION,
                &position::fine_duration_bounds(),
                false,
            ),
        ];
        for (name, help, at, bounds, has_native) in rows {
            let samples = totals.iter().map(|Totals { labels, cells }| HistogramSample {
                labels: block_labels(labels),
                sum: cells[position::DURATION_SUM] as f64 / 1e9,
                counts: &cells[at..=at + bounds.len()],
                native_counts: has_native.then_some(
                    &cells[position::NATIVE_DURATION..][..position::NATIVE_BUCKET_COUNT],
                ),
            });
            self.histograms(name, help, bounds, samples)?;
        }
        Ok(())
    }

    fn sizes(&mut self, totals: &[Totals]) -> fmt::Result {
        let bounds = position::SIZE_BOUNDS.map(f64::from);
        let rows: [(_, _, fn(_) -> usize); 2] = [
            ("coredns_dns_request_size_bytes", "Bytes of requests", position::query_sizes),
            ("coredns_dns_response_size_bytes", "Bytes of responses", position::reply_sizes),
        ];
        for (name, help, begin) in rows {
            let samples = totals.iter().flat_map(|Totals { labels, cells }| {
                position::transports().map(move |(transport, proto)| {
                    let at = begin(transport);
                    let mut labels = block_labels(labels);
                    labels.insert(0, ("proto", proto.into()));
                    HistogramSample {
                        labels,
                        sum: cells[at + position::SIZE_SUM] as f64,
                        counts: &cells[at..=at + position::SIZE_BOUNDS.len()],
                        native_counts: None,
                    }
                })
            });
            self.histograms(name, help, &bounds, samples)?;
        }
        Ok(())
    }

    fn shards(&mut self, sources: &MetricsSources) -> fmt::Result {
        let shard = |index: usize| -> Labels<'_> { vec![("shard", index.to_string().into())] };
        let each = |value: &dyn Fn(usize) -> u64| -> Vec<(Labels<'_>, u64)> {
            (0..sources.shards.len()).map(|index| (shard(index), value(index))).collect()
        };
        let answers = each(&|index| sources.shards[index].answer_count());
        self.counters("ringdns_answers", "Responses of all zones", &answers)?;
        for (name, help, event) in SHARD_COUNTERS {
            let samples = each(&|index| sources.shards[index].event_count(event));
            self.counters(name, help, &samples)?;
        }
        for (name, help, event) in FORWARD_COUNTERS {
            self.counters(name, help, &[(Vec::new(), sources.event_total(event))])?;
        }
        let drops = DROPS
            .map(|(reason, event)| (vec![("reason", reason.into())], sources.event_total(event)));
        self.counters("ringdns_datagrams_dropped", "Datagrams without a response", &drops)?;
        let open = each(&|index| {
            let shard = &sources.shards[index];
            // Read `closed` first: a connection closes after it was accepted, so the difference is
            // never negative.
            let closed = shard.event_count(ShardEvent::TcpClosed);
            shard.event_count(ShardEvent::TcpAccepted).saturating_sub(closed)
        });
        self.gauges("ringdns_tcp_connections", "Open TCP connections", &in_f64(open))?;
        let generations = each(&|index| sources.shards[index].newest_generation());
        let help = "Table generation that the shard received last, of any table";
        self.gauges("ringdns_shard_table_generation", help, &in_f64(generations))
    }

    fn server(&mut self, sources: &MetricsSources, facts: &Facts) -> fmt::Result {
        let build = &sources.build;
        let labels: Labels<'_> = vec![
            ("goversion", build.compiler.as_str().into()),
            ("revision", build.revision.as_str().into()),
            ("version", build.version.as_str().into()),
        ];
        self.gauges("coredns_build_info", "The running build; always 1", &[(labels, 1.0)])?;
        let plugins: Vec<_> = facts
            .plugins
            .iter()
            .map(|plugin| {
                let mut labels = block_labels(&plugin.block);
                labels.insert(0, ("name", plugin.name.into()));
                (labels, 1.0)
            })
            .collect();
        self.gauges("coredns_plugin_enabled", "Plugins of each zone; always 1", &plugins)?;
        let hash: Vec<_> = facts
            .corefile_sha512
            .iter()
            .map(|sha512| (vec![("hash", "sha512".into()), ("value", sha512.as_str().into())], 1.0))
            .collect();
        self.gauges("coredns_reload_version_info", "The running Corefile; always 1", &hash)?;
        let shards: Vec<_> = facts
            .shards
            .iter()
            .enumerate()
            .map(|(index, shard)| {
                let core = shard.core.map_or_else(String::new, |core| core.to_string());
                let labels: Labels<'_> = vec![
                    ("backend", shard.backend.into()),
                    ("core", core.into()),
                    ("shard", index.to_string().into()),
                ];
                (labels, 1.0)
            })
            .collect();
        self.gauges("ringdns_shard_info", "Where each shard runs; always 1", &shards)?;
        let restarts: Vec<_> = (facts.shard_restarts.iter().enumerate())
            .flat_map(|(index, restarts)| {
                let ShardRestarts { panics, ends, hangs } = *restarts;
                [("panic", panics), ("end", ends), ("hang", hangs)].map(|(cause, count)| {
                    let labels: Labels<'_> =
                        vec![("cause", cause.into()), ("shard", index.to_string().into())];
                    (labels, count)
                })
            })
            .collect();
        let help = "Shards that got a new thread, by what the old one did";
        self.counters("ringdns_shard_restarts", help, &restarts)?;
        self.counters("coredns_panics", "Recovered panics", &[(Vec::new(), facts.panics)])?;
        if let Some(NodeErrors { interface_add, iptables, configmap }) = facts.node_errors {
            let kinds = [
                ("interface_add", interface_add),
                ("iptables", iptables),
                ("configmap", configmap),
            ];
            let counts = kinds.map(|(kind, count)| (vec![("errortype", kind.into())], count));
            let help = "Failed attempts of node mode to set up the node or to load its Corefile";
            self.counters("coredns_nodecache_setup_errors", help, &counts)?;
        }
        let help = "Log lines lost because standard output was read too slowly, or failed";
        self.counters("ringdns_log_lines_lost", help, &[(Vec::new(), facts.log_lines_lost)])?;
        let help = "Lines of the query log lost because queries came faster than they are logged";
        self.counters("ringdns_query_lines_lost", help, &[(Vec::new(), facts.query_lines_lost)])
    }

    fn process(&mut self) -> fmt::Result {
        for family in process::families() {
            let sample = [(Vec::new(), family.value)];
            match family.kind {
                ProcessFamilyKind::Counter => self.counters(family.name, family.help, &sample)?,
                ProcessFamilyKind::Gauge => self.gauges(family.name, family.help, &sample)?,
            }
        }
        Ok(())
    }
}

/// Each method writes one family. A counter's `name` lacks the `_total` of its series. `help` gets
/// a full stop here, like those of `prometheus-client`.
impl Families<'_, '_> {
    fn describe<'n>(
        &'n mut self,
        name: &'n str,
        help: &str,
        metric_type: MetricType,
    ) -> Result<MetricEncoder<'n>, fmt::Error> {
        self.encoder.encode_descriptor(name, &format!("{help}."), None, metric_type)
    }

    pub(super) fn counters<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[(Labels<'_>, V)],
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = self.describe(name, help, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, f64>(value, None)?;
            } else {
                let mut sample = family.encode_family(labels)?;
                sample.encode_counter::<NoLabelSet, _, f64>(value, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        samples: &[(Labels<'_>, f64)],
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = self.describe(name, help, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(value)?;
            } else {
                family.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }

    pub(super) fn histograms<'s>(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[f64],
        samples: impl Iterator<Item = HistogramSample<'s>>,
    ) -> fmt::Result {
        let mut samples = samples.filter(|sample| sample.counts.iter().any(|count| *count > 0));
        let Some(first) = samples.next() else { return Ok(()) };
        let mut family = self.describe(name, help, MetricType::Histogram)?;
        for sample in std::iter::once(first).chain(samples) {
            assert_eq!(sample.counts.len(), bounds.len() + 1, "{name}");
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(sample.counts.iter().copied()).collect();
            let count = sample.counts.iter().sum();
            let mut series = family.encode_family(&sample.labels)?;
            let sum = sample.sum;
            match sample.native_counts {
                None => series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
                Some(counts) => {
                    let (spans, deltas) = sparse(&counts[1..]);
                    let native = NativeHistogram {
                        schema: position::NATIVE_SCHEMA,
                        zero_threshold: position::NATIVE_ZERO_THRESHOLD_SECS,
                        zero_count: counts[0],
                        negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
                        positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
                        created: None,
                    };
                    series.encode_histogram_with_native::<NoLabelSet>(
                        sum, count, &buckets, None, native,
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Encodes buckets for a native histogram. Spans: runs of non-empty buckets, each as the gap since
/// the last run (for the first its index) and its length. Deltas: each bucket's count minus the one
/// before.
fn sparse(counts: &[u64]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let mut spans: Vec<(i32, u32)> = Vec::new();
    let mut deltas = Vec::new();
    let (mut run_end, mut before) = (0, 0);
    for (index, count) in (position::NATIVE_FIRST..).zip(counts).filter(|(_, count)| **count > 0) {
        match spans.last_mut() {
            Some((_, run_len)) if index == run_end => *run_len += 1,
            _ => spans.push((index - run_end, 1)),
        }
        run_end = index + 1;
        deltas.push((*count as i64).wrapping_sub(before));
        before = *count as i64;
    }
    (spans, deltas)
}

fn block_labels(LabelSet { server, zone, view }: &LabelSet) -> Labels<'_> {
    vec![("server", server.into()), ("view", view.into()), ("zone", zone.into())]
}

fn in_f64(samples: Vec<(Labels<'_>, u64)>) -> Vec<(Labels<'_>, f64)> {
    samples.into_iter().map(|(labels, value)| (labels, value as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::shard::EVENT_COUNT;
    use super::*;

    #[test]
    fn buckets_are_sparse() {
        let first = position::NATIVE_FIRST;
        assert_eq!(sparse(&[0, 0, 0]), (vec![], vec![]));
        assert_eq!(sparse(&[3, 5, 4]), (vec![(first, 3)], vec![3, 2, -1]));
        let (spans, deltas) = sparse(&[0, 7, 0, 0, 7, 1, 0]);
        assert_eq!(spans, [(first + 1, 1), (2, 2)]);
        assert_eq!(deltas, [7, 0, -6]);
    }

    #[test]
    fn every_event_is_exported() {
        // `TcpClosed` has no row: it is part of the gauge of open connections.
        let rows = SHARD_COUNTERS.len() + DROPS.len() + FORWARD_COUNTERS.len();
        assert_eq!(rows + 1, EVENT_COUNT);
    }
}
