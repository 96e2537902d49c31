//! How long to wait before the next attempt: longer with each failure in a row, and each list in a row.

use std::time::{Duration, Instant};

use super::Failure;

/// Longest pause between attempts, unless the server asked for a longer one. (client-go's grows to 30 s and more: CoreDNS
/// needs 29 s to become ready after an API server that was away for 10 s.)
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(1500);
/// The same where the server has understood and refused (401, 403): only an operator can change that.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest pause before a list that follows another one: lists are what costs the server most. Where lists work and watches
/// do not, this is how old the state becomes.
const LIST_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest pause that a server may ask for with Retry-After.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// What has been quiet about errors for this long is healthy: what failed before is forgotten.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Failures and lists, counted as long as they follow each other.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    follows_until: Instant,
    lists: u32,
    lists_follow_until: Instant,
}

impl Backoff {
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, follows_until: now, lists: 0, lists_follow_until: now }
    }

    /// Whether a failure now follows another one.
    pub(super) fn is_in_a_row(&self, now: Instant) -> bool {
        self.failures != 0 && now <= self.follows_until
    }

    /// Doubles with each failure in a row, jittered by half of it, and comes on top of what the server asked for: those whom
    /// it asked at the same time do not come back at the same time.
    pub(super) fn pause(&mut self, failure: Failure, now: Instant, random: f64) -> Duration {
        if now > self.follows_until {
            self.failures = 0;
        }
        let (pause_max, asked_for) = match failure {
            Failure::Unauthorized | Failure::Forbidden => (REFUSED_PAUSE_MAX, Duration::ZERO),
            Failure::Throttled(retry_after) => (PAUSE_MAX, retry_after.min(RETRY_AFTER_MAX)),
            Failure::Unreachable | Failure::Expired | Failure::Refused => {
                (PAUSE_MAX, Duration::ZERO)
            }
        };
        let pause = asked_for + jittered_pause(self.failures, pause_max, random);
        self.failures = self.failures.saturating_add(1);
        self.follows_until = now + pause + HEALTHY_AFTER;
        pause
    }

    /// At once where the last list has lasted, else with growing distance.
    pub(super) fn list_pause(&mut self, now: Instant, random: f64) -> Duration {
        if now > self.lists_follow_until {
            self.lists = 0;
        }
        let pause = match self.lists {
            0 => Duration::ZERO,
            lists => jittered_pause(lists, LIST_PAUSE_MAX, random),
        };
        self.lists = self.lists.saturating_add(1);
        self.lists_follow_until = now + pause + HEALTHY_AFTER;
        pause
    }
}

pub(super) fn jittered_pause(failures: u32, pause_max: Duration, random: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.min(16));
    doubled.min(pause_max).mul_f64(0.5 + random / 2.0)
}
