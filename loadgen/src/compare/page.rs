//! A comparison as an HTML page: saturation of each server and what limited it, the plots, every
//! figure with its spread, and how it was measured.

use std::fmt::Write;

use super::cell::Cell;
use super::table::{
    FIGURES, Named, SAME_NODE, has_rates, load, p99_ns, pairs, ratio_to_first, rule, spreads,
    warnings, why_no_half,
};
use super::{Comparison, InWindow};
use crate::report::html::{about_list, escape, page, row, table};
use crate::report::plot::{self, Axis, Series};
use crate::report::{human_rate, human_ratio};

pub fn render(comparison: &Comparison) -> String {
    let names: Vec<&str> =
        comparison.standings.iter().map(|standing| standing.name.as_str()).collect();
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut body, comparison, &names);
    page(&format!("DNS under load: {}", names.join(" and ")), &body)
}

fn write(out: &mut String, comparison: &Comparison, names: &[&str]) -> std::fmt::Result {
    writeln!(
        out,
        "<p>{}</p>",
        escape(&format!("{}; {}", comparison.about.date, comparison.about.machine()))
    )?;
    for warning in warnings(comparison) {
        writeln!(out, "<p class=\"warning\">{}</p>", escape(&warning))?;
    }
    if has_rates(comparison) {
        saturations(out, comparison)?;
    }
    match (&comparison.at_half, why_no_half(comparison)) {
        (Some(cells), _) => at_half(out, comparison, names, cells)?,
        (None, Some(why)) => writeln!(out, "<p>{}</p>", escape(&why))?,
        (None, None) => {}
    }
    if has_rates(comparison) {
        rates(out, comparison)?;
    }
    if comparison.is_same_node {
        writeln!(out, "<p>{SAME_NODE}; closed loop, {}.</p>", spreads(comparison))?;
    }
    for InWindow { window, cells } in &comparison.windows {
        writeln!(out, "<h2>{}</h2>", escape(&window.name))?;
        block(out, names, cells)?;
    }
    writeln!(out, "<h2>How it was measured</h2>\n{}", about_list(&comparison.about))
}

fn saturations(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    writeln!(out, "<h2>Saturation</h2>\n<p>The {}.</p>", escape(&rule(comparison)))?;
    table(out, &["server", "per second", "ratio", "limited by"], "reasons", |out| {
        for standing in &comparison.standings {
            let cells = [
                standing.name.clone(),
                standing.line.saturation.to_string(),
                ratio_to_first(comparison, standing),
                standing.line.end.describe(comparison.limits()),
            ];
            row(out, &cells.map(|cell| (cell, String::new())))?;
        }
        Ok(())
    })
}

fn at_half(
    out: &mut String,
    comparison: &Comparison,
    names: &[&str],
    cells: &[Cell],
) -> std::fmt::Result {
    let series: Vec<Series> = names
        .iter()
        .zip(cells)
        .map(|(name, cell)| plot::percentile_series(name, &cell.latency))
        .collect();
    let rate = human_rate(cells.first().map(|cell| cell.rate_qps));
    writeln!(
        out,
        "<h2>Latency at half of {}'s saturation: {} queries per second</h2>\n{}",
        escape(names[0]),
        rate.replace(' ', "\u{a0}"),
        plot::figure(&series, Axis::Percentile)
    )?;
    writeln!(out, "<p>From the intended send time; {}.</p>", spreads(comparison))?;
    block(out, names, cells)
}

fn rates(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let p99: Vec<Series> = comparison
        .standings
        .iter()
        .map(|standing| Series {
            name: standing.name.clone(),
            points: standing
                .cells
                .iter()
                .filter_map(|cell| Some((cell.rate_qps, cell.spread(p99_ns)?.median)))
                // If all queries were lost, there is no time.
                .map(|(rate_qps, ns)| (rate_qps, Some(ns).filter(|ns| ns.is_finite())))
                .collect(),
        })
        .collect();
    writeln!(out, "<h2>p99 over the rate</h2>\n{}", plot::figure(&p99, Axis::Rate))?;
    writeln!(out, "<p>Open loop; {}.</p>", spreads(comparison))?;
    let count = comparison.standings.iter().map(|standing| standing.cells.len()).max();
    figures(out, |out| {
        for index in 0..count.unwrap_or(0) {
            for standing in &comparison.standings {
                if let Some(cell) = standing.cells.get(index) {
                    figures_row(out, &standing.name, cell)?;
                }
            }
        }
        Ok(())
    })
}

/// The servers at one load, and their ratios.
fn block(out: &mut String, names: &[&str], cells: &[Cell]) -> std::fmt::Result {
    figures(out, |out| {
        for (name, cell) in names.iter().zip(cells) {
            figures_row(out, name, cell)?;
        }
        for (Named { name, cell }, base) in pairs(names, cells) {
            let (base_name, base) = (base.name, base.cell);
            let is_spread = cell.rounds.len().min(base.rounds.len()) > 1;
            if !FIGURES.iter().any(|figure| figure.ratio(cell, base).is_some()) {
                continue;
            }
            let ratios = FIGURES.map(|figure| match figure.ratio(cell, base) {
                Some(one) => {
                    let extremes = format!("{}–{}", human_ratio(one.low), human_ratio(one.high));
                    let spread = if is_spread { extremes } else { String::new() };
                    (format!("× {}", human_ratio(one.median)), spread)
                }
                None => (String::new(), String::new()),
            });
            let first = [(format!("{name} to {base_name}"), String::new()), Default::default()];
            row(out, &first.into_iter().chain(ratios).collect::<Vec<_>>())?;
        }
        Ok(())
    })
}

fn figures(
    out: &mut String,
    rows: impl FnOnce(&mut String) -> std::fmt::Result,
) -> std::fmt::Result {
    let head: Vec<&str> =
        ["server", "rate"].into_iter().chain(FIGURES.map(|figure| figure.name)).collect();
    table(out, &head, "figures", rows)
}

fn figures_row(out: &mut String, name: &str, cell: &Cell) -> std::fmt::Result {
    let first = [(name.to_owned(), String::new()), (load(cell), String::new())];
    let figures = FIGURES.map(|figure| (figure.median(cell), figure.extremes(cell, "–")));
    row(out, &first.into_iter().chain(figures).collect::<Vec<_>>())
}
