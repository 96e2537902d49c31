//! dnsperf 2.10's statistics block, word for word: scripts and perf-tests' `data.py` parse these
//! lines.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{Summary, Times};

pub fn render(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, summary);
    text
}

/// `#histogram MILLISECONDS COUNT` lines, as perf-tests' patched dnsperf prints them.
pub fn histogram_lines(latency: &Histogram<u64>) -> String {
    let mut text = String::new();
    for value in latency.iter_linear(1_000_000) {
        if value.count_since_last_iteration() > 0 {
            let ms = value.value_iterated_to() / 1_000_000;
            let _ = writeln!(text, "#histogram {ms} {}", value.count_since_last_iteration());
        }
    }
    text
}

fn write(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let counts = &summary.counts;
    let completed = counts.answered_total();
    let percent =
        |part: u64, whole: u64| if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    let average = |sum: u64, count: u64| sum.checked_div(count).unwrap_or(0);
    writeln!(out, "Statistics:\n")?;
    writeln!(out, "  Queries sent:         {}", counts.sent)?;
    writeln!(out, "  Queries completed:    {completed} ({:.2}%)", percent(completed, counts.sent))?;
    writeln!(
        out,
        "  Queries lost:         {} ({:.2}%)",
        counts.timed_out,
        percent(counts.timed_out, counts.sent)
    )?;
    if summary.in_flight > 0 {
        let share = percent(summary.in_flight, counts.sent);
        writeln!(out, "  Queries interrupted:  {} ({share:.2}%)", summary.in_flight)?;
    }
    let codes: Vec<String> = summary
        .rcodes
        .iter()
        .map(|(name, count)| format!("{name} {count} ({:.2}%)", percent(*count, completed)))
        .collect();
    writeln!(out, "\n  Response codes:       {}", codes.join(", "))?;
    writeln!(
        out,
        "  Average packet size:  request {}, response {}",
        average(counts.sent_bytes, counts.sent),
        average(counts.answered_bytes, completed)
    )?;
    writeln!(out, "  Run time (s):         {:.6}", summary.run_secs)?;
    writeln!(out, "  Queries per second:   {:.6}\n", summary.answered_qps.unwrap_or(0.0))?;
    // Without responses dnsperf prints zeros, and scripts expect the lines; a warning follows.
    let latency = summary.latency.as_ref();
    let secs = |of: fn(&Times) -> f64| latency.map_or(0.0, of) / 1e9;
    writeln!(
        out,
        "  Average Latency (s):  {:.6} (min {:.6}, max {:.6})",
        secs(|times| times.mean_ns),
        secs(|times| times.min_ns as f64),
        secs(|times| times.max_ns as f64)
    )?;
    if completed > 1 {
        writeln!(out, "  Latency StdDev (s):   {:.6}", secs(|times| times.stdev_ns))?;
    }
    writeln!(out)
}
