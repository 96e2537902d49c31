//! The table on the terminal.

use std::fmt::Write;

use super::{QUANTILES, Summary, Times, human_count, human_time};

/// The whole report, ending in a line feed.
pub fn render(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, summary);
    text
}

fn write(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let counts = &summary.counts;
    let rate = match (&summary.rate_qps, summary.spacing) {
        (Some(rate), Some(spacing)) => format!("open loop, {rate} a second, {spacing} spacing"),
        _ => format!("closed loop, {} outstanding", summary.outstanding_max),
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
    line(
        out,
        "sent",
        counts.sent,
        &format!("{} a second", human_count(summary.sent_qps.round() as u64)),
    )?;
    line(
        out,
        "answered",
        counts.answered_total(),
        &format!("{} a second", human_count(summary.answered_qps.round() as u64)),
    )?;
    line(
        out,
        "lost",
        counts.timed_out,
        &format!("{:.3} %, after {} s", summary.loss * 100.0, summary.timeout_secs),
    )?;
    for (rcode, count) in &summary.rcodes {
        writeln!(out, "  {rcode:<16}{:>14}", human_count(*count))?;
    }
    for over in &summary.by_transport {
        let lost =
            format!("{} lost, {:.3} %", human_count(over.counts.timed_out), over.loss * 100.0);
        line(out, &format!("over {}", over.transport), over.counts.answered_total(), &lost)?;
    }
    for (name, count) in oddities(summary) {
        if count > 0 {
            line(out, name, count, "")?;
        }
    }
    writeln!(out)?;
    latencies(out, summary)?;
    writeln!(out)?;
    own(out, summary)?;
    for failure in &summary.verify_failures {
        writeln!(out, "not as expected: {failure}")?;
    }
    for warning in &summary.warnings {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

fn line(out: &mut String, name: &str, count: u64, remark: &str) -> std::fmt::Result {
    let text = format!("{name:<18}{:>14}  {remark}", human_count(count));
    writeln!(out, "{}", text.trim_end())
}

/// What is shown only when it happened.
fn oddities(summary: &Summary) -> [(&'static str, u64); 15] {
    let counts = &summary.counts;
    [
        ("truncated (TC)", counts.truncated),
        ("duplicates", counts.duplicates),
        ("late answers", counts.late_answers),
        ("wrong id", counts.wrong_id),
        ("wrong question", counts.wrong_question),
        ("garbage", counts.garbage),
        ("other case", counts.other_case),
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

fn latencies(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let from =
        if summary.loop_kind == "open" { "from the intended send time" } else { "from the send" };
    write!(out, "{:<18}", "latency")?;
    for (name, _) in QUANTILES {
        write!(out, "{name:>10}")?;
    }
    writeln!(out, "{:>10}   {from}", "max")?;
    row(out, "answers", &summary.latency)?;
    if summary.counts.timed_out > 0 {
        row(out, "and lost", &summary.latency_with_lost)?;
    }
    if summary.latency_by_rcode.len() > 1 {
        for (rcode, times) in &summary.latency_by_rcode {
            row(out, &format!("  {rcode}"), times)?;
        }
    }
    for over in &summary.by_transport {
        row(out, &format!("over {}", over.transport), &over.latency)?;
        if over.latency_by_rcode.len() > 1 {
            for (rcode, times) in &over.latency_by_rcode {
                row(out, &format!("  {rcode}"), times)?;
            }
        }
    }
    if let Some(lag) = &summary.send_lag {
        row(out, "send lag", lag)?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, times: &Times) -> std::fmt::Result {
    if times.count == 0 {
        return writeln!(out, "{name:<18}{:>10}", "none");
    }
    write!(out, "{name:<18}")?;
    for ns in times.quantiles_ns() {
        write!(out, "{:>10}", human_time(ns as f64))?;
    }
    writeln!(out, "{:>10}", human_time(times.max_ns as f64))
}

fn own(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let own = &summary.own;
    write!(
        out,
        "generator: {} thread{}, busy {:.0} %, {:.2} cores",
        own.threads,
        if own.threads == 1 { "" } else { "s" },
        own.busy_max * 100.0,
        own.cpu_cores
    )?;
    if let Some(ns) = own.cpu_ns_per_answer {
        write!(out, ", {} CPU an answer", human_time(ns))?;
    }
    writeln!(out)?;
    if let Some(ns) = summary.server_cpu_ns_per_answer {
        writeln!(out, "server:    {} CPU an answer", human_time(ns))?;
    }
    Ok(())
}
