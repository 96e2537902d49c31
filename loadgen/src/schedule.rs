//! The intended send time of each query of an open loop. Pure: times are nanoseconds since the
//! start of the run.
//!
//! The schedule never waits for responses. A closed loop does: it stops sending while the server
//! stalls, and so never sees the latency that users would have seen. wrk2 calls this "coordinated
//! omission".
//!
//! Invariant: times never go back, and with constant spacing, query k of a step leaves at exactly
//! `k / rate`, without drift.

use std::fmt;
use std::str::FromStr;

use rand_distr::{Distribution, Exp1};
use rand_pcg::Pcg64;

pub const NANOS_PER_SEC: u64 = 1_000_000_000;
/// Highest rate that a schedule accepts: ten times what one core can send.
pub const RATE_QPS_MAX: f64 = 100_000_000.0;
/// Lowest rate: one query per quarter of an hour.
pub const RATE_QPS_MIN: f64 = 0.001;
/// Most steps of a stepped rate.
pub const STEP_COUNT_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spacing {
    /// One query every `1 / rate` seconds.
    Constant,
    /// Exponentially distributed gaps with mean `1 / rate`, like the sum of many independent
    /// clients.
    Poisson,
}

impl Spacing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "Poisson",
        }
    }
}

/// A rate that is held for a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Valid: `RATE_QPS_MIN` to `RATE_QPS_MAX`.
    pub rate_qps: f64,
    /// `u64::MAX`: the step has no end of its own.
    pub duration_ns: u64,
}

/// `RATE`, or `FROM..TO+BY/SECONDS` for a stepped one. A rate may end in `k` or `M`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateError {
    text: String,
    reason: &'static str,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}': {}; write a rate as 20000, 20k or 1.5M, or a stepped one as 10k..100k+10k/5 \
             (from..to+by/seconds of each step)",
            self.text, self.reason
        )
    }
}

impl std::error::Error for RateError {}

impl Rate {
    pub fn constant(rate_qps: f64) -> Self {
        assert!((RATE_QPS_MIN..=RATE_QPS_MAX).contains(&rate_qps));
        Self { steps: vec![Step { rate_qps, duration_ns: u64::MAX }] }
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Length of all steps together; `None` if the rate has no end of its own.
    pub fn duration_ns(&self) -> Option<u64> {
        self.steps
            .iter()
            .try_fold(0u64, |sum, step| sum.checked_add(step.duration_ns))
            .filter(|&sum| sum != u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps.as_slice() {
            [only] => write!(f, "{}", only.rate_qps),
            steps => write!(
                f,
                "{}..{} in {} steps",
                steps.first().map_or(0.0, |step| step.rate_qps),
                steps.last().map_or(0.0, |step| step.rate_qps),
                steps.len()
            ),
        }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let fail = |reason| RateError { text: text.to_owned(), reason };
        let Some((from, rest)) = text.split_once("..") else {
            return Ok(Self::constant(rate_qps(text).map_err(fail)?));
        };
        let (to, rest) =
            rest.split_once('+').ok_or_else(|| fail("the step after '+' is missing"))?;
        let (by, secs) =
            rest.split_once('/').ok_or_else(|| fail("the seconds after '/' are missing"))?;
        let (from, to, by) = (
            rate_qps(from).map_err(fail)?,
            rate_qps(to).map_err(fail)?,
            rate_qps(by).map_err(fail)?,
        );
        let secs: f64 =
            secs.trim_end_matches('s').parse().map_err(|_| fail("the seconds are not a number"))?;
        if !(secs > 0.0 && secs <= 86_400.0) {
            return Err(fail("a step lasts more than 0 and at most 86400 seconds"));
        }
        if from > to {
            return Err(fail("the first rate is higher than the last"));
        }
        let count = ((to - from) / by).floor() as usize + 1;
        if count > STEP_COUNT_MAX {
            return Err(fail("more than 10000 steps"));
        }
        let duration_ns = (secs * NANOS_PER_SEC as f64) as u64;
        let steps =
            (0..count).map(|i| Step { rate_qps: from + by * i as f64, duration_ns }).collect();
        Ok(Self { steps })
    }
}

fn rate_qps(text: &str) -> Result<f64, &'static str> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = digits.trim().parse::<f64>().map_err(|_| "not a number")? * factor;
    if (RATE_QPS_MIN..=RATE_QPS_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err("a rate is 0.001 to 100 million per second")
    }
}

/// One thread's share of the send times: out of every `share_count` queries, the one at index
/// `share`.
#[derive(Clone, Debug)]
pub struct Schedule {
    steps: Vec<Step>,
    spacing: Spacing,
    share: u64,
    share_count: u64,
    random: Pcg64,
    /// Index of the current step; `steps.len()` after the last one.
    step: usize,
    /// When the current step began.
    step_start_ns: f64,
    /// Queries of this share taken in the current step (constant spacing).
    taken_in_step: u64,
    /// The next send time; `u64::MAX` if there is none.
    next_ns: u64,
    /// The same before rounding (Poisson spacing adds to it).
    next_exact_ns: f64,
}

impl Schedule {
    pub fn new(rate: &Rate, spacing: Spacing, share: u64, share_count: u64, seed: u64) -> Self {
        assert!(share < share_count, "share {share} of {share_count}");
        let mut schedule = Self {
            steps: rate.steps.clone(),
            spacing,
            share,
            share_count,
            random: Pcg64::new(u128::from(seed), u128::from(share)),
            step: 0,
            step_start_ns: 0.0,
            taken_in_step: 0,
            next_ns: 0,
            next_exact_ns: 0.0,
        };
        schedule.place_next();
        schedule
    }

    /// The next intended send time; `None` after the last step.
    pub fn next_ns(&self) -> Option<u64> {
        (self.next_ns != u64::MAX).then_some(self.next_ns)
    }

    /// Takes the next query if its time has come, and returns that time.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        if self.next_ns > now_ns || self.next_ns == u64::MAX {
            return None;
        }
        let intended_ns = self.next_ns;
        self.taken_in_step += 1;
        self.place_next();
        debug_assert!(self.next_ns >= intended_ns);
        Some(intended_ns)
    }

    fn place_next(&mut self) {
        while let Some(&Step { rate_qps, duration_ns }) = self.steps.get(self.step) {
            let gap_ns = NANOS_PER_SEC as f64 / rate_qps;
            let next_exact_ns = match self.spacing {
                Spacing::Constant => {
                    let k = self.taken_in_step * self.share_count + self.share;
                    self.step_start_ns + k as f64 * gap_ns
                }
                // Independent streams add up: n shares of rate/n make one stream of the whole rate.
                Spacing::Poisson => {
                    let gap: f64 = Exp1.sample(&mut self.random);
                    self.next_exact_ns + gap * gap_ns * self.share_count as f64
                }
            };
            let step_end_ns = self.step_start_ns + duration_ns as f64;
            if next_exact_ns < step_end_ns {
                self.next_exact_ns = next_exact_ns;
                self.next_ns = next_exact_ns as u64;
                return;
            }
            self.step += 1;
            self.step_start_ns = step_end_ns;
            self.next_exact_ns = step_end_ns;
            self.taken_in_step = 0;
        }
        self.next_ns = u64::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rate: &str, spacing: Spacing, share: u64, share_count: u64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(&rate.parse().unwrap(), spacing, share, share_count, 7);
        std::iter::from_fn(|| schedule.take_due(u64::MAX - 1)).take(count).collect()
    }

    #[test]
    fn constant_spacing_does_not_drift() {
        let times = times("30000", Spacing::Constant, 0, 1, 3_000_001);
        assert_eq!(times[1], 33_333);
        assert_eq!(times[3_000_000], 100 * NANOS_PER_SEC);
    }

    #[test]
    fn shares_interleave_to_the_whole_schedule() {
        let whole = times("10k", Spacing::Constant, 0, 1, 300);
        let mut parts: Vec<u64> =
            (0..3).flat_map(|share| times("10k", Spacing::Constant, share, 3, 100)).collect();
        parts.sort_unstable();
        assert_eq!(parts, whole);
    }

    #[test]
    fn steps_follow_each_other_and_end() {
        let times = times("1k..3k+1k/2", Spacing::Constant, 0, 1, usize::MAX);
        assert_eq!(times.len(), 2_000 + 4_000 + 6_000);
        assert_eq!(
            (times[1_999], times[2_000], times[2_001]),
            (1_999_000_000, 2_000_000_000, 2_000_500_000)
        );
        assert!(times.last().unwrap() < &(6 * NANOS_PER_SEC));
    }

    #[test]
    fn poisson_spacing_has_its_rate_and_deviation() {
        let times = times("10k", Spacing::Poisson, 0, 1, 200_000);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation =
            (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        // An exponential distribution's mean and standard deviation are equal. The seed is fixed,
        // so the result is too.
        assert!((mean / 100_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((deviation / mean - 1.0).abs() < 0.01, "deviation {deviation}");
    }

    #[test]
    fn nothing_is_due_early() {
        let mut schedule = Schedule::new(&Rate::constant(1_000.0), Spacing::Constant, 0, 1, 0);
        assert_eq!(schedule.take_due(0), Some(0));
        assert_eq!(schedule.take_due(999_999), None);
        assert_eq!(schedule.take_due(5_000_000), Some(1_000_000));
        assert_eq!(schedule.next_ns(), Some(2_000_000));
    }

    #[test]
    fn a_seed_repeats_the_schedule() {
        let take = |seed| {
            let mut schedule = Schedule::new(&Rate::constant(1e6), Spacing::Poisson, 0, 1, seed);
            (0..100).map(|_| schedule.take_due(u64::MAX - 1).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }

    #[test]
    fn rates_are_parsed_or_rejected_with_a_reason() {
        let rows: &[(&str, Result<usize, &str>)] = &[
            ("20000", Ok(1)),
            ("1.5M", Ok(1)),
            ("10k..100k+10k/5", Ok(10)),
            ("10k..100k+10k/0.5s", Ok(10)),
            ("", Err("not a number")),
            ("fast", Err("not a number")),
            ("0", Err("0.001 to")),
            ("-5", Err("0.001 to")),
            ("nan", Err("0.001 to")),
            ("1e-300", Err("0.001 to")),
            ("1e12", Err("to 100 million")),
            ("10k..100k", Err("'+' is missing")),
            ("10k..100k+10k", Err("'/' are missing")),
            ("10k..100k+10k/x", Err("not a number")),
            ("10k..100k+10k/0", Err("more than 0")),
            ("100k..10k+10k/1", Err("higher than the last")),
            ("1..1M+1/1", Err("10000 steps")),
        ];
        for (text, expected) in rows {
            match (text.parse::<Rate>(), expected) {
                (Ok(rate), Ok(count)) => assert_eq!(rate.steps().len(), *count, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}")
                }
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
