//! Hedging: how late an upstream must be before a second query is sent, and how often.
//!
//! Pure values of one shard. Invariant: at most one query in `QUESTIONS_PER_HEDGE` is hedged,
//! beyond the hedges that quiet times saved up.

use std::time::Duration;

use crate::limits::{
    ANSWER_TIMES_KEPT, ANSWER_TIMES_MIN, HEDGE_AFTER_MIN, HEDGE_AFTER_UNKNOWN, HEDGES_SAVED_MAX,
    QUESTIONS_PER_HEDGE, REPEAT_AFTER_P95, REPEAT_AFTER_UNKNOWN,
};

/// How long one upstream took for its latest responses.
#[derive(Debug)]
pub(super) struct AnswerTimes {
    /// A ring of the latest times.
    times_us: [u32; ANSWER_TIMES_KEPT],
    /// Times recorded so far.
    count: usize,
}

impl Default for AnswerTimes {
    fn default() -> Self {
        Self { times_us: [0; ANSWER_TIMES_KEPT], count: 0 }
    }
}

impl AnswerTimes {
    pub(super) fn record(&mut self, time: Duration) {
        self.times_us[self.count % ANSWER_TIMES_KEPT] =
            u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.count += 1;
    }

    /// How long to wait before querying another upstream as well. `None` if the query times out
    /// first.
    pub(super) fn hedge_after(&self, read_timeout: Duration) -> Option<Duration> {
        let after = self.p95().unwrap_or(HEDGE_AFTER_UNKNOWN).max(HEDGE_AFTER_MIN);
        (after < read_timeout).then_some(after)
    }

    /// How long to wait before querying this upstream again, where it is the only one. `None` if
    /// the query times out first.
    pub(super) fn repeat_after(&self, read_timeout: Duration) -> Option<Duration> {
        let usual = self.p95().map(|p95| REPEAT_AFTER_P95 * p95);
        let after = usual.unwrap_or(REPEAT_AFTER_UNKNOWN).max(HEDGE_AFTER_MIN);
        (after < read_timeout).then_some(after)
    }

    /// The shortest time that 95 % of the latest responses did not exceed.
    fn p95(&self) -> Option<Duration> {
        if self.count < ANSWER_TIMES_MIN {
            return None;
        }
        let mut times_us = self.times_us;
        let kept = &mut times_us[..self.count.min(ANSWER_TIMES_KEPT)];
        let rank = (kept.len() * 95).div_ceil(100);
        let (_, time_us, _) = kept.select_nth_unstable(rank - 1);
        Some(Duration::from_micros(u64::from(*time_us)))
    }
}

/// The hedges that may be sent.
#[derive(Debug)]
pub(super) struct HedgeBudget {
    /// Queries that no hedge was spent on yet.
    saved: u32,
}

impl Default for HedgeBudget {
    fn default() -> Self {
        Self { saved: HEDGES_SAVED_MAX * QUESTIONS_PER_HEDGE }
    }
}

impl HedgeBudget {
    /// Counts a query.
    pub(super) fn asked(&mut self) {
        self.saved = (self.saved + 1).min(HEDGES_SAVED_MAX * QUESTIONS_PER_HEDGE);
    }

    /// True if a hedge is available; also spends it.
    pub(super) fn spend(&mut self) -> bool {
        match self.saved.checked_sub(QUESTIONS_PER_HEDGE) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_TIMEOUT: Duration = Duration::from_secs(2);

    fn check(times_ms: impl IntoIterator<Item = u64>, after_ms: Option<u64>) {
        let mut times = AnswerTimes::default();
        for time_ms in times_ms {
            times.record(Duration::from_millis(time_ms));
        }
        assert_eq!(times.hedge_after(READ_TIMEOUT), after_ms.map(Duration::from_millis));
    }

    #[test]
    fn hedges_start_after_the_recent_p95() {
        check([], Some(100));
        check([1; 7], Some(100));
        check(1..=8, Some(8));
        check(1..=20, Some(19));
        check(1..=64, Some(61));
        // Only the latest 64 count.
        check((1..=64).chain([500; 64]), Some(500));
        check([500; 64].into_iter().chain(1..=64), Some(61));
        // One in twenty is always slower than the p95: that alone is not late.
        check((0..64).map(|n| if n % 21 == 20 { 900 } else { 10 }), Some(10));
        check([0; 64], Some(2));
        check([1999; 64], Some(1999));
        check([2000; 64], None);
        check([u64::MAX / 1000; 64], None);
    }

    #[test]
    fn repeats_start_after_twice_the_recent_p95() {
        let check = |times_ms: &[u64], after_ms: Option<u64>| {
            let mut times = AnswerTimes::default();
            times_ms.iter().for_each(|time_ms| times.record(Duration::from_millis(*time_ms)));
            let after = times.repeat_after(READ_TIMEOUT);
            assert_eq!(after, after_ms.map(Duration::from_millis), "{times_ms:?}");
        };
        check(&[], Some(800));
        check(&[1; 7], Some(800));
        check(&[0; 8], Some(2));
        check(&[50; 8], Some(100));
        check(&[999; 64], Some(1998));
        check(&[1000; 64], None);
    }

    #[test]
    fn one_query_in_ten_is_hedged_beyond_a_burst() {
        for questions in [0, 1, 10, 100, 10_000] {
            let mut budget = HedgeBudget::default();
            let mut spent = 0;
            for _ in 0..questions {
                budget.asked();
                spent += u32::from(budget.spend());
            }
            let (least, most) =
                (questions.min(HEDGES_SAVED_MAX), questions / 10 + HEDGES_SAVED_MAX);
            assert!((least..=most).contains(&spent), "{spent} of {questions}");
        }
        // Quiet times save up no more than one burst.
        let mut budget = HedgeBudget::default();
        (0..100_000).for_each(|_| budget.asked());
        let spent = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(spent, HEDGES_SAVED_MAX as usize);
    }
}
