//! The report as a table for the terminal.

use std::fmt::Write;

use super::{QUANTILES, Summary, Times, human_count, human_loss, human_rate, human_time, no_times};
use crate::tally::Counts;

/// The whole report, ending in a line feed.
pub fn render(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, summary);
    text
}

fn write(out: &mut String, summary: &Summary) -> std::fmt::Result {
    counts(out, summary)?;
    writeln!(out)?;
    latencies(out, summary)?;
    writeln!(out)?;
    rest(out, summary)?;
    for warning in &summary.warnings {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

/// The load, and how many queries had which result.
pub(super) fn counts(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let counts = &summary.counts;
    let rate = match (&summary.rate_qps, summary.spacing) {
        (Some(rate), Some(spacing)) => format!("open loop, {rate} per second, {spacing} spacing"),
        _ => format!("closed loop, {} in flight", summary.outstanding_max),
    };
    writeln!(
        out,
        "{} over {}: {rate}, {} socket{}{}, {:.1} s",
        summary.server,
        summary.transport,
        summary.sockets,
        if summary.sockets == 1 { "" } else { "s" },
        if summary.by_transport.is_empty() { "" } else { " each" },
        summary.run_secs
    )?;
    writeln!(out)?;
    let rate = |qps: Option<f64>| {
        qps.map_or_else(String::new, |_| format!("{} per second", human_rate(qps)))
    };
    line(out, "sent", counts.sent, &rate(summary.sent_qps))?;
    line(out, "answered", counts.answered_total(), &rate(summary.answered_qps))?;
    let lost = summary.loss.map_or_else(String::new, |_| {
        format!("{}, after {} s", human_loss(summary.loss), summary.timeout_secs)
    });
    line(out, "lost", counts.timed_out, &lost)?;
    for (rcode, count) in &summary.rcodes {
        writeln!(out, "  {rcode:<16}{:>14}", human_count(*count))?;
    }
    for over in &summary.by_transport {
        let lost =
            format!("{} lost, {}", human_count(over.counts.timed_out), human_loss(over.loss));
        line(out, &format!("over {}", over.transport), over.counts.answered_total(), &lost)?;
    }
    for (name, count) in oddities(summary) {
        if count > 0 {
            line(out, name, count, "")?;
        }
    }
    Ok(())
}

/// What the generator and the server used, and failures of `--verify`.
pub(super) fn rest(out: &mut String, summary: &Summary) -> std::fmt::Result {
    own(out, summary)?;
    for failure in &summary.verify_failures {
        writeln!(out, "not as expected: {failure}")?;
    }
    Ok(())
}

fn line(out: &mut String, name: &str, count: u64, remark: &str) -> std::fmt::Result {
    let text = format!("{name:<18}{:>14}  {remark}", human_count(count));
    writeln!(out, "{}", text.trim_end())
}

/// Shown only if the count is above 0.
fn oddities(summary: &Summary) -> [(&'static str, u64); 16] {
    let counts = &summary.counts;
    [
        ("still in flight", summary.in_flight),
        ("truncated (TC)", counts.truncated),
        ("duplicates", counts.duplicates),
        ("late responses", counts.late_answers),
        ("wrong id", counts.wrong_id),
        ("wrong question", counts.wrong_question),
        ("garbage", counts.garbage),
        ("different case", counts.other_case),
        ("no question", counts.question_left_out),
        ("as expected", counts.verified),
        ("NOT AS EXPECTED", counts.verify_failed),
        ("refused", counts.refused),
        ("send errors", counts.send_errors),
        ("sent late", counts.sent_late),
        ("never sent", counts.unsent),
        ("connections lost", counts.connections_lost),
    ]
}

/// A line of the latency table.
pub(super) struct LatencyRow<'a> {
    pub(super) name: String,
    /// `Err`: shown in place of times.
    pub(super) times: Result<&'a Times, &'static str>,
}

/// The point from which latencies count.
pub(super) fn since(summary: &Summary) -> &'static str {
    if summary.loop_kind == "open" { "from the intended send time" } else { "from the send" }
}

pub(super) fn latency_rows(summary: &Summary) -> Vec<LatencyRow<'_>> {
    let mut rows = vec![LatencyRow::of("responses".to_owned(), &summary.latency, &summary.counts)];
    if let Some(times) = summary.latency_with_lost.as_ref().filter(|_| summary.counts.timed_out > 0)
    {
        rows.push(LatencyRow { name: "including lost".to_owned(), times: Ok(times) });
    }
    rows.extend(rows_by_rcode(&summary.latency_by_rcode));
    for over in &summary.by_transport {
        rows.push(LatencyRow::of(format!("over {}", over.transport), &over.latency, &over.counts));
        rows.extend(rows_by_rcode(&over.latency_by_rcode));
    }
    let lag = summary.send_lag.as_ref();
    rows.extend(lag.map(|lag| LatencyRow { name: "send lag".to_owned(), times: Ok(lag) }));
    rows
}

impl<'a> LatencyRow<'a> {
    fn of(name: String, times: &'a Option<Times>, counts: &Counts) -> Self {
        Self { name, times: times.as_ref().ok_or_else(|| no_times(counts)) }
    }
}

/// Empty if there is only one rcode.
fn rows_by_rcode<'a>(
    all: &'a [(&'static str, Times)],
) -> impl Iterator<Item = LatencyRow<'a>> + use<'a> {
    let several = if all.len() > 1 { all } else { &[] };
    several.iter().map(|(rcode, times)| LatencyRow { name: format!("  {rcode}"), times: Ok(times) })
}

/// The quantiles and the maximum, formatted.
pub(super) fn shown(times: &Times) -> Vec<String> {
    let all = times.quantiles_ns().into_iter().chain([times.max_ns]);
    all.map(|ns| human_time(ns as f64)).collect()
}

fn latencies(out: &mut String, summary: &Summary) -> std::fmt::Result {
    write!(out, "{:<18}", "latency")?;
    for (name, _) in QUANTILES {
        write!(out, "{name:>10}")?;
    }
    writeln!(out, "{:>10}   {}", "max", since(summary))?;
    for LatencyRow { name, times } in latency_rows(summary) {
        let cells = times.map_or_else(|instead| vec![instead.to_owned()], shown);
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        writeln!(out, "{name:<18}{}", cells.concat())?;
    }
    Ok(())
}

fn own(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let own = &summary.own;
    let plural = if own.threads == 1 { "" } else { "s" };
    write!(out, "generator: {} thread{plural}", own.threads)?;
    if let Some(busy) = own.busy_max {
        write!(out, ", busy {:.0} %", busy * 100.0)?;
    }
    if let Some(cores) = own.cpu_cores {
        write!(out, ", {cores:.2} cores")?;
    }
    if let Some(ns) = own.cpu_ns_per_answer {
        write!(out, ", {} CPU per answer", human_time(ns))?;
    }
    writeln!(out)?;
    // A process that used no CPU time is not the one that answered; a warning says so.
    if let Some(ns) = summary.server_cpu_ns_per_answer.filter(|&ns| ns > 0.0) {
        writeln!(out, "server:    {} CPU per answer", human_time(ns))?;
    }
    Ok(())
}
