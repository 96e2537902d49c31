//! A comparison as a table, and as a page with the plots.

use std::fmt::Write;

use super::{Cell, Comparison, Spread, Standing};
use crate::report::html::{escape, page};
use crate::report::plot::{self, Axis, Series};
use crate::report::{Summary, human_count, human_time};

/// A figure of a round, and how it is read.
struct Figure {
    name: &'static str,
    of: fn(&Summary) -> Option<f64>,
    show: fn(f64) -> String,
}

const FIGURES: [Figure; 6] = [
    Figure {
        name: "answers/s",
        of: |round| round.answered_qps,
        show: |qps| human_count(qps.round() as u64),
    },
    Figure { name: "lost", of: |round| round.loss, show: |loss| format!("{:.3} %", loss * 100.0) },
    Figure {
        name: "p50",
        of: |round| Some(round.latency.as_ref()?.p50_ns as f64),
        show: human_time,
    },
    Figure {
        name: "p99",
        of: |round| Some(round.latency.as_ref()?.p99_ns as f64),
        show: human_time,
    },
    Figure {
        name: "p99.9",
        of: |round| Some(round.latency.as_ref()?.p99_9_ns as f64),
        show: human_time,
    },
    Figure { name: "CPU/answer", of: |round| round.server_cpu_ns_per_answer, show: human_time },
];

/// Figures whose ratio to the first server means something.
const RATIOS: [usize; 5] = [0, 2, 3, 4, 5];

pub fn render(comparison: &Comparison) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, comparison);
    text
}

fn write(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let names: Vec<&str> =
        comparison.standings.iter().map(|standing| standing.name.as_str()).collect();
    let rates = comparison.standings.iter().map(|standing| standing.cells.len()).max().unwrap_or(0);
    writeln!(out, "Open loop, latency from the intended send time; medians of the rounds\n")?;
    head(out)?;
    for index in 0..rates {
        for standing in &comparison.standings {
            if let Some(cell) = standing.cells.get(index) {
                let rate = human_count(cell.rate_qps.round() as u64);
                row(out, &rate, &standing.name, cell)?;
            }
        }
    }
    writeln!(
        out,
        "\nSaturation (highest rate with loss <= {} % and p99 <= {} ms)",
        comparison.loss_max * 100.0,
        comparison.p99_max_ms
    )?;
    let base = comparison.standings.first().and_then(|standing| standing.saturation_qps);
    for standing in &comparison.standings {
        let Some(qps) = standing.saturation_qps else {
            writeln!(out, "  {:<14} below the lowest rate", standing.name)?;
            continue;
        };
        let bound = if standing.was_never_beaten() {
            " or more: it met the highest rate asked"
        } else {
            ""
        };
        let ratio = base.map_or(1.0, |base| qps / base);
        writeln!(
            out,
            "  {:<14} {:>10} a second, x {ratio:.2}{bound}",
            standing.name,
            human_count(qps.round() as u64)
        )?;
    }
    if let Some(cells) = &comparison.at_half {
        writeln!(out, "\nAt half of {}'s saturation", names[0])?;
        block(out, &names, cells)?;
    }
    writeln!(out, "\nClosed loop (hides stalls; for the highest throughput)")?;
    block(out, &names, &comparison.closed)?;
    for warning in warnings(comparison) {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

impl Standing {
    fn was_never_beaten(&self) -> bool {
        self.cells.last().is_some_and(|last| Some(last.rate_qps) == self.saturation_qps)
    }
}

fn head(out: &mut String) -> std::fmt::Result {
    write!(out, "{:>10}  {:<14}", "rate", "server")?;
    for figure in &FIGURES {
        write!(out, "{:>12}", figure.name)?;
    }
    writeln!(out)
}

fn row(out: &mut String, rate: &str, name: &str, cell: &Cell) -> std::fmt::Result {
    write!(out, "{rate:>10}  {name:<14}")?;
    for figure in &FIGURES {
        let text = cell
            .spread(figure.of)
            .map_or_else(|| "-".to_owned(), |spread| (figure.show)(spread.median));
        write!(out, "{text:>12}")?;
    }
    writeln!(out)
}

/// The servers at one load, and the ratios to the first.
fn block(out: &mut String, names: &[&str], cells: &[Cell]) -> std::fmt::Result {
    head(out)?;
    for (name, cell) in names.iter().zip(cells) {
        let rate = if cell.is_closed {
            "window".to_owned()
        } else {
            human_count(cell.rate_qps.round() as u64)
        };
        row(out, &rate, name, cell)?;
    }
    let Some(base) = cells.first() else { return Ok(()) };
    for (name, cell) in names.iter().zip(cells).skip(1) {
        ratios(out, &format!("{name} to {}", names[0]), cell, base)?;
    }
    Ok(())
}

/// The middle of the rounds' ratios, and below it the least and the greatest.
fn ratios(out: &mut String, name: &str, cell: &Cell, base: &Cell) -> std::fmt::Result {
    let ratio = |index: usize| match RATIOS.contains(&index) {
        true => cell.ratio(base, FIGURES[index].of),
        false => None,
    };
    let mut line = |name: &str, show: &dyn Fn(Spread) -> String| {
        write!(out, "  {name:<24}")?;
        for index in 0..FIGURES.len() {
            write!(out, "{:>12}", ratio(index).map_or_else(String::new, show))?;
        }
        writeln!(out)
    };
    line(name, &|spread| format!("x {:.2}", spread.median))?;
    line("  least and greatest", &|spread| format!("{:.2}..{:.2}", spread.low, spread.high))
}

/// Each once, with the server and how many rounds had it.
fn warnings(comparison: &Comparison) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, standing) in comparison.standings.iter().enumerate() {
        let others = comparison
            .at_half
            .iter()
            .flatten()
            .chain(&comparison.closed)
            .skip(at)
            .step_by(comparison.standings.len());
        let rounds: Vec<&Summary> =
            standing.cells.iter().chain(others).flat_map(|cell| &cell.rounds).collect();
        let count = |test: &dyn Fn(&&&Summary) -> bool| rounds.iter().filter(test).count();
        let kinds: [(usize, &str); 4] = [
            (
                count(&|round| round.is_generator_at_limit()),
                "the generator was its own limit (busy > 90 %)",
            ),
            (
                count(&|round| round.counts.own_drops > 0),
                "answers were lost in the generator's own socket buffers",
            ),
            (
                count(&|round| round.server_cpu_ns_per_answer == Some(0.0)),
                "the server's process did no work: another one answered",
            ),
            (count(&|round| round.counts.answered_total() == 0), "no answer at all"),
        ];
        for (count, what) in kinds {
            if count > 0 {
                warnings.push(format!(
                    "{}: in {count} of {} rounds {what}",
                    standing.name,
                    rounds.len()
                ));
            }
        }
    }
    if comparison.interrupted {
        warnings
            .push("stopped by a signal: the report covers what was measured until then".to_owned());
    }
    warnings
}

/// The page: saturation and half-load figures, the percentile plot, p99 over the rate.
pub fn html(comparison: &Comparison) -> String {
    let names: Vec<&str> =
        comparison.standings.iter().map(|standing| standing.name.as_str()).collect();
    let mut body = String::new();
    if let Some(cells) = &comparison.at_half {
        let series: Vec<Series> = names
            .iter()
            .zip(cells)
            .map(|(name, cell)| plot::percentile_series(name, &cell.latency))
            .collect();
        let rate = cells.first().map_or(0, |cell| cell.rate_qps.round() as u64);
        body.push_str(&format!(
            "<h2>Latency at half of {}'s saturation: {} queries a second</h2>\n{}\n",
            escape(names[0]),
            human_count(rate).replace(' ', "\u{a0}"),
            plot::figure(&series, Axis::Percentile)
        ));
    }
    let p99: Vec<Series> = comparison
        .standings
        .iter()
        .map(|standing| Series {
            name: standing.name.clone(),
            points: standing
                .cells
                .iter()
                .map(|cell| (cell.rate_qps, cell.spread(FIGURES[3].of).map(|spread| spread.median)))
                .collect(),
        })
        .collect();
    body.push_str(&format!("<h2>p99 over the rate</h2>\n{}\n", plot::figure(&p99, Axis::Rate)));
    body.push_str(&format!("<h2>Table</h2>\n<pre>{}</pre>\n", escape(&render(comparison))));
    page(&format!("DNS under load: {}", names.join(" and ")), &body)
}
