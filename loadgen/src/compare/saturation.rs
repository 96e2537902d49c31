//! How much load a server takes: the highest rate that it met, what ended its series of rates, and
//! the ratio of two servers' rates.
//!
//! Pure. Invariant: a rate that was not measured is never shown as a figure, only as a bound.

use std::fmt;

use serde::Serialize;

use crate::report::{human_rate, human_ratio, human_time};

/// What the tested rates show: the server saturates between `met_qps` and `failed_qps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Saturation {
    /// Highest rate that was met, as were all lower ones.
    #[serde(rename = "saturation_qps")]
    pub met_qps: Option<f64>,
    /// Lowest rate that the server did not meet while the generator was below its own limit.
    pub failed_qps: Option<f64>,
}

/// A rate that was not met, and by how much: at least one of `loss` and `p99_ns`, unless nothing
/// was sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shortfall {
    pub rate_qps: f64,
    /// Median of the rounds' shares of lost and unsent queries, if it is above the limit.
    pub loss: Option<f64>,
    /// Median of the rounds' p99, with each lost query counted as the timeout, if above the limit.
    pub p99_ns: Option<f64>,
    /// In at least half of the rounds.
    pub is_generator_at_limit: bool,
}

/// Why a server got no higher rate, or which rate it failed first.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum LineEnd {
    /// No rate was tested.
    NoRate,
    /// It met every rate.
    HighestAsked,
    NotMet(Shortfall),
    /// The comparison was stopped before the server missed a rate.
    CutShort,
}

/// A server's results as the rate rises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    #[serde(flatten)]
    pub saturation: Saturation,
    #[serde(rename = "line_end")]
    pub end: LineEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Failed,
}

/// The limits that decide whether a rate is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub loss_max: f64,
    pub p99_max_ns: f64,
}

/// Ratio of one server's saturation to another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ratio {
    Is(f64),
    AtLeast(f64),
    MoreThan(f64),
    AtMost(f64),
    LessThan(f64),
    /// Both are only known as bounds on the same side.
    Unknown,
}

impl Line {
    pub fn new() -> Self {
        Self { saturation: Saturation::default(), end: LineEnd::NoRate }
    }

    /// Records the next higher rate; `None`: it was met.
    pub fn judge(&mut self, rate_qps: f64, shortfall: Option<Shortfall>) -> Verdict {
        let has_missed_none = self.has_missed_none();
        let Some(shortfall) = shortfall else {
            if has_missed_none {
                self.saturation.met_qps = Some(rate_qps);
                // Holds until a rate is missed.
                self.end = LineEnd::HighestAsked;
            }
            return Verdict::Met;
        };
        let is_servers = !shortfall.is_generator_at_limit && !shortfall.is_of_nothing();
        if is_servers && self.saturation.failed_qps.is_none() {
            self.saturation.failed_qps = Some(rate_qps);
        }
        if has_missed_none {
            self.end = LineEnd::NotMet(shortfall);
        }
        Verdict::Failed
    }

    /// Records that higher rates were not tested although none was missed.
    pub fn cut_short(&mut self) {
        if self.has_missed_none() {
            self.end = LineEnd::CutShort;
        }
    }

    fn has_missed_none(&self) -> bool {
        match self.end {
            LineEnd::NoRate | LineEnd::HighestAsked => true,
            LineEnd::NotMet(_) | LineEnd::CutShort => false,
        }
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Saturation {
    /// Ratio to another server's saturation.
    pub fn ratio(self, base: Self) -> Ratio {
        match (self.met_qps, base.met_qps) {
            (Some(ours), Some(theirs)) => match (self.failed_qps, base.failed_qps) {
                (Some(_), Some(_)) => Ratio::Is(ours / theirs),
                (None, Some(_)) => Ratio::AtLeast(ours / theirs),
                (Some(_), None) => Ratio::AtMost(ours / theirs),
                (None, None) => Ratio::Unknown,
            },
            (Some(ours), None) => {
                base.failed_qps.map_or(Ratio::Unknown, |theirs| Ratio::MoreThan(ours / theirs))
            }
            (None, Some(theirs)) => {
                self.failed_qps.map_or(Ratio::Unknown, |ours| Ratio::LessThan(ours / theirs))
            }
            (None, None) => Ratio::Unknown,
        }
    }
}

impl fmt::Display for Saturation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |qps: f64| human_rate(Some(qps));
        match (self.met_qps, self.failed_qps) {
            (Some(met), Some(_)) => f.write_str(&count(met)),
            (Some(met), None) => write!(f, ">= {}", count(met)),
            (None, Some(failed)) => write!(f, "< {}", count(failed)),
            (None, None) => f.write_str("–"),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(ratio) => write!(f, "× {}", human_ratio(*ratio)),
            Self::AtLeast(ratio) => write!(f, "× {} or more", human_ratio(*ratio)),
            Self::MoreThan(ratio) => write!(f, "× more than {}", human_ratio(*ratio)),
            Self::AtMost(ratio) => write!(f, "× {} or less", human_ratio(*ratio)),
            Self::LessThan(ratio) => write!(f, "× less than {}", human_ratio(*ratio)),
            Self::Unknown => f.write_str("–"),
        }
    }
}

impl LineEnd {
    /// A clause: "at 60 000 per second 2.822 % was lost".
    pub fn describe(&self, limits: Limits) -> String {
        match self {
            Self::NoRate => "no rate was tested".to_owned(),
            Self::HighestAsked => "met the highest rate tested".to_owned(),
            Self::CutShort => "the comparison was stopped before a rate was missed".to_owned(),
            Self::NotMet(shortfall) => shortfall.describe(limits),
        }
    }
}

impl Shortfall {
    fn is_of_nothing(&self) -> bool {
        self.loss.is_none() && self.p99_ns.is_none()
    }

    fn describe(&self, limits: Limits) -> String {
        let rate = human_rate(Some(self.rate_qps));
        if self.is_of_nothing() {
            return format!("at {rate} per second nothing was sent: the rounds are too short (-l)");
        }
        let loss = self.loss.map(|loss| match loss {
            loss if loss >= 1.0 => "all was lost".to_owned(),
            loss => format!("{:.3} % was lost (limit {} %)", loss * 100.0, limits.loss_max * 100.0),
        });
        // With 1 % lost or more, p99 is the timeout and adds nothing.
        let p99 = self.p99_ns.filter(|_| self.loss.is_none_or(|loss| loss < 0.01));
        let p99 = p99.map(|ns| {
            format!("p99 was {} (limit {})", human_time(ns), human_time(limits.p99_max_ns))
        });
        let reasons: Vec<String> = loss.into_iter().chain(p99).collect();
        let generator =
            if self.is_generator_at_limit { "; the generator was at its limit" } else { "" };
        format!("at {rate} per second {}{generator}", reasons.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmeasured_rates_are_bounds() {
        let (none, some) = (None, Some);
        let rows = [
            // Ours: met, failed; the base's: met, failed.
            ((some(240e3), some(300e3)), (some(40e3), some(60e3)), "240 000", "× 6.00"),
            ((some(240e3), none), (some(40e3), some(60e3)), ">= 240 000", "× 6.00 or more"),
            ((some(240e3), none), (none, some(10e3)), ">= 240 000", "× more than 24.00"),
            ((some(20e3), some(30e3)), (none, some(10e3)), "20 000", "× more than 2.00"),
            ((some(20e3), some(30e3)), (some(40e3), none), "20 000", "× 0.50 or less"),
            ((none, some(10e3)), (some(40e3), some(60e3)), "< 10 000", "× less than 0.25"),
            ((none, some(10e3)), (some(40e3), none), "< 10 000", "× less than 0.25"),
            ((none, some(10e3)), (none, some(10e3)), "< 10 000", "–"),
            ((some(40e3), none), (some(40e3), none), ">= 40 000", "–"),
            ((some(40e3), none), (none, none), ">= 40 000", "–"),
            ((none, none), (some(40e3), some(60e3)), "–", "–"),
        ];
        for (ours, base, rate, ratio) in rows {
            let of = |(met_qps, failed_qps)| Saturation { met_qps, failed_qps };
            assert_eq!(of(ours).to_string(), rate);
            assert_eq!(of(ours).ratio(of(base)).to_string(), ratio, "{ours:?} {base:?}");
        }
    }

    #[test]
    fn a_line_ends_at_the_first_missed_rate() {
        // Rates of 1, 2, 3, … thousand: + met, - missed by the server, g missed with the generator
        // at its limit, 0 nothing sent.
        let rows = [
            ("", "–", "stopped"),
            ("+", ">= 1 000", "stopped"),
            ("++|", ">= 2 000", "highest"),
            ("-", "< 1 000", "at 1 000"),
            ("++-", "2 000", "at 3 000"),
            ("+-+-", "1 000", "at 2 000"),
            ("++g", ">= 2 000", "at 3 000"),
            ("++g-", "2 000", "at 3 000"),
            ("g", "–", "at 1 000"),
            ("0", "–", "at 1 000 per second nothing was sent: the rounds are too short (-l)"),
        ];
        for (rates, saturation, end) in rows {
            let mut line = Line::new();
            for (index, what) in rates.chars().filter(|what| *what != '|').enumerate() {
                let rate_qps = (index + 1) as f64 * 1e3;
                let shortfall = Shortfall {
                    rate_qps,
                    loss: (what != '0').then_some(0.5),
                    p99_ns: None,
                    is_generator_at_limit: what == 'g',
                };
                let verdict = line.judge(rate_qps, (what != '+').then_some(shortfall));
                assert_eq!(verdict == Verdict::Met, what == '+', "{rates}");
            }
            // A bar: that was the highest rate.
            if !rates.ends_with('|') {
                line.cut_short();
            }
            let described = line.end.describe(Limits { loss_max: 0.001, p99_max_ns: 1e7 });
            assert_eq!(line.saturation.to_string(), saturation, "{rates}");
            assert!(described.contains(end), "{rates}: {described}");
        }
    }

    #[test]
    fn the_end_of_a_line_is_explained() {
        let limits = Limits { loss_max: 0.001, p99_max_ns: 10e6 };
        let not_met = |loss, p99_ns, is_generator_at_limit| {
            LineEnd::NotMet(Shortfall { rate_qps: 60e3, loss, p99_ns, is_generator_at_limit })
        };
        let rows = [
            (LineEnd::NoRate, "no rate was tested"),
            (LineEnd::HighestAsked, "met the highest rate tested"),
            (LineEnd::CutShort, "the comparison was stopped before a rate was missed"),
            (
                not_met(Some(0.02822), Some(5e9), false),
                "at 60 000 per second 2.822 % was lost (limit 0.1 %)",
            ),
            (not_met(Some(1.0), Some(5e9), false), "at 60 000 per second all was lost"),
            (
                not_met(None, Some(13.7e6), false),
                "at 60 000 per second p99 was 13.7 ms (limit 10.0 ms)",
            ),
            (
                not_met(Some(0.002), Some(13.7e6), true),
                "at 60 000 per second 0.200 % was lost (limit 0.1 %) and p99 was 13.7 ms \
                 (limit 10.0 ms); the generator was at its limit",
            ),
        ];
        for (end, text) in rows {
            assert_eq!(end.describe(limits), text);
        }
    }
}
