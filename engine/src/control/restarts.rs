//! When feeds that have ended by themselves are started again: at once, then with pauses.
//!
//! Invariant: a feed that ends each time it starts costs a start per `PAUSE_MAX`, not a busy loop.

use std::time::{Duration, Instant};

/// The pause after the first restart; each one is twice the last.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After this long without a restart, the pauses begin anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The restarts so far.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    last: Option<Instant>,
    pause: Duration,
}

impl Restarts {
    /// Whether to restart now. Call it while a feed is lost.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        self.pause = match self.last {
            Some(last) if now < last + self.pause => return false,
            Some(last) if now < last + FORGOTTEN_AFTER => (self.pause * 2).min(PAUSE_MAX),
            Some(_) | None => PAUSE_MIN,
        };
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A feed that is lost all the time, looked at every 200 ms: the seconds of its restarts.
    #[test]
    fn pauses_grow_and_begin_anew() {
        let (began, mut restarts) = (Instant::now(), Restarts::default());
        let seconds = |range: std::ops::Range<u64>, restarts: &mut Restarts| -> Vec<u64> {
            let looks = range.map(|step| step * 200);
            looks
                .filter(|ms| restarts.is_due(began + Duration::from_millis(*ms)))
                .map(|ms| ms / 1000)
                .collect()
        };
        let first = seconds(0..5 * 250, &mut restarts);
        assert_eq!(first, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        let later = 5 * (243 + FORGOTTEN_AFTER.as_secs());
        assert_eq!(seconds(later..later + 20, &mut restarts), [843, 844, 846]);
    }
}
