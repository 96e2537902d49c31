//! Lines that shards could not hand over, as the log reports them: now and then, not one by one.

use std::time::{Duration, Instant};

/// What the log has reported.
pub(crate) struct Lost {
    /// The shortest time between two reports.
    every: Duration,
    logged_count: u64,
    logged_at: Option<Instant>,
}

impl Lost {
    pub(crate) const fn new(every: Duration) -> Self {
        Self { every, logged_count: 0, logged_at: None }
    }

    /// How many more there are since the last report, if it is time for the next. `count`: so far.
    pub(crate) fn take(&mut self, count: u64, now: Instant) -> Option<u64> {
        let is_due = self.logged_at.is_none_or(|at| now.duration_since(at) >= self.every);
        let more = if is_due { self.rest(count) } else { None };
        self.logged_at = more.map_or(self.logged_at, |_| Some(now));
        more
    }

    /// How many more there are since the last report, whenever it was.
    pub(crate) fn rest(&mut self, count: u64) -> Option<u64> {
        let more = count.saturating_sub(self.logged_count);
        self.logged_count = count;
        (more > 0).then_some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_logged_now_and_then() {
        let (mut lost, start) = (Lost::new(Duration::from_secs(10)), Instant::now());
        for (secs, count, expected) in [
            (0, 0, None),
            (1, 5, Some(5)),
            (2, 9, None),
            (10, 12, None),
            (11, 12, Some(7)),
            (50, 12, None),
            (51, 13, Some(1)),
        ] {
            assert_eq!(lost.take(count, start + Duration::from_secs(secs)), expected, "{secs} s");
        }
        assert_eq!((lost.rest(13), lost.rest(20)), (None, Some(7)));
    }
}
