//! The report as an HTML page that opens from disk: the figures, the percentile plot, and the run
//! second by second. No network access, no script.

use std::fmt::Write;

use super::about::About;
use super::plot::{self, Axis, Series};
use super::terminal::{self, LatencyRow};
use super::{QUANTILES, Summary, Times, human_loss, human_rate, human_time, no_times};
use crate::collect::Totals;
use crate::transport::Transport;

/// The figures of one second, for the page and the progress line.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondRow {
    pub end_secs: f64,
    pub answered_qps: f64,
    /// `None`: there was no response in this second.
    pub times: Option<Times>,
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;\
background:#fff;color:#1a1a1a}\
@media(prefers-color-scheme:dark){body{background:#15181c;color:#e6e6e6}}\
h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.25rem;margin-top:2rem}\
body{overflow-wrap:anywhere}\
pre{white-space:pre-wrap;font:14px/1.45 ui-monospace,monospace}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-size:.9rem;\
font-variant-numeric:tabular-nums;overflow-wrap:normal}\
th,td{text-align:right;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid #8885}\
th:first-child,td:first-child,.reasons td:last-child,.reasons th:last-child{text-align:left}\
.reasons td,.reasons th{padding:.2rem .4rem}td small{display:block;opacity:.8}\
.figures td+td,.reasons td:nth-child(2){white-space:nowrap}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}\
dt{opacity:.8}dd{margin:0;min-width:0}\
dd.command{font-family:ui-monospace,monospace;font-size:.9rem}\
dd.command span{display:inline-block;max-width:100%}\
@media(max-width:44rem){pre{font-size:12px}table{font-size:.72rem}\
th,td{padding:.2rem .15rem}}\
.warning{border-left:4px solid #d55e00;padding-left:.8rem;font-weight:600}";

/// Wraps `body`, which must be HTML, in a page.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}{plot}</style></head>\n\
         <body>\n<h1>{title}</h1>\n{body}</body></html>\n",
        title = escape(title),
        plot = plot::STYLE,
    )
}

/// How the figures were measured, as a list.
pub fn about_list(about: &About) -> String {
    let lines = about.lines().into_iter().map(|(name, text)| match name {
        // Wrapped between words; otherwise a browser would wrap after the dash of a flag.
        "command" => {
            let words = text.split(' ').map(|word| format!("<span>{}</span>", escape(word)));
            let words = words.collect::<Vec<_>>().join(" ");
            format!("<dt>command</dt><dd class=\"command\">{words}</dd>\n")
        }
        _ => format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(&text)),
    });
    format!("<dl>\n{}</dl>\n", lines.collect::<String>())
}

pub fn render(summary: &Summary, about: &About, totals: &Totals, seconds: &[SecondRow]) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut body, summary, totals, seconds);
    body.push_str(&format!("<h2>How it was measured</h2>\n{}", about_list(about)));
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
            "Closed loop: the generator waits for responses, so stalls of the server are \
             under-reported."
        }
    };
    match &summary.latency {
        Some(times) => writeln!(
            out,
            "<p>{} responses per second, {} lost; p50 {}, p99 {}. {kind}</p>",
            human_rate(summary.answered_qps),
            human_loss(summary.loss),
            human_time(times.p50_ns as f64),
            human_time(times.p99_ns as f64),
        )?,
        None => writeln!(out, "<p>No response: {}. {kind}</p>", no_times(&summary.counts))?,
    }
    let mut lines = vec![plot::percentile_series("all", &totals.latency())];
    if !summary.by_transport.is_empty() {
        lines.extend(Transport::ALL.map(|transport| {
            plot::percentile_series(transport.name(), &totals.latency_over(transport))
        }));
    }
    writeln!(out, "<h2>Latency by percentile</h2>\n{}", plot::figure(&lines, Axis::Percentile))?;
    if seconds.len() > 1 {
        let line = |name: &str, value: fn(&Times) -> u64| Series {
            name: name.to_owned(),
            points: seconds
                .iter()
                .map(|row| (row.end_secs, row.times.as_ref().map(|times| value(times) as f64)))
                .collect(),
        };
        let series = [
            line("max", |times| times.max_ns),
            line("p99", |times| times.p99_ns),
            line("p50", |times| times.p50_ns),
        ];
        let svg = plot::figure(&series, Axis::Seconds);
        writeln!(out, "<h2>Second by second</h2>\n{svg}")?;
    }
    let mut counts = String::new();
    terminal::counts(&mut counts, summary)?;
    writeln!(out, "<h2>Report</h2>\n<pre>{}</pre>", escape(&counts))?;
    writeln!(out, "<p>Latency {}:</p>", terminal::since(summary))?;
    let names = QUANTILES.map(|(name, _)| name);
    let head: Vec<&str> = std::iter::once("").chain(names).chain(["max"]).collect();
    table(out, &head, "figures", |out| {
        for LatencyRow { name, times } in terminal::latency_rows(summary) {
            let cells = times.map_or_else(|instead| vec![instead.to_owned()], terminal::shown);
            let cells = std::iter::once(name).chain(cells).map(|cell| (cell, String::new()));
            row(out, &cells.collect::<Vec<_>>())?;
        }
        Ok(())
    })?;
    let mut rest = String::new();
    terminal::rest(&mut rest, summary)?;
    writeln!(out, "<pre>{}</pre>", escape(&rest))
}

/// A table that scrolls on its own if it is too wide, instead of the page.
pub fn table(
    out: &mut String,
    head: &[&str],
    class: &str,
    rows: impl FnOnce(&mut String) -> std::fmt::Result,
) -> std::fmt::Result {
    write!(out, "<div class=\"wide\"><table class=\"{class}\"><thead><tr>")?;
    for name in head {
        write!(out, "<th>{}</th>", escape(name))?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    rows(out)?;
    writeln!(out, "</tbody></table></div>")
}

/// Each cell is a figure and, below it, its spread.
pub fn row(out: &mut String, cells: &[(String, String)]) -> std::fmt::Result {
    write!(out, "<tr>")?;
    for (figure, spread) in cells {
        write!(out, "<td>{}", escape(figure))?;
        if !spread.is_empty() {
            write!(out, "<small>{}</small>", escape(spread))?;
        }
        write!(out, "</td>")?;
    }
    writeln!(out, "</tr>")
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
