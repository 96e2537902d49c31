//! One server at one load: its rounds, their medians and spreads, and whether the rate was met.
//!
//! Pure. Invariant: a round that lost every query never has a latency that looks good; it counts as
//! infinite.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::saturation::{Limits, Shortfall};
use crate::report::{Summary, Times};
use crate::tally::histogram;

/// One server at one rate, all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub rate_qps: f64,
    /// Closed loop: a window instead of a rate.
    pub is_closed: bool,
    /// Valid: at least one; fewer than planned only if the comparison was cut short.
    pub rounds: Vec<Summary>,
    /// Latencies of all rounds together.
    #[serde(skip)]
    pub latency: Histogram<u64>,
}

/// Median, lowest and highest of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// `None` if there are no values.
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
    pub(super) fn new(rate_qps: f64, is_closed: bool) -> Self {
        Self { rate_qps, is_closed, rounds: Vec::new(), latency: histogram() }
    }

    /// Spread of a figure; it is infinite in rounds that lost every query.
    pub fn spread(&self, figure: impl Fn(&Summary) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(figure))
    }

    /// Ratio to another server's figure, round by round, since the servers of one round were
    /// measured next to each other.
    pub fn ratio(&self, other: &Self, figure: impl Fn(&Summary) -> Option<f64>) -> Option<Spread> {
        let figure = |round: &Summary| figure(round).filter(|value| value.is_finite());
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(ours, theirs)| match (figure(ours), figure(theirs)) {
            (Some(ours), Some(theirs)) if theirs > 0.0 => Some(ours / theirs),
            _ => None,
        }))
    }

    /// `None`: the rate was met.
    pub(super) fn shortfall(&self, limits: Limits) -> Option<Shortfall> {
        // Queries that were never sent count as lost: the rate was not met, whatever the cause.
        let loss = |round: &Summary| {
            let wanted = wanted(round);
            let answered = round.counts.answered_total().min(wanted);
            (wanted > 0).then(|| (wanted - answered) as f64 / wanted as f64)
        };
        let p99_ns = |round: &Summary| {
            let times = round.latency_with_lost.as_ref();
            Some(times.map_or(f64::INFINITY, |times| times.p99_ns as f64))
        };
        let busy = self.rounds.iter().filter(|round| round.is_generator_at_limit()).count();
        let mut shortfall = Shortfall {
            rate_qps: self.rate_qps,
            loss: None,
            p99_ns: None,
            is_generator_at_limit: busy * 2 >= self.rounds.len().max(1),
        };
        let (Some(loss), Some(p99_ns)) = (self.spread(loss), self.spread(p99_ns)) else {
            // Nothing was sent, so the rate was not met.
            return Some(shortfall);
        };
        shortfall.loss = Some(loss.median).filter(|&loss| loss > limits.loss_max);
        shortfall.p99_ns = Some(p99_ns.median).filter(|&ns| ns > limits.p99_max_ns);
        (shortfall.loss.is_some() || shortfall.p99_ns.is_some()).then_some(shortfall)
    }
}

/// Queries that the load called for.
fn wanted(round: &Summary) -> u64 {
    round.counts.sent + round.counts.unsent
}

/// A time of the responses; infinite if all were lost, so that it is worse than any time. `None` if
/// nothing was to be sent.
pub(super) fn latency_ns(round: &Summary, of: fn(&Times) -> u64) -> Option<f64> {
    match &round.latency {
        Some(times) => Some(of(times) as f64),
        None => (wanted(round) > 0).then_some(f64::INFINITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_holds_median_low_and_high() {
        let spread =
            |values: &[f64]| Spread::of(values.iter().copied()).map(|s| (s.median, s.low, s.high));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some((2.0, 2.0, 2.0)));
        assert_eq!(spread(&[3.0, 1.0, 10.0]), Some((3.0, 1.0, 10.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 10.0]), Some((3.0, 1.0, 10.0)));
    }
}
