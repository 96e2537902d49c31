//! Two or more servers under the same load: interleaved rounds at each rate, so that what the machine does meanwhile hits
//! all of them alike.
//!
//! A rate's figure is the median of its rounds; its spread is what the rounds differed by. A server is asked for no higher
//! rate once it has failed two in a row, which bounds the time.

pub mod api_server;
pub mod launch;
pub mod table;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::{Load, Plan};
use crate::report::Summary;
use crate::run::{RunError, run};
use crate::schedule::{Rate, Spacing};
use crate::tally::histogram;
use crate::workload::Workload;

/// Rates in a row that a server may fail before it is left in peace.
const FAILURES_MAX: usize = 2;
/// Between two rounds, for what is left of the last in buffers.
const PAUSE: Duration = Duration::from_millis(200);

/// A server that takes part; the first is what the others are compared with.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub address: SocketAddr,
    pub pid: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct ComparePlan {
    pub contenders: Vec<Contender>,
    /// Everything but the server and the load.
    pub base: Plan,
    /// Rising.
    pub rates_qps: Vec<f64>,
    pub spacing: Spacing,
    /// Valid: at least 1.
    pub rounds: usize,
    pub loss_max: f64,
    pub p99_max: Duration,
}

/// A server at a rate, all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub rate_qps: f64,
    /// Closed loop: throughput with a window, no rate.
    pub is_closed: bool,
    pub rounds: Vec<Summary>,
    /// All rounds' latencies together.
    #[serde(skip)]
    pub latency: Histogram<u64>,
}

/// The middle of the rounds and their extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    pub name: String,
    pub address: String,
    pub cells: Vec<Cell>,
    /// Highest rate that was met: loss and p99 within the bounds at it and at all lower ones.
    pub saturation_qps: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub loss_max: f64,
    pub p99_max_ms: f64,
    pub standings: Vec<Standing>,
    /// All servers at half of the first one's saturation.
    pub at_half: Option<Vec<Cell>>,
    /// All servers with a window and no rate.
    pub closed: Vec<Cell>,
    pub interrupted: bool,
}

impl Spread {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Self { median, low, high })
    }
}

impl Cell {
    fn new(rate_qps: f64, is_closed: bool) -> Self {
        Self { rate_qps, is_closed, rounds: Vec::new(), latency: histogram() }
    }

    pub fn spread(&self, figure: impl Fn(&Summary) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(figure))
    }

    /// Ratio to another server's figure, round by round, as those of one round were measured next to each other.
    pub fn ratio(&self, other: &Self, figure: impl Fn(&Summary) -> Option<f64>) -> Option<Spread> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(ours, theirs)| match (figure(ours), figure(theirs)) {
            (Some(ours), Some(theirs)) if theirs > 0.0 => Some(ours / theirs),
            _ => None,
        }))
    }

    fn is_met(&self, plan: &ComparePlan) -> bool {
        // What was never sent counts as lost here: the rate was not met, whoever is to blame.
        let loss = |round: &Summary| {
            let wanted = round.counts.sent + round.counts.unsent;
            Some((wanted - round.counts.answered_total().min(wanted)) as f64 / wanted.max(1) as f64)
        };
        let p99_ns = self.spread(|round| Some(round.latency_with_lost.as_ref()?.p99_ns as f64));
        let is_within =
            |spread: Option<Spread>, max: f64| spread.is_some_and(|spread| spread.median <= max);
        is_within(self.spread(loss), plan.loss_max)
            && is_within(p99_ns, plan.p99_max.as_nanos() as f64)
    }
}

/// Runs it all; `progress` is told what comes next.
pub fn compare(
    plan: &ComparePlan,
    workload: &Workload,
    stop: &AtomicBool,
    mut progress: impl FnMut(&str),
) -> Result<Comparison, RunError> {
    assert!(!plan.contenders.is_empty() && plan.rounds > 0);
    let everyone: Vec<usize> = (0..plan.contenders.len()).collect();
    let mut standings: Vec<Standing> = plan.contenders.iter().map(Standing::new).collect();
    let mut failures = vec![0; everyone.len()];
    let mut met: Vec<Option<f64>> = vec![None; everyone.len()];
    for &rate_qps in &plan.rates_qps {
        let running: Vec<usize> =
            everyone.iter().copied().filter(|&at| failures[at] < FAILURES_MAX).collect();
        let load = open_load(plan, rate_qps);
        for (at, cell) in
            rounds(plan, workload, stop, &running, Some(rate_qps), &load, &mut progress)?
        {
            match cell.is_met(plan) {
                true if failures[at] == 0 => met[at] = Some(rate_qps),
                true => {}
                false => failures[at] += 1,
            }
            standings[at].cells.push(cell);
        }
        if running.is_empty() || stop.load(Ordering::Relaxed) {
            break;
        }
    }
    for (standing, met) in standings.iter_mut().zip(&met) {
        standing.saturation_qps = *met;
    }
    let mut at_half = None;
    if let Some(saturation_qps) = met[0] {
        let rate_qps = saturation_qps / 2.0;
        let load = open_load(plan, rate_qps);
        let cells = rounds(plan, workload, stop, &everyone, Some(rate_qps), &load, &mut progress)?;
        at_half = Some(cells.into_iter().map(|(_, cell)| cell).collect());
    }
    let closed = rounds(plan, workload, stop, &everyone, None, &Load::Closed, &mut progress)?;
    Ok(Comparison {
        loss_max: plan.loss_max,
        p99_max_ms: plan.p99_max.as_secs_f64() * 1e3,
        standings,
        at_half,
        closed: closed.into_iter().map(|(_, cell)| cell).collect(),
        interrupted: stop.load(Ordering::Relaxed),
    })
}

impl Standing {
    fn new(contender: &Contender) -> Self {
        Self {
            name: contender.name.clone(),
            address: contender.address.to_string(),
            cells: Vec::new(),
            saturation_qps: None,
        }
    }
}

fn open_load(plan: &ComparePlan, rate_qps: f64) -> Load {
    Load::Open { rate: Rate::constant(rate_qps), spacing: plan.spacing }
}

/// All rounds of some servers, in turn: 1 2 3, 2 3 1, … so that none is always first.
fn rounds(
    plan: &ComparePlan,
    workload: &Workload,
    stop: &AtomicBool,
    running: &[usize],
    rate_qps: Option<f64>,
    load: &Load,
    progress: &mut impl FnMut(&str),
) -> Result<Vec<(usize, Cell)>, RunError> {
    let new = || Cell::new(rate_qps.unwrap_or(0.0), rate_qps.is_none());
    let mut cells: Vec<(usize, Cell)> = running.iter().map(|&at| (at, new())).collect();
    for round in 0..plan.rounds {
        for turn in 0..running.len() {
            if stop.load(Ordering::Relaxed) {
                return Ok(cells);
            }
            let (at, cell) = &mut cells[(turn + round) % running.len()];
            let contender = &plan.contenders[*at];
            let what =
                rate_qps.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate:.0}/s"));
            progress(&format!("{} {what}, round {} of {}", contender.name, round + 1, plan.rounds));
            let plan = Plan {
                server: contender.address,
                server_pid: contender.pid,
                load: load.clone(),
                outstanding_max: match load {
                    Load::Closed => {
                        plan.base.outstanding_max.min(256).max(plan.base.socket_count as u32)
                    }
                    Load::Open { .. } => plan.base.outstanding_max,
                },
                seed: plan.base.seed.wrapping_add(round as u64),
                ..plan.base.clone()
            };
            let outcome = run(&plan, workload, stop, |_| {})?;
            cell.latency.add(outcome.totals.latency()).expect("one range");
            cell.rounds.push(Summary::new(&plan, workload, &outcome));
            std::thread::sleep(PAUSE);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_the_middle() {
        let spread =
            |values: &[f64]| Spread::of(values.iter().copied()).map(|s| (s.median, s.low, s.high));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some((2.0, 2.0, 2.0)));
        assert_eq!(spread(&[3.0, 1.0, 10.0]), Some((3.0, 1.0, 10.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 10.0]), Some((3.0, 1.0, 10.0)));
    }
}
