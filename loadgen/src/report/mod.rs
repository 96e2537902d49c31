//! What a run reports, for people and for programs.
//!
//! Every format is written from one `Summary`, so that a figure is computed once and is the same
//! everywhere.

pub mod about;
pub mod dnsperf;
pub mod hgrm;
pub mod hlog;
pub mod html;
pub mod json;
pub mod plot;
pub mod terminal;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::{Load, Plan};
use crate::rcode::{RCODE_CLASSES, RCODE_NAMES};
use crate::run::Outcome;
use crate::tally::{Counts, Recorded};
use crate::transport::{Mode, Transport};
use crate::workload::Workload;

/// Quantiles that every report shows, with their names.
pub const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
/// Above this share of a core, the figures may be the generator's own limit.
pub const BUSY_MAX: f64 = 0.9;

/// A distribution of times, in nanoseconds.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Times {
    pub count: u64,
    pub min_ns: u64,
    pub mean_ns: f64,
    pub stdev_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub max_ns: u64,
}

impl Times {
    /// `None` without values: a percentile of nothing would read as 0 ns, the best possible.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            stdev_ns: histogram.stdev(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p99_9_ns: histogram.value_at_quantile(0.999),
            p99_99_ns: histogram.value_at_quantile(0.9999),
            max_ns: histogram.max(),
        })
    }

    /// In the order of `QUANTILES`.
    pub fn quantiles_ns(&self) -> [u64; QUANTILES.len()] {
        [self.p50_ns, self.p90_ns, self.p99_ns, self.p99_9_ns, self.p99_99_ns]
    }
}

/// What the generator itself used.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct OwnUse {
    pub threads: usize,
    /// Share of the run in which the busiest thread had work; above `BUSY_MAX` the figures may be
    /// the generator's limit. `None`: nothing was sent.
    pub busy_max: Option<f64>,
    /// CPU time of all threads, in cores, including the wait for lost queries.
    pub cpu_cores: Option<f64>,
    pub cpu_ns_per_answer: Option<f64>,
}

/// One transport's part of a run that uses both.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct OverTransport {
    pub transport: &'static str,
    pub counts: Counts,
    /// `None`: no query was answered or lost.
    pub loss: Option<f64>,
    /// `None`: there was no response.
    pub latency: Option<Times>,
    pub latency_by_rcode: Vec<(&'static str, Times)>,
}

#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Summary {
    pub server: String,
    pub transport: String,
    /// `closed` or `open`.
    pub loop_kind: &'static str,
    pub rate_qps: Option<String>,
    pub spacing: Option<&'static str>,
    pub outstanding_max: u32,
    pub sockets: usize,
    pub seed: u64,
    pub timeout_secs: f64,
    pub run_secs: f64,
    /// `None`, like the next: nothing was sent, so there is no period to divide by.
    pub sent_qps: Option<f64>,
    pub answered_qps: Option<f64>,
    /// Share of the queries whose outcome is known. `None`: there are none.
    pub loss: Option<f64>,
    /// Queries that were neither answered nor lost when a signal ended the run.
    pub in_flight: u64,
    pub counts: Counts,
    pub rcodes: Vec<(&'static str, u64)>,
    /// Latency of the responses from the intended send time. `None`: there was no response.
    pub latency: Option<Times>,
    /// The same, with each lost query counted as the timeout.
    pub latency_with_lost: Option<Times>,
    pub latency_by_rcode: Vec<(&'static str, Times)>,
    /// Per transport, if both were used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_transport: Vec<OverTransport>,
    /// From the intended to the actual send time.
    pub send_lag: Option<Times>,
    pub own: OwnUse,
    pub server_cpu_ns_per_answer: Option<f64>,
    pub server_drops: Option<u64>,
    /// Some of the failures that `--verify` found.
    pub verify_failures: Vec<String>,
    pub interrupted: bool,
    /// The server's process, if it was named, ended during the run.
    pub server_exited: bool,
    pub warnings: Vec<String>,
}

impl Summary {
    pub fn new(plan: &Plan, workload: &Workload, outcome: &Outcome) -> Self {
        let counts = outcome.totals.counts();
        let answered = counts.answered_total();
        let run_secs = outcome.run_ns as f64 / 1e9;
        let latency = outcome.totals.latency();
        let mut with_lost = latency.clone();
        if counts.timed_out > 0 {
            // Recording zero values would still set the maximum.
            with_lost.saturating_record_n(plan.timeout.as_nanos() as u64, counts.timed_out);
        }
        let (loop_kind, rate_qps, spacing) = match &plan.load {
            Load::Closed => ("closed", None, None),
            Load::Open { rate, spacing } => ("open", Some(rate.to_string()), Some(spacing.name())),
        };
        let per_answer = |ns: u64| (answered > 0).then(|| ns as f64 / answered as f64);
        let mut summary = Self {
            server: plan.server.to_string(),
            transport: plan.mode.to_string(),
            loop_kind,
            rate_qps,
            spacing,
            outstanding_max: plan.outstanding_max,
            sockets: plan.socket_count,
            seed: plan.seed,
            timeout_secs: plan.timeout.as_secs_f64(),
            run_secs,
            sent_qps: ratio(counts.sent as f64, run_secs),
            answered_qps: ratio(answered as f64, run_secs),
            loss: loss(&counts),
            in_flight: counts.in_flight(),
            rcodes: RCODE_NAMES
                .into_iter()
                .zip(counts.answered)
                .filter(|(_, count)| *count > 0)
                .collect(),
            latency: Times::of(&latency),
            latency_with_lost: Times::of(&with_lost),
            latency_by_rcode: times_by_rcode(|class| outcome.totals.latency_of_rcode(class)),
            by_transport: match plan.mode {
                Mode::One(_) => Vec::new(),
                Mode::Both { .. } => {
                    Transport::ALL.map(|transport| OverTransport::new(transport, outcome)).into()
                }
            },
            // Empty for a closed loop, which has no intended send times.
            send_lag: Times::of(&outcome.totals.lag),
            own: own_use(outcome, answered),
            server_cpu_ns_per_answer: outcome.server_cpu_ns.and_then(per_answer),
            server_drops: outcome.server_drops,
            verify_failures: verify_failures(workload, outcome),
            interrupted: outcome.interrupted,
            server_exited: outcome.server_exited,
            warnings: Vec::new(),
            counts,
        };
        summary.warnings = warnings(&summary, outcome);
        summary
    }

    /// Whether the generator was so busy that the figures may be its own limit.
    pub fn is_generator_at_limit(&self) -> bool {
        self.own.busy_max.is_some_and(|busy| busy > BUSY_MAX)
    }
}

impl OverTransport {
    fn new(transport: Transport, outcome: &Outcome) -> Self {
        let Recorded { counts, latency } = &outcome.totals.by_transport[transport.index()];
        Self {
            transport: transport.name(),
            counts: counts.clone(),
            loss: loss(counts),
            latency: Times::of(&outcome.totals.latency_over(transport)),
            latency_by_rcode: times_by_rcode(|class| latency[class].clone()),
        }
    }
}

fn times_by_rcode(of: impl Fn(usize) -> Histogram<u64>) -> Vec<(&'static str, Times)> {
    let rows = RCODE_CLASSES.into_iter().enumerate().map(|(class, name)| (name, of(class)));
    rows.filter_map(|(name, histogram)| Some((name, Times::of(&histogram)?))).collect()
}

fn verify_failures(workload: &Workload, outcome: &Outcome) -> Vec<String> {
    let describe = |&(query, rcode): &(u32, u8)| {
        let (name, rtype) = workload.question(query);
        let expected = workload.expectation(query).map(|expected| {
            let addresses: Vec<String> =
                expected.addresses.iter().map(|address| format!(" {address}")).collect();
            format!("{}{}", RCODE_NAMES[usize::from(expected.rcode)], addresses.concat())
        });
        let got = RCODE_NAMES[usize::from(rcode)];
        format!(
            "{name} {rtype}: expected {}, got {got} or different addresses",
            expected.unwrap_or_default()
        )
    };
    outcome.totals.verify_failures.iter().map(describe).collect()
}

fn own_use(outcome: &Outcome, answered: u64) -> OwnUse {
    let threads = &outcome.totals.threads;
    let cpu_ns: u64 = threads.iter().map(|thread| thread.cpu_ns).sum();
    let whole_ns = threads.iter().map(|thread| thread.whole_ns).max().unwrap_or(0);
    let busy =
        threads.iter().filter_map(|thread| ratio(thread.busy_ns as f64, outcome.run_ns as f64));
    OwnUse {
        threads: threads.len(),
        busy_max: busy.reduce(f64::max),
        cpu_cores: ratio(cpu_ns as f64, whole_ns.max(outcome.run_ns) as f64),
        cpu_ns_per_answer: (answered > 0).then(|| cpu_ns as f64 / answered as f64),
    }
}

/// What a reader must know before trusting the figures.
fn warnings(summary: &Summary, outcome: &Outcome) -> Vec<String> {
    let counts = &summary.counts;
    let mut warnings = Vec::new();
    if outcome.interrupted {
        warnings
            .push("stopped by a signal: the report covers what was measured until then".to_owned());
    }
    if outcome.server_exited {
        warnings.push(
            "the server's process (--server-pid) exited during the run, so its CPU time is unknown"
                .to_owned(),
        );
    }
    if counts.answered_total() == 0 {
        let why = match counts {
            Counts { refused: 1.., .. } => "; the port is closed",
            Counts { connects: 0, sent: 0, .. } => "; no connection could be made",
            Counts { .. } => "",
        };
        warnings
            .push(format!("NO RESPONSE from {} over {}{why}", summary.server, summary.transport));
    }
    if !summary.by_transport.is_empty() && counts.connects == 0 {
        warnings.push("no TCP connection could be made".to_owned());
    }
    if outcome.totals.gave_up {
        warnings.push(format!(
            "the run ended early, since no TCP connection was open for {} s (-t)",
            summary.timeout_secs
        ));
    }
    if let Some(busy) = summary.own.busy_max.filter(|&busy| busy > BUSY_MAX) {
        warnings.push(format!(
            "the generator was busy {:.0} % of the time, so the figures may be its own limit; \
             use more threads (-T) or cores",
            busy * 100.0
        ));
    }
    if outcome.server_cpu_ns == Some(0) && counts.answered_total() > 0 {
        warnings.push("the server's process used no CPU time: another process answered".to_owned());
    }
    if counts.own_drops > 0 {
        warnings.push(format!(
            "{} responses were lost in the generator's own socket buffers; use a larger -b, more \
             sockets (-c) or a lower rate",
            human_count(counts.own_drops)
        ));
    }
    if let Some(drops) = outcome.server_drops.filter(|&drops| drops > 0) {
        warnings.push(format!(
            "{} queries were lost in the server's socket buffers before it read them",
            human_count(drops)
        ));
    }
    if counts.unsent > 0 {
        warnings.push(format!(
            "{} queries that were due were never sent: {}",
            human_count(counts.unsent),
            why_unsent(summary, outcome)
        ));
    }
    warnings
}

/// Why queries were never sent, as far as the counts show it.
fn why_unsent(summary: &Summary, outcome: &Outcome) -> String {
    let [udp, tcp] = Transport::ALL.map(|one| &outcome.totals.by_transport[one.index()].counts);
    let rows = [
        (tcp.refused + tcp.send_errors + tcp.connections_lost > 0, "TCP connections were missing"),
        (udp.send_errors > 0, "the kernel refused to send them"),
        (summary.is_generator_at_limit(), "the generator could not keep up"),
    ];
    let seen: Vec<&str> = rows.into_iter().filter(|(is, _)| *is).map(|(_, why)| why).collect();
    match seen.as_slice() {
        [] if tcp.sent > 0 => {
            "the limit on queries in flight (-q) was reached, or the server read \
                               its TCP connections too slowly"
                .to_owned()
        }
        [] => "the limit on queries in flight (-q) was reached".to_owned(),
        reasons => reasons.join(", and "),
    }
}

fn loss(counts: &Counts) -> Option<f64> {
    let lost = counts.timed_out;
    ratio(lost as f64, (counts.answered_total() + lost) as f64)
}

/// `None` if `whole` is 0: 0 would be a figure that was not measured.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// A share of the queries, or a dash if there were none.
pub fn human_loss(loss: Option<f64>) -> String {
    loss.map_or_else(|| "–".to_owned(), |loss| format!("{:.3} %", loss * 100.0))
}

/// Queries per second, or a dash if there was no run time.
pub fn human_rate(qps: Option<f64>) -> String {
    match qps {
        None => "–".to_owned(),
        Some(qps) if qps < 10.0 && qps.fract() != 0.0 => format!("{qps:.3}"),
        Some(qps) => human_count(qps.round() as u64),
    }
}

/// A ratio with at least two significant digits: 0.00 would say nothing.
pub fn human_ratio(ratio: f64) -> String {
    let decimals = match ratio {
        0.0 => 0,
        ratio if ratio < 0.000_95 => return "<0.001".to_owned(),
        ratio if ratio < 0.009_5 => 4,
        ratio if ratio < 0.095 => 3,
        _ => 2,
    };
    format!("{ratio:.decimals$}")
}

/// Shown in place of times.
pub fn no_times(counts: &Counts) -> &'static str {
    match counts {
        Counts { sent: 0, .. } => "none sent",
        counts if counts.in_flight() > 0 => "no response",
        Counts { .. } => "all lost",
    }
}

/// A time with three digits and a fitting unit.
pub fn human_time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A time, without its unit, in the unit that `human_time` gives to `other_ns` next to it.
pub fn in_unit_of(other_ns: f64, ns: f64) -> String {
    let size = match other_ns {
        other if other < 1e3 => 1.0,
        other if other < 1e6 => 1e3,
        other if other < 1e9 => 1e6,
        _ => 1e9,
    };
    let value = ns / size;
    let decimals = match value {
        _ if size == 1.0 => 0,
        value if value < 0.1 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A count in groups of three digits: 1 234 567.
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_three_digits() {
        let rows = [
            (0.0, "0 ns"),
            (999.0, "999 ns"),
            (1_234.0, "1.23 µs"),
            (72_040.0, "72.0 µs"),
            (415_000.0, "415 µs"),
            (4_100_000.0, "4.10 ms"),
            (5e9, "5.00 s"),
        ];
        for (ns, text) in rows {
            assert_eq!(human_time(ns), text);
        }
        let rows = [
            (0.0, "0"),
            (0.000_1, "<0.001"),
            (0.002_1, "0.0021"),
            (0.083, "0.083"),
            (0.96, "0.96"),
            (24.0, "24.00"),
        ];
        for (ratio, text) in rows {
            assert_eq!(human_ratio(ratio), text);
        }
        let rows = [(None, "–"), (Some(0.1), "0.100"), (Some(9.0), "9"), (Some(1e4), "10 000")];
        for (qps, text) in rows {
            assert_eq!(human_rate(qps), text);
        }
        let rows = [
            (500.0, 999.6, "1000"),
            (1_050_000.0, 93_000.0, "0.093"),
            (1_050_000.0, 4_100_000.0, "4.10"),
            (1_050_000.0, 61_000_000.0, "61.0"),
            (5e9, 4_100_000.0, "0.004"),
        ];
        for (other_ns, ns, text) in rows {
            assert_eq!(in_unit_of(other_ns, ns), text);
        }
        assert_eq!(
            [0, 12, 123, 1_234, 1_234_567].map(human_count),
            ["0", "12", "123", "1 234", "1 234 567"]
        );
    }
}
