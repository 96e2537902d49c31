//! The contents of a scrape: the same families as CoreDNS, and the numbers that the shards counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::client::{Family, Transport};
use engine::limits::LABEL_SETS_MAX;
use engine::metrics::answerer::Answerer;
use engine::metrics::{
    Build, EnabledPlugin, Format, HostsFacts, LabelSet, Metrics, ObjectFaults, Observation,
    ServiceKind, ShardEvent, ShardFacts, ShardMetrics, SnapshotFacts, SteeringFacts, TableFacts,
    UpstreamEvent,
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    Metric, MetricFamily,
};
use prost::Message as _;
use wire::header::Rcode;

const COREDNS: &str = include_str!("metrics/coredns-1.15.0.txt");

/// Families that CoreDNS exports and ringdns does not: those of plugins that it lacks, and of
/// CoreDNS's Kubernetes client.
const ABSENT: [&str; 2] =
    ["coredns_kubernetes_rest_client_requests_total", "coredns_local_localhost_requests_total"];

/// Families that CoreDNS had under these names until 1.10, as rows of the fixture.
const FORMER: [&str; 4] = [
    "counter coredns_forward_healthcheck_failures_total to",
    "counter coredns_forward_requests_total to",
    "counter coredns_forward_responses_total rcode to",
    "histogram coredns_forward_request_duration_seconds rcode to | 0.00025 0.0005 0.001 0.002 \
     0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 +Inf",
];

#[test]
fn families_labels_types_and_buckets_are_corednss() {
    let ours = rows(&in_text(&busy_metrics(), Format::Prometheus));
    let theirs: BTreeSet<String> = COREDNS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| !ABSENT.contains(&line.split(' ').nth(1).unwrap_or_default()))
        .chain(FORMER)
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "as in CoreDNS, but not here: {missing:#?}");
    let more: Vec<_> = ours
        .difference(&theirs)
        .filter(|row| !row.split(' ').nth(1).is_some_and(|name| name.starts_with("ringdns_")))
        .collect();
    assert!(more.is_empty(), "under CoreDNS's names, but not CoreDNS's: {more:#?}");
}

#[test]
fn hosts_files_are_one_series_each() {
    let text = in_text(&busy_metrics(), Format::Prometheus);
    let is_of_hosts = |line: &&str| !line.starts_with('#') && line.contains("dns_hosts_");
    let lines: Vec<_> = text.lines().filter(is_of_hosts).collect();
    let expected = [
        r#"coredns_hosts_entries{hostsfile="/etc/hosts"} 7.0"#,
        r#"coredns_hosts_entries{hostsfile="lan"} 12.0"#,
        "coredns_hosts_reload_timestamp_seconds 1.5",
        r#"ringdns_hosts_current{hostsfile="/etc/hosts"} 0.0"#,
        r#"ringdns_hosts_current{hostsfile="lan"} 1.0"#,
    ];
    assert_eq!(lines, expected);
    let none = Metrics::new(build(), 1);
    assert!(!in_text(&none, Format::Prometheus).contains("dns_hosts_"));
}

/// An address that nobody listens at any more keeps its count.
#[test]
fn steering_is_shown_by_address_and_protocol() {
    let text = in_text(&busy_metrics(), Format::Prometheus);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("ringdns_steering_")).collect();
    let expected = [
        r#"ringdns_steering_by_cpu{address="127.0.0.1:53",proto="udp"} 0.0"#,
        r#"ringdns_steering_by_cpu{address="127.0.0.1:53",proto="tcp"} 1.0"#,
        r#"ringdns_steering_fallbacks_total{address="127.0.0.1:53",proto="udp"} 2"#,
        r#"ringdns_steering_fallbacks_total{address="127.0.0.1:53",proto="tcp"} 2"#,
        r#"ringdns_steering_fallbacks_total{address="127.0.0.1:54",proto="udp"} 2"#,
    ];
    assert_eq!(lines, expected);
}

#[test]
fn both_texts_hold_the_same_series() {
    let metrics = busy_metrics();
    let series = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter(|line| !line.starts_with("process_") && !line.contains("_age_seconds"))
            .map(|line| match line.split_once(".0\",") {
                Some((name, rest)) if name.contains("_bucket{le=\"") => format!("{name}\",{rest}"),
                _ => line.replace(".0\"}", "\"}"),
            })
            .collect()
    };
    let prometheus = in_text(&metrics, Format::Prometheus);
    let open_metrics = in_text(&metrics, Format::OpenMetrics);
    assert_eq!(series(&prometheus), series(&open_metrics));
    assert!(open_metrics.ends_with("# EOF\n"));
    assert!(!prometheus.contains("# EOF"));
    assert!(open_metrics.contains("# TYPE coredns_dns_requests counter\n"));
    assert!(prometheus.contains("# TYPE coredns_dns_requests_total counter\n"));
}

#[test]
fn protobuf_holds_the_same_series() {
    let metrics = busy_metrics();
    let changes = |name: &str| name.starts_with("process_") || name.contains("_age_seconds");
    let text = in_text(&metrics, Format::Prometheus);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !changes(line));
    let of_text: BTreeMap<String, f64> = lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect();
    let mut of_protobuf = BTreeMap::new();
    for family in families(&metrics).iter().filter(|family| !changes(&family.name)) {
        let kind = family.r#type().as_str_name().to_ascii_lowercase();
        assert!(text.contains(&format!("# TYPE {} {kind}\n", family.name)), "{}", family.name);
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)));
        for metric in &family.metric {
            of_protobuf.extend(samples(&family.name, metric));
        }
    }
    assert_eq!(of_protobuf, of_text);
}

#[test]
fn native_buckets_distinguish_microseconds() {
    let metrics = Metrics::new(build(), 1);
    let block = metrics.label_set(&zone("cluster.local."));
    let shard = metrics.shard(0);
    for (answers, duration) in [
        (2, Duration::from_nanos(300)),
        (5, Duration::from_micros(3)),
        (1, Duration::from_micros(4)),
        (4, Duration::from_millis(20)),
    ] {
        for _ in 0..answers {
            shard.observe(&observation(block));
        }
        shard.finish_batch(duration);
    }
    let families = families(&metrics);
    let family = families.iter().find(|one| one.name == "coredns_dns_request_duration_seconds");
    let histogram = family.unwrap().metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema, histogram.zero_count), (12, 2, 2));
    // Buckets end at 2^(n / 4) seconds: 3 µs are in bucket -73, 4 µs in -71, 20 ms in -22.
    let spans: Vec<_> =
        histogram.positive_span.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!(spans, [(-73, 1), (1, 1), (48, 1)]);
    assert_eq!(histogram.positive_delta, [5, -4, 3]);
    assert_eq!(histogram.bucket[0].cumulative_count, 8, "all but the last, in CoreDNS's first");
}

#[test]
fn a_response_is_counted_under_its_labels() {
    let metrics = Metrics::new(build(), 1);
    let block = metrics.label_set(&zone("cluster.local."));
    let shard = metrics.shard(0);
    shard.observe(&Observation {
        transport: Transport::Tcp,
        family: Family::V6,
        qtype: 28,
        dnssec_ok: true,
        rcode: Rcode::NxDomain,
        query_len: 47,
        reply_len: 512,
        ..observation(block)
    });
    shard.observe(&Observation { qtype: 65_280, ..observation(block) });
    shard.finish_batch(Duration::from_micros(3));
    let text = in_text(&metrics, Format::Prometheus);
    let set = r#"server="dns://:53",view="",zone="cluster.local.""#;
    let tcp = format!(r#"proto="tcp",{set}"#);
    let aaaa =
        r#"family="2",proto="tcp",server="dns://:53",type="AAAA",view="",zone="cluster.local.""#;
    let other =
        r#"family="1",proto="udp",server="dns://:53",type="other",view="",zone="cluster.local.""#;
    for line in [
        format!("coredns_dns_requests_total{{{aaaa}}} 1"),
        format!("coredns_dns_requests_total{{{other}}} 1"),
        format!("coredns_dns_do_requests_total{{{set}}} 1"),
        format!(r#"coredns_dns_responses_total{{plugin="kubernetes",rcode="NXDOMAIN",{set}}} 1"#),
        format!(r#"coredns_dns_request_size_bytes_bucket{{le="0",{tcp}}} 0"#),
        format!(r#"coredns_dns_request_size_bytes_bucket{{le="100",{tcp}}} 1"#),
        format!("coredns_dns_request_size_bytes_sum{{{tcp}}} 47.0"),
        format!(r#"coredns_dns_response_size_bytes_bucket{{le="511",{tcp}}} 0"#),
        format!(r#"coredns_dns_response_size_bytes_bucket{{le="1023",{tcp}}} 1"#),
        format!("coredns_dns_response_size_bytes_count{{{tcp}}} 1"),
        format!(r#"coredns_dns_request_duration_seconds_bucket{{le="0.00025",{set}}} 2"#),
        format!(r#"ringdns_dns_request_duration_seconds_bucket{{le="0.000002",{set}}} 0"#),
        format!(r#"ringdns_dns_request_duration_seconds_bucket{{le="0.000004",{set}}} 2"#),
        format!("ringdns_dns_request_duration_seconds_sum{{{set}}} 0.000006"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn shards_are_summed_and_responses_without_a_block_are_counted() {
    const ANSWERS: u64 = 10_000;
    let metrics = Arc::new(Metrics::new(build(), 4));
    let block = metrics.label_set(&zone("."));
    std::thread::scope(|scope| {
        for index in 0..4 {
            let shard = metrics.shard(index);
            scope.spawn(move || {
                for _ in 0..ANSWERS / 100 {
                    for _ in 0..100 {
                        shard.observe(&observation(block));
                    }
                    shard.observe(&observation(None));
                    shard.finish_batch(Duration::from_millis(1));
                }
            });
        }
        // Concurrent scrapes disturb nothing.
        for _ in 0..10 {
            let _ = in_text(&metrics, Format::Prometheus);
        }
    });
    let text = in_text(&metrics, Format::Prometheus);
    let total = |name: &str| -> f64 {
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!(total("coredns_dns_requests_total{"), 4.0 * ANSWERS as f64);
    assert_eq!(total("coredns_dns_request_duration_seconds_count{"), 4.0 * ANSWERS as f64);
    assert_eq!(total("coredns_dns_request_duration_seconds_sum{"), 4.0 * ANSWERS as f64 / 1000.0);
    assert_eq!(total("ringdns_answers_total{"), 4.0 * ANSWERS as f64 * 1.01);
    assert_eq!(total("ringdns_batches_total{"), 4.0 * ANSWERS as f64 / 100.0);
}

#[test]
fn a_batch_may_use_every_label_set() {
    let metrics = Metrics::new(build(), 1);
    let shard = metrics.shard(0);
    let sets: Vec<_> =
        (0..LABEL_SETS_MAX).map(|n| metrics.label_set(&zone(&format!("z{n}.")))).collect();
    for set in sets.iter().chain(&sets) {
        assert!(set.is_some());
        shard.observe(&observation(*set));
    }
    shard.finish_batch(Duration::from_micros(1));
    assert_eq!(metrics.label_set(&zone("one-too-many.")), None);
    assert_eq!(metrics.label_set(&zone("z7.")), Some(7), "known labels keep their index");
    let text = in_text(&metrics, Format::Prometheus);
    let counted = text.lines().filter(|line| {
        line.starts_with("coredns_dns_request_duration_seconds_count{") && line.ends_with(" 2")
    });
    assert_eq!(counted.count(), LABEL_SETS_MAX);
}

#[test]
fn unusual_objects_are_counted_by_kind() {
    let text = in_text(&busy_metrics(), Format::Prometheus);
    let labels = r#"kind="EndpointSlice",table="0",zone="cluster.local.""#;
    for (name, count) in [("objects_refused", 1), ("odd_parts", 2), ("repaired_objects", 4)] {
        let line = format!("ringdns_kubernetes_{name}_total{{{labels}}} {count}");
        assert!(text.contains(&line), "{line}: {text}");
    }
    let line = r#"ringdns_kubernetes_names_refused_total{table="0",zone="cluster.local."} 3"#;
    assert!(text.contains(line), "{text}");
}

#[test]
fn open_connections_are_accepted_minus_closed() {
    let metrics = Metrics::new(build(), 1);
    let shard = metrics.shard(0);
    shard.count(ShardEvent::TcpAccepted, 5);
    shard.count(ShardEvent::TcpClosed, 3);
    shard.count(ShardEvent::SocketFull, 7);
    let text = in_text(&metrics, Format::Prometheus);
    assert!(text.contains("ringdns_tcp_connections{shard=\"0\"} 2"), "{text}");
    assert!(text.contains("ringdns_datagrams_dropped_total{reason=\"socket_full\"} 7"), "{text}");
}

#[test]
fn upstreams_are_counted_by_address_across_shards() {
    let metrics = Metrics::new(build(), 2);
    let [to, other] =
        ["10.0.0.1:53", "[fd00::1]:853"].map(|to| metrics.upstream(to.parse().unwrap()));
    to.shard(0).answered(0, Duration::from_micros(700));
    to.shard(1).answered(0, Duration::from_micros(250));
    to.shard(1).answered(23, Duration::from_secs(9));
    // Another `forward` line, or the next Corefile, continues the count.
    let again = metrics.upstream("10.0.0.1:53".parse().unwrap());
    again.shard(0).count(UpstreamEvent::Foreign);
    again.shard(1).count(UpstreamEvent::Foreign);
    other.shard(0).count(UpstreamEvent::WentDown);
    other.shard(1).count(UpstreamEvent::WentDown);
    other.shard(0).count(UpstreamEvent::CameBack);
    other.shard(0).count(UpstreamEvent::TlsOpened);
    other.loop_found();
    let text = in_text(&metrics, Format::Prometheus);
    let duration = "coredns_proxy_request_duration_seconds";
    let (first, second) =
        (r#"proxy_name="forward",to="10.0.0.1:53""#, r#"proxy_name="forward",to="[fd00::1]:853""#);
    let noerror = r#"proxy_name="forward",rcode="NOERROR",to="10.0.0.1:53""#;
    for line in [
        format!("{duration}_bucket{{le=\"0.00025\",{noerror}}} 1"),
        format!("{duration}_bucket{{le=\"0.001\",{noerror}}} 2"),
        format!("{duration}_sum{{{noerror}}} 0.00095"),
        format!("{duration}_count{{{}}} 1", noerror.replace("NOERROR", "other")),
        format!("ringdns_forward_foreign_answers_total{{{first}}} 2"),
        format!("ringdns_forward_upstream_down{{{first}}} 0.0"),
        format!("ringdns_forward_upstream_down{{{second}}} 1.0"),
        format!("ringdns_forward_upstream_loops{{{second}}} 1.0"),
        format!("coredns_proxy_conn_cache_misses_total{{proto=\"tcp-tls\",{second}}} 1"),
        // CoreDNS's former names.
        r#"coredns_forward_requests_total{to="10.0.0.1:53"} 3"#.to_owned(),
        r#"coredns_forward_responses_total{rcode="NOERROR",to="10.0.0.1:53"} 2"#.to_owned(),
        r#"coredns_forward_responses_total{rcode="other",to="10.0.0.1:53"} 1"#.to_owned(),
        r#"coredns_forward_healthcheck_failures_total{to="[fd00::1]:853"} 0"#.to_owned(),
        r#"coredns_forward_request_duration_seconds_sum{rcode="NOERROR",to="10.0.0.1:53"} 0.00095"#
            .to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    assert!(!text.contains("conn_cache_hits"), "{text}");
}

#[test]
fn labels_from_a_corefile_are_escaped() {
    let metrics = Metrics::new(build(), 1);
    let block = metrics.label_set(&zone("a\"b\\c\n."));
    metrics.shard(0).observe(&observation(block));
    let text = in_text(&metrics, Format::Prometheus);
    assert!(text.contains(r#"zone="a\"b\\c\n.""#), "{text}");
}

/// A scrape in protobuf, read back.
fn families(metrics: &Metrics) -> Vec<MetricFamily> {
    let body = metrics.scrape(Format::Protobuf);
    let mut rest = body.as_slice();
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).expect("a message"));
    }
    families
}

/// A metric's samples in the form of the text: series and value.
fn samples(name: &str, metric: &Metric) -> Vec<(String, f64)> {
    let series = |suffix: &str, bound: Option<f64>| {
        let bound = bound.map(|bound| match bound {
            f64::INFINITY => "le=\"+Inf\"".to_owned(),
            bound => format!("le=\"{bound}\""),
        });
        let labels = metric.label.iter().map(|pair| format!("{}=\"{}\"", pair.name, pair.value));
        let labels: Vec<String> = bound.into_iter().chain(labels).collect();
        let labels = labels.join(",");
        if labels.is_empty() {
            format!("{name}{suffix}")
        } else {
            format!("{name}{suffix}{{{labels}}}")
        }
    };
    if let Some(histogram) = &metric.histogram {
        let count = histogram.sample_count as f64;
        let buckets = histogram.bucket.iter().map(|bucket| {
            (series("_bucket", Some(bucket.upper_bound)), bucket.cumulative_count as f64)
        });
        let sum = (series("_sum", None), histogram.sample_sum);
        return buckets.chain([sum, (series("_count", None), count)]).collect();
    }
    let counter = metric.counter.as_ref().map(|counter| counter.value);
    let value = counter.or_else(|| metric.gauge.as_ref().map(|gauge| gauge.value));
    vec![(series("", None), value.expect("a counter or a gauge"))]
}

fn in_text(metrics: &Metrics, format: Format) -> String {
    String::from_utf8(metrics.scrape(format)).expect("text")
}

/// Metrics with a sample in every family.
fn busy_metrics() -> Metrics {
    let metrics = Metrics::new(build(), 2);
    let block = metrics.label_set(&zone("cluster.local."));
    let shard: Arc<ShardMetrics> = metrics.shard(1);
    shard.observe(&Observation { dnssec_ok: true, ..observation(block) });
    shard.observe(&Observation { transport: Transport::Tcp, ..observation(block) });
    shard.finish_batch(Duration::from_micros(20));
    shard.table_taken(3);
    let upstream = metrics.upstream("10.0.0.1:53".parse().unwrap());
    upstream.shard(1).answered(0, Duration::from_micros(700));
    for event in [UpstreamEvent::TcpKept, UpstreamEvent::UdpOpened, UpstreamEvent::CheckFailed] {
        upstream.shard(0).count(event);
    }
    metrics.programmed(ServiceKind::ClusterIp, Duration::from_millis(2));
    metrics.health_polled(Duration::from_micros(200), true);
    metrics.reload_failed();
    let mut facts = metrics.facts();
    facts.plugins.push(EnabledPlugin { block: zone("cluster.local."), name: "kubernetes" });
    facts.corefile_sha512 = Some("c0ffee".to_owned());
    facts.shards.push(ShardFacts { core: Some(0), backend: "uring" });
    facts.shards.push(ShardFacts { core: None, backend: "mmsg" });
    for (port, transport, is_by_cpu) in [
        (53, Transport::Udp, Some(false)),
        (53, Transport::Tcp, Some(true)),
        (54, Transport::Udp, None),
    ] {
        let address = ([127, 0, 0, 1], port).into();
        facts.steering.push(SteeringFacts { address, transport, is_by_cpu, fallbacks: 2 });
    }
    facts.tables.push(TableFacts {
        slot: 0,
        zone: "cluster.local.".to_owned(),
        generation: 3,
        name_count: 12,
        len: 4096,
        is_synced: true,
        is_current: true,
        published_at: Some(SystemTime::now()),
        last_event_at: Some(SystemTime::now()),
        confirmed_at: Some(SystemTime::now()),
        is_connected: Some(true),
        snapshot: Some(SnapshotFacts {
            is_served: false,
            written_at: Some(SystemTime::now()),
            failures: 1,
        }),
        refused_name_count: 3,
        faults: vec![ObjectFaults { kind: "EndpointSlice", refused: 1, odd_parts: 2, repaired: 4 }],
    });
    let modified = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
    for (file, entry_count, modified) in
        [("/etc/hosts", 9, None), ("/etc/hosts", 7, None), ("lan", 12, modified)]
    {
        let problem = modified.is_none().then(|| "File does not exist".to_owned());
        facts.hosts.push(HostsFacts { file: file.to_owned(), entry_count, modified, problem });
    }
    drop(facts);
    metrics
}

fn build() -> Build {
    Build { version: "0.1.0".to_owned(), revision: String::new(), compiler: "rustc".to_owned() }
}

fn zone(zone: &str) -> LabelSet {
    LabelSet { server: "dns://:53".to_owned(), zone: zone.to_owned(), view: String::new() }
}

fn observation(block: Option<usize>) -> Observation {
    Observation {
        block,
        transport: Transport::Udp,
        family: Family::V4,
        qtype: 1,
        dnssec_ok: false,
        rcode: Rcode::NoError,
        plugin: Answerer::plugin("kubernetes"),
        query_len: 47,
        reply_len: 92,
    }
}

/// The families of a scrape, as rows of the fixture.
fn rows(text: &str) -> BTreeSet<String> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut bounds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(kinds.insert(name, kind), None, "{name} comes twice");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, pairs) = series.split_once('{').unwrap_or((series, "}"));
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| kinds.get(family) == Some(&"histogram"))
            .unwrap_or(name);
        assert!(kinds.contains_key(family), "{line} has no type");
        // No label value of these tests contains a comma.
        for pair in pairs.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').unwrap();
            if label == "le" {
                let bounds = bounds.entry(family).or_default();
                let bound = value.trim_matches('"');
                if !bounds.contains(&bound) {
                    bounds.push(bound);
                }
            } else {
                labels.entry(family).or_default().insert(label);
            }
        }
    }
    kinds
        .into_iter()
        .map(|(name, kind)| {
            let mut row = format!("{kind} {name}");
            for label in labels.get(name).into_iter().flatten() {
                row = format!("{row} {label}");
            }
            match bounds.get(name) {
                Some(bounds) => format!("{row} | {}", bounds.join(" ")),
                None => row,
            }
        })
        .collect()
}
