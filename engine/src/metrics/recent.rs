//! The last minute of each shard: a sample per second, for rates and durations of the status page.
//!
//! The control plane takes the samples from the counters that the shards write anyway.
//! Invariant: at most `STATUS_SAMPLES_MAX` samples, in the order of time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ShardMetrics;
use super::position::FINE_BUCKET_COUNT;
use crate::limits::{STATUS_RATE_SAMPLES, STATUS_SAMPLE_PERIOD, STATUS_SAMPLES_MAX};

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Sample>);

#[derive(Debug)]
struct Sample {
    at: Instant,
    /// By shard.
    shards: Vec<ShardSample>,
}

/// A shard's counters at one time.
#[derive(Clone, Copy, Debug, Default)]
struct ShardSample {
    answers: u64,
    durations: [u64; FINE_BUCKET_COUNT],
}

/// What a shard did in the last minute.
#[derive(Clone, Debug, Default)]
pub struct ShardMinute {
    /// Responses per second, of the last ten seconds.
    pub rate: f64,
    /// Responses per second between two samples, oldest first.
    pub rates: Vec<f64>,
    /// Responses by bucket of `fine_duration_bounds`, for blocks with `prometheus`.
    pub durations: [u64; FINE_BUCKET_COUNT],
}

impl Recent {
    /// Whether the next sample is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let last = self.0.back();
        last.is_none_or(|last| now.saturating_duration_since(last.at) >= STATUS_SAMPLE_PERIOD)
    }

    pub(super) fn take(&mut self, now: Instant, shards: &[Arc<ShardMetrics>], label_sets: usize) {
        let sample = |shard: &Arc<ShardMetrics>| ShardSample {
            answers: shard.answer_count(),
            durations: shard.fine_durations(label_sets),
        };
        if self.0.len() == STATUS_SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Sample { at: now, shards: shards.iter().map(sample).collect() });
    }

    pub(super) fn shard(&self, index: usize) -> ShardMinute {
        let at = |sample: &Sample| sample.shards.get(index).copied().unwrap_or_default();
        let rate = |from: &Sample, to: &Sample| {
            let answers = at(to).answers.saturating_sub(at(from).answers);
            per_second(answers, to.at.saturating_duration_since(from.at))
        };
        let rates = self.0.iter().zip(self.0.iter().skip(1)).map(|(from, to)| rate(from, to));
        let rates = rates.collect();
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return ShardMinute::default();
        };
        let some_time_ago = self.0.get(self.0.len().saturating_sub(STATUS_RATE_SAMPLES + 1));
        let (before, after) = (at(first).durations, at(last).durations);
        ShardMinute {
            rate: some_time_ago.map_or(0.0, |from| rate(from, last)),
            rates,
            durations: std::array::from_fn(|bucket| after[bucket].saturating_sub(before[bucket])),
        }
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_rates_and_durations_of_its_own() {
        let shards = [Arc::<ShardMetrics>::default()];
        let mut recent = Recent::default();
        let start = Instant::now();
        assert_eq!(recent.shard(0).rates.len(), 0);
        // 100 responses per second for 100 s, then none for 5 s.
        for second in 0..105 {
            let now = start + Duration::from_secs(second);
            assert!(recent.is_due(now));
            recent.take(now, &shards, 0);
            assert!(!recent.is_due(now + Duration::from_millis(900)));
            shards[0].observe_without_block(if second < 99 { 100 } else { 0 });
        }
        let minute = recent.shard(0);
        assert_eq!(minute.rates.len(), STATUS_SAMPLES_MAX - 1);
        assert_eq!((minute.rates[0], minute.rates.last()), (100.0, Some(&0.0)));
        assert_eq!(minute.rate, 50.0);
        assert_eq!(minute.durations, [0; FINE_BUCKET_COUNT]);
        assert_eq!(recent.shard(7).rate, 0.0, "no such shard");
    }
}
