//! A page that can be opened from disk: the figures, the percentile plot, the run second by second. No network, no script.

use std::fmt::Write;

use super::plot::{self, Axis, Series};
use super::{Summary, human_count, human_time, terminal};
use crate::collect::Totals;
use crate::plan::Transport;

/// One second, as the page and the progress line need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SecondRow {
    pub end_secs: f64,
    pub answered_qps: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;background:#fff;color:#1a1a1a}\
@media(prefers-color-scheme:dark){body{background:#15181c;color:#e6e6e6}}\
h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.25rem;margin-top:2rem}\
pre{overflow-x:auto;font:14px/1.45 ui-monospace,monospace}\
@media(max-width:44rem){pre{font-size:12px}}\
.warning{border-left:4px solid #d55e00;padding-left:.8rem;font-weight:600}";

/// A page around `body`, which is HTML already.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}{plot}</style></head>\n<body>\n<h1>{title}</h1>\n{body}</body></html>\n",
        title = escape(title),
        plot = plot::STYLE,
    )
}

pub fn render(summary: &Summary, totals: &Totals, seconds: &[SecondRow]) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut body, summary, totals, seconds);
    page(&format!("DNS load on {} over {}", summary.server, summary.transport), &body)
}

fn write(
    out: &mut String,
    summary: &Summary,
    totals: &Totals,
    seconds: &[SecondRow],
) -> std::fmt::Result {
    for warning in &summary.warnings {
        writeln!(out, "<p class=\"warning\">{}</p>", escape(warning))?;
    }
    let kind = match summary.loop_kind {
        "open" => "Open loop: latency counts from the intended send time.",
        _ => {
            "Closed loop: the generator waits for answers, so a stall of the server is under-reported here."
        }
    };
    writeln!(
        out,
        "<p>{} answers a second, {:.3} % lost; p50 {}, p99 {}. {kind}</p>",
        human_count(summary.answered_qps.round() as u64),
        summary.loss * 100.0,
        human_time(summary.latency.p50_ns as f64),
        human_time(summary.latency.p99_ns as f64),
    )?;
    let mut lines = vec![plot::percentile_series("all", &totals.latency())];
    if !summary.by_transport.is_empty() {
        lines.extend(Transport::ALL.map(|transport| {
            plot::percentile_series(transport.name(), &totals.latency_over(transport))
        }));
    }
    writeln!(out, "<h2>Latency by percentile</h2>\n{}", plot::figure(&lines, Axis::Percentile))?;
    if seconds.len() > 1 {
        let line = |name: &str, value: &dyn Fn(&SecondRow) -> u64| Series {
            name: name.to_owned(),
            points: seconds.iter().map(|row| (row.end_secs, value(row) as f64)).collect(),
        };
        let series = [
            line("max", &|row| row.max_ns),
            line("p99", &|row| row.p99_ns),
            line("p50", &|row| row.p50_ns),
        ];
        let svg = plot::figure(&series, Axis::Seconds);
        writeln!(out, "<h2>Second by second</h2>\n{svg}")?;
    }
    writeln!(out, "<h2>Report</h2>\n<pre>{}</pre>", escape(&terminal::render(summary)))
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
