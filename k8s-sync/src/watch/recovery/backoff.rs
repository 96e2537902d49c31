//! The pauses before another attempt, and their bounds: those from the start to the first list, and
//! those after an outage. How long an attempt may take is in `client` and `request`.
//!
//! A pause grows with consecutive failures, and between lists with consecutive lists. Invariant: a
//! server that was down is asked again within `PAUSE_MAX`.

use std::time::{Duration, Instant};

use super::Failure;

/// Maximum pause between attempts, unless the server asks for a longer one; also before the first
/// client. (client-go's grows to 30 s and more: CoreDNS takes 29 s to become ready after the API
/// server was down for 10 s.)
pub(in crate::watch) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The maximum after a 401 or 403, which only an operator can resolve.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Maximum pause between lists, which cost the server most. If lists work and watches do not, this
/// is how old the state becomes.
const LIST_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Maximum of Retry-After.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How much longer an attempt waits for the new client that it may need, before it uses the old
/// one: an exec plugin may take a minute, and the old token may still be valid.
pub(in crate::watch) const RENEWAL_WAIT_MAX: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// After this long without a failure, earlier ones are forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Counts consecutive failures and consecutive lists.
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

    /// Whether a failure now would be consecutive.
    pub(super) fn is_in_a_row(&self, now: Instant) -> bool {
        self.failures != 0 && now <= self.follows_until
    }

    /// Doubles with each consecutive failure, with jitter of up to half. It is added to what the
    /// server asked for, so that clients with the same Retry-After do not return together.
    pub(super) fn pause(&mut self, failure: Failure, now: Instant, random: f64) -> Duration {
        if now > self.follows_until {
            self.failures = 0;
        }
        let (pause_max, asked_for) = match failure {
            Failure::Unauthorized | Failure::Forbidden => (REFUSED_PAUSE_MAX, Duration::ZERO),
            Failure::Throttled(retry_after) => (PAUSE_MAX, retry_after.min(RETRY_AFTER_MAX)),
            Failure::Unreachable
            | Failure::Expired
            | Failure::Behind
            | Failure::Refused
            | Failure::Faulty => (PAUSE_MAX, Duration::ZERO),
        };
        let pause = asked_for + jittered_pause(self.failures, pause_max, random);
        self.failures = self.failures.saturating_add(1);
        self.follows_until = now + pause + HEALTHY_AFTER;
        pause
    }

    /// No pause if the last list has lasted, else a growing one.
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

/// Doubles with each failure. Replicas that start together must not retry together.
pub(in crate::watch) fn jittered_pause(
    failures: u32,
    pause_max: Duration,
    random: f64,
) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.min(16));
    doubled.min(pause_max).mul_f64(0.5 + random / 2.0)
}
