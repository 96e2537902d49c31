//! A comparison as a table for the terminal.

use std::fmt::Write;

use super::cell::{Cell, Spread, latency_ns};
use super::{Comparison, InWindow, Standing};
use crate::report::{Summary, human_loss, human_rate, human_ratio, human_time, in_unit_of};

/// A figure of a round and how it is shown.
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Infinite: all queries were lost. `None`: unknown.
    pub(super) of: fn(&Summary) -> Option<f64>,
    kind: FigureKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FigureKind {
    Rate,
    Share,
    Time,
}

pub(super) const FIGURES: [Figure; 6] = [
    Figure { name: "answers/s", of: |round| round.answered_qps, kind: FigureKind::Rate },
    Figure { name: "lost", of: |round| round.loss, kind: FigureKind::Share },
    Figure {
        name: "p50",
        of: |round| latency_ns(round, |times| times.p50_ns),
        kind: FigureKind::Time,
    },
    Figure { name: "p99", of: p99_ns, kind: FigureKind::Time },
    Figure {
        name: "p99.9",
        of: |round| latency_ns(round, |times| times.p99_9_ns),
        kind: FigureKind::Time,
    },
    Figure {
        name: "CPU/answer",
        // 0 means that another process answered, so it is not a figure.
        of: |round| round.server_cpu_ns_per_answer.filter(|&ns| ns > 0.0),
        kind: FigureKind::Time,
    },
];

pub(super) fn p99_ns(round: &Summary) -> Option<f64> {
    latency_ns(round, |times| times.p99_ns)
}

impl Figure {
    /// The median of a cell's rounds.
    pub(super) fn median(&self, cell: &Cell) -> String {
        match cell.spread(self.of) {
            None => "–".to_owned(),
            Some(spread) if spread.low.is_infinite() => "all lost".to_owned(),
            Some(spread) if spread.median.is_infinite() => "lost".to_owned(),
            Some(spread) => self.show(spread.median),
        }
    }

    fn show(&self, value: f64) -> String {
        match self.kind {
            FigureKind::Rate => human_rate(Some(value)),
            FigureKind::Share => human_loss(Some(value)),
            FigureKind::Time => human_time(value),
        }
    }

    /// Lowest and highest of the rounds, in the unit of the median; empty if they are equal.
    pub(super) fn extremes(&self, cell: &Cell, between: &str) -> String {
        let spread = cell.spread(self.of).filter(|spread| spread.low < spread.high);
        spread.map_or_else(String::new, |Spread { median, low, high }| {
            let show = |value: f64| match self.kind {
                _ if value.is_infinite() => "lost".to_owned(),
                FigureKind::Rate => human_rate(Some(value)),
                FigureKind::Share => format!("{:.3}", value * 100.0),
                // The unit of the lowest if the median has none.
                FigureKind::Time => {
                    in_unit_of(if median.is_finite() { median } else { low }, value)
                }
            };
            format!("{}{between}{}", show(low), show(high))
        })
    }

    /// A ratio of losses is mostly noise, or a division by zero.
    fn has_ratio(&self) -> bool {
        match self.kind {
            FigureKind::Rate | FigureKind::Time => true,
            FigureKind::Share => false,
        }
    }

    /// The spread of the rounds' ratios to the base.
    pub(super) fn ratio(&self, cell: &Cell, base: &Cell) -> Option<Spread> {
        self.has_ratio().then(|| cell.ratio(base, self.of)).flatten()
    }
}

pub fn render(comparison: &Comparison) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, comparison);
    text
}

fn write(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let Comparison { about, standings, .. } = comparison;
    let lines = about.lines();
    let width = lines.iter().map(|(name, _)| name.len() + 2).max().unwrap_or(0).max(10);
    for (name, line) in lines {
        writeln!(out, "{name:<width$}{line}")?;
    }
    let names: Vec<&str> = standings.iter().map(|standing| standing.name.as_str()).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(14);
    if has_rates(comparison) {
        let spreads = spreads(comparison);
        writeln!(out, "\nOpen loop, latency from the intended send time; {spreads}\n")?;
        head(out, width)?;
        let rates = standings.iter().map(|standing| standing.cells.len()).max().unwrap_or(0);
        for index in 0..rates {
            for standing in standings {
                if let Some(cell) = standing.cells.get(index) {
                    row(out, &standing.name, width, cell)?;
                }
            }
        }
        saturations(out, comparison, width)?;
    }
    match (&comparison.at_half, why_no_half(comparison)) {
        (Some(cells), _) => {
            writeln!(out, "\nAt half of {}'s saturation", names[0])?;
            block(out, &names, width, cells)?;
        }
        (None, Some(why)) => writeln!(out, "\n{why}")?,
        (None, None) => {}
    }
    if comparison.is_same_node {
        writeln!(out, "\n{SAME_NODE}; closed loop, {}", spreads(comparison))?;
    }
    for InWindow { window, cells } in &comparison.windows {
        writeln!(out, "\n{}", window.name)?;
        block(out, &names, width, cells)?;
    }
    for warning in warnings(comparison) {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

/// Where servers and clients run.
pub(super) const SAME_NODE: &str = "Servers and clients share the machine's cores";

/// Some rate was tested.
pub(super) fn has_rates(comparison: &Comparison) -> bool {
    comparison.standings.iter().any(|standing| !standing.cells.is_empty())
}

/// What the two lines of a row show.
pub(super) fn spreads(comparison: &Comparison) -> String {
    match comparison.round_count {
        1 => "one round, so the spread is not known".to_owned(),
        count => format!("medians of {count} rounds, with the lowest and highest below"),
    }
}

/// Shown in place of the figures at half of the first server's saturation.
pub(super) fn why_no_half(comparison: &Comparison) -> Option<String> {
    let base = comparison.standings.first()?;
    let has_half = base.line.saturation.met_qps.is_some();
    if comparison.cut_short.is_some() || has_half || !has_rates(comparison) {
        return None;
    }
    let has_answered = comparison.cells(0).any(|cell| !cell.latency.is_empty());
    let next = match has_answered {
        true => "use lower --rates",
        false => "it did not answer at all: check that it runs at that address",
    };
    let name = &base.name;
    Some(format!(
        "{name} met none of the rates, so there is no half of its saturation to compare at; {next}"
    ))
}

/// What decides whether a rate is met.
pub(super) fn rule(comparison: &Comparison) -> String {
    let (loss_max, p99_max_ms) = (comparison.loss_max * 100.0, comparison.p99_max_ms);
    format!("highest rate with loss <= {loss_max} % and p99 <= {p99_max_ms} ms")
}

fn saturations(out: &mut String, comparison: &Comparison, width: usize) -> std::fmt::Result {
    writeln!(out, "\nSaturation ({})", rule(comparison))?;
    for standing in &comparison.standings {
        writeln!(
            out,
            "  {:<width$} {:>10} per second  {:<18} {}",
            standing.name,
            standing.line.saturation.to_string(),
            ratio_to_first(comparison, standing),
            standing.line.end.describe(comparison.limits())
        )?;
    }
    Ok(())
}

/// Ratio of the saturation to the first server's, whose own is 1 by definition, if it has one.
pub(super) fn ratio_to_first(comparison: &Comparison, standing: &Standing) -> String {
    let base = &comparison.standings[0];
    match std::ptr::eq(base, standing) {
        true if base.line.saturation.met_qps.is_some() => "× 1".to_owned(),
        true => "–".to_owned(),
        false => standing.line.saturation.ratio(base.line.saturation).to_string(),
    }
}

fn head(out: &mut String, width: usize) -> std::fmt::Result {
    write!(out, "{:>10}  {:<width$}", "rate", "server")?;
    for figure in &FIGURES {
        write!(out, "{:>14}", figure.name)?;
    }
    writeln!(out)
}

fn row(out: &mut String, name: &str, width: usize, cell: &Cell) -> std::fmt::Result {
    write!(out, "{:>10}  {name:<width$}", load(cell))?;
    for figure in &FIGURES {
        write!(out, "{:>14}", figure.median(cell))?;
    }
    writeln!(out)?;
    if cell.rounds.len() > 1 {
        let extremes = FIGURES.map(|figure| format!("{:>14}", figure.extremes(cell, "..")));
        writeln!(out, "{}", format!("{:12}{:width$}{}", "", "", extremes.concat()).trim_end())?;
    }
    Ok(())
}

/// The rate, or `window` for a closed loop.
pub(super) fn load(cell: &Cell) -> String {
    match cell.is_closed {
        true => "window".to_owned(),
        false => human_rate(Some(cell.rate_qps)),
    }
}

/// The servers at one load, and their ratios.
fn block(out: &mut String, names: &[&str], width: usize, cells: &[Cell]) -> std::fmt::Result {
    head(out, width)?;
    for (name, cell) in names.iter().zip(cells) {
        row(out, name, width, cell)?;
    }
    for (one, base) in pairs(names, cells) {
        ratios(out, width, one, base)?;
    }
    Ok(())
}

/// Each server with each that was named before it.
pub(super) fn pairs<'a>(
    names: &'a [&str],
    cells: &'a [Cell],
) -> impl Iterator<Item = (Named<'a>, Named<'a>)> {
    let named = move |at: usize| Named { name: names[at], cell: &cells[at] };
    (0..cells.len()).flat_map(move |at| (0..at).map(move |base| (named(at), named(base))))
}

/// A server's figures at one load.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) cell: &'a Cell,
}

/// The median of the rounds' ratios, and below it the lowest and highest.
fn ratios(out: &mut String, width: usize, one: Named<'_>, base: Named<'_>) -> std::fmt::Result {
    let (cell, name) = (one.cell, format!("{} to {}", one.name, base.name));
    let (base, width) = (base.cell, width + 10);
    if !FIGURES.iter().any(|figure| figure.ratio(cell, base).is_some()) {
        return Ok(());
    }
    // A name that reaches into the figures gets a line of its own.
    let name = match name.len() <= width {
        true => name,
        false => {
            writeln!(out, "  {name}")?;
            String::new()
        }
    };
    let mut line = |name: &str, show: fn(Spread) -> String| {
        write!(out, "  {name:<width$}")?;
        for figure in &FIGURES {
            write!(out, "{:>14}", figure.ratio(cell, base).map_or_else(String::new, show))?;
        }
        writeln!(out)
    };
    line(&name, |spread| format!("× {}", human_ratio(spread.median)))?;
    match cell.rounds.len().min(base.rounds.len()) {
        0 | 1 => Ok(()),
        _ => line("  lowest and highest", |one| {
            format!("{}..{}", human_ratio(one.low), human_ratio(one.high))
        }),
    }
}

/// Each warning once, with the server and the number of rounds that it applies to.
pub(super) fn warnings(comparison: &Comparison) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, standing) in comparison.standings.iter().enumerate() {
        let rounds: Vec<&Summary> = comparison.cells(at).flat_map(|cell| &cell.rounds).collect();
        let count = |test: &dyn Fn(&&&Summary) -> bool| rounds.iter().filter(test).count();
        // On shared cores a busy generator is what is measured.
        let is_apart = !comparison.is_same_node;
        let kinds: [(usize, &str); 4] = [
            (
                count(&|round| is_apart && round.is_generator_at_limit()),
                "the generator was at its own limit (busy > 90 %)",
            ),
            (
                count(&|round| round.counts.own_drops > 0),
                "responses were lost in the generator's own socket buffers",
            ),
            (
                count(&|round| round.server_cpu_ns_per_answer == Some(0.0)),
                "the server's process used no CPU time: another process answered",
            ),
            (count(&|round| round.counts.answered_total() == 0), "there was no response at all"),
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
    if let Some(why) = &comparison.cut_short {
        warnings.push(format!("{why}: the report covers the rounds that were complete by then"));
    }
    warnings
}
